"""How good predictions are, and how sure a test of this size lets us be.

Pure functions of labels and probabilities; nothing here knows where they came from.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

OVERALL = ("test/acc", "test/loss", "test/macro_f1", "test/top2_acc")
"""The overall figures, each of which gets an interval."""

SMALLEST_PROBABILITY = 1e-7
"""What a probability counts as at least in the log loss: float32's resolution next to 1. One photograph then
costs at most 16.2 nats, instead of making the mean infinite."""

_DRAWS_AT_ONCE = 1 << 20
"""How many drawn photographs are held at a time (8 MiB per array)."""


def score(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    classes: list[str],
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Score predictions, with 95 % intervals.

    The intervals are percentile bootstrap intervals over photographs (Efron and Tibshirani 1993, "An
    Introduction to the Bootstrap", chapter 13): all figures are computed again on `resamples` draws of N
    photographs with replacement, and the interval reaches from the 2.5th to the 97.5th percentile. It tells
    how far the figure would wander with other photographs of the same kind, not with another training run.
    Where every photograph is right, every draw is too, and the interval has no width: see
    :func:`largest_error_frac`.

    The order of the photographs changes nothing, down to the last bit.

    Args:
        labels: True classes, (N,), each in [0, K).
        probabilities: Predicted probabilities, (N, K); each row sums to 1.
        classes: The K class names, by number.
        seed: Seeds the draws.
        resamples: Number of draws.

    Returns:
        What `metrics.json` holds. Fractions are in [0, 1]:

        - ``test/acc``: share of photographs whose most probable class is right; of equally probable ones the
          lower number comes first.
        - ``test/loss``: mean of -ln(probability of the true class) in nats, see :data:`SMALLEST_PROBABILITY`.
        - ``test/macro_f1``: mean F1 over the classes that have photographs here (for an interval: in that
          draw). A class without any takes no part, but photographs mistaken for it still count against their
          own.
        - ``test/top2_acc``: share of photographs whose true class is among the two most probable.
        - ``interval``: for each of the four, ``[low, high]``.
        - ``per_class``: a row for each class, see :func:`per_class`.
        - ``photographs``: N.

    Raises:
        ValueError: The shapes disagree, there is no photograph, a label is no class, or rows are no
            probabilities.
    """
    _check(labels, probabilities, classes)
    num_classes = len(classes)
    probabilities = probabilities.astype(np.float64)
    of_truth = np.take_along_axis(probabilities, labels[:, None], axis=1)
    # Rank of the true class; ties go to the lower class number, exactly as in argmax.
    earlier = np.arange(num_classes) < labels[:, None]
    ranks = ((probabilities > of_truth) | ((probabilities == of_truth) & earlier)).sum(axis=1)
    losses = -np.log(np.clip(of_truth[:, 0], SMALLEST_PROBABILITY, 1.0))
    predictions = probabilities.argmax(axis=1)

    # One order for any order of the photographs, so that neither sums nor draws depend on it.
    order = np.lexsort((losses, ranks, predictions, labels))
    answers = _Answers(labels[order], predictions[order], ranks[order], losses[order], num_classes)
    overall = _overall(np.arange(len(labels))[None], answers)[0]
    low, high = np.percentile(_resample(answers, seed, resamples), [2.5, 97.5], axis=0)
    return {
        **dict(zip(OVERALL, overall.tolist(), strict=True)),
        "interval": {name: [float(low[column]), float(high[column])] for column, name in enumerate(OVERALL)},
        "per_class": per_class(confusion(labels, predictions, num_classes), classes),
        "photographs": len(labels),
    }


