"""Confidence against accuracy: closed forms, a second implementation, and the cases without spread."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import beta
from torchmetrics.classification import MulticlassCalibrationError

from flowers.evaluation.calibration import (
    WANTED,
    calibration_error_by_chance,
    describe_confidence,
    expected_calibration_error,
    reliability,
    risk_coverage,
    selective_prediction,
    threshold_for,
)
from flowers.models.inference import calibrated

RNG = np.random.default_rng(0)


def draw(count: int, temperature: float, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at this temperature is the truth's distribution."""
    logits = RNG.normal(0, 3, (count, classes))
    truth = calibrated(logits, temperature)
    labels = np.array([RNG.choice(classes, p=row / row.sum()) for row in truth.astype(float)])
    return logits.astype(np.float32), labels


def test_calibration_error_is_that_of_torchmetrics() -> None:
    logits, labels = draw(500, 2.0)
    predicted = calibrated(logits, 1.0)
    theirs = MulticlassCalibrationError(4, n_bins=15)(torch.tensor(predicted), torch.tensor(labels))
    ours = expected_calibration_error(predicted.max(axis=1), predicted.argmax(axis=1) == labels)
    assert ours == pytest.approx(float(theirs), abs=1e-6)
    assert ours > 0.05


def test_bins_hold_their_upper_edge_and_intervals_their_accuracy() -> None:
    table = reliability(np.array([0.5, 0.51, 1.0, 1.0]), np.array([True, False, True, True]))
    assert table[["low", "high", "photographs"]].to_numpy().tolist() == [[0.4, 0.5, 1], [0.5, 0.6, 1], [0.9, 1.0, 2]]
    assert (table["acc_low"] <= table["acc"]).all()
    assert (table["acc"] <= table["acc_high"]).all()
    assert expected_calibration_error(np.array([1.0]), np.array([True])) == 0
    assert expected_calibration_error(np.array([1.0]), np.array([False])) == 1


def test_chance_alone_makes_an_error_that_shrinks_with_more_photographs() -> None:
    few, many = (calibration_error_by_chance(RNG.uniform(0.3, 1, count)) for count in (50, 5000))
    assert few[1] > few[0] > 0.05 > 0.025 > many[1] > many[0] > 0
    assert calibration_error_by_chance(np.ones(9)) == (0, 0)


def test_risk_grows_as_less_sure_answers_are_given() -> None:
    confidence, right = np.array([0.9, 0.6, 0.8, 0.6]), np.array([True, False, False, True])
    table = risk_coverage(confidence, right)
    assert table.to_numpy().tolist() == [[0.9, 0.25, 0], [0.8, 0.5, 0.5], [0.6, 1, 0.5]]


def test_threshold_lets_as_many_answers_through_as_can_be_promised() -> None:
    confidence = np.linspace(1, 0, 200)
    right = np.ones(200, bool)
    assert threshold_for(0.95, confidence, right) == 0
    right[120:] = False
    # 5 % of n answers may be wrong, but a bound says so: 124 answers with 2 mistakes are the most.
    bounds = {wrong: beta.ppf(0.95, wrong + 1, 120) for wrong in (1, 2, 3)}
    assert bounds[1] < 0.05 < bounds[2]
    assert threshold_for(0.95, confidence, right) == confidence[120]
    right[10] = False
    assert threshold_for(0.95, confidence, right) == confidence[119]
    # Answers that are equally sure are given together, or not.
    assert threshold_for(0.95, np.repeat([0.9, 0.8], 100), np.arange(200) < 120) == 0.9


def test_groups_that_agree_promise_no_more_than_one_of_each() -> None:
    confidence, right = np.linspace(1, 0, 100), np.arange(100) < 90
    once = threshold_for(0.9, confidence, right)
    assert once is not None
    assert threshold_for(0.9, confidence.repeat(3), right.repeat(3), np.arange(300) // 3) == once
    alone = threshold_for(0.9, confidence.repeat(3), right.repeat(3))
    assert alone is not None
    assert alone < once


def test_no_threshold_where_the_surest_is_wrong_or_nobody_is_asked() -> None:
    assert threshold_for(0.9, np.array([0.9, 0.4]), np.array([False, True])) is None
    assert threshold_for(0.9, np.array([]), np.array([], bool)) is None
    assert threshold_for(0.95, np.linspace(1, 0, 58), np.ones(58, bool)) is None  # 0.95 ** 58 > 0.05
    assert threshold_for(0.95, np.linspace(1, 0, 59), np.ones(59, bool)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("photographs", [150, 400])
@pytest.mark.parametrize("wanted", [0.9, 0.95])
@pytest.mark.parametrize("sharpness", [2.1, 2.5, 3.0])  # accuracies of .81, .89 and .95
def test_the_wanted_accuracy_is_missed_in_at_most_one_of_twenty_trials(
    photographs: int, wanted: float, sharpness: float
) -> None:
    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 5, count)
        logits = sharpness * (rng.normal(size=(count, 5)) + sharpness * np.eye(5)[labels])
        return softmax(logits, axis=1).max(axis=1), logits.argmax(axis=1) == labels

    rng = np.random.default_rng(photographs)
    truth = risk_coverage(*draw(200_000))
    missed = promised = 0
    for _ in range(600):
        if (threshold := threshold_for(wanted, *draw(photographs))) is not None:
            promised += 1
            missed += truth["risk"][truth["threshold"] >= threshold].iloc[-1] > 1 - wanted
    assert missed / 600 <= 0.05 + 0.02  # and what 600 trials vary
    assert promised / 600 > (0.9 if sharpness == 3 else 0.2)


def test_what_a_threshold_does_is_told_of_the_test() -> None:
    rows = selective_prediction({0.9: None, 0.8: 0.95}, np.array([0.9, 0.4]), np.array([False, True]))
    assert rows == [{"wanted": 0.8, "threshold": 0.95, "coverage": 0.0, "acc": None, "acc_low": None, "acc_high": None}]


def test_thresholds_come_from_validation_and_results_from_the_test() -> None:
    val, val_labels = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]).repeat(40, axis=0), np.array([0, 1, 0]).repeat(40)
    test, labels = np.array([[0.95, 0.05], [0.65, 0.35]]), np.array([1, 0])
    thresholds = {wanted: threshold_for(wanted, val.max(axis=1), val.argmax(axis=1) == val_labels) for wanted in WANTED}
    found = describe_confidence(test, labels, thresholds)
    assert {
        row["wanted"]: (row["threshold"], row["coverage"], row["acc"]) for row in found["selective_prediction"]
    } == dict.fromkeys((0.9, 0.95), (0.7, 0.5, 0.0))
    assert found["test/aurc"] == pytest.approx((1 + 0.5) / 2)
    assert describe_confidence(test, labels, {})["selective_prediction"] == []
