"""How little photographs resemble those that a model was chosen on: out-of-distribution scores.

Three scores are joined, because what notices an unknown thing depends on the thing: a flower of an unknown species may
lie among the known ones and leave the network unsure, a line chart lies far from them and may leave it sure. Which
three was decided by a comparison on sets that serve nothing else (``python -m benchmarks.outlier_scores``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from flowers.models.inference import ModelOutputs, Validation, calibrated

FOLDS = 10
"""Of the validation photographs: each is scored by a fit to the others' folds."""
PRINCIPAL_FRAC = 0.9
"""Share of the features' variance that counts as ordinary in :class:`Residual`."""


class OutlierScores:
    """The scores of a model, fitted to its validation photographs, which it was not trained on.

    Attributes:
        reference: (G,) joined score of a validation photograph of each group, by a fit to other groups; None if the
            model kept none.
    """

    reference: NDArray[np.float64] | None = None

    def __init__(self, validation: Validation | None, temperature: float, groups: ArrayLike | None = None) -> None:
        """Fit the scores.

        Args:
            validation: What the network makes of the M validation photographs; None if a version trained the model
                that did not keep it.
            temperature: Of the model's probabilities.
            groups: (M,), the near-duplicates of each, which are left out with it; None: each stands alone.
        """
        self.temperature = temperature
        if validation is None:
            return
        count = len(validation.labels)
        names = np.arange(count) if groups is None else pd.factorize(np.asarray(groups))[0]
        self.parts = _Parts(validation)
        self.ordinary = self.parts.scores(validation)
        folds = min(FOLDS, len(np.unique(names)))
        for rest, fold in GroupKFold(folds).split(names, groups=names) if folds > 1 else ():
            self.ordinary[:, fold] = _Parts(_rows(validation, rest)).scores(_rows(validation, fold))
        # How unsure the network is needs no fit. Copies would count a photograph that is among the others as ordinary.
        _, first = np.unique(names, return_index=True)
        self.ordinary = np.vstack([self.ordinary, self._unsure(validation.logits)])[:, first]
        self.reference = joined(self.ordinary, self.ordinary, among_themselves=True)

    def _unsure(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        return 1 - calibrated(logits, self.temperature).max(axis=1)

    def table(self, names: Sequence[str], answers: ModelOutputs) -> pd.DataFrame:
        """Score photographs.

        Args:
            names: What the N photographs are called.
            answers: What the network makes of them.

        Returns:
            Columns `path`; `outlier`, the joined score, see :func:`joined`, and its :func:`ood_percentile` among the
            validation photographs; `distance`, see :class:`Mahalanobis`, and `residual`, see :class:`Residual`;
            `confidence`, the answer's probability. Where no validation features are known, `outlier` is the
            :func:`energy`, and percentile, distance and residual are empty.
        """
        unsure = self._unsure(answers.logits)
        found: dict[str, Any] = {"path": names, "outlier": energy(answers.logits), "ood_percentile": np.nan}
        found |= {"distance": np.nan, "residual": np.nan, "confidence": 1 - unsure}
        if self.reference is not None:
            scores = np.vstack([self.parts.scores(answers), unsure])
            found["distance"], found["residual"], _ = scores
            found["outlier"] = joined(scores, self.ordinary)
            found["ood_percentile"] = ood_percentile(found["outlier"], self.reference)
        return pd.DataFrame(found)


class _Parts:
    """The two scores that are fitted to features."""

    def __init__(self, known: Validation) -> None:
        self.distance = Mahalanobis(known.features, known.labels)
        self.residual = Residual(known.features, known.logits)

    def scores(self, answers: ModelOutputs | Validation) -> NDArray[np.float64]:
        """Score N photographs: (2,N)."""
        return np.stack([self.distance(answers.features), self.residual(answers.features, answers.logits)])


def _rows(known: Validation, rows: NDArray[np.integer]) -> Validation:
    return Validation(*(each[rows] for each in known))


class Mahalanobis:
    """Distance to the nearest class, in the directions and units in which classes themselves vary.

    Of features scaled to length 1 (Mueller and Hein 2025, "Mahalanobis++"; Lee et al. 2018), with a covariance that all
    classes share, shrunk by Ledoit and Wolf 2004, as there may be fewer photographs than features.
    """

    def __init__(self, features: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        """Fit to features (M,D) of labels (M,), M > 0."""
        unit = _unit(features)
        _, rows = np.unique(labels, return_inverse=True)
        self.means = np.stack([unit[rows == k].mean(axis=0) for k in range(rows.max() + 1)])  # (K,D)
        within = unit - self.means[rows]
        self.axes, variances = principal_axes(within)
        shrinkage = ledoit_wolf_shrinkage(within, assume_centered=True) if within.any() else 1.0
        # Beyond the axes, of which there are at most M, the shrunk covariance is a multiple of the identity.
        self.rest = max(shrinkage * variances.sum() / unit.shape[1], 1e-12)
        self.variances = (1 - shrinkage) * variances + self.rest

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Measure features (N,D): squared distances (N,)."""
        unit = _unit(features)
        found = []
        for mean in self.means:
            along, beyond = _split(unit - mean, self.axes)
            found.append((along**2 / self.variances).sum(axis=1) + beyond / self.rest)
        return np.min(found, axis=0)


class Residual:
    """What of the features no ordinary photograph has, on the scale of logits, less the energy (ViM).

    Source: Wang et al. 2022, "ViM: Out-Of-Distribution with Virtual-logit Matching".
    """

    def __init__(self, features: NDArray[np.floating], logits: NDArray[np.floating]) -> None:
        """Fit to features (M,D) and logits (M,K), M > 0."""
        wide = features.astype(np.float64)
        self.mean = wide.mean(axis=0)
        axes, variances = principal_axes(wide - self.mean)
        kept = np.searchsorted(np.cumsum(variances), PRINCIPAL_FRAC * variances.sum()) + 1
        self.axes = axes[: min(kept, len(axes) - 1)]
        outside = self._outside(features).sum()
        self.scale = logits.max(axis=1).sum() / outside if outside > 0 else 1.0

    def _outside(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.sqrt(_split(features.astype(np.float64) - self.mean, self.axes)[1])

    def __call__(self, features: NDArray[np.floating], logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score features (N,D) and logits (N,K): (N,), in nats."""
        return self.scale * self._outside(features) + energy(logits)


def principal_axes(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the axes of rows (M,D), the most variable first: unit vectors (A,D), A <= min(M,D), and variances (A,)."""
    count, width = centred.shape
    if count < width:
        _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
        return axes, lengths**2 / count
    variances, vectors = np.linalg.eigh(centred.T @ centred / count)
    return vectors.T[::-1], variances[::-1].clip(min=0)


def _split(rows: NDArray[np.float64], axes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Divide rows (N,D) into what lies along axes (A,D), (N,A), and the squared length of the rest, (N,)."""
    along = rows @ axes.T
    return along, ((rows**2).sum(axis=1) - (along**2).sum(axis=1)).clip(min=0)


def _unit(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale rows to length 1; a row of zeros stays."""
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def joined(
    scores: NDArray[np.floating], references: NDArray[np.floating], among_themselves: bool = False
) -> NDArray[np.float64]:
    """Join several outlier scores into one that needs none of them to be good (Fisher 1932, combining tests).

    Args:
        scores: (S,N), the higher the farther from what is known.
        references: (S,M), M > 0: the same scores of ordinary photographs.
        among_themselves: The N are these, and each is compared with the others.

    Returns:
        (N,): the sum of -ln p over the scores, where p is the share of ordinary photographs that score as high or
        more, counting the photograph itself. In nats.
    """
    total = np.zeros(scores.shape[1])
    for score, reference in zip(scores, references, strict=True):
        higher = len(reference) - np.searchsorted(np.sort(reference), score, side="left")
        once = 0 if among_themselves else 1  # those that score as high have counted the photograph itself
        total -= np.log((higher + once) / (len(reference) + once))
    return total


def ood_percentile(score: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn a score into shares that can be read without knowing the network.

    Args:
        score: (N,), the higher the farther from what is known.
        reference: (M,), M > 0: of ordinary photographs.

    Returns:
        (N,) in [0, 1): of the ordinary photographs and itself, the share that score less. Of ordinary ones, at most one
        in a hundred is above 0.99, which takes 100 of them to be reached (Bates et al. 2023, "Testing for outliers with
        conformal p-values").
    """
    return np.searchsorted(np.sort(reference), score, side="left") / (len(reference) + 1)


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
