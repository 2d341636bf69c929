"""How good predictions are, and how sure a test of this size lets us be.

Pure functions of labels and probabilities; nothing here knows where they came from.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import precision_recall_fscore_support

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

    # One order for any order of the photographs, so that neither sums nor draws depend on it.
    order = np.lexsort((losses, ranks, predictions, labels))
    answers: list[NDArray[Any]] = [each[order] for each in (labels, predictions, ranks, losses)]
    overall = _overall(len(classes), *(each[None] for each in answers))[0]
    rng = np.random.default_rng(seed)
    size, at_once = len(labels), max(1, _DRAWS_AT_ONCE // len(labels))
    draws = []
    for start in range(0, resamples, at_once):
        drawn = rng.integers(0, size, (min(at_once, resamples - start), size))
        draws.append(_overall(len(classes), *(each[drawn] for each in answers)))
    low, high = np.percentile(np.concatenate(draws), [2.5, 97.5], axis=0)
    return {
        **dict(zip(OVERALL, overall.tolist(), strict=True)),
        "interval": {name: [float(low[column]), float(high[column])] for column, name in enumerate(OVERALL)},
        "per_class": _per_class(labels, predictions, classes),
        "photographs": len(labels),
    }


def _per_class(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], classes: list[str]
) -> list[dict[Any, Any]]:
    """Compute each class's figures."""
    numbers = range(len(classes))
    figures = precision_recall_fscore_support(labels, predictions, labels=numbers, zero_division=0.0)
    columns = dict(zip(("precision", "recall", "f1", "support"), figures, strict=True))
    return pd.DataFrame({"class": classes, **columns}).to_dict("records")


def largest_error_frac(photographs: int) -> float:
    """Bound the error rate of a classifier that made no mistake.

    Args:
        photographs: How many it was tested on, at least 1.

    Returns:
        The error rate, in [0, 1], at which N right answers in a row still have a chance of 5 %:
        1 - 0.05^(1/N), which is close to 3/N (the "rule of three", Hanley and Lippman-Hand 1983).
    """
    return float(1 - 0.05 ** (1 / photographs))


def _overall(
    num_classes: int,
    labels: NDArray[np.integer],
    predictions: NDArray[np.integer],
    ranks: NDArray[np.integer],
    losses: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Compute the figures of :data:`OVERALL`, (R, 4), for R draws at once.

    Args:
        num_classes: K.
        labels: True classes of the drawn photographs, (R, N).
        predictions: Predicted classes, (R, N).
        ranks: How many classes are held more probable than the true one, (R, N).
        losses: Log losses in nats, (R, N).
    """
    draws = len(labels)

    def tally(of: NDArray[np.integer], weights: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Count classes draw by draw: (R, K)."""
        cells = (np.arange(draws)[:, None] * num_classes + of).ravel()
        taken = None if weights is None else weights.ravel()
        return np.bincount(cells, taken, draws * num_classes).reshape(draws, num_classes).astype(np.float64)

    support = tally(labels)
    f1 = 2 * tally(labels, ranks == 0) / np.maximum(support + tally(predictions), 1)
    macro_f1 = f1.sum(axis=1, where=support > 0) / (support > 0).sum(axis=1)
    return np.stack([(ranks == 0).mean(axis=1), losses.mean(axis=1), macro_f1, (ranks < 2).mean(axis=1)], axis=1)


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


def mean_interval(values: Sequence[float], overlap: float = 0.0, share: bool = False) -> Mean:
    """Give a mean with its 95 % t-interval.

    Trainings with other seeds are independent of each other: the variance of the mean is s²/J. The folds of a
    cross-validation are not, because their training sets overlap, so that s²/J is too small; in its place stands
    (1/J + n_val/n_train) s² (Nadeau and Bengio 2003, "Inference for the Generalization Error", Machine Learning 52,
    equation 9, the corrected resampled t-test), made for random divisions and cautious for folds. It is approximate: no
    estimate of the variance of k-fold cross-validation is unbiased (Bengio and Grandvalet 2004, JMLR 5).

    Args:
        values: J figures, one or more.
        overlap: n_val / n_train for folds, which is 1 / (J - 1); 0 for independent values.
        share: They are shares, so that the interval ends at 0 and 1, which no share can pass.

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
    low, high = mean - half, mean + half
    return Mean(mean, sd, max(low, 0.0), min(high, 1.0)) if share else Mean(mean, sd, low, high)
