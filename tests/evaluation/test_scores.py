import json
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from numpy.typing import NDArray

from flowers.evaluation.scores import OVERALL, largest_error_frac, score


def answers(
    photographs: int, num_classes: int, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str]]:
    """Labels, mostly right probabilities, and class names."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, photographs)
    logits = rng.normal(size=(photographs, num_classes))
    logits[np.arange(photographs), labels] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities, [f"class {number}" for number in range(num_classes)]


def reference(labels: NDArray[Any], probabilities: NDArray[Any]) -> list[float]:
    """The overall figures of one set of photographs, by scikit-learn and by hand."""
    predictions = probabilities.argmax(axis=1)
    best_two = np.argsort(-probabilities, axis=1)[:, :2]
    f1 = sklearn.metrics.f1_score(labels, predictions, labels=np.unique(labels), average="macro")
    return [
        float((predictions == labels).mean()),
        float(-np.log(probabilities[np.arange(len(labels)), labels]).mean()),
        float(f1),
        float((best_two == labels[:, None]).any(axis=1).mean()),
    ]


def test_a_case_computed_by_hand() -> None:
    labels = np.array([0, 0, 1, 2])
    probabilities = np.array([[0.5, 0.3, 0.2], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    scores = score(labels, probabilities, ["a", "b", "c"])
    assert scores["test/acc"] == 0.5
    assert scores["test/top2_acc"] == 0.75
    assert scores["test/loss"] == pytest.approx(-np.log([0.5, 0.3, 0.8, 0.1]).mean())
    # a: right 1, predicted 2, true 2; b: right 1, predicted 2, true 1; c: none right
    assert scores["test/macro_f1"] == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert scores["per_class"][1] == {
        "class": "b",
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    assert scores["per_class"][2] == {"class": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert scores["photographs"] == 4
    assert json.loads(json.dumps(scores)) == scores


def test_agrees_with_scikit_learn() -> None:
    labels, probabilities, classes = answers(500, 7)
    scores = score(labels, probabilities, classes, resamples=1)
    assert [scores[name] for name in OVERALL] == pytest.approx(reference(labels, probabilities))
    predictions = probabilities.argmax(axis=1)
    expected = sklearn.metrics.precision_recall_fscore_support(labels, predictions)
    for number, name in enumerate(classes):
        found, *figures = scores["per_class"][number].values()
        assert found == name
        assert figures == pytest.approx([row[number] for row in expected])


def test_intervals_equal_a_slow_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowers.evaluation.scores._DRAWS_AT_ONCE", 100)  # 2 draws of 40 photographs at a time
    labels, probabilities, classes = answers(40, 4)
    labels = np.sort(labels)
    # The order that `score` draws from; unique here, because no two losses are equal.
    losses = -np.log(probabilities[np.arange(40), labels])
    ranks = (probabilities > probabilities[np.arange(40), labels][:, None]).sum(axis=1)
    order = np.lexsort((losses, ranks, probabilities.argmax(axis=1), labels))
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(25):
        for drawn in rng.integers(0, 40, (2, 40)):
            draws.append(reference(labels[order][drawn], probabilities[order][drawn]))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    scores = score(labels, probabilities, classes, seed=5, resamples=50)
    for column, name in enumerate(OVERALL):
        assert scores["interval"][name] == pytest.approx([low[column], high[column]])


def test_the_interval_of_the_accuracy_has_the_width_that_theory_says() -> None:
    labels, probabilities, classes = answers(2000, 5)
    scores = score(labels, probabilities, classes)
    low, high = scores["interval"]["test/acc"]
    accuracy = scores["test/acc"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 2000), rel=0.1)
    for name in OVERALL:
        assert scores["interval"][name][0] < scores[name] < scores["interval"][name][1]


def test_95_of_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        right = rng.random(150) < 0.8
        probabilities = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
        low, high = score(np.zeros(150, int), probabilities, ["a", "b"], seed, 200)["interval"]["test/acc"]
        held += low <= 0.8 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_order_changes_nothing_and_the_seed_decides_the_draws() -> None:
    labels, probabilities, classes = answers(300, 6)
    shuffled = np.random.default_rng(1).permutation(300)
    scores = score(labels, probabilities, classes, seed=3, resamples=200)
    assert score(labels[shuffled], probabilities[shuffled], classes, seed=3, resamples=200) == scores
    assert score(labels, probabilities, classes, seed=4, resamples=200)["interval"] != scores["interval"]


def test_absent_classes_neither_break_nor_lower_the_macro_f1() -> None:
    labels = np.array([0, 0, 2, 2])
    probabilities = np.eye(4)[[0, 0, 2, 1]]
    scores = score(labels, probabilities, ["a", "b", "c", "d"])
    assert scores["test/macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["per_class"][1] == {"class": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert scores["per_class"][3]["support"] == 0


def test_certain_and_wrong_costs_no_infinity() -> None:
    scores = score(np.array([0]), np.array([[0.0, 1.0]]), ["a", "b"])
    assert scores["test/loss"] == pytest.approx(16.1, abs=0.1)


def test_of_two_classes_the_true_one_is_always_among_the_two_best() -> None:
    labels, probabilities, classes = answers(50, 2)
    scores = score(labels, probabilities, classes)
    assert scores["test/top2_acc"] == 1.0
    assert scores["interval"]["test/top2_acc"] == [1.0, 1.0]


def test_knowing_nothing_earns_nothing() -> None:
    labels = np.arange(10)
    scores = score(labels, np.full((10, 10), 0.1), [str(number) for number in range(10)])
    assert (scores["test/acc"], scores["test/top2_acc"]) == (0.1, 0.2)  # ties are no hits


def test_ten_thousand_photographs_of_102_classes() -> None:
    labels, probabilities, classes = answers(10_000, 102)
    scores = score(labels.astype(np.int32), probabilities.astype(np.float32), classes, resamples=300)
    low, high = scores["interval"]["test/macro_f1"]
    assert low < scores["test/macro_f1"] < high


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.empty((0, 2)), "no photograph"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "labels reach"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], "do not fit"),
        ([0], [[0.2, 0.2]], "sum to 1"),
        ([0], [[np.nan, 0.5]], "sum to 1"),
        ([0], [[1.5, -0.5]], "sum to 1"),
    ],
)
def test_nonsense_is_refused(labels: Any, probabilities: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(np.array(labels, int), np.array(probabilities, float), ["a", "b"])


def test_no_error_in_n_photographs_bounds_the_error_rate() -> None:
    assert largest_error_frac(1000) == pytest.approx(3 / 1000, rel=0.01)
