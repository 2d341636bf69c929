"""Which experiments are better than which, judged photograph by photograph.

Two experiments that were tested on the same photographs are compared on those that only one of them gets right; the
others tell nothing. That is McNemar's test (1947), which Dietterich (1998, "Approximate statistical tests for
comparing supervised classification learning algorithms") recommends where a training is run once. It is taken in its
exact form: the mid-p form (Fagerland, Lydersen and Laake 2013) shows a little more, but does not keep to its level for
certain, and here a difference that is called shown should be one.

Photographs of the same scene are right or wrong together, so a group of near-duplicates is exchanged and drawn as a
whole; where each photograph is its own group, that changes nothing.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from flowers.evaluation.results import Baseline, Experiment
from flowers.evaluation.scores import interval_of_sums

ALPHA = 0.05
"""The chance, at most, of calling any difference of a family shown where there is none."""
CHOICES = 1_000
_SEED = 0


@dataclass(frozen=True)
class Pair:
    """Two experiments on the same N photographs."""

    first: str
    second: str
    difference: float
    """Accuracy of the first minus that of the second, in [-1, 1]."""
    low: float
    """Lower end of the difference's 95 % interval, see :func:`difference_interval`. For this pair alone."""
    high: float
    only_first: int
    """How many photographs only the first gets right."""
    only_second: int
    p: float
    """Of the exact test, in (0, 1], two-sided; for this pair alone."""
    p_holm: float
    """The same, corrected for all pairs of the family."""
    smallest: float | None
    """The smallest difference, in (0, 1], that this test shows between two experiments that disagree on as many
    photographs, given the other pairs of the family. None: they disagree on too few to show any."""

    @property
    def shown(self) -> bool:
        """Whether the difference is shown to be real; the same as being at least `smallest`."""
        return self.p_holm <= ALPHA

    @property
    def first_is_better(self) -> bool:
        """Whether the first is shown to be better."""
        return self.shown and self.difference > 0


def compare_pairs(
    right: Mapping[str, NDArray[np.bool_]], names: Sequence[tuple[str, str]], groups: NDArray[np.integer]
) -> list[Pair]:
    """Compare pairs of experiments, as one family: the chance of any false claim among all is at most ALPHA.

    Args:
        right: For each experiment, which photographs it gets right, (N,), all in the same order; N is at least 1.
        names: The pairs.
        groups: The group of each photograph, (N,), as numbers from 0 without a gap.

    Returns:
        The pairs, in the given order.

    Raises:
        ValueError: There is no photograph, or the shapes disagree.
    """
    photographs = len(groups)
    if photographs == 0 or any(answers.shape != groups.shape for answers in right.values()):
        raise ValueError("each experiment needs one answer for each of at least one photograph")
    sizes = np.bincount(groups)
    # How many more photographs of each group the first gets right: (G,).
    leads = [np.bincount(groups, right[a] * 1.0 - right[b]).astype(np.int64) for a, b in names]
    nulls = [null_tail(lead) for lead in leads]
    p_values = [float(tail[abs(int(lead.sum()))]) for lead, (tail, _) in zip(leads, nulls, strict=True)]
    corrected = holm(p_values)
    steps = ALPHA / np.arange(len(names), 0, -1)  # what Holm's procedure asks of the smallest p-value, the next, …
    pairs = []
    for number, ((first, second), lead, (tail, possible)) in enumerate(zip(names, leads, nulls, strict=True)):
        # While the others stay as they are, this pair has to pass where these alone would stop the procedure.
        passed = np.sort(np.delete(p_values, number)) <= steps[:-1]
        level = float(steps[np.logical_and.accumulate(passed).sum()])
        low, high = difference_interval(lead, sizes)
        only_first = int((right[first] & ~right[second]).sum())
        only_second = int((right[second] & ~right[first]).sum())
        difference = (only_first - only_second) / photographs
        smallest = _first_shown(tail, possible, level, photographs)
        p, p_holm = p_values[number], float(corrected[number])
        pairs.append(Pair(first, second, difference, low, high, only_first, only_second, p, p_holm, smallest))
    return pairs