def confusion(labels: NDArray[np.integer], predictions: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """Count which class was taken for which.

    Args:
        labels: True classes, (N,), each in [0, K).
        predictions: Predicted classes, (N,), each in [0, K).
        num_classes: K.

    Returns:
        Counts, (K, K): rows are the truth, columns the prediction.
    """
    cells = labels.astype(np.int64) * num_classes + predictions
    return np.bincount(cells, minlength=num_classes**2).astype(np.int64).reshape(num_classes, num_classes)


def per_class(counts: NDArray[np.integer], classes: list[str]) -> list[dict[str, str | float]]:
    """Read each class's figures off a confusion matrix.

    Args:
        counts: (K, K), rows truth, columns prediction.
        classes: The K class names, by number.

    Returns:
        A row for each class: ``class``, ``precision``, ``recall``, ``f1`` in [0, 1] (0 where the denominator is 0) and
        ``support``.
    """
    right, predicted, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    # A zero denominator has a zero numerator, so dividing by 1 instead gives the 0 we promise.
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(predicted + support, 1)
    return [
        {
            "class": name,
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(support[k]),
        }
        for k, name in enumerate(classes)
    ]


def largest_error_frac(photographs: int) -> float:
    """Bound the error rate of a classifier that made no mistake.

    Args:
        photographs: How many it was tested on, at least 1.

    Returns:
        The error rate, in [0, 1], at which N right answers in a row still have a chance of 5 %:
        1 - 0.05^(1/N), which is close to 3/N (the "rule of three", Hanley and Lippman-Hand 1983).
    """
    return float(1 - 0.05 ** (1 / photographs))


class _Answers(NamedTuple):
    """What the overall figures are made of."""

    labels: NDArray[np.integer]
    """True classes, (N,)."""
    predictions: NDArray[np.integer]
    """Predicted classes, (N,)."""
    ranks: NDArray[np.integer]
    """How many classes are held more probable than the true one, (N,)."""
    losses: NDArray[np.float64]
    """Log losses in nats, (N,)."""
    num_classes: int


def _resample(answers: _Answers, seed: int, resamples: int) -> NDArray[np.float64]:
    """Compute the overall figures on draws with replacement: (resamples, 4)."""
    rng = np.random.default_rng(seed)
    size = len(answers.labels)
    at_once = max(1, _DRAWS_AT_ONCE // size)
    return np.concatenate(
        [
            _overall(rng.integers(0, size, (min(at_once, resamples - start), size)), answers)
            for start in range(0, resamples, at_once)
        ]
    )


def _overall(drawn: NDArray[np.int64], answers: _Answers) -> NDArray[np.float64]:
    """Compute the figures of :data:`OVERALL` for R draws at once.

    Args:
        drawn: Numbers of the drawn photographs, (R, N).
        answers: What was answered for all photographs.

    Returns:
        (R, 4).
    """
    labels, predictions, ranks, losses, num_classes = answers
    draws = len(drawn)

    def tally(of: NDArray[np.integer], weights: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Count classes draw by draw: (R, K)."""
        cells = (np.arange(draws)[:, None] * num_classes + of[drawn]).ravel()
        taken = None if weights is None else weights[drawn].ravel()
        return np.bincount(cells, taken, draws * num_classes).reshape(draws, num_classes).astype(np.float64)

    support = tally(labels)
    f1 = 2 * tally(labels, ranks == 0) / np.maximum(support + tally(predictions), 1)
    macro_f1 = f1.sum(axis=1, where=support > 0) / (support > 0).sum(axis=1)
    drawn_ranks = ranks[drawn]
    return np.stack(
        [
            (drawn_ranks == 0).mean(axis=1),
            losses[drawn].mean(axis=1),
            macro_f1,
            (drawn_ranks < 2).mean(axis=1),
        ],
        axis=1,
    )


def _check(labels: NDArray[np.integer], probabilities: NDArray[np.floating], classes: list[str]) -> None:
    """Refuse what would score as nonsense."""
    if len(labels) == 0:
        raise ValueError("there is no photograph to score")
    if labels.shape != (len(labels),) or probabilities.shape != (len(labels), len(classes)):
        raise ValueError(
            f"labels of shape {labels.shape} and probabilities of shape {probabilities.shape} "
            f"do not fit {len(classes)} classes"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels reach from {labels.min()} to {labels.max()} with {len(classes)} classes")
    # Written so that NaN fails too.
    if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max() < 1e-3):
        raise ValueError("the rows of probabilities must be in [0, 1] and sum to 1")


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


def mean_interval(values: Sequence[float], overlap: float = 0.0) -> Mean:
    """Give a mean with its 95 % t-interval.

    Trainings with other seeds are independent of each other: the variance of the mean is s²/J. The folds of a
    cross-validation are not, because their training sets overlap, so that s²/J is too small; in its place stands
    (1/J + n_val/n_train) s² (Nadeau and Bengio 2003, "Inference for the Generalization Error", Machine Learning 52,
    equation 9, the corrected resampled t-test), made for random divisions and cautious for folds. It is approximate: no
    estimate of the variance of k-fold cross-validation is unbiased (Bengio and Grandvalet 2004, JMLR 5).

    Args:
        values: J figures, one or more.
        overlap: n_val / n_train for folds, which is 1 / (J - 1); 0 for independent values.

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
    half = float(student.ppf(0.975, count - 1)) * math.sqrt(1 / count + overlap) * sd
    return Mean(mean, sd, mean - half, mean + half)


def clipped(mean: Mean) -> Mean:
    """Cut the interval of a share at 0 and 1, which no share can pass."""
    if mean.low is None or mean.high is None:
        return mean
    return mean._replace(low=max(mean.low, 0.0), high=min(mean.high, 1.0))
