"""Which photographs to show: those that tell most about a classifier.

Pure functions of labels and probabilities; nothing here knows where they came from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Choice:
    """Numbers of the photographs to show, each number once.

    Attributes:
        worst: Mistakes, the one with the highest loss first: sure, and wrong.
        best: Right answers; of each class its surest before any class gets a second.
        unsure: Of the others those whose two most probable classes are closest.
    """

    worst: list[int]
    best: list[int]
    unsure: list[int]


def choose(labels: NDArray[np.integer], probabilities: NDArray[np.floating], count: int) -> Choice:
    """Choose photographs by how a classifier does on them.

    Equal photographs are taken in their order, so the choice is the same every time.

    Args:
        labels: True classes, (N,).
        probabilities: (N, K); rows sum to 1.
        count: Most photographs of each kind.

    Returns:
        Their numbers in [0, N); a kind that there is none of (no mistake, say) is empty.

    Raises:
        ValueError: The shapes disagree, a label is no class, or a probability is not finite.
    """
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),):
        raise ValueError(f"labels {labels.shape} do not fit probabilities {probabilities.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"a label is none of the {probabilities.shape[1]} classes")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not finite")
    if not len(labels):
        return Choice([], [], [])
    predictions = probabilities.argmax(axis=1)
    right = predictions == labels
    of_truth = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    by_loss = np.argsort(of_truth, kind="stable")
    worst = [int(i) for i in by_loss if not right[i]][:count]
    surest = np.argsort(-of_truth, kind="stable")
    best = _in_turns([int(i) for i in surest if right[i]], labels)[:count]
    ordered = np.sort(probabilities, axis=1)
    margins = ordered[:, -1] - (ordered[:, -2] if ordered.shape[1] > 1 else 0)
    taken = {*worst, *best}
    unsure = [int(i) for i in np.argsort(margins, kind="stable") if int(i) not in taken][:count]
    return Choice(worst, best, unsure)


def spread(labels: NDArray[np.integer], count: int) -> NDArray[np.intp]:
    """Choose photographs evenly, so that each class has its share of them.

    Args:
        labels: Classes, (N,).
        count: Most photographs.

    Returns:
        Numbers, rising, of min(N, count) photographs.
    """
    by_class = np.argsort(labels, kind="stable")
    wanted = min(len(labels), count)
    # The middles of `wanted` equal pieces of the row; a class is a run in it and gets its share of the pieces.
    middles = ((np.arange(wanted) + 0.5) * len(labels) / max(wanted, 1)).astype(np.intp)
    return np.sort(by_class[middles])


def _in_turns(numbers: list[int], labels: NDArray[np.integer]) -> list[int]:
    """Put the first of each class before the second of any, otherwise keep the order."""
    seen: dict[int, int] = {}
    turns = []
    for place, number in enumerate(numbers):
        label = int(labels[number])
        seen[label] = seen.get(label, 0) + 1
        turns.append((seen[label], place, number))
    return [number for _, _, number in sorted(turns)]
