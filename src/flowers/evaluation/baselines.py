"""What a network has to beat: the majority, the nearest neighbours, a logistic regression.

Pure functions of rows and labels. What has to be chosen is chosen by cross-validation on the training photographs.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

KS = (1, 3, 5, 7, 9, 15, 25, 51, 101)
"""Numbers of neighbours that are tried."""
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the logistic regression's penalty that are tried, from strong to weak."""
_STEPS = 1000

Search = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""From queries, references and k to the k nearest references of each query, (M,k), the nearest first; -1: no more."""


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


def fit_majority(rows: np.ndarray, labels: np.ndarray, folds: np.ndarray, num_classes: int) -> Baseline:
    """Answer the training frequencies, whatever is asked, and so the most frequent class; `rows` do not matter."""
    frequencies = training_frequencies(labels, num_classes)
    return Baseline(lambda queries: np.tile(frequencies, (len(queries), 1)), {})


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
    most = min(int(apart.sum()) for _, apart in held_out(folds))  # each number must be possible in each fold
    candidates = [k for k in KS if k <= most]

    def answer(queries: np.ndarray, apart: np.ndarray | slice, ks: Sequence[int]) -> list[np.ndarray]:
        found = search(queries, rows[apart], ks[-1])
        near = np.where(found < 0, -1, labels[apart][found])
        frequencies = training_frequencies(labels[apart], num_classes)
        return [vote(near[:, :k], frequencies) for k in ks]

    def judge(judged: np.ndarray, apart: np.ndarray) -> list[np.ndarray]:
        return answer(rows[judged], apart, candidates)

    settings = _cross_validate(judge, candidates, labels, folds)
    best = max(reversed(candidates), key=lambda k: settings["cv_acc"][f"{k:g}"])
    return Baseline(lambda queries: answer(queries, slice(None), [best])[0], {"k": best, **settings})


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

    def judge(judged: np.ndarray, apart: np.ndarray) -> Iterator[np.ndarray]:
        for predict in _logistic_path(features[apart], labels[apart], num_classes, CS):
            yield predict(features[judged])

    settings = _cross_validate(judge, CS, labels, folds)
    best = max(CS, key=lambda c: settings["cv_acc"][f"{c:g}"])
    return Baseline(next(_logistic_path(features, labels, num_classes, [best])), {"C": best, **settings})


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
    flat, others = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (references, queries))
    return _nearest(others, flat, k, metric)


def nearest_directions(queries: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
    """Find the k references whose direction is most like a query's (by the cosine of the angle between them).

    Args:
        queries: (M,D) floating-point.
        references: (N,D) floating-point.
        k: In [1, N].

    Returns:
        (M,k) rows of `references`, the nearest first. A row of zeros has no direction: such a query has no neighbours,
        and such a reference is nobody's. -1 stands where there are no more.
    """
    found = np.full((len(queries), k), -1)
    asked, known = queries.any(axis=1), np.flatnonzero(references.any(axis=1))
    if asked.any() and len(known):
        # Of rows of length 1 the nearest are those of the largest cosine: |a - b|² = 2 - 2 cos.
        near = _nearest(normalize(queries[asked]), normalize(references[known]), min(k, len(known)), "euclidean")
        found[asked, : near.shape[1]] = known[near]
    return found


def _nearest(queries: np.ndarray, references: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Compare every pair of rows."""
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(references)
    found: np.ndarray = search.kneighbors(queries, return_distance=False)
    return found


def vote(labels: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Turn the labels of neighbours into probabilities.

    Beside the k neighbours votes one more that is spread over the classes as the training photographs are: p = (votes +
    frequency) / (k + 1), the mean of a Dirichlet posterior. So no class has probability 0, which would cost 16 nats
    where it is the true one, and of classes with equal votes the more frequent one wins.

    Args:
        labels: (M,k), each in [0, K), or -1 where there is no neighbour, who then does not vote.
        frequencies: (K,), the classes' shares of the training photographs.

    Returns:
        (M,K) float64; rows sum to 1.
    """
    votes = np.zeros((len(labels), len(frequencies)))
    rows, places = np.nonzero(labels >= 0)
    np.add.at(votes, (rows, labels[rows, places]), 1)
    return (votes + frequencies) / (votes.sum(axis=1, keepdims=True) + 1)


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


def _cross_validate(
    judge: Callable[[np.ndarray, np.ndarray], Iterable[np.ndarray]],
    choices: Sequence[float],
    labels: np.ndarray,
    folds: np.ndarray,
) -> dict[str, Any]:
    """Measure how often each choice is right about photographs that it was not fitted on.

    Args:
        judge: From who is judged and who judges, two masks (N,), to the probabilities of the judged: (M,K) for each of
            the choices.
        choices: What can be chosen.
        labels: (N,).
        folds: (N,), see :func:`held_out`.

    Returns:
        The number of ``folds``, and ``cv_acc``, the accuracy in [0, 1] of each choice, named as JSON has it.
    """
    splits = held_out(folds)
    right = dict.fromkeys(choices, 0)
    for judged, apart in splits:
        for choice, probabilities in zip(choices, judge(judged, apart), strict=True):
            right[choice] += int((probabilities.argmax(axis=1) == labels[judged]).sum())
    photographs = sum(int(judged.sum()) for judged, _ in splits)
    accuracies = {f"{choice:g}": count / photographs for choice, count in right.items()}
    return {"folds": len(splits), "cv_acc": accuracies}


def _logistic_path(
    features: np.ndarray, labels: np.ndarray, num_classes: int, strengths: Sequence[float]
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Fit one logistic regression after the other, each from where the one before it ended.

    Yields:
        A function from features (M,D) to probabilities (M,K), with 0 for a class that was not there to learn. It holds
        until the next one is asked for.
    """
    regression = LogisticRegression(max_iter=_STEPS, warm_start=True)
    # Where all are of one class there is nothing to learn, which a regression refuses.
    model = make_pipeline(StandardScaler(), regression) if len(np.unique(labels)) > 1 else DummyClassifier()

    def predict(rows: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(rows), num_classes))
        probabilities[:, model.classes_] = model.predict_proba(rows)
        return probabilities

    for strength in strengths:
        regression.set_params(C=strength)
        with warnings.catch_warnings():
            # Hardly penalised and separable, it never ends; cross-validation judges what it has come to.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
            model.fit(features, labels)
        yield predict
