"""Intervals of means, against tables and against simulated cross-validations."""

import numpy as np
import pytest

from flowers.evaluation.scores import Mean, mean_interval


def test_independent_values_against_the_table() -> None:
    mean, sd, low, high = mean_interval([1, 2, 3, 4, 5])
    assert mean == 3
    assert sd == pytest.approx(1.58113883)
    assert (low, high) == (pytest.approx(3 - 1.963243), pytest.approx(3 + 1.963243))  # t = 2.776445 with 4 degrees


def test_overlapping_training_sets_widen_the_interval() -> None:
    found = mean_interval([1, 2, 3, 4, 5], overlap=1 / 4)  # five folds: a fold is a quarter of what trains
    assert found.high is not None
    assert found.high - 3 == pytest.approx(2.776445 * np.sqrt(1 / 5 + 1 / 4) * 1.58113883, rel=1e-6)


def test_a_single_value_has_no_interval() -> None:
    assert mean_interval([0.5]) == Mean(0.5, None, None, None)
    assert mean_interval([0.5], photographs=9) == Mean(0.5, None, None, None)


def test_equal_values_have_an_interval_without_width() -> None:
    assert mean_interval([0.25] * 4) == Mean(0.25, 0.0, 0.25, 0.25)


def test_equal_accuracies_differ_by_less_than_a_photograph() -> None:
    found, apart = mean_interval([0.25] * 4, photographs=100), mean_interval([0.245, 0.255] * 2, photographs=1000)
    assert (found.mean, found.sd) == (0.25, 0)
    assert found.low == pytest.approx(0.25 - 3.182446 * 0.005 / 2)
    assert apart == mean_interval([0.245, 0.255] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("undecided", [1, 3, 15])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_over_seeds_hold_the_mean_of_all_seeds(seeds: int, undecided: int) -> None:
    rng = np.random.default_rng(seeds)
    held = 0
    for _ in range(2000):
        chances = rng.random(undecided)  # that a training gets the photograph right; it is sure of the 135 others
        right = (rng.random((seeds, undecided)) < chances).sum(axis=1)
        found = mean_interval(((135 + right) / 150).tolist(), photographs=150)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= (135 + chances.sum()) / 150 <= found.high
    assert held / 2000 >= 0.93


def test_shares_end_at_0_and_1() -> None:
    found = mean_interval([0.97, 0.99, 1.0], photographs=100)
    assert found.high == 1
    assert found.low is not None
    assert 0.9 < found.low < 0.97
    assert mean_interval([0.0, 0.1], photographs=100).low == 0


def test_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


@pytest.mark.parametrize(("overlap", "at_least", "at_most"), [(0.0, 0.94, 0.96), (0.25, 0.98, 1.0)])
def test_coverage(overlap: float, at_least: float, at_most: float) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for values in rng.normal(0.8, 0.02, (4000, 5)):
        found = mean_interval(values.tolist(), overlap)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.8 <= found.high
    assert at_least <= hits / 4000 <= at_most
