"""Choose the photographs to show: those that tell most about a classifier.

The functions are pure: labels, probabilities and scores go in, numbers of photographs come out. Ties are decided by the
order of the photographs, so that a choice is the same every time.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.evaluation.scores import check_predictions

SHOWN = 600
"""Test photographs that have a thumbnail at most, which bounds the page's size."""
OOD_SHOWN = 12


@dataclass(frozen=True)
class Pictures:
    """What a page shows of photographs, so that it needs no others; all are (H,H,3) uint8."""

    rows: list[int]
    """Which test photographs have a thumbnail, see :func:`choose_shown`."""
    thumbnails: NDArray[np.uint8]
    """(R,H,H,3), one for each of the rows."""
    ood: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Thumbnails of out-of-distribution photographs by path, see :func:`choose_ood`."""
    examples: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Thumbnails of training photographs by class, (E,H,H,3), of one of each group of near-duplicates."""
    corrupted: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    """One photograph in every corruption, see :func:`flowers.evaluation.robustness.examples`."""


@dataclass(frozen=True)
class Choice:
    """Numbers of the photographs to explain; no number is in two lists.

    Attributes:
        worst: Wrong predictions, the highest loss first.
        best: Right predictions, the most confident of each class before the second of any.
        unsure: Of the others those whose two most probable classes are closest.
    """

    worst: list[int]
    best: list[int]
    unsure: list[int]


def choose(labels: NDArray[np.integer], probabilities: NDArray[np.floating], count: int) -> Choice:
    """Choose photographs to explain by what a classifier predicts for them.

    Args:
        labels: True classes, (N,).
        probabilities: (N, K); rows sum to 1.
        count: Largest number of photographs of each kind.

    Returns:
        Their numbers in [0, N); a list may be empty (there may be no mistake, for example).

    Raises:
        ValueError: The shapes disagree, a label is no class, or rows are no probabilities.
    """
    check_predictions(labels, probabilities, probabilities.shape[-1])
    right, of_truth = _judge(labels, probabilities)
    by_loss, surest = (np.argsort(values, kind="stable") for values in (of_truth, -of_truth))
    worst = by_loss[~right[by_loss]][:count]
    best = one_per_class_first(surest[right[surest]], labels)[:count]
    ordered = np.sort(probabilities, axis=1)
    margins = ordered[:, -1] - (ordered[:, -2] if ordered.shape[1] > 1 else 0)
    closest = np.argsort(margins, kind="stable")
    unsure = closest[~np.isin(closest, [*worst, *best])][:count]
    return Choice(worst.tolist(), best.tolist(), unsure.tolist())


def choose_shown(labels: NDArray[np.integer], probabilities: NDArray[np.floating], most: int = SHOWN) -> list[int]:
    """Choose the test photographs that get a thumbnail.

    Two thirds of the places are for mistakes, the costliest first; the others are shared out among the classes, the
    least sure right answers first.

    Args:
        labels: True classes, (N,).
        probabilities: (N,K).
        most: How many are chosen at most.

    Returns:
        Row numbers, mistakes first.
    """
    right, of_truth = _judge(labels, probabilities)
    order = np.argsort(of_truth, kind="stable")
    mistakes = order[~right[order]][: max(most * 2 // 3, most - int(right.sum()))]
    fair = one_per_class_first(order[right[order]], labels)
    return [*mistakes.tolist(), *fair[: most - len(mistakes)].tolist()]


def choose_ood(table: pd.DataFrame) -> list[str]:
    """Choose out-of-distribution photographs to show: half those that seem the most ordinary, half the least.

    Args:
        table: ``outliers/ood.csv``.

    Returns:
        Paths, the most ordinary first.
    """
    paths = table.sort_values(["outlier", "path"])["path"].tolist()
    return paths if len(paths) <= OOD_SHOWN else [*paths[: OOD_SHOWN // 2], *paths[-OOD_SHOWN // 2 :]]


def spread(labels: NDArray[np.integer], count: int) -> NDArray[np.intp]:
    """Choose photographs so that each class keeps its share.

    Args:
        labels: Classes, (N,).
        count: Largest number of photographs.

    Returns:
        Numbers, in rising order, of min(N, count) photographs.
    """
    by_class = np.argsort(labels, kind="stable")
    wanted = min(len(labels), count)
    # Sorted by class, each class is one run. The middles of `wanted` equal pieces give each run its share.
    middles = ((np.arange(wanted) + 0.5) * len(labels) / max(wanted, 1)).astype(np.intp)
    return np.sort(by_class[middles])


def one_per_class_first(numbers: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Put the first number of each class before the second of any, and keep the order otherwise.

    Args:
        numbers: Of photographs, in the order in which they are wanted.
        labels: Classes of all photographs, (N,).
    """
    turns = pd.Series(labels[numbers]).groupby(labels[numbers]).cumcount()
    return numbers[np.argsort(turns.to_numpy(), kind="stable")]


def _judge(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Say which predictions are right, (N,), and how probable the true classes were, (N,)."""
    return probabilities.argmax(axis=1) == labels, probabilities[np.arange(len(labels)), labels]
