import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from numpy.typing import NDArray

from flowers.evaluation.scores import MISTAKE_NATS, OVERALL, interval_of_sums, score, share_interval


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
    scores = score(labels, probabilities, classes)
    assert [scores[name] for name in OVERALL] == pytest.approx(reference(labels, probabilities))
    predictions = probabilities.argmax(axis=1)
    expected = sklearn.metrics.precision_recall_fscore_support(labels, predictions)
    for number, name in enumerate(classes):
        found, *figures = scores["per_class"][number].values()
        assert found == name
        assert figures == pytest.approx([row[number] for row in expected])


@pytest.mark.parametrize("counted", [1, 3])
def test_intervals_are_those_of_the_accuracy_stretched_as_leaving_groups_out_says(counted: int) -> None:
    labels, probabilities, classes = answers(60, 4)
    groups = np.arange(60) // counted
    scores = score(labels, probabilities, classes, groups)
    low, high = scores["interval"]["test/acc"]
    assert [low, high] == list(share_interval(probabilities.argmax(axis=1) == labels, groups))
    without = [reference(labels[groups != each], probabilities[groups != each]) for each in range(60 // counted)]
    _, loss, f1, _ = np.maximum(np.std(without, axis=0) / np.std(without, axis=0)[0], [1, MISTAKE_NATS, 1, 0])
    below, above = scores["test/acc"] - low, high - scores["test/acc"]
    expected = [scores["test/loss"] - loss * above, scores["test/loss"] + loss * below]
    assert scores["interval"]["test/loss"] == pytest.approx(expected)
    expected = [scores["test/macro_f1"] - f1 * below, scores["test/macro_f1"] + f1 * above]
    assert scores["interval"]["test/macro_f1"] == pytest.approx(expected)


def test_without_a_mistake_intervals_still_have_a_width() -> None:
    scores = score(np.arange(50) % 5, np.eye(5)[np.arange(50) % 5], list("abcde"))
    assert [scores[name] for name in OVERALL] == [1, 0, 1, 1]
    low, high = scores["interval"]["test/acc"]
    assert (0.9 < low < 0.95, high) == (True, 1)
    assert scores["interval"]["test/macro_f1"] == scores["interval"]["test/top2_acc"] == [low, 1]
    assert scores["interval"]["test/loss"] == pytest.approx([0, (1 - low) * MISTAKE_NATS])


def test_groups_that_agree_count_once() -> None:
    right = np.arange(200) < 180
    groups = np.arange(200) // 5
    low, high = share_interval(right, groups)
    assert share_interval(right[::5]) == pytest.approx((low, high))
    assert share_interval(right)[0] > low
    assert share_interval(right, np.arange(200)) == share_interval(right)
    assert share_interval(right, [f"group {number}" for number in groups]) == pytest.approx((low, high))
    assert share_interval(np.ones(9, bool), np.zeros(9)) == (pytest.approx(0, abs=0.1), 1)


def simulated(sizes: NDArray[np.int64], share: float, alike: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """How many photographs of each group are right, in 2,000 tests, where groups are alike in this degree: (2000,G)."""
    chances = np.full((2000, len(sizes)), share)
    if alike == 1:
        chances = (rng.random(chances.shape) < share) * 1.0
    elif alike:
        odds = (1 - alike) / alike
        chances = rng.beta(share * odds, (1 - share) * odds, chances.shape)
    return rng.binomial(sizes, chances)


@pytest.mark.slow
@pytest.mark.parametrize("photographs", [50, 150, 400])
@pytest.mark.parametrize(
    "sizes_of",
    [
        lambda n: np.ones(n, int),
        lambda n: np.repeat([2, 1], [n // 10, n - n // 10 * 2]),
        lambda n: np.repeat([5], [n // 5]),
        lambda n: np.repeat([n // 5, 1], [1, n - n // 5]),
    ],
    ids=["alone", "a fifth in pairs", "fives", "a fifth in one group"],
)
def test_intervals_of_accuracies_hold_the_truth_in_93_of_100_tests(
    photographs: int, sizes_of: Callable[[int], NDArray[np.int64]]
) -> None:
    rng = np.random.default_rng(photographs)
    sizes = sizes_of(photographs)
    for share in (0.8, 0.9, 0.95, 0.97, 0.99):
        for alike in (0, 0.5, 1) if sizes.max() > 1 else (0,):
            held = 0
            for right in simulated(sizes, share, alike, rng):
                low, high = interval_of_sums(right, sizes, (1, 1, 0, 0))
                held += low <= share <= high
            assert held / 2000 >= 0.93, (share, alike)


def test_an_interval_is_that_of_its_sums() -> None:
    right = np.arange(60) % 7 > 0
    sums, sizes = right.reshape(20, 3).sum(axis=1), np.full(20, 3)
    assert share_interval(right, np.arange(60) // 3) == interval_of_sums(sums, sizes, (1, 1, 0, 0))


@pytest.mark.slow
@pytest.mark.parametrize("photographs", [50, 150, 400])
@pytest.mark.parametrize("sharpness", [1.9, 2.8, 4.3])  # accuracies of about .80, .95 and .99 or more
def test_intervals_of_loss_and_f1_hold_the_truth_in_90_of_100_tests(photographs: int, sharpness: float) -> None:
    def draw(count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        labels = rng.integers(0, 5, count)
        logits = sharpness * (rng.normal(size=(count, 5)) + sharpness * np.eye(5)[labels])
        return labels, scipy.special.softmax(logits, axis=1)

    rng = np.random.default_rng(photographs)
    truth = score(*draw(200_000), list("abcde"))
    tests = [score(*draw(photographs), list("abcde"))["interval"] for _ in range(500)]
    for name in OVERALL:
        held = np.mean([each[name][0] <= truth[name] <= each[name][1] for each in tests])
        assert held >= 0.9, name


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
    for _ in range(200):
        right = rng.random(150) < 0.8
        probabilities = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
        low, high = score(np.zeros(150, int), probabilities, ["a", "b"])["interval"]["test/acc"]
        held += low <= 0.8 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_order_changes_nothing() -> None:
    labels, probabilities, classes = answers(300, 6)
    shuffled = np.random.default_rng(1).permutation(300)
    scores = score(labels, probabilities, classes)
    assert score(labels[shuffled], probabilities[shuffled], classes) == scores
    groups = np.arange(300) // 3
    assert score(labels[shuffled], probabilities[shuffled], classes, groups[shuffled]) == score(
        labels, probabilities, classes, groups
    )


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
    scores = score(labels.astype(np.int32), probabilities.astype(np.float32), classes)
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
