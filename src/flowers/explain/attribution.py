"""Where a network looks: Grad-CAM, guided backpropagation, gradients, occlusion; and whether such a map means anything.

A map that stays the same when the network's weights are shuffled shows edges, not reasons (Adebayo et al. 2018, "Sanity
Checks for Saliency Maps").
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import GuidedBackprop, LayerAttribution, LayerGradCam, Saliency
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from flowers.explain.layers import ExplainableNetwork, describe, finite_logits, make_explainable, to_batch

OCCLUDED_FRAC = 0.2
"""Side of the square that hides a part of the photograph, as a share of the photograph's."""
OCCLUSION_STEPS = 10
"""Positions of the square along each side, from edge to edge."""
METHODS = {
    "cam": "Grad-CAM",
    "guided_cam": "guided Grad-CAM",
    "guided": "guided backpropagation",
    "gradient": "gradient",
    "occlusion": "occlusion",
}
_AT_ONCE = 4
_SQUARES_AT_ONCE = 20
_ALIKE = 0.5
_TRIES = 8

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """The maps of one photograph; those that the network does not allow are None.

    Attributes:
        number: The number that the caller gave the photograph.
        photograph: (H,W,3) uint8.
        truth: Its class.
        predicted: The most probable class, or the one that was asked for. All maps but `cam_truth` are for it.
        confidence: Probability of `predicted`.
        confidence_truth: Probability of `truth`.
        gradient: (H,W,3): change of the logit per pixel level (Simonyan et al. 2013).
        guided: (H,W,3): the same with negative gradients held back at each ReLU (Springenberg et al. 2014).
        cam: (H,W), not negative: how much each place adds to the class (Grad-CAM, Selvaraju et al. 2017), in logits
            times the number of pixels of the layer's map where a mean over the places follows it.
        cam_truth: The same for the true class, if another one is predicted.
        cams_compare: Whether the values of the two may be compared, see `ExplainableNetwork.places_alike`.
        guided_cam: (H,W,3): `guided` times `cam`.
        occlusion: (H,W): by how many nats the log-odds of the class fall when a square hides this part (Zeiler and
            Fergus 2013); mean over the squares that cover a pixel. Negative: hiding it helps.
    """

    number: int
    photograph: NDArray[np.uint8]
    truth: int
    predicted: int
    confidence: float
    confidence_truth: float
    gradient: Map
    guided: Map | None
    cam: Map | None
    cam_truth: Map | None
    cams_compare: bool
    guided_cam: Map | None
    occlusion: Map

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.predicted == self.truth


@dataclass(frozen=True)
class Explanations:
    """The explanations of some photographs.

    Attributes:
        each: One for each photograph.
        cannot: What cannot be shown for this network, in sentences.
        notes: What to keep in mind when reading the maps, in sentences.
        cam_layer: Name of the layer whose maps Grad-CAM weighs.
    """

    each: list[Explanation]
    cannot: list[str]
    notes: list[str]
    cam_layer: str | None


