import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from flowers.evaluation.significance import (
    ALPHA,
    Pair,
    accuracy_of_choice,
    compare_pairs,
    difference_interval,
    fewest_photographs,
    holm,
    null_tail,
    rank_ranges,
    smallest_difference,
)


def answers(*parts: tuple[int, bool]) -> NDArray[np.bool_]:
    """Right or wrong, so many times each."""
    return np.concatenate([np.full(count, value) for count, value in parts])


def pair_of(only_first: int, only_second: int, both: int = 50, neither: int = 10) -> Pair:
    first = answers((both, True), (only_first, True), (only_second, False), (neither, False))
    second = answers((both, True), (only_first, False), (only_second, True), (neither, False))
    return compare_pairs({"a": first, "b": second}, [("a", "b")], np.arange(len(first)))[0]


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 0), (0, 6), (9, 2), (13, 13), (30, 17), (900, 1100)])
def test_the_test_is_mcnemars_exact_one(first: int, second: int) -> None:
    pair = pair_of(first, second)
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert pair.p == pytest.approx(expected, rel=1e-9)
    assert (pair.only_first, pair.only_second) == (first, second)
    assert pair.difference == pytest.approx((first - second) / (60 + first + second))


def test_edwards_textbook_figures() -> None:
    # 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12
    assert pair_of(10, 2).p == pytest.approx(2 * (1 + 12 + 66) / 4096)


