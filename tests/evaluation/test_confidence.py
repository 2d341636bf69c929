"""Confidence against accuracy: closed forms, a second implementation, and the cases without spread."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from flowers.evaluation.calibration import (
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


@pytest.mark.parametrize(("wanted", "threshold"), [(1.0, 0.9), (0.6, 0.7), (0.5, 0.7), (0.2, 0.5)])
def test_threshold_gives_as_many_answers_as_the_wanted_accuracy_lets(wanted: float, threshold: float) -> None:
    confidence = np.array([0.95, 0.9, 0.8, 0.7, 0.5, 0.5, 0.5])
    right = np.array([True, True, False, False, False, False, False])
    right[3] = True
    assert threshold_for(wanted, confidence, right) == threshold


def test_no_threshold_where_the_surest_is_wrong_or_nobody_is_asked() -> None:
    assert threshold_for(0.9, np.array([0.9, 0.4]), np.array([False, True])) is None
    assert threshold_for(0.9, np.array([]), np.array([], bool)) is None
    rows = selective_prediction({0.9: None, 0.8: 0.95}, np.array([0.9, 0.4]), np.array([False, True]))
    assert rows == [{"wanted": 0.8, "threshold": 0.95, "coverage": 0.0, "acc": None, "acc_low": None, "acc_high": None}]


def test_thresholds_come_from_validation_and_results_from_the_test() -> None:
    val, val_labels = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]), np.array([0, 1, 0])
    test, labels = np.array([[0.95, 0.05], [0.65, 0.35]]), np.array([1, 0])
    found = describe_confidence(test, labels, val, val_labels)
    assert {
        row["wanted"]: (row["threshold"], row["coverage"], row["acc"]) for row in found["selective_prediction"]
    } == dict.fromkeys((0.9, 0.95, 0.98, 0.99), (0.7, 0.5, 0.0))
    assert found["test/aurc"] == pytest.approx((1 + 0.5) / 2)
    assert describe_confidence(test, labels, None, None)["selective_prediction"] == []