def null_tail(leads: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Work out how large a lead would be by chance, if the two experiments were equally good.

    Then each group's lead is as likely to be the other's, and the total is a sum of the leads with random signs. With
    photographs that are all their own group this is the binomial distribution of McNemar's exact test.

    Args:
        leads: How many more photographs of each group the first gets right than the second, (G,).

    Returns:
        For each total t from 0 to the largest one, (T+1,): the chance that the total is at least t in either
        direction, in (0, 1]; and whether t is a possible total.
    """
    lengths = np.bincount(np.abs(leads))
    parts = [np.ones(1)]
    for length in range(1, len(lengths)):
        count = int(lengths[length])
        part = np.zeros(2 * count * length + 1)
        part[:: 2 * length] = binom.pmf(np.arange(count + 1), count, 0.5)
        parts.append(part)
    chances = reduce(np.convolve, parts)  # of the totals from -T to T
    half = chances[len(chances) // 2 :]
    # The smallest positive number stands for chances that are too small to be written down.
    tail = np.clip(2 * np.cumsum(half[::-1])[::-1], np.finfo(np.float64).tiny, 1.0)
    tail[0] = 1.0  # both directions meet here
    return tail, half > 0


def smallest_difference(photographs: int, disagreements: int, level: float = ALPHA) -> float | None:
    """Find the smallest difference that a test shows between two experiments that disagree on so many photographs.

    Args:
        photographs: Size of the test, N.
        disagreements: How many photographs only one of the two gets right, from 0 to N.
        level: The p-value that counts as shown.

    Returns:
        A difference of accuracies, in (0, 1]; None if even that of all disagreements pointing one way shows nothing.
    """
    return _first_shown(*null_tail(np.ones(disagreements, np.int64)), level, photographs)


def _first_shown(
    tail: NDArray[np.float64], possible: NDArray[np.bool_], level: float, photographs: int
) -> float | None:
    """Find the first possible total whose chance, see :func:`null_tail`, is small enough; as a share of all."""
    enough = np.flatnonzero(possible & (tail <= level))
    return int(enough[0]) / photographs if len(enough) else None


def fewest_photographs(level: float = ALPHA) -> int:
    """Count the photographs that one experiment must get right and another wrong, with none the other way round.

    Args:
        level: The p-value that counts as shown.

    Returns:
        The smallest n with 2 · 0.5^n at most `level`: 6 for 0.05. No smaller lead shows anything.
    """
    return int(np.ceil(1 - np.log2(level)))


def difference_interval(leads: NDArray[np.integer], sizes: NDArray[np.integer]) -> tuple[float, float]:
    """Bound a difference of accuracies on the same photographs by a 95 % interval.

    It is that of Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", for groups, see :func:`flowers.evaluation.scores.interval_of_sums`: one photograph that only
    the first gets right is added, and one that only the second does. In simulations (50 to 400 photographs, each alone
    or in groups of up to ten) it holds the truth in at least 92 % of tests; percentiles of a bootstrap in 23 %, where
    few photographs tell the two apart.

    Args:
        leads: How many more photographs of each group the first gets right than the second, (G,).
        sizes: Photographs in each group, (G,), at least 1.

    Returns:
        Lower and upper end, in [-1, 1].
    """
    low, high = interval_of_sums(leads, sizes, (1, -1))
    return max(low, -1.0), min(high, 1.0)


def accuracy_of_choice(right: Sequence[NDArray[np.bool_]], groups: NDArray[np.integer]) -> float | None:
    """Estimate how accurate the best of several is on photographs that it was not chosen by.

    The best of many by a test is there by luck too, and its accuracy on that test too high. In each draw of groups with
    replacement the best on what is drawn is measured on what is not (Tsamardinos, Greasidou and Borboudakis 2018,
    "Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation"); equally good ones are
    averaged.

    Args:
        right: Of E experiments, which photographs each gets right, (N,).
        groups: The group of each photograph, (N,), as numbers from 0 without a gap.

    Returns:
        In [0, 1]; None where all photographs are one group.
    """
    sizes = np.bincount(groups)
    sums = np.stack([np.bincount(groups, each) for each in right])  # (E,G)
    rng = np.random.default_rng(_SEED)
    found = []
    for _ in range(CHOICES):
        drawn = np.bincount(rng.integers(len(sizes), size=len(sizes)), minlength=len(sizes))
        score, left = sums @ drawn, drawn == 0
        if left.any():
            found.append((sums[score == score.max()] @ left).mean() / (sizes @ left))
    return float(np.mean(found)) if found else None


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Correct p-values for their number (Holm 1979, "A simple sequentially rejective multiple test procedure").

    Args:
        p_values: (M,), in [0, 1].

    Returns:
        (M,), in [0, 1], in the same order. Calling shown what is at most ALPHA is wrong about any of them with a
        chance of at most ALPHA, however they depend on each other.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(corrected, 1.0)


def rank_ranges(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, tuple[int, int]]:
    """Bound each experiment's rank by what is shown.

    As all differences are right together with 95 % confidence, so are all ranges of ranks (Klein, Wright and
    Wieczorek 2020, "A joint confidence set for an overall ranking").

    Args:
        names: The n experiments.
        pairs: All pairs of them.

    Returns:
        From 1 + the number of experiments shown to be better, to n - the number shown to be worse.
    """
    lowest, highest = dict.fromkeys(names, 1), dict.fromkeys(names, len(names))
    for pair in pairs:
        if pair.shown:
            better, worse = (pair.first, pair.second) if pair.first_is_better else (pair.second, pair.first)
            lowest[worse] += 1
            highest[better] -= 1
    return {name: (lowest[name], highest[name]) for name in names}


@dataclass(frozen=True)
class Ranking:
    """Experiments in order, and what that order is worth."""

    experiments: list[Experiment]
    """By test accuracy, the best first; at least one."""
    baselines: list[Baseline]
    """The best first."""
    truth: NDArray[np.integer]
    """Classes of the test photographs by number, (N,), in the order of the entries' `right`."""
    pairs: list[Pair]
    """All pairs of experiments, the more accurate first. One family."""
    baseline_pairs: list[Pair]
    """Each experiment (first) against each baseline. Another family, so that baselines take nothing from the pairs."""
    ranks: dict[str, tuple[int, int]]
    """Of each experiment: the range that its rank is in, see :func:`rank_ranges`."""
    acc_of_choice: float | None
    """Of the best on photographs that it was not chosen by, see :func:`accuracy_of_choice`; None for a single one."""

    @property
    def best(self) -> Experiment:
        """The experiment with the highest test accuracy."""
        return self.experiments[0]

    @property
    def photographs(self) -> int:
        """Size of the test, N."""
        return len(self.truth)

    @property
    def entries(self) -> list[Experiment | Baseline]:
        """Experiments and baselines by test accuracy, the best first; experiments before equal baselines."""
        return sorted([*self.experiments, *self.baselines], key=lambda each: -each.acc)

    def pair(self, first: str, second: str) -> Pair:
        """Look up what is known of two: an experiment, and one below it or a baseline.

        Raises:
            KeyError: They were not compared.
        """
        return {(pair.first, pair.second): pair for pair in (*self.pairs, *self.baseline_pairs)}[first, second]

    def not_better_than(self, name: str) -> list[str]:
        """Name the baselines that an experiment is not shown to be better than."""
        return [pair.second for pair in self.baseline_pairs if pair.first == name and not pair.first_is_better]

    def rank(self, name: str) -> str:
        """Write an experiment's rank: `1`, or `1–2` if it may be either."""
        low, high = self.ranks[name]
        return f"{low}" if low == high else f"{low}–{high}"


def rank(
    experiments: Sequence[Experiment],
    baselines: Sequence[Baseline],
    truth: NDArray[np.integer],
    groups: NDArray[np.integer],
) -> Ranking:
    """Order experiments by test accuracy, equally good ones by name, and test all differences.

    Args:
        experiments: In any order, at least one, with different names.
        baselines: In any order, or none; their names differ from those of the experiments.
        truth: Classes of the test photographs by number, (N,).
        groups: Groups of near-duplicates, (N,), as numbers from 0 without a gap.

    Returns:
        The ranking.
    """
    ordered = sorted(experiments, key=lambda each: (-each.acc, each.name))
    hardest_first = sorted(baselines, key=lambda each: (-each.acc, each.name))
    right = {each.name: each.right for each in (*ordered, *hardest_first)}
    names = [each.name for each in ordered]
    pairs = compare_pairs(right, list(itertools.combinations(names, 2)), groups)
    against = list(itertools.product(names, [each.name for each in hardest_first]))
    return Ranking(
        ordered,
        hardest_first,
        truth,
        pairs,
        compare_pairs(right, against, groups),
        rank_ranges(names, pairs),
        accuracy_of_choice([each.right for each in ordered], groups) if len(ordered) > 1 else None,
    )
