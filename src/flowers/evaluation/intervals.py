"""How sure a mean over several trainings is."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t as student


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
