"""How good predictions are, and how sure a test of this size lets us be.

Pure functions of labels and probabilities; nothing here knows where they came from.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from sklearn.metrics import precision_recall_fscore_support

OVERALL = ("test/acc", "test/loss", "test/macro_f1", "test/top2_acc")
"""The overall figures, each of which gets an interval."""

SMALLEST_PROBABILITY = 1e-7
"""What a probability counts as at least in the log loss: float32's resolution next to 1. One photograph then
costs at most 16.2 nats, instead of making the mean infinite."""

MISTAKE_NATS = 1.5
"""What a mistake costs at least, where an interval of the loss has to reckon with mistakes that a test did not show."""


def score(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    classes: list[str],
    groups: ArrayLike | None = None,
) -> dict[str, Any]:
    """Score predictions, with 95 % intervals.

    An interval tells how far a figure would wander with other photographs of the same kind, not with another training
    run. Those of the two accuracies are :func:`share_interval`'s. Those of the loss and the macro F1 are that of
    ``test/acc``, stretched: where there are few mistakes, all that is known of those that another test would show is
    how many more there may be. The factor is the ratio of the standard deviations, by the jackknife over groups (Efron
    and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11), and at least 1 for the macro F1 and
    :data:`MISTAKE_NATS` for the loss. In simulations (accuracy .8 to .99, 50 to 400 photographs, 2 to 102 classes)
    this holds the truth in 92 to 99 % of tests, where percentiles of a bootstrap, BCa or not, do in 35 to 98 %: a test
    without a mistake gives them no width.

    The order of the photographs changes nothing, down to the last bit.

    Args:
        labels: True classes, (N,), each in [0, K).
        probabilities: Predicted probabilities, (N, K); each row sums to 1.
        classes: The K class names, by number.
        groups: What tells groups of near-duplicates apart, (N,); None: no two photographs are alike.

    Returns:
        What `metrics.json` holds. Fractions are in [0, 1]:

        - ``test/acc``: share of photographs whose most probable class is right; of equally probable ones the
          lower number comes first.
        - ``test/loss``: mean of -ln(probability of the true class) in nats, see :data:`SMALLEST_PROBABILITY`.
        - ``test/macro_f1``: mean F1 over the classes that have photographs here. A class without any takes no part,
          but photographs mistaken for it still count against their own.
        - ``test/top2_acc``: share of photographs whose true class is among the two most probable.
        - ``interval``: for each of the four, ``[low, high]``.
        - ``per_class``: a row for each class: ``class``, ``precision``, ``recall``, ``f1`` (0 where the denominator
          is 0) and ``support``, its photographs.
        - ``photographs``: N.

    Raises:
        ValueError: The shapes disagree, there is no photograph, a label is no class, or rows are no
            probabilities.
    """
    if not len(labels):
        raise ValueError("there is no photograph to score")
    check_predictions(labels, probabilities, len(classes))
    probabilities = probabilities.astype(np.float64)
    # From the most probable class down; ties go to the lower class number.
    by_rank = np.argsort(-probabilities, axis=1, kind="stable")
    predictions, ranks = by_rank[:, 0], (by_rank == labels[:, None]).argmax(axis=1)
    losses = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], SMALLEST_PROBABILITY, 1.0))

    # One order for any order of the photographs, so that no sum depends on it.
    order = np.lexsort((losses, ranks, predictions, labels))
    labels, predictions, ranks, losses = labels[order], predictions[order], ranks[order], losses[order]
    numbers = number_groups(None if groups is None else np.asarray(groups)[order], len(labels))
    acc, acc_without = _mean(ranks == 0, numbers)
    loss, loss_without = _mean(losses, numbers)
    macro_f1, f1_without = _macro_f1(labels, predictions, numbers, len(classes))
    deviations = np.stack([acc_without, loss_without, f1_without]).std(axis=1)
    least = np.array([1.0, MISTAKE_NATS, 1.0])
    _, nats, points = np.maximum(least, deviations / deviations[0]) if deviations[0] else least
    low, high = share_interval(ranks == 0, numbers)
    intervals = (
        (low, high),
        (max(loss - nats * (high - acc), 0.0), loss + nats * (acc - low)),
        (max(macro_f1 - points * (acc - low), 0.0), min(macro_f1 + points * (high - acc), 1.0)),
        # Of two classes the true one is always among the two most probable.
        share_interval(ranks < 2, numbers) if len(classes) > 2 else (1.0, 1.0),
    )
    figures = acc, loss, macro_f1, (ranks < 2).mean()
    return {
        **{name: float(figure) for name, figure in zip(OVERALL, figures, strict=True)},
        "interval": {name: [float(end) for end in ends] for name, ends in zip(OVERALL, intervals, strict=True)},
        "per_class": _per_class(labels, predictions, classes),
        "photographs": len(labels),
    }


def share_interval(right: NDArray[np.bool_], groups: ArrayLike | None = None) -> tuple[float, float]:
    """Bound an accuracy, or another share of photographs, by a 95 % interval.

    It is that of Agresti and Coull 1998, "Approximate is better than exact", for groups, see :func:`interval_of_sums`:
    two right and two wrong ones are added. In simulations (shares of .8 to .99, 50 to 400 photographs, each alone or in
    groups that are alike in any degree, of up to a fifth of all) it holds the truth in at least 94 % of tests. Wilson's
    does in 91 % (share .99, 50 photographs, each alone), with an estimated design effect in 83 %.

    Args:
        right: (N,), at least one.
        groups: What tells groups of near-duplicates apart, (N,); None: no two photographs are alike.

    Returns:
        Lower and upper end, in [0, 1].
    """
    numbers = number_groups(groups, len(right))
    low, high = interval_of_sums(np.bincount(numbers, right), np.bincount(numbers), (1, 1, 0, 0))
    return max(low, 0.0), min(high, 1.0)


def interval_of_sums(
    sums: NDArray[np.number], sizes: NDArray[np.integer], added: Sequence[float]
) -> tuple[float, float]:
    """Bound a mean over photographs that come in groups by a 95 % interval.

    A group is one observation, however many photographs it has: the variance is that of a ratio of two sums over groups
    (Cochran 1977, "Sampling Techniques", section 6.3), with a t-quantile for as many photographs that are alone as
    would tell as much if groups were equal in themselves (Kish 1965, "Survey Sampling"). Where all groups agree, their
    variance is 0, so that some of the mean size are added.

    Args:
        sums: Of what is averaged, over each group, (G,).
        sizes: Photographs in each group, (G,), at least 1.
        added: What is averaged, in each group that is added; it should be spread over the possible values.

    Returns:
        Lower and upper end.
    """
    alike = float(sizes @ sizes / sizes.sum())  # photographs in the group of a photograph, on average
    quantile = student.ppf(0.975, max(sizes.sum() / alike, 2))
    sums, sizes = np.append(sums, alike * np.array(added)), np.append(sizes, np.full(len(added), alike))
    mean = sums.sum() / sizes.sum()
    half = quantile * np.linalg.norm(sums - mean * sizes) / sizes.sum()
    return float(mean - half), float(mean + half)


def number_groups(groups: ArrayLike | None, count: int) -> NDArray[np.intp]:
    """Number groups of near-duplicates from 0 without a gap, (N,); None: no two photographs are alike."""
    return np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]


def _mean(values: NDArray[Any], groups: NDArray[np.integer]) -> tuple[float, NDArray[np.float64]]:
    """Average (N,) values; and without each of the G groups, (G,)."""
    left = np.maximum(len(values) - np.bincount(groups), 1)
    return float(values.mean()), (values.sum() - np.bincount(groups, values)) / left


def _macro_f1(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], groups: NDArray[np.integer], num_classes: int
) -> tuple[float, NDArray[np.float64]]:
    """Compute the macro F1; and without each of the G groups, (G,)."""
    # A group changes the figures of no classes but its own: C pairs of a group and a class.
    pairs, where = np.unique(groups * num_classes + np.stack([labels, predictions]), return_inverse=True)
    group, number = np.divmod(pairs, num_classes)
    (of_label, of_prediction), right = where.reshape(2, -1), labels == predictions
    weighed = (of_label, None), (of_prediction, None), (of_label, right)
    parts = np.stack([np.bincount(rows, weights, len(pairs)) for rows, weights in weighed])  # true, predicted, hits
    whole = np.stack([np.bincount(number, part, num_classes) for part in parts])  # (3,C) -> (3,K)

    def f1(counts: NDArray[Any]) -> NDArray[np.float64]:
        true, predicted, hits = counts
        return np.where(true > 0, 2 * hits / np.maximum(true + predicted, 1), 0.0)

    scores, present = f1(whole), np.sum(whole[0] > 0)
    change = np.bincount(group, f1(whole[:, number] - parts) - scores[number])
    gone = np.bincount(group, (parts[0] > 0) & (parts[0] == whole[0, number]))
    return float(scores.sum() / present), (scores.sum() + change) / np.maximum(present - gone, 1)


def _per_class(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], classes: list[str]
) -> list[dict[Any, Any]]:
    """Compute each class's figures."""
    numbers = range(len(classes))
    figures = precision_recall_fscore_support(labels, predictions, labels=numbers, zero_division=0.0)
    columns = dict(zip(("precision", "recall", "f1", "support"), figures, strict=True))
    return pd.DataFrame({"class": classes, **columns}).to_dict("records")


