"""Are the probabilities right: temperature, reliability, and when a model had better not answer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from flowers.evaluation.scores import number_groups, share_interval

ECE_BINS = 15
"""As in most of what is published."""
DIAGRAM_BINS = 10
WANTED = (0.9, 0.95, 0.98, 0.99)
"""Accuracies that thresholds are looked for."""
PROMISED = 0.95
"""Confidence with which a threshold holds what it is for."""


def expected_calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Average how far accuracy and confidence are apart, over bins of confidence (Naeini et al. 2015).

    Args:
        confidence: Probability of the answer, (N,).
        right: Whether it was right, (N,).

    Returns:
        In [0, 1]; 0 is perfect.
    """
    leads = np.bincount(_bin(confidence, ECE_BINS), weights=right - confidence.astype(np.float64))
    return float(np.abs(leads).sum() / len(confidence))


def calibration_error_by_chance(
    confidence: NDArray[np.floating], draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Compute what a perfectly calibrated network's calibration error would be with this many photographs.

    The error is a mean of absolute values, so that chance alone makes it positive. Here answers of these confidences
    are right by lot with just that probability.

    Args:
        confidence: Probability of the answer, (N,).
        draws: How often lots are drawn.
        seed: Of the lots.

    Returns:
        The mean error over the draws, and the one that 95 % of them stay below, in [0, 1].
    """
    rng = np.random.default_rng(seed)
    lots = [expected_calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(draws)]
    return float(np.mean(lots)), float(np.quantile(lots, 0.95))


def reliability(
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_],
    groups: ArrayLike | None = None,
    bins: int = DIAGRAM_BINS,
) -> pd.DataFrame:
    """Compare confidence with accuracy in bins of equal width.

    Args:
        confidence: Probability of the answer, (N,) in [0, 1].
        right: Whether it was right, (N,).
        groups: Groups of near-duplicates, (N,), see :func:`flowers.evaluation.scores.share_interval`.
        bins: Number of bins.

    Returns:
        A row for each bin that has photographs: `low`, `high` (its edges), `confidence` and `acc` (means in it),
        `acc_low`, `acc_high` (95 % interval), `photographs`.
    """
    number, groups = _bin(confidence, bins), number_groups(groups, len(right))
    rows = []
    for each in np.unique(number):
        inside = number == each
        low, high = share_interval(right[inside], groups[inside])
        means = float(confidence[inside].mean(dtype=np.float64)), float(right[inside].mean())
        rows.append((each / bins, (each + 1) / bins, *means, low, high, int(inside.sum())))
    return pd.DataFrame(rows, columns=["low", "high", "confidence", "acc", "acc_low", "acc_high", "photographs"])


def risk_coverage(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> pd.DataFrame:
    """Tell how accuracy grows as more of the less sure answers are withheld (El-Yaniv and Wiener 2010).

    Args:
        confidence: Probability of the answer, (N,).
        right: Whether it was right, (N,).

    Returns:
        A row for each distinct confidence, the highest first: `threshold` (answers at least as sure are given),
        `coverage` (their share) and `risk` (the share of wrong ones among them).
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, wrong = confidence[order], np.cumsum(~right[order])
    last = np.append(sorted_confidence[1:] != sorted_confidence[:-1], True)  # equally sure answers go together
    given = np.arange(1, len(order) + 1)
    return pd.DataFrame(
        {
            "threshold": sorted_confidence[last],
            "coverage": given[last] / len(order),
            "risk": wrong[last] / given[last],
        }
    )


def threshold_for(
    wanted: float, confidence: NDArray[np.floating], right: NDArray[np.bool_], groups: ArrayLike | None = None
) -> float | None:
    """Find the confidence from which on answers are as accurate as wanted, also to other photographs.

    A threshold passes where an exact upper bound of the risk among the answers it lets through, at the confidence of
    :data:`PROMISED`, is small enough (Geifman and El-Yaniv 2017, "Selective classification for deep neural networks").
    They are tried one after the other, each letting one answer more through, up to the first that does not pass; so all
    that passed hold together at that confidence (fixed-sequence testing: Angelopoulos et al. 2021, "Learn then Test").
    The first lets as many through as make one mistake pass; or as make none pass, where that takes more than half of
    the photographs.

    Args:
        wanted: Accuracy in (0, 1).
        confidence: Probability of the answer, (N,), of photographs that were not trained on.
        right: Whether it was right, (N,).
        groups: Groups of near-duplicates, (N,), of which each counts once, whatever its size, on average.

    Returns:
        The threshold; None if there is none that can promise this accuracy.
    """
    if not len(confidence):
        return None
    sizes = np.bincount(number_groups(groups, len(right)))
    alike = sizes @ sizes / len(right)
    table = risk_coverage(confidence, right)
    given = table["coverage"].to_numpy() * len(right) / alike

    def passes(given: NDArray[np.floating], wrong: NDArray[np.floating] | int) -> NDArray[np.bool_]:
        return beta.ppf(PROMISED, wrong + 1, given - wrong) <= 1 - wanted

    half = passes(given, 1) & (given <= given[-1] / 2)
    tried = np.flatnonzero(np.logical_or.accumulate(passes(given, 1 if half.any() else 0)))
    passed = tried[np.logical_and.accumulate(passes(given, table["risk"].to_numpy() * given)[tried])]
    return float(table["threshold"].iloc[passed[-1]]) if len(passed) else None


def describe_confidence(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    thresholds: Mapping[float, float | None],
    groups: ArrayLike | None = None,
) -> dict[str, Any]:
    """Say how far the probabilities of test photographs can be trusted.

    Args:
        probabilities: (N, K) of the test.
        labels: (N,) true classes of the test.
        thresholds: Chosen on validation photographs, by the accuracy that each is for, see :func:`threshold_for`.
        groups: (N,) groups of near-duplicates of the test, see :func:`flowers.evaluation.scores.share_interval`.

    Returns:
        For ``metrics.json``: ``test/ece`` (see :func:`expected_calibration_error`), ``test/ece_floor`` and
        ``test/ece_limit`` (see :func:`calibration_error_by_chance`), ``test/aurc`` (mean risk over all coverages) and
        ``selective_prediction`` (see there).
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    curve = risk_coverage(confidence, right)
    floor, limit = calibration_error_by_chance(confidence)
    return {
        "test/ece": expected_calibration_error(confidence, right),
        "test/ece_floor": floor,
        "test/ece_limit": limit,
        "test/aurc": float(np.average(curve["risk"], weights=np.diff(curve["coverage"], prepend=0))),
        "selective_prediction": selective_prediction(thresholds, confidence, right, groups),
    }


def selective_prediction(
    thresholds: Mapping[float, float | None],
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_],
    groups: ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Tell what thresholds that were chosen on other photographs do on these.

    Args:
        thresholds: By the accuracy that each is for, see :func:`threshold_for`.
        confidence: Probability of the answer, (N,).
        right: Whether it was right, (N,).
        groups: Groups of near-duplicates, (N,), see :func:`flowers.evaluation.scores.share_interval`.

    Returns:
        A row for each threshold that there is: `wanted`, `threshold`, `coverage` (the share of photographs that get an
        answer), `acc` among those with its 95 % interval `acc_low` and `acc_high`; null where none gets an answer.
    """
    rows, groups = [], number_groups(groups, len(right))
    for wanted, threshold in thresholds.items():
        if threshold is None:
            continue
        given = confidence >= threshold
        answered, correct = int(given.sum()), int(right[given].sum())
        low, high = share_interval(right[given], groups[given]) if answered else (None, None)
        rows.append(
            {
                "wanted": wanted,
                "threshold": threshold,
                "coverage": answered / len(given),
                "acc": correct / answered if answered else None,
                "acc_low": low,
                "acc_high": high,
            }
        )
    return rows


def _bin(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Number the bin of each confidence, (N,); a bin holds its upper edge."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
