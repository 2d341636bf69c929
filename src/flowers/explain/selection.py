"""Choose the photographs to show: those that tell most about a classifier.

Pure functions of labels and probabilities.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Choice:
    """Numbers of the photographs to show; no number is in two lists.

    Attributes:
        worst: Wrong predictions, the highest loss first.
        best: Right predictions, the most confident of each class before the second of any.
        unsure: Of the others those whose two most probable classes are closest.
    """

    worst: list[int]
    best: list[int]
    unsure: list[int]


def choose(labels: NDArray[np.integer], probabilities: NDArray[np.floating], count: int) -> Choice:
    """Choose photographs by what a classifier predicts for them.

    Ties are decided by the order of the photographs, so that the choice is the same every time.

    Args:
        labels: True classes, (N,).
        probabilities: (N, K); rows sum to 1.
        count: Largest number of photographs of each kind.

    Returns:
        Their numbers in [0, N); a list may be empty (there may be no mistake, for example).

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
    best = one_per_class_first([int(i) for i in surest if right[i]], labels)[:count]
    ordered = np.sort(probabilities, axis=1)
    margins = ordered[:, -1] - (ordered[:, -2] if ordered.shape[1] > 1 else 0)
    taken = {*worst, *best}
    unsure = [int(i) for i in np.argsort(margins, kind="stable") if int(i) not in taken][:count]
    return Choice(worst, best, unsure)


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


def one_per_class_first(numbers: list[int], labels: NDArray[np.integer]) -> list[int]:
    """Put the first number of each class before the second of any, and keep the order otherwise.

    Args:
        numbers: Of photographs, in the order in which they are wanted.
        labels: Classes of all photographs, (N,).
    """
    seen: dict[int, int] = {}
    turns = []
    for place, number in enumerate(numbers):
        label = int(labels[number])
        seen[label] = seen.get(label, 0) + 1
        turns.append((seen[label], place, number))
    return [number for _, _, number in sorted(turns)]
