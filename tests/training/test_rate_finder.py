"""The range test reads a curve as its sources say, and keeps the ratios between groups."""

from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from flowers.config.schema import Stage
from flowers.training.classifier import Classifier
from flowers.training.rate_finder import HIGHEST, LOWEST, STEPS, RateSweep, rate_at, smoothed, suggest

RATES = [rate_at(step) for step in range(STEPS)]


def test_rates_rise_by_equal_factors() -> None:
    assert RATES[0] == pytest.approx(LOWEST)
    assert RATES[-1] == pytest.approx(HIGHEST)
    assert np.ptp(np.diff(np.log(RATES))) == pytest.approx(0, abs=1e-9)


def test_smoothing_has_no_bias_at_the_start() -> None:
    assert smoothed([2.0] * 5) == pytest.approx([2.0] * 5)
    assert smoothed([1.0, 3.0])[1] == pytest.approx((0.98 * 1 + 3) / 1.98)


def curve(knee: float) -> NDArray[np.float64]:
    """A loss that stays, falls around the knee, and rises again two decades later."""
    logs = np.log10(RATES)
    fall = 1.5 / (1 + np.exp(-(logs - np.log10(knee)) * 4))
    rise = np.exp((logs - np.log10(knee) - 2) * 4)
    return 2.0 - fall + rise


@pytest.mark.parametrize("knee", [1e-5, 1e-3])
def test_suggestions_lie_where_their_names_say(knee: float) -> None:
    losses = curve(knee)
    found = suggest(RATES, losses)
    assert found["steepest"] == pytest.approx(knee, rel=0.3)
    lowest = RATES[int(np.argmin(losses))]
    assert found["minimum_10"] == pytest.approx(lowest / 10)
    assert found["steepest"] / 100 < found["valley"] < lowest


def test_what_is_not_finite_is_left_out_and_what_never_falls_suggests_nothing() -> None:
    losses = curve(1e-3)
    assert suggest(RATES, np.append(losses[:-5], [np.nan] * 5)).keys() == {"steepest", "valley", "minimum_10"}
    assert suggest(RATES, np.sort(losses)) == {}
    assert suggest(RATES[:2], np.array([2.0, 1.0])) == {}


def test_a_sweep_keeps_the_ratios_and_stops(
    make_net: Callable[..., nn.Module],
    make_classifier: Callable[..., Classifier],
    fit: Callable[..., lightning.Trainer],
    tmp_path: Path,
) -> None:
    stages = [Stage("all", STEPS, "all", [1e-4, 1e-2])]
    classifier = make_classifier(make_net("cnn"), stages)
    sweep = RateSweep({"block1": 1e-4, "head": 1e-2})
    seen: list[dict[str, float]] = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
            groups = trainer.optimizers[0].param_groups
            seen.append({group["layer_group"]: group["lr"] for group in groups})

    torch.manual_seed(0)
    fit(classifier, STEPS, sweep, Watch())
    assert 10 < len(sweep.losses) <= STEPS
    assert sweep.rates == pytest.approx(RATES[: len(sweep.rates)])
    for rates, rate in zip(seen, sweep.rates, strict=True):
        assert rates["head"] == pytest.approx(rate)
        assert rates["block1"] == pytest.approx(rate / 100)
        assert rates["block2"] == 0  # not of the stage
