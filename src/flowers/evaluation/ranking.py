"""Which experiments are shown to be better than which, and than the baselines."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.evaluation.significance import Pair, compare_pairs, rank_ranges


@dataclass(frozen=True)
class Entry:
    """Whatever was tested."""

    name: str
    scores: dict[str, Any]
    """`metrics.json`, see :func:`flowers.evaluation.scores.score`."""
    right: NDArray[np.bool_]
    """Which of the N test photographs it gets right, (N,); in the same order for all that are compared."""

    @property
    def acc(self) -> float:
        """Test accuracy, in [0, 1]."""
        return float(self.scores["test/acc"])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the test accuracy, in [0, 1]."""
        low, high = self.scores["interval"]["test/acc"]
        return float(low), float(high)


@dataclass(frozen=True)
class Baseline(Entry):
    """What a network has to beat: a method without any training of a network, measured on the same photographs."""

    def final(self, name: str) -> float | None:
        """Look up `val/acc`; None for what a baseline does not have."""
        value = self.scores.get(name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Experiment(Entry):
    """All that is known of one finished experiment."""

    counts: NDArray[np.int64]
    """Confusion matrix of the test, (K, K): rows truth, columns prediction."""
    classes: list[str]
    run: dict[str, Any]
    """`run.json` of the training."""
    history: pd.DataFrame
    """`history.csv` of the training, one row per epoch; may be empty."""
    command: str
    """What makes it again."""
    page: Path | None = None
    """Its `report.html`, if there is one."""

    def final(self, name: str) -> float | None:
        """Look up a figure of the last epoch, such as `val/acc`; None if the method has none."""
        value = (self.run.get("final") or {}).get(name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Ranking:
    """Experiments in order, and what that order is worth."""

    experiments: list[Experiment]
    """By test accuracy, the best first; at least one."""
    baselines: list[Baseline]
    """The best first."""
    truth: NDArray[np.integer]
    """Classes of the test photographs by number, (N,), in the order of :attr:`Entry.right`."""
    pairs: list[Pair]
    """All pairs of experiments, the more accurate first. One family."""
    baseline_pairs: list[Pair]
    """Each experiment (first) against each baseline. Another family, so that baselines take nothing from the pairs."""
    ranks: dict[str, tuple[int, int]]
    """Of each experiment: the range that its rank is in, see :func:`~flowers.evaluation.significance.rank_ranges`."""

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
        """Look up what is known of two, seen from the first; at least one of them is an experiment.

        Raises:
            KeyError: They were not compared.
        """
        for pair in (*self.pairs, *self.baseline_pairs):
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.first, pair.second) == (second, first):
                return pair.turned()
        raise KeyError((first, second))

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
        ordered, hardest_first, truth, pairs, compare_pairs(right, against, groups), rank_ranges(names, pairs)
    )
