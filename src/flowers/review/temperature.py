"""From logits to probabilities that can be believed."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

TEMPERATURES = (0.05, 20.0)
"""Between these a temperature is looked for."""


def calibrated(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Turn logits into probabilities.

    Args:
        logits: (N, K).
        temperature: What they are divided by first, above 0.

    Returns:
        (N, K); rows sum to 1.
    """
    return np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1)).astype(np.float32)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Find the temperature at which the probabilities of known photographs fit best (Guo et al. 2017).

    It minimises the mean log loss, with the weight of half a photograph pulling its logarithm towards 0: where a
    network makes no mistake, the loss alone would fall for ever as the temperature approaches 0.

    Args:
        logits: (N, K) of photographs that were not trained on; N may be 0.
        labels: (N,) true classes.

    Returns:
        The temperature, in :data:`TEMPERATURES`; above 1 if the network is too sure of itself.
    """
    if not len(labels):
        return 1.0
    wide = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        of_truth = np.take_along_axis(log_softmax(wide / np.exp(log_temperature), axis=1), labels[:, None], axis=1)
        return float(-of_truth.sum() + 0.5 * log_temperature**2)

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x))
