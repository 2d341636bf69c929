"""The photographs that a network's page shows, as thumbnails, so that the page needs no others; and which these are."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SHOWN = 600
"""Test photographs that have a thumbnail at most, which bounds the page's size."""
OOD_SHOWN = 12


@dataclass(frozen=True)
class Pictures:
    """What a page shows of photographs; all are (H,H,3) uint8."""

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
    winners = probabilities.argmax(axis=1)
    order = np.argsort(np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0], kind="stable")
    wrong = order[winners[order] != labels[order]]
    right = order[winners[order] == labels[order]]
    mistakes = wrong[: max(most * 2 // 3, most - len(right))]
    # One of each class in turn.
    turn = pd.Series(labels[right]).groupby(labels[right]).cumcount().to_numpy()
    fair = right[np.argsort(turn, kind="stable")]
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
