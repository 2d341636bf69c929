"""The learning-rate range test (Smith 2017): one short sweep over rates, and the rate that its loss recommends."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from scipy.signal import lfilter, savgol_filter

LOWEST, HIGHEST = 1e-7, 1.0
STEPS = 100
"""Steps from the lowest rate to the highest, equally spaced on a logarithmic scale."""
DECAY = 0.98
"""Of the running mean of the loss that tells when to stop, as in fastai."""
DIVERGED = 4.0
"""The sweep ends where the running mean is this many times its lowest."""
WINDOW = 29
"""Steps that a smoothed loss is read from: two decades of the rate."""
STANDARD_ERRORS = 4.0
"""A slope that is less is noise: it is the steepest of many."""
_SPREAD = WINDOW * (WINDOW**2 - 1) / 12
"""Sum of the squared distances of a window's steps from its middle: a slope's variance is the losses' divided by it."""


def rate_at(step: int) -> float:
    """Give the rate of the group with the highest rate at a step of the sweep, counted from 0."""
    return LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))


class RateSweep(Callback):
    """Raises the rate at every step and notes the loss; the ratios between layer groups are kept.

    Attributes:
        rates: Of the group with the highest rate, at each step.
        losses: (of the batches) in nats.
    """

    def __init__(self, peaks: Mapping[str, float]) -> None:
        """Take the peak rate of each layer group that trains, as the stage table has it."""
        highest = max(peaks.values())
        self.ratios = {name: peak / highest for name, peak in peaks.items()}
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Replace the rates that the stage table gave this step."""
        rate = rate_at(len(self.rates))
        self.rates.append(rate)
        for group in optimizer.param_groups:
            group["lr"] = rate * self.ratios.get(group["layer_group"], 0.0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss of a step, and stop where it diverged or the sweep is complete."""
        if len(self.losses) == len(self.rates):  # gradients are being accumulated for a later step
            return
        self.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)  # Lightning has divided it
        mean = running_mean(self.losses)
        if len(self.losses) >= STEPS or not math.isfinite(mean[-1]) or mean[-1] > DIVERGED * mean.min():
            trainer.should_stop = True


def running_mean(losses: Sequence[float]) -> NDArray[np.float64]:
    """Average each loss with those before it, exponentially and without the bias of a cold start: (N,) to (N,)."""
    means: NDArray[np.float64] = lfilter([1 - DECAY], [1, -DECAY], losses)
    return means / (1 - DECAY ** np.arange(1, len(losses) + 1))


@dataclass(frozen=True)
class Recommendation:
    """What a sweep says.

    Attributes:
        smooth: (N,) the smoothed losses, in nats; NaN from the first loss on that is not finite.
        rate: The recommended one: where `smooth` falls most steeply; None if no fall stands out from the noise.
        slope: Of `smooth` there, in nats for a tenfold rate, below 0; None without a rate.
        why: What was found, in a sentence.
    """

    smooth: NDArray[np.float64]
    rate: float | None
    slope: float | None
    why: str


def recommend(rates: Sequence[float], losses: Sequence[float]) -> Recommendation:
    """Read one rate off a sweep: the one at which the smoothed loss falls most steeply (Smith 2017).

    The losses of single batches are too noisy to be read. A Savitzky-Golay filter fits a parabola to two decades
    around each rate, and takes its value and its slope there. Unlike a running mean it does not lag behind. A loss
    above twice the one at the start counts as twice, so that the divergence at the end does not spread to lower rates.
    A slope counts where the two decades are complete, before the lowest loss, and if it is at least
    :data:`STANDARD_ERRORS` of its standard errors, which the losses' scatter about the curve tells.

    Args:
        rates: (N,), rising geometrically as those of :func:`rate_at`.
        losses: (N,) of single batches, in nats.
    """
    values = np.asarray(losses, dtype=np.float64)
    finite = int(np.argmin(np.isfinite([*values, np.nan])))
    smooth = np.full(len(values), np.nan)
    if finite <= WINDOW:
        return Recommendation(smooth, None, None, f"the sweep ended after {finite} steps, too few to read a rate off")
    values = np.minimum(values[:finite], 2 * np.median(values[: WINDOW // 2]))
    smooth[:finite] = savgol_filter(values, WINDOW, 2)
    steps_per_decade = (STEPS - 1) / math.log10(HIGHEST / LOWEST)
    slopes = savgol_filter(values, WINDOW, 2, deriv=1) * steps_per_decade
    lowest = int(smooth[:finite].argmin())
    whole = slice(WINDOW // 2, min(lowest, finite - WINDOW // 2))
    error = np.std((values - smooth[:finite])[: lowest + 1]) * steps_per_decade / math.sqrt(_SPREAD)
    if not len(slopes[whole]) or slopes[whole].min() > -STANDARD_ERRORS * error:
        return Recommendation(smooth, None, None, "the loss never fell by more than its noise")
    steepest = whole.start + int(slopes[whole].argmin())
    why = f"the smoothed loss falls most steeply at this rate, by {-slopes[steepest]:.2g} nats for a tenfold rate"
    return Recommendation(smooth, float(rates[steepest]), float(slopes[steepest]), why)
