"""Outliers are found by what they lie far from, whatever the scale."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from flowers.evaluation.predictions import (
    NEIGHBOURS,
    combined,
    distances,
    energy,
    ood_percentile,
    ordinary_scores,
    outlier_scores,
    separation,
)
from flowers.models.inference import ModelOutputs, Validation
from flowers.models.trained import TrainedModel

RNG = np.random.default_rng(0)
KNOWN = RNG.normal(0, 0.1, (40, 8)) + np.eye(8)[RNG.integers(0, 3, 40)]


def test_distance_is_to_the_tenth_nearest() -> None:
    found = distances(KNOWN[:5], KNOWN)
    unit = KNOWN / np.linalg.norm(KNOWN, axis=1, keepdims=True)
    slow = np.sort(1 - unit[:5] @ unit.T, axis=1)
    np.testing.assert_allclose(found, slow[:, NEIGHBOURS - 1])
    np.testing.assert_allclose(distances(KNOWN, KNOWN, among_themselves=True)[:5], slow[:, NEIGHBOURS])
    np.testing.assert_allclose(distances(7 * KNOWN[:5], 0.1 * KNOWN), found)


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distances(KNOWN, KNOWN)
    monkeypatch.setattr("flowers.evaluation.predictions.COMPARED_AT_ONCE", 7)
    np.testing.assert_allclose(distances(KNOWN, KNOWN), whole)


@pytest.mark.parametrize("known", [1, 3])
def test_few_known_photographs_are_enough(known: int) -> None:
    assert np.isfinite(distances(KNOWN, KNOWN[:known])).all()
    assert np.isfinite(distances(KNOWN[:known], KNOWN[:known], among_themselves=True)).all()
    assert distances(np.zeros((2, 8)), KNOWN).tolist() == [1, 1]
    assert distances(KNOWN[:0], KNOWN).shape == (0,)


def test_the_unknown_lies_farther() -> None:
    ood = RNG.normal(0, 0.1, (30, 8)) + np.eye(8)[RNG.integers(4, 8, 30)]
    ordinary = distances(KNOWN, KNOWN, among_themselves=True)
    far = distances(ood, KNOWN)
    assert separation(ordinary, far) > 0.99
    assert separation(far, ordinary) < 0.01
    assert (ood_percentile(far, ordinary) > 0.95).all()
    assert ood_percentile(ordinary, ordinary).mean() == pytest.approx(0.5 - 1 / 41, abs=0.02)
    assert ood_percentile(np.array([-1.0, 9.0]), ordinary).tolist() == [0, 40 / 41]


def test_energy_is_high_where_all_logits_are_low() -> None:
    assert energy(np.array([[0.0, 0.0], [1000.0, 0.0], [-5.0, -5.0]])).tolist() == pytest.approx(
        [-np.log(2), -1000, 5 - np.log(2)]
    )


def test_joined_scores_notice_what_one_of_them_does() -> None:
    ordinary = [RNG.normal(0, 1, 200), RNG.normal(0, 1, 200)]
    ood = [np.r_[RNG.normal(3, 1, 50), RNG.normal(0, 1, 50)], np.r_[RNG.normal(0, 1, 50), RNG.normal(3, 1, 50)]]
    joined = combined(ood, ordinary)
    own = combined(ordinary, ordinary, among_themselves=True)
    for known, others in zip(ordinary, ood, strict=True):
        assert separation(own, joined) > separation(known, others) + 0.05
    # Of M others, none is farther than the first and all are than the second.
    assert combined([np.array([9.0, -9.0])], [np.arange(4.0)]).tolist() == pytest.approx([np.log(5), 0])


@pytest.mark.slow
@pytest.mark.parametrize("known", [50, 150, 600])
def test_of_ordinary_photographs_as_many_are_above_a_percentile_as_it_says(known: int) -> None:
    rng = np.random.default_rng(known)

    def draw(count: int) -> ModelOutputs:
        labels = rng.integers(0, 3, count)
        return ModelOutputs(rng.normal(size=(count, 3)) + 3 * np.eye(3)[labels], rng.normal(size=(count, 8)))

    above = []
    for _ in range(60):
        val = draw(known)
        model = cast("TrainedModel", SimpleNamespace(validation=Validation(*val, np.empty(0)), temperature=1.0))
        found = outlier_scores(model, ordinary_scores(model), [""] * 500, draw(500))["ood_percentile"]
        above.append([(found > level).mean() for level in (0.99, 0.95, 0.5)])
    rare, alarming, half = np.mean(above, axis=0)
    assert rare <= 0.01
    assert 0.02 < alarming <= 0.05
    assert half == pytest.approx(0.5, abs=3 / known)  # a new one has one photograph more to be near to
    assert rare > 0.005 or known < 99
