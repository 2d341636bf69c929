"""The temperature that the data were drawn with is found, and always a finite one."""

import numpy as np
import pytest

from flowers.models.inference import calibrated
from flowers.training.checkpoints import TEMPERATURES, fit_temperature

RNG = np.random.default_rng(0)


def draw(count: int, temperature: float, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at this temperature is the truth's distribution."""
    logits = RNG.normal(0, 3, (count, classes))
    truth = calibrated(logits, temperature)
    labels = np.array([RNG.choice(classes, p=row / row.sum()) for row in truth.astype(float)])
    return logits.astype(np.float32), labels


def test_probabilities_are_a_softmax_at_a_temperature() -> None:
    logits = np.array([[0.0, np.log(3)], [900.0, 0.0]])
    assert calibrated(logits, 1.0) == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]))
    assert calibrated(logits, 0.5) == pytest.approx(np.array([[0.1, 0.9], [1.0, 0.0]]))


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_the_temperature_of_the_data_is_found(truth: float) -> None:
    logits, labels = draw(4000, truth)
    assert fit_temperature(logits, labels) == pytest.approx(truth, rel=0.08)


def test_a_network_without_mistakes_keeps_a_finite_temperature() -> None:
    logits = 5 * np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    few = fit_temperature(logits, np.array([0, 1, 2, 0]))
    assert TEMPERATURES[0] < few < 1
    assert fit_temperature(logits[:0], np.array([], int)) == 1