def explain(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    name: str,
    numbers: NDArray[np.integer] | None = None,
    targets: NDArray[np.integer] | None = None,
) -> Explanations:
    """Explain what a network predicts for some photographs.

    The network itself is not changed. A photograph costs about 105 forward passes, 100 of them for the occlusion.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        pixels: (N,H,W,3).
        labels: True classes, (N,).
        name: What the network is called in sentences.
        numbers: The caller's numbers of the photographs, (N,); None: 0, 1, ….
        targets: Classes to explain, (N,); None: the most probable ones.

    Raises:
        ValueError: If a logit is not finite; it names the photograph's number.
    """
    numbers = np.arange(len(pixels)) if numbers is None else numbers
    if not len(pixels):
        return Explanations([], [], [], None)
    explainable = make_explainable(network, to_batch(pixels[:1], network))
    found: list[Explanation] = []
    for first in range(0, len(pixels), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        batch, truths = to_batch(pixels[part], network), labels[part]
        with torch.no_grad():
            chances = finite_logits(explainable.plain, batch, numbers[part]).softmax(dim=1).cpu().numpy()
        predicted = chances.argmax(axis=1) if targets is None else targets[part]
        gradients, guided = _gradients(explainable, batch, predicted)
        cams = _cams(explainable, batch, predicted)
        cams_truth = cams if np.array_equal(predicted, truths) else _cams(explainable, batch, truths)
        for i, (truth, answer, cam) in enumerate(zip(truths.tolist(), predicted.tolist(), cams, strict=True)):
            found.append(
                Explanation(
                    number=int(numbers[first + i]),
                    photograph=np.asarray(pixels[first + i]),
                    truth=truth,
                    predicted=answer,
                    confidence=float(chances[i, answer]),
                    confidence_truth=float(chances[i, truth]),
                    gradient=gradients[i],
                    guided=guided[i],
                    cam=cam,
                    cam_truth=None if answer == truth else cams_truth[i],
                    cams_compare=explainable.places_alike,
                    guided_cam=None if guided[i] is None or cam is None else guided[i] * cam[..., None],
                    occlusion=_occlusion(explainable.plain, batch[i : i + 1], answer),
                )
            )
    last = explainable.map_layers[-1] if explainable.map_layers else None
    return Explanations(found, *describe(explainable, name), last)


def _gradients(network: ExplainableNetwork, batch: Tensor, targets: NDArray[np.integer]) -> tuple[Map, Any]:
    """Compute the gradients (B,H,W,3) of the targets' logits, plain and guided; None for each guided one if none is."""
    classes = targets.tolist()
    plain = Saliency(network.hookable).attribute(batch.clone().requires_grad_(), classes, abs=False)
    if "guided backpropagation" in network.cannot:
        return _channels_last(plain), [None] * len(batch)
    with warnings.catch_warnings():
        # captum sets them because we asked for this method.
        warnings.filterwarnings("ignore", "Setting backward hooks")
        guided = GuidedBackprop(network.hookable).attribute(batch.clone().requires_grad_(), classes)
    return _channels_last(plain), _channels_last(guided)


def _cams(network: ExplainableNetwork, batch: Tensor, targets: NDArray[np.integer]) -> Any:
    """Compute Grad-CAM (B,H,W) of the last map, resized to the photograph; None for each if there is none."""
    if "Grad-CAM" in network.cannot:
        return [None] * len(batch)
    method = LayerGradCam(network.hookable, network.hookable.get_submodule(network.map_layers[-1]))
    coarse = method.attribute(batch, targets.tolist(), relu_attributions=True).detach()
    fine = LayerAttribution.interpolate(coarse, tuple(batch.shape[2:]), interpolate_mode="bilinear")
    return fine[:, 0].cpu().numpy()


def _occlusion(network: nn.Module, photograph: Tensor, target: int) -> Map:
    """Hide parts of a photograph (1,3,H,W) behind a square of its mean colour; see `Explanation.occlusion`."""

    def log_odds(batch: Tensor) -> Tensor:
        # The probability of a sure prediction stays near 1, while its log-odds still show small changes.
        logits = network(batch).double()
        others = logits.clone()
        others[:, target] = -torch.inf
        return (logits[:, target] - others.logsumexp(dim=1)).float()

    rows, columns = (_strips(side_px).to(photograph.device) for side_px in photograph.shape[2:])
    hidden = (rows[:, None, :, None] & columns[:, None, :]).flatten(0, 1)  # (S,S,H,W) -> (S·S,H,W)
    with torch.no_grad():
        mean = photograph.mean(dim=(2, 3), keepdim=True)
        squares = hidden[:, None].split(_SQUARES_AT_ONCE)
        falls = log_odds(photograph) - torch.cat([log_odds(torch.where(some, mean, photograph)) for some in squares])
    covers = hidden.float()
    found: Map = (torch.einsum("s,shw->hw", falls, covers) / covers.sum(dim=0)).cpu().numpy()
    return found


def _strips(side_px: int) -> Tensor:
    """Mark where the square lies along a side, (S,side) bool: from edge to edge, in steps that differ by a pixel."""
    hidden_px = max(round(side_px * OCCLUDED_FRAC), 1)
    starts = torch.linspace(0, side_px - hidden_px, OCCLUSION_STEPS).round().unique()[:, None]
    places = torch.arange(side_px)
    return (places >= starts) & (places < starts + hidden_px)


def _channels_last(maps: Tensor) -> Map:
    array: Map = maps.detach().permute(0, 2, 3, 1).float().cpu().numpy()  # (B,3,H,W) -> (B,H,W,3)
    return array


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
    return "changes when the weights are shuffled: it depends on what was learned"


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
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    network(torch.cat([pixels, pixels]))  # twice, because one value has no variance
    for norm in norms:
        norm.eval()


def _as_plane(explanation: Explanation, method: str) -> NDArray[np.floating] | None:
    """Take a map as (H,W): of three colours the largest absolute value."""
    values: NDArray[np.floating] | None = getattr(explanation, method)
    if values is None or values.ndim == 2:
        return values
    return np.abs(values).max(axis=2)