def check_predictions(labels: NDArray[np.integer], probabilities: NDArray[np.floating], num_classes: int) -> None:
    """Refuse what would score as nonsense.

    Args:
        labels: True classes, (N,).
        probabilities: (N, K).
        num_classes: K.

    Raises:
        ValueError: The shapes disagree, a label is no class, or rows are no probabilities.
    """
    if labels.shape != (len(labels),) or probabilities.shape != (len(labels), num_classes):
        raise ValueError(
            f"labels of shape {labels.shape} and probabilities of shape {probabilities.shape} "
            f"do not fit {num_classes} classes"
        )
    if ((labels < 0) | (labels >= num_classes)).any():
        raise ValueError(
            f"labels reach from {labels.min()} to {labels.max()}: one is none of the {num_classes} classes"
        )
    # Written so that NaN fails too.
    if not ((probabilities >= 0).all() and (np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 1e-3).all()):
        raise ValueError("a row of probabilities is not finite, is not in [0, 1] or does not sum to 1")


class Mean(NamedTuple):
    """A mean with its 95 % interval.

    Attributes:
        mean: Of the values.
        sd: Their standard deviation (of a sample); None for a single value.
        low: Lower end of the interval; None for a single value.
        high: Its upper end.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], overlap: float = 0.0, photographs: float | None = None) -> Mean:
    """Give a mean with its 95 % t-interval.

    Trainings with other seeds are independent of each other: the variance of the mean is s²/J. The folds of a
    cross-validation are not, because their training sets overlap, so that s²/J is too small; in its place stands
    (1/J + n_val/n_train) s² (Nadeau and Bengio 2003, "Inference for the Generalization Error", Machine Learning 52,
    equation 9, the corrected resampled t-test), made for random divisions and cautious for folds. It is approximate: no
    estimate of the variance of k-fold cross-validation is unbiased (Bengio and Grandvalet 2004, JMLR 5).

    Args:
        values: J figures, one or more.
        overlap: n_val / n_train for folds, which is 1 / (J - 1); 0 for independent values.
        photographs: They are accuracies on so many photographs each. The interval then ends at 0 and 1, which no
            accuracy can pass, and s counts as half a photograph at least, for what differs by less looks equal: without
            that, three seeds on 150 photographs of which three are undecided gave an interval that held the truth in
            80 % of simulations, often without width.

    Returns:
        The mean, with None for what a single value does not tell.

    Raises:
        ValueError: There is no value.
    """
    mean = statistics.fmean(values)
    count = len(values)
    if count == 1:
        return Mean(mean, None, None, None)
    sd = statistics.stdev(values)
    half = float(student.ppf(0.975, count - 1)) * math.sqrt(1 / count + overlap)
    if photographs is None:
        return Mean(mean, sd, mean - half * sd, mean + half * sd)
    half *= max(sd, 0.5 / photographs)
    return Mean(mean, sd, max(mean - half, 0.0), min(mean + half, 1.0))
