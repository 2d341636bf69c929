"""The learning-rate range test (Smith 2017): one short sweep over rates, and what its loss suggests."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from scipy.signal import lfilter

LOWEST, HIGHEST = 1e-7, 1.0
STEPS = 100
"""Steps from the lowest rate to the highest, equally spaced on a logarithmic scale."""
SMOOTHING = 0.98
"""Decay of the running mean of the loss, as in fastai."""
DIVERGED = 4.0
"""The sweep ends where the smoothed loss is this many times its lowest."""


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
        """Note the loss, and stop where it diverged or the sweep is complete."""
        self.losses.append(float(outputs["loss"]))
        smooth = smoothed(self.losses)
        if len(self.losses) >= STEPS or not math.isfinite(smooth[-1]) or smooth[-1] > DIVERGED * smooth.min():
            trainer.should_stop = True


def smoothed(losses: Sequence[float]) -> NDArray[np.float64]:
    """Average each loss with those before it, exponentially and without the bias of a cold start: (N,) to (N,)."""
    means: NDArray[np.float64] = lfilter([1 - SMOOTHING], [1, -SMOOTHING], losses)
    return means / (1 - SMOOTHING ** np.arange(1, len(losses) + 1))


def suggest(rates: Sequence[float], losses: NDArray[np.float64]) -> dict[str, float]:
    """Read suggestions off a sweep.

    Args:
        rates: (N,), rising geometrically.
        losses: (N,) smoothed, in nats.

    Returns:
        Three rates: ``steepest``, where the loss falls fastest; ``valley``, two thirds down the longest fall (fastai's
        default); ``minimum_10``, a tenth of where the loss is lowest. Empty if it never fell, or too few are finite.
    """
    finite = np.isfinite(losses)
    logs, values = np.log(np.asarray(rates)[finite]), losses[finite]
    if len(values) < 3 or values.argmin() == 0:
        return {}
    lowest = int(values.argmin())
    steepest = int(np.gradient(values[: lowest + 1], logs[: lowest + 1]).argmin())
    first, length = _longest_fall(values)
    places = {"steepest": steepest, "valley": first + int(length * 2 / 3), "minimum_10": lowest}
    found = {name: float(np.exp(logs[place])) for name, place in places.items()}
    return {**found, "minimum_10": found["minimum_10"] / 10}


def _longest_fall(values: NDArray[np.float64]) -> tuple[int, int]:
    """Find the longest falling subsequence (not necessarily without gaps): its first place and its extent."""
    lengths = np.ones(len(values), dtype=int)
    begins = np.arange(len(values))
    for i in range(1, len(values)):
        earlier = np.flatnonzero(values[:i] > values[i])
        if len(earlier):
            best = earlier[lengths[earlier].argmax()]
            lengths[i], begins[i] = lengths[best] + 1, begins[best]
    end = int(lengths.argmax())
    return int(begins[end]), end - int(begins[end])
