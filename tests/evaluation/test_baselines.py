"""The baselines answer as their definitions say, and choose what cross-validation says."""

import numpy as np
import pytest

from flowers.evaluation.baselines import (
    CS,
    KS,
    Search,
    fit_logistic,
    fit_majority,
    fit_neighbours,
    held_out,
    nearest_directions,
    nearest_pixels,
    training_frequencies,
    vote,
)


def by_value(queries: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
    """Search in whole numbers, (N,1)."""
    order: np.ndarray = np.argsort(np.abs(queries - references[:, 0]), axis=1, kind="stable")[:, :k]
    return order


def on_pixels(queries: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
    return nearest_pixels(queries, references, k, "manhattan")


def clouds(per_class: int, classes: int, features: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw features (N,D) float32 around the corners of a cube, labels and folds."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), per_class)
    corners = np.eye(features)[np.arange(classes) % features] * (1 + np.arange(classes) // features)[:, None]
    rows = corners[labels] + rng.normal(0, 0.2, (len(labels), features))
    return rows.astype(np.float32), labels, np.arange(len(labels)) % 5


def test_the_majority_is_answered_with_the_training_frequencies() -> None:
    baseline = fit_majority(np.zeros((4, 5)), np.array([1, 1, 2, 1]), np.zeros(4, int), 4)
    assert baseline.predict(np.zeros((2, 5))).tolist() == [[0, 0.75, 0.25, 0]] * 2


def test_the_number_of_neighbours_is_what_serves_best_on_the_other_folds() -> None:
    # Of each class's 30, six lie among the other's: a single neighbour errs beside them, a vote of many does not.
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    places = np.where(labels == 0, 0, 1000) + rng.permutation(60) * 2
    places[:6], places[30:36] = places[:6] + 1001, places[30:36] - 999
    rows, folds = places[:, None], np.arange(60) % 5
    baseline = fit_neighbours(rows, labels, folds, 2, by_value)
    accuracies = baseline.settings["cv_acc"]
    # The same by hand, for each k.
    for k in (int(name) for name in accuracies):
        right = 0
        for one in range(60):
            apart = folds != folds[one]
            near = labels[apart][by_value(rows[[one]], rows[apart], k)[0]]
            votes = np.bincount(near, minlength=2) + training_frequencies(labels[apart], 2)
            right += int(votes.argmax() == labels[one])
        assert accuracies[str(k)] == pytest.approx(right / 60)
    best = max(accuracies.values())
    assert best > accuracies["1"]
    assert baseline.settings["k"] == max(int(k) for k, accuracy in accuracies.items() if accuracy == best)
    assert list(accuracies) == [str(k) for k in KS if k <= 48]  # four fifths of 60
    near = labels[by_value(np.array([[500]]), rows, baseline.settings["k"])]
    expected = (np.bincount(near[0], minlength=2) + 0.5) / (baseline.settings["k"] + 1)
    np.testing.assert_allclose(baseline.predict(np.array([[500]]))[0], expected)


def test_nobody_is_judged_by_their_own_fold() -> None:
    rows = np.array([[0], [0], [50], [50]])  # copies, each pair in one fold
    seen = []

    def watching(queries: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
        seen.append((queries.ravel().tolist(), references.ravel().tolist()))
        return by_value(queries, references, k)

    fit_neighbours(rows, np.array([0, 0, 1, 1]), np.array([0, 0, 3, 3]), 2, watching)
    assert seen == [([0, 0], [50, 50]), ([50, 50], [0, 0])]


def test_who_has_no_fold_only_judges() -> None:
    parts = held_out(np.array([0, -1, 2]))
    assert [(judged.tolist(), apart.tolist()) for judged, apart in parts] == [
        ([True, False, False], [False, True, True]),
        ([False, False, True], [True, True, False]),
    ]
    assert len(held_out(np.array([0, 0, -1]))) == 1
    for folds in ([1, 1], [-1, -1]):
        with pytest.raises(ValueError, match="less than two folds"):
            held_out(np.array(folds))


def test_few_photographs_bound_the_number_of_neighbours() -> None:
    rows = np.arange(5, dtype=np.uint8)[:, None]
    baseline = fit_neighbours(rows, np.array([0, 0, 1, 1, 2]), np.arange(5), 3, on_pixels)
    assert list(baseline.settings["cv_acc"]) == ["1", "3"]
    assert baseline.predict(rows).shape == (5, 3)


@pytest.mark.parametrize("search", [on_pixels, nearest_directions])
def test_equal_photographs_are_answered_with_what_is_frequent(search: Search) -> None:
    labels = np.array([1] * 8 + [0] * 4)
    rows = np.zeros((12, 4), np.uint8)
    baseline = fit_neighbours(rows, labels, np.arange(12) % 5, 2, search)
    np.testing.assert_allclose(baseline.predict(rows).sum(axis=1), 1)
    logistic = fit_logistic(rows.astype(np.float32), labels, np.arange(12) % 5, 2)
    np.testing.assert_allclose(logistic.predict(rows.astype(np.float32)), [[1 / 3, 2 / 3]] * 12, atol=1e-4)


def test_directions_are_compared_whatever_the_lengths() -> None:
    references = np.array([[1, 0], [100, 100], [0, 0.01], [-5, 0]], np.float32)
    queries = np.array([[0.3, 0.1], [0, 7]], np.float32)
    assert nearest_directions(queries, references, 4).tolist() == [[0, 1, 2, 3], [2, 1, 0, 3]]


def test_a_row_of_zeros_has_no_direction_and_neither_has_nor_is_a_neighbour() -> None:
    references = np.array([[1, 0], [0, 0], [-1, 0.1]], np.float32)
    queries = np.array([[1, 0.1], [0, 0]], np.float32)
    assert nearest_directions(queries, references, 3).tolist() == [[0, 2, -1], [-1, -1, -1]]
    assert nearest_directions(queries[1:], references, 1).tolist() == [[-1]]
    assert nearest_directions(queries, references[1:2], 1).tolist() == [[-1], [-1]]


def test_who_has_no_neighbours_is_answered_with_the_training_frequencies() -> None:
    features, labels, folds = clouds(per_class=10, classes=2)
    features[labels == 1] += 1
    features[0] = 0
    baseline = fit_neighbours(features, labels, folds, 2, nearest_directions)
    assert baseline.predict(np.zeros((1, 6), np.float32)).tolist() == [[0.5, 0.5]]
    np.testing.assert_allclose(vote(np.array([[1, 1, -1]]), np.array([0.5, 0.5])), [[0.5 / 3, 2.5 / 3]])


def test_a_logistic_regression_separates_clouds() -> None:
    features, labels, folds = clouds(per_class=30, classes=3)
    # Of another scale, and of no variance at all: neither may matter.
    features = np.concatenate([features * 1e4, np.full((len(features), 1), 3, np.float32)], axis=1)
    baseline = fit_logistic(features, labels, folds, 3)
    probabilities = baseline.predict(features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95
    accuracies = baseline.settings["cv_acc"]
    assert [float(c) for c in accuracies] == list(CS)
    best = max(accuracies.values())
    assert best > 0.9
    assert baseline.settings["C"] == min(float(c) for c, accuracy in accuracies.items() if accuracy == best)


def test_the_last_fit_equals_scikit_learns_own() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels, folds = clouds(per_class=12, classes=4)
    baseline = fit_logistic(features, labels, folds, 4)
    own = make_pipeline(StandardScaler(), LogisticRegression(C=baseline.settings["C"], max_iter=1000))
    expected = own.fit(features, labels).predict_proba(features)
    np.testing.assert_allclose(baseline.predict(features), expected, atol=1e-5)


def test_a_class_with_one_photograph_and_many_classes_serve() -> None:
    features, labels, folds = clouds(per_class=2, classes=102, features=12)
    features, labels, folds = features[1:], labels[1:], folds[1:]  # class 0 has one, which is missing in its own fold
    for baseline in (
        fit_neighbours(features, labels, folds, 102, nearest_directions),
        fit_logistic(features[:60], labels[:60], folds[:60], 31),
    ):
        probabilities = baseline.predict(features)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        assert (probabilities > 0).all()


def test_a_fold_without_which_one_class_is_left_can_be_judged() -> None:
    features, labels, _ = clouds(per_class=6, classes=2)
    folds = np.where(labels == 1, 0, np.arange(12) % 3 + 1)
    baseline = fit_logistic(features, labels, folds, 2)
    assert max(baseline.settings["cv_acc"].values()) <= 0.5  # those of fold 0 cannot be known


@pytest.mark.parametrize("metric", ["manhattan", "euclidean"])
def test_nearest_pixels_are_those_of_whole_numbers(metric: str) -> None:
    rng = np.random.default_rng(0)
    queries, references = (rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8) for count in (9, 150))
    wide = references.reshape(150, -1).astype(np.int64)
    for query, rows in zip(queries, nearest_pixels(queries, references, 12, metric), strict=True):
        differences = np.abs(wide - query.ravel())
        distance = (differences if metric == "manhattan" else differences**2).sum(axis=1)
        assert distance[rows].tolist() == sorted(distance)[:12]


def test_votes_are_shares_beside_one_vote_of_the_training_frequencies() -> None:
    frequencies = np.array([0.5, 0.3, 0.2])
    probabilities = vote(np.array([[2, 2, 1], [1, 2, 0]]), frequencies)
    np.testing.assert_allclose(probabilities, [[0.125, 0.325, 0.55], [0.375, 0.325, 0.3]])
    assert (vote(np.array([[1]]), np.array([0.5, 0.5, 0.0]))[0] == [0.25, 0.75, 0]).all()
