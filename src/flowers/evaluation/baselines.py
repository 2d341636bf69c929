"""What a network has to beat: the majority, the nearest neighbours, a logistic regression.

Pure functions of rows and labels. What has to be chosen is chosen by cross-validation on the training photographs.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

KS = (1, 3, 5, 7, 9, 15, 25, 51, 101)
"""Numbers of neighbours that are tried."""
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the logistic regression's penalty that are tried, from strong to weak."""
_STEPS = 1000

Search = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""From queries, references and k to the k nearest references of each query, (M,k), the nearest first."""


class Baseline(NamedTuple):
    """A classifier that was fitted.

    Attributes:
        predict: Maps rows like those that it was fitted on, M of them, to probabilities (M,K).
        settings: What was chosen, and ``cv_acc``, the accuracy in [0, 1] of each choice in cross-validation.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    settings: dict[str, Any]


def training_frequencies(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Say how frequent each class is: (N,) labels to (K,) shares."""
    shares: np.ndarray = np.bincount(labels, minlength=num_classes) / len(labels)
    return shares


def fit_majority(labels: np.ndarray, num_classes: int) -> Baseline:
    """Answer the training frequencies, whatever is asked, and so the most frequent class."""
    frequencies = training_frequencies(labels, num_classes)
    return Baseline(lambda rows: np.tile(frequencies, (len(rows), 1)), {})


def fit_neighbours(
    rows: np.ndarray, labels: np.ndarray, folds: np.ndarray, num_classes: int, search: Search
) -> Baseline:
    """Let the nearest training photographs vote, as many as serve best in cross-validation.

    Args:
        rows: Training photographs, (N,…).
        labels: (N,), each in [0, K).
        folds: (N,), at least two of them: each is judged by all others; what has -1 judges only.
        num_classes: K.
        search: What is near.

    Returns:
        Votes become probabilities as :func:`vote` says. Of equally good numbers of neighbours the largest is taken,
        whose vote is the steadiest.
    """
    splits = held_out(folds)
    most = min(int(apart.sum()) for _, apart in splits)  # each number must be possible in each fold
    candidates = [k for k in KS if k <= most]
    right = dict.fromkeys(candidates, 0)
    for judged, apart in splits:
        near = labels[apart][search(rows[judged], rows[apart], candidates[-1])]
        frequencies = training_frequencies(labels[apart], num_classes)
        for k in candidates:
            right[k] += int((vote(near[:, :k], frequencies).argmax(axis=1) == labels[judged]).sum())
    accuracies = _accuracies(right, splits)
    best = max(candidates, key=lambda k: (right[k], k))
    frequencies = training_frequencies(labels, num_classes)
    return Baseline(
        lambda queries: vote(labels[search(queries, rows, best)], frequencies),
        {"k": best, "folds": len(splits), "cv_acc": accuracies},
    )


def fit_logistic(features: np.ndarray, labels: np.ndarray, folds: np.ndarray, num_classes: int) -> Baseline:
    """Fit a logistic regression on standardised features, with the penalty that serves best in cross-validation.

    Args:
        features: Of training photographs, (N,D) floating-point.
        labels: (N,), each in [0, K).
        folds: As for :func:`fit_neighbours`.
        num_classes: K.

    Returns:
        Of equally good penalties the strongest is taken.
    """
    splits = held_out(folds)
    right = dict.fromkeys(CS, 0)
    for judged, apart in splits:
        answers = _logistic_path(features[apart], labels[apart], num_classes, CS)
        for c, predict in zip(CS, answers, strict=True):
            right[c] += int((predict(features[judged]).argmax(axis=1) == labels[judged]).sum())
    best = max(CS, key=lambda c: (right[c], -c))
    *_, predict = _logistic_path(features, labels, num_classes, [best])
    return Baseline(predict, {"C": best, "folds": len(splits), "cv_acc": _accuracies(right, splits)})


def nearest_pixels(queries: np.ndarray, references: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Find the k references nearest to each query, every pair compared.

    Args:
        queries: (M,…) uint8.
        references: (N,…) uint8, with as many numbers in a row.
        k: In [1, N].
        metric: ``manhattan`` (L1) or ``euclidean`` (L2).

    Returns:
        (M,k) rows of `references`, the nearest first.
    """
    from sklearn.neighbors import NearestNeighbors

    flat, others = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (references, queries))
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(flat)
    found: np.ndarray = search.kneighbors(others, return_distance=False)
    return found


def nearest_directions(queries: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
    """Find the k references whose direction is most like a query's (by the cosine of the angle between them).

    Args:
        queries: (M,D) floating-point.
        references: (N,D) floating-point; a row of zeros is far from all.
        k: In [1, N].

    Returns:
        (M,k) rows of `references`, the nearest first.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    # Of rows of length 1 the nearest are those of the largest cosine: |a - b|² = 2 - 2 cos.
    found: np.ndarray = (
        NearestNeighbors(n_neighbors=k, algorithm="brute")
        .fit(normalize(references))
        .kneighbors(normalize(queries), return_distance=False)
    )
    return found


def vote(labels: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Turn the labels of neighbours into probabilities.

    Beside the k neighbours votes one more that is spread over the classes as the training photographs are: p = (votes +
    frequency) / (k + 1), the mean of a Dirichlet posterior. So no class has probability 0, which would cost 16 nats
    where it is the true one, and of classes with equal votes the more frequent one wins.

    Args:
        labels: (M,k), each in [0, K).
        frequencies: (K,), the classes' shares of the training photographs.

    Returns:
        (M,K) float64; rows sum to 1.
    """
    votes = np.zeros((len(labels), len(frequencies)))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)
    return (votes + frequencies) / (labels.shape[1] + 1)


def held_out(folds: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """List, for each fold, who is judged and who judges: two masks (N,), of at least one photograph each.

    Raises:
        ValueError: If nobody can be judged.
    """
    parts = [(folds == fold, folds != fold) for fold in np.unique(folds[folds >= 0])]
    splits = [(judged, apart) for judged, apart in parts if apart.any()]
    if not splits:
        raise ValueError("the photographs lie in less than two folds")
    return splits


def _accuracies(right: dict[Any, int], splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Divide by how many were judged; the choices are named as JSON has it."""
    judged = sum(int(mask.sum()) for mask, _ in splits)
    return {f"{choice:g}": count / judged for choice, count in right.items()}


def _logistic_path(
    features: np.ndarray, labels: np.ndarray, num_classes: int, strengths: Sequence[float]
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Fit one logistic regression after the other, each from where the one before it ended.

    Returns:
        Functions from features (M,D) to probabilities (M,K), with 0 for a class that was not there to learn.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    known = np.unique(labels)
    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)

    def predictor(fitted: LogisticRegression | None) -> Callable[[np.ndarray], np.ndarray]:
        def predict(rows: np.ndarray) -> np.ndarray:
            probabilities = np.zeros((len(rows), num_classes))
            probabilities[:, known] = 1 if fitted is None else fitted.predict_proba(scaler.transform(rows))
            return probabilities

        return predict

    if len(known) == 1:  # nothing to learn, which scikit-learn refuses
        return [predictor(None) for _ in strengths]
    model = LogisticRegression(max_iter=_STEPS, warm_start=True)
    found = []
    for strength in strengths:
        with warnings.catch_warnings():
            # Hardly penalised and separable, it never ends; cross-validation judges what it has come to.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
            model.set_params(C=strength).fit(scaled, labels)
        found.append(predictor(copy.deepcopy(model)))
    return found