@pytest.mark.parametrize("disagreements", range(41))
def test_the_smallest_difference_is_where_the_test_turns(disagreements: int) -> None:
    smallest = smallest_difference(100, disagreements)
    shown = [
        lead
        for lead in range(disagreements % 2, disagreements + 1, 2)
        if binomtest((disagreements + lead) // 2, disagreements or 1).pvalue <= ALPHA and disagreements
    ]
    assert smallest == (min(shown) / 100 if shown else None)


def test_no_lead_below_six_photographs_shows_anything() -> None:
    assert fewest_photographs() == 6
    assert smallest_difference(150, 5) is None
    assert smallest_difference(150, 6) == 6 / 150
    assert fewest_photographs(0.05 / 3) == 7


def test_all_that_is_shown_and_nothing_else_reaches_the_smallest_difference() -> None:
    rng = np.random.default_rng(0)
    right = {f"net{k}": rng.random(150) < 0.55 + 0.05 * k for k in range(8)}
    pairs = compare_pairs(right, list(itertools.combinations(right, 2)), np.arange(150))
    assert {pair.shown for pair in pairs} == {True, False}
    for pair in pairs:
        assert pair.shown == (pair.smallest is not None and abs(pair.difference) >= pair.smallest - 1e-12)


def test_the_smallest_difference_of_a_family_is_where_the_family_turns() -> None:
    # a against b 12 to 0, a against c 8 to 1: both are shown. Were the former only 10 to 2 (8 of 150), neither would.
    a = answers((149, True), (1, False))
    b = answers((12, False), (137, True), (1, False))
    c = answers((12, True), (8, False), (130, True))
    pairs = compare_pairs({"a": a, "b": b, "c": c}, [("a", "b"), ("a", "c")], np.arange(150))
    assert [(pair.only_first, pair.only_second, pair.shown) for pair in pairs] == [(12, 0, True), (8, 1, True)]
    p = {won: binomtest(won, 12).pvalue for won in (10, 11)}
    assert [holm([p[won], pairs[1].p])[0] <= ALPHA for won in p] == [False, True]
    assert [pair.smallest for pair in pairs] == [10 / 150, 7 / 150]


def test_the_best_of_equals_is_not_credited_with_its_luck() -> None:
    rng = np.random.default_rng(0)
    tests = [rng.random((8, 150)) < 0.85 for _ in range(20)]
    estimates = [accuracy_of_choice(list(right), np.arange(150)) for right in tests]
    assert np.mean([right.mean(axis=1).max() for right in tests]) > 0.88
    assert np.mean(np.array(estimates, float)) == pytest.approx(0.85, abs=0.02)


def test_a_clear_winner_keeps_its_accuracy() -> None:
    best, other = answers((90, True), (10, False)), answers((50, True), (50, False))
    assert accuracy_of_choice([best, other], np.arange(100)) == pytest.approx(0.9, abs=0.005)
    assert accuracy_of_choice([best, other], np.zeros(100, int)) is None


def test_holms_own_steps() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_a_pair_among_many_needs_more() -> None:
    alone = pair_of(10, 1)
    right = {"a": answers((60, True)), "b": answers((9, False), (51, True))}
    right |= {f"c{k}": right["a"] for k in range(3)}
    family = compare_pairs(right, list(itertools.combinations(right, 2)), np.arange(60))
    assert alone.shown
    assert all(pair.p_holm >= pair.p for pair in family)
    assert {pair.shown for pair in family if "b" in (pair.first, pair.second)} == {True}


def test_chance_alone_is_called_shown_at_most_one_time_in_twenty() -> None:
    rng = np.random.default_rng(1)
    families = 0
    for _ in range(200):
        right = {name: rng.random(100) < 0.8 for name in "abcd"}
        pairs = compare_pairs(right, list(itertools.combinations("abcd", 2)), np.arange(100))
        families += any(pair.shown for pair in pairs)
    assert families <= 10


def test_near_duplicates_count_once() -> None:
    # Seven scenes, each photographed five times: seven coins, not thirty-five.
    first, second = answers((35, True), (65, True)), answers((35, False), (65, True))
    alone = compare_pairs({"a": first, "b": second}, [("a", "b")], np.arange(100))[0]
    groups = np.concatenate([np.arange(35) // 5, np.arange(7, 72)])
    scenes = compare_pairs({"a": first, "b": second}, [("a", "b")], groups)[0]
    assert alone.p == pytest.approx(2 * 0.5**35)
    assert scenes.p == pytest.approx(2 * 0.5**7)
    assert (scenes.difference, scenes.only_first) == (alone.difference, 35)
    assert scenes.high - scenes.low > 1.5 * (alone.high - alone.low)


def test_leads_of_unequal_size_are_summed_by_all_their_signs() -> None:
    leads = np.array([3, -2, 1, 1, 0])
    totals = [abs(int(np.dot(signs, np.abs(leads)))) for signs in itertools.product((1, -1), repeat=5)]
    tail, possible = null_tail(leads)
    assert tail.tolist() == pytest.approx([np.mean([total >= t for total in totals]) for t in range(8)])
    assert possible.tolist() == [t in totals for t in range(8)]


def test_the_interval_is_that_of_a_paired_difference() -> None:
    # Multinomial: variance of the difference is ((b + c) - (b - c)^2 / N) / N^2.
    low, high = difference_interval(np.repeat([1, -1, 0], [60, 20, 920]), np.ones(1000, np.int64))
    half = 1.96 * np.sqrt(80 - 40**2 / 1000) / 1000
    assert (low, high) == pytest.approx((0.04 - half, 0.04 + half), abs=0.0015)


def test_the_interval_equals_that_of_drawing_photographs_one_by_one() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 4, 80)
    leads = np.array([rng.integers(-size, size + 1) for size in sizes])
    drawn = rng.integers(0, 80, (20_000, 80))
    expected = np.percentile(leads[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [2.5, 97.5])
    assert difference_interval(leads, sizes) == pytest.approx(tuple(expected), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("photographs", [50, 150, 400])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_intervals_of_differences_hold_the_truth_in_92_of_100_tests(photographs: int, size: int) -> None:
    rng = np.random.default_rng(photographs + size)
    sizes = np.full(photographs // size, size)
    for first, second in ((0, 0), (0.02, 0), (0.02, 0.02), (0.05, 0.01), (0.1, 0.03), (0.2, 0.1), (0.3, 0.02)):
        for alike in (True, False) if size > 1 else (True,):
            count = 1 if alike else size
            drawn = rng.multinomial(count, [first, second, 1 - first - second], (2000, len(sizes)))
            leads = (drawn[..., 0] - drawn[..., 1]) * (size // count)
            ends = np.array([difference_interval(lead, sizes) for lead in leads])
            held = (ends[:, 0] <= first - second) & (first - second <= ends[:, 1])
            assert held.mean() >= 0.92, (first, second, alike)


def test_equal_answers_have_no_difference_and_none_that_could_show() -> None:
    pair = pair_of(0, 0)
    assert (pair.difference, pair.p, pair.p_holm) == (0, 1, 1)
    assert -0.06 < pair.low < 0 < pair.high < 0.06
    assert pair.smallest is None
    assert not pair.shown


@pytest.mark.parametrize("right", [True, False])
def test_one_photograph(right: bool) -> None:
    pair = compare_pairs({"a": np.array([right]), "b": np.array([True])}, [("a", "b")], np.zeros(1, np.int64))[0]
    assert pair.p == 1
    assert pair.smallest is None
    assert pair.difference == (0 if right else -1)


def test_a_pair_can_be_seen_from_either_side() -> None:
    pair, turned = pair_of(20, 3), pair_of(3, 20)
    assert pair.first_is_better
    assert turned.shown
    assert not turned.first_is_better
    assert (turned.difference, turned.only_first, turned.p) == (-pair.difference, 3, pair.p)
    assert (turned.low, turned.high) == pytest.approx((-pair.high, -pair.low), abs=0.02)


def test_ranks_reach_as_far_as_is_not_shown() -> None:
    def pair(first: str, second: str, shown: bool) -> Pair:
        return Pair(first, second, 0.1, 0, 0.2, 10, 0, 0.01, 0.01 if shown else 0.5, 0.05)

    pairs = [pair("a", "b", False), pair("a", "c", True), pair("b", "c", False)]
    assert rank_ranges("abc", pairs) == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}
    assert rank_ranges(["a"], []) == {"a": (1, 1)}
    turned = [replace(pair, first=pair.second, second=pair.first, difference=-0.1) for pair in pairs]
    assert rank_ranges("abc", turned) == rank_ranges("abc", pairs)


@pytest.mark.slow
def test_thirty_experiments_on_ten_thousand_photographs_are_quick() -> None:
    rng = np.random.default_rng(0)
    right = {f"net{k}": rng.random(10_000) < 0.7 + 0.005 * k for k in range(30)}
    start = time.process_time()
    pairs = compare_pairs(right, list(itertools.combinations(right, 2)), np.arange(10_000))
    assert time.process_time() - start < 15
    assert len(pairs) == 435
    assert min(pair.p for pair in pairs) > 0


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="one answer for each"):
        compare_pairs({"a": np.ones(3, bool), "b": np.ones(4, bool)}, [("a", "b")], np.arange(3))
    with pytest.raises(ValueError, match="at least one photograph"):
        compare_pairs({}, [], np.arange(0))
