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
from flowers.training.rate_finder import HIGHEST, LOWEST, STEPS, RateSweep, rate_at, recommend, running_mean

RATES = [rate_at(step) for step in range(STEPS)]


def test_rates_rise_by_equal_factors() -> None:
    assert RATES[0] == pytest.approx(LOWEST)
    assert RATES[-1] == pytest.approx(HIGHEST)
    assert np.ptp(np.diff(np.log(RATES))) == pytest.approx(0, abs=1e-9)


def test_the_running_mean_has_no_bias_at_the_start() -> None:
    assert running_mean([2.0] * 5) == pytest.approx([2.0] * 5)
    assert running_mean([1.0, 3.0])[1] == pytest.approx((0.98 * 1 + 3) / 1.98)


def curve(knee: float, sharpness: float = 4, decades: float = 2) -> NDArray[np.float64]:
    """A loss that stays, falls around the knee, and rises again some decades later."""
    logs = np.log10(RATES)
    fall = 1.5 / (1 + np.exp(-(logs - np.log10(knee)) * sharpness))
    rise = np.exp((logs - np.log10(knee) - decades) * 4)
    return 2.0 - fall + rise


@pytest.mark.parametrize("knee", [1e-5, 1e-3])
def test_the_rate_lies_where_the_loss_falls_most_steeply(knee: float) -> None:
    losses = curve(knee)
    found = recommend(RATES, losses.tolist())
    assert found.rate == pytest.approx(knee, rel=0.3)
    assert found.rate is not None
    decades = np.abs(np.log10(RATES) - np.log10(found.rate)) < 1
    line = np.polyfit(np.log10(RATES)[decades], losses[decades], 1)
    assert found.slope == pytest.approx(line[0], rel=0.05)
    assert found.why.startswith("the smoothed loss falls most steeply at this rate, by ")


@pytest.mark.parametrize(("knee", "sharpness", "decades"), [(1e-5, 4, 2), (1e-3, 2, 2), (1e-2, 3, 1.2), (1e-4, 8, 1.5)])
def test_noise_moves_the_rate_by_less_than_a_factor_of_three(knee: float, sharpness: float, decades: float) -> None:
    losses = curve(knee, sharpness, decades)
    wanted = recommend(RATES, losses.tolist()).rate
    assert wanted is not None
    near = 0
    for seed in range(200):
        noisy = losses + np.random.default_rng(seed).normal(0, 0.2, STEPS)
        rate = recommend(RATES, noisy.tolist()).rate
        near += rate is not None and wanted / 3 <= rate <= wanted * 3
    assert near >= 190


def test_a_loss_that_only_scatters_recommends_nothing() -> None:
    for level in (np.zeros(STEPS), np.linspace(0, 1, STEPS)):
        scatter = [np.random.default_rng(seed).normal(2, 0.2, STEPS) + level for seed in range(200)]
        assert sum(recommend(RATES, losses.tolist()).rate is not None for losses in scatter) <= 10


def test_what_is_not_finite_is_left_out_and_what_never_falls_recommends_nothing() -> None:
    losses = curve(1e-3)
    whole, cut = recommend(RATES, losses.tolist()), recommend(RATES, [*losses[:-5], *[np.nan] * 5])
    assert cut.rate == whole.rate
    assert np.isfinite(cut.smooth).tolist() == [True] * (STEPS - 5) + [False] * 5
    assert recommend(RATES, np.sort(losses).tolist()).rate is None
    assert recommend(RATES, [2.0] * STEPS).rate is None
    few = recommend(RATES[:2], [2.0, 1.0])
    assert (few.rate, few.why) == (None, "the sweep ended after 2 steps, too few to read a rate off")


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
