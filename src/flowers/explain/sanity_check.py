"""Whether maps show the network or only the photograph: they must change when the weights do.

A map that stays the same when the weights are shuffled shows edges, not reasons (Adebayo et al. 2018, "Sanity Checks
for Saliency Maps").
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from flowers.explain.attribution import Explanation, explain
from flowers.explain.layers import to_batch

METHODS = {
    "cam": "Grad-CAM",
    "guided_cam": "guided Grad-CAM",
    "guided": "guided backpropagation",
    "gradient": "gradient",
    "occlusion": "occlusion",
}
_ALIKE = 0.5
_TRIES = 8


def randomised_similarity(
    network: nn.Module, explanations: Sequence[Explanation], seed: int, count: int
) -> dict[str, float]:
    """Compare the maps of a network with those of the same network after its weights are shuffled.

    It costs as much as explaining `count` photographs.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K). It is not changed.
        explanations: Of this network.
        seed: Seeds the shuffling.
        count: Most photographs to compare.

    Returns:
        For each method of :data:`METHODS` that the network allows, Spearman's rank correlation between the maps, mean
        over the photographs: near 0 if a map depends on what was learned, near 1 if on the photograph alone. It is 0
        for a map with a single value. Gradients are compared without their signs.
    """
    shown = list(explanations[:count])
    if not shown:
        return {}
    pixels = np.stack([each.photograph for each in shown])
    other = shuffled(network, to_batch(pixels, network), seed)
    truths, targets = (np.array([getattr(each, name) for each in shown]) for name in ("truth", "predicted"))
    numbers = np.array([each.number for each in shown])
    others = explain(other, pixels, truths, "the shuffled network", numbers, targets).each
    similar = {}
    for method in METHODS:
        pairs = [(_as_plane(a, method), _as_plane(b, method)) for a, b in zip(shown, others, strict=True)]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if known:
            similar[method] = float(np.mean([rank_correlation(a, b) for a, b in known]))
    return similar


def verdict(similarity: float) -> str:
    """Say in words what a similarity means."""
    if similarity >= _ALIKE:
        return "hardly changes when the weights are shuffled: it shows the photograph more than what was learned"
    return "changes when the weights are shuffled: it shows what was learned"


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Compute Spearman's correlation of two maps, in [-1, 1]; 0 if one of them has a single value."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def shuffled(network: nn.Module, pixels: Tensor, seed: int) -> nn.Module:
    """Copy a network, and shuffle the values of each of its parameters.

    Unlike new random weights these suit any layer, and keep its scale. Batch-norms get the statistics of their new
    inputs: with the old ones their outputs would be far too small or too large. If the network then gives the same
    logits for any photograph, because no ReLU lets anything through, its maps are empty, and it is shuffled again.

    Args:
        network: The network.
        pixels: (B,3,H,W), for the statistics.
        seed: Seeds the shuffling.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_TRIES):
        other = copy.deepcopy(network).eval()
        with torch.no_grad():
            for parameter in other.parameters():
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
            _update_norms(other, pixels)
            if not torch.equal(other(pixels), other(torch.full_like(pixels, 128))):
                break
    return other


def _update_norms(network: nn.Module, pixels: Tensor) -> None:
    """Set the statistics of batch-norms to those of some photographs."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    network(torch.cat([pixels, pixels]))  # twice, because one value has no variance
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def _as_plane(explanation: Explanation, method: str) -> NDArray[np.floating] | None:
    """Take a map as (H,W): of three colours the largest absolute value."""
    values: NDArray[np.floating] | None = getattr(explanation, method)
    if values is None or values.ndim == 2:
        return values
    return np.abs(values).max(axis=2)
