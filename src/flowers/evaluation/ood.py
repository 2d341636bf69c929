"""Out-of-distribution images: how far from, and how unsure; and whether a model notices them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

NEIGHBOURS = 10
AT_ONCE = 2048


def distances(
    features: NDArray[np.floating], reference: NDArray[np.floating], among_themselves: bool = False
) -> NDArray[np.float64]:
    """Measure how far photographs are from those of a reference (Sun et al. 2022, "Deep nearest neighbors").

    Args:
        features: (N, D), what the network's head is given.
        reference: (M, D), M > 0, of photographs that were not trained on, else the trained ones would seem too near.
        among_themselves: The N are the reference, and none is a neighbour of itself.

    Returns:
        (N,) in [0, 2]: 1 - cosine to the tenth nearest of the reference, or to the farthest if there are fewer.
    """
    ours, theirs = _unit(features), _unit(reference)
    place = min(NEIGHBOURS, len(theirs)) - 1 + among_themselves  # the nearest is then the photograph itself
    place = min(place, len(theirs) - 1)
    parts = []
    for first in range(0, len(ours), AT_ONCE):
        gaps = 1 - ours[first : first + AT_ONCE] @ theirs.T
        parts.append(np.partition(gaps, place, axis=1)[:, place])
    return np.concatenate(parts).clip(min=0) if parts else np.empty(0)


def combined(scores: Sequence[NDArray[np.floating]], references: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Join several outlier scores into one that needs none of them to be good (Fisher 1932, combining tests).

    Which score notices what depends on the photographs: a flower of an unknown species may lie among the known ones and
    leave the network unsure, an empty meadow lies far from them and may leave it sure.

    Args:
        scores: (N,) each, the higher the farther from what is known.
        references: (M,) each, M > 0: the same scores of ordinary photographs.

    Returns:
        (N,): the sum of -ln p over the scores, where p is the share of ordinary photographs that score as high or
        more, counting the photograph itself. In nats.
    """
    total = np.zeros(len(scores[0]))
    for score, reference in zip(scores, references, strict=True):
        higher = len(reference) - np.searchsorted(np.sort(reference), score, side="left")
        total -= np.log((higher + 1) / (len(reference) + 1))
    return total


def ood_percentile(score: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn a score into shares that can be read without knowing the network.

    Args:
        score: (N,), the higher the farther from what is known.
        reference: (M,), M > 0: of ordinary photographs.

    Returns:
        (N,) in [0, 1]: the share of ordinary photographs that score less. Of ordinary ones, one in a hundred is above
        0.99.
    """
    return np.searchsorted(np.sort(reference), score, side="left") / len(reference)


def energy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Score outliers by the logits alone (Liu et al. 2020, "Energy-based out-of-distribution detection").

    Args:
        logits: (N, K).

    Returns:
        (N,); the higher, the more of an outlier. In nats, with no fixed zero.
    """
    return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))


def separation(ordinary: NDArray[np.floating], outlying: NDArray[np.floating]) -> float:
    """Compute the chance that an outlier scores higher than an ordinary photograph (area under the ROC curve).

    Args:
        ordinary: Scores (N,), N > 0.
        outlying: Scores (M,), M > 0.

    Returns:
        In [0, 1]; 0.5 is no better than chance.
    """
    truth = np.repeat([0, 1], [len(ordinary), len(outlying)])
    return float(roc_auc_score(truth, np.concatenate([ordinary, outlying])))


def _unit(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale rows to length 1; a row of zeros stays."""
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
