"""Which pixels decided: Grad-CAM, guided backpropagation, gradient and occlusion of single photographs.

Works on any network that maps pixels to logits. captum computes the maps, on a copy of the network.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowers.review.anatomy import Anatomy, device_of, dissect, limits, notes

OCCLUDED_FRAC = 0.2
"""Side of the square that hides a part of the photograph, as a share of the photograph's."""
OCCLUSION_STEPS = 10
"""Places of the square along each side."""
_AT_ONCE = 4
_SQUARES_AT_ONCE = 20

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """Maps of one photograph; those that the network does not allow are None.

    Attributes:
        number: The photograph's, as the caller counts.
        photograph: (H,W,3) uint8.
        truth: Its class.
        predicted: The most probable class, or the one that was asked for. All maps are its, but `cam_truth`.
        confidence: Probability of `predicted`.
        confidence_truth: Probability of `truth`.
        gradient: (H,W,3): change of the logit per pixel level (Simonyan et al. 2013).
        guided: (H,W,3): the same with negative gradients held back at each ReLU (Springenberg et al. 2014).
        cam: (H,W), not negative: how much each place speaks for the class (Grad-CAM, Selvaraju et al. 2017), in logits
            times the number of pixels of the layer's map where a mean over the places follows it.
        cam_truth: The same for the true class, if the photograph was mistaken.
        cams_compare: Whether the two may be compared in size, see `Anatomy.places_alike`.
        guided_cam: (H,W,3): `guided` times `cam`.
        occlusion: (H,W): by how many nats the log-odds of the class fall where a square hides the photograph (Zeiler
            and Fergus 2013); mean over the squares that cover a pixel. Negative: hiding it helps.
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
    """What was found about some photographs.

    Attributes:
        each: One for each photograph.
        cannot: What this network does not allow to be shown, in sentences.
        notes: What to mind when reading the maps, in sentences.
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
    """Explain what a network says to some photographs.

    The network itself is left as it is. A photograph costs about 105 forward passes, 100 of them for the occlusion.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        pixels: (N,H,W,3).
        labels: True classes, (N,).
        name: What the network is called in sentences.
        numbers: What the caller calls the photographs, (N,); None: 0, 1, ….
        targets: Classes to explain, (N,); None: the most probable ones.

    Raises:
        ValueError: If a logit is not finite; it names the photograph's number.
    """
    numbers = np.arange(len(pixels)) if numbers is None else numbers
    if not len(pixels):
        return Explanations([], [], [], None)
    device = device_of(network)
    anatomy = dissect(network, to_network(pixels[:1], device))
    found: list[Explanation] = []
    for first in range(0, len(pixels), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        asked = None if targets is None else targets[part]
        found += _explain_batch(anatomy, pixels[part], labels[part], numbers[part], asked, device)
    last = anatomy.map_layers[-1] if anatomy.map_layers else None
    return Explanations(found, limits(anatomy, name), notes(anatomy, name), last)


def to_network(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Make a batch (B,3,H,W) float32, channels-last in memory, of photographs (B,H,W,3)."""
    # A copy, for a store of pixels is read-only.
    return torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float()


def finite_logits(network: Callable[[Tensor], Tensor], batch: Tensor, numbers: NDArray[np.integer]) -> Tensor:
    """Apply a network.

    Raises:
        ValueError: If a logit is not finite; it names the photograph's number.
    """
    logits = network(batch)
    bad = (~torch.isfinite(logits).all(dim=1)).nonzero()
    if len(bad):
        raise ValueError(f"the network gives a logit that is not finite for photograph {numbers[int(bad[0])]}")
    return logits


def _explain_batch(
    anatomy: Anatomy,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    numbers: NDArray[np.integer],
    targets: NDArray[np.integer] | None,
    device: torch.device,
) -> list[Explanation]:
    batch = to_network(pixels, device)
    with torch.no_grad():
        chances = finite_logits(anatomy.whole, batch, numbers).softmax(dim=1).cpu().numpy()
    predicted = chances.argmax(axis=1) if targets is None else np.asarray(targets)
    gradient, guided = _gradients(anatomy, batch, predicted)
    cam, cam_truth = _cam(anatomy, batch, predicted), None
    if cam is not None and not np.array_equal(predicted, labels):
        cam_truth = _cam(anatomy, batch, labels)
    found = []
    for i in range(len(pixels)):
        is_mistake = predicted[i] != labels[i]
        found.append(
            Explanation(
                number=int(numbers[i]),
                photograph=np.asarray(pixels[i]),
                truth=int(labels[i]),
                predicted=int(predicted[i]),
                confidence=float(chances[i, predicted[i]]),
                confidence_truth=float(chances[i, labels[i]]),
                gradient=gradient[i],
                guided=None if guided is None else guided[i],
                cam=None if cam is None else cam[i],
                cam_truth=cam_truth[i] if cam_truth is not None and is_mistake else None,
                cams_compare=anatomy.places_alike,
                guided_cam=None if guided is None or cam is None else guided[i] * cam[i][..., None],
                occlusion=_occlusion(anatomy.whole, batch[i : i + 1], int(predicted[i])),
            )
        )
    return found


def _gradients(anatomy: Anatomy, batch: Tensor, targets: NDArray[np.integer]) -> tuple[Map, Map | None]:
    """Compute the gradients (B,H,W,3) of the targets' logits, plain and guided."""
    from captum.attr import GuidedBackprop, Saliency

    classes = torch.from_numpy(np.asarray(targets, dtype=np.int64)).to(batch.device)
    plain = Saliency(anatomy.network).attribute(batch.clone().requires_grad_(), classes, abs=False)
    guided = None
    if "guided" not in anatomy.cannot:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks")  # captum's, which we asked it for
            guided = GuidedBackprop(anatomy.network).attribute(batch.clone().requires_grad_(), classes)
    return _channels_last(plain), None if guided is None else _channels_last(guided)


def _cam(anatomy: Anatomy, batch: Tensor, targets: NDArray[np.integer]) -> Map | None:
    """Compute Grad-CAM (B,H,W) of the last map, brought to the size of the photograph."""
    from captum.attr import LayerAttribution, LayerGradCam

    if "grad_cam" in anatomy.cannot:
        return None
    classes = torch.from_numpy(np.asarray(targets, dtype=np.int64)).to(batch.device)
    method = LayerGradCam(anatomy.network, anatomy.layer(anatomy.map_layers[-1]))
    coarse = method.attribute(batch, classes, relu_attributions=True).detach()
    fine = LayerAttribution.interpolate(coarse, tuple(batch.shape[2:]), interpolate_mode="bilinear")
    maps: Map = fine[:, 0].cpu().numpy()
    return maps


def _occlusion(network: nn.Module, photograph: Tensor, target: int) -> Map:
    """Hide parts of a photograph (1,3,H,W) behind a square of its mean colour; see `Explanation.occlusion`."""
    from captum.attr import Occlusion

    def log_odds(batch: Tensor) -> Tensor:
        # Unlike a probability, which stays near 1, log-odds of a sure answer still tell more from less.
        logits = network(batch).double()
        others = logits.clone()
        others[:, target] = -torch.inf
        return (logits[:, target] - others.logsumexp(dim=1)).float()

    sides = [max(round(side * OCCLUDED_FRAC), 1) for side in photograph.shape[2:]]
    steps = [
        max(-(-(side - hidden) // (OCCLUSION_STEPS - 1)), 1)
        for side, hidden in zip(photograph.shape[2:], sides, strict=True)
    ]
    drop = Occlusion(log_odds).attribute(
        photograph,
        sliding_window_shapes=(3, *sides),
        strides=(3, *steps),
        baselines=photograph.mean(dim=(2, 3), keepdim=True).expand_as(photograph),
        perturbations_per_eval=_SQUARES_AT_ONCE,
    )
    fall: Map = drop[0, 0].cpu().numpy()  # (1,3,H,W): the square hides all three channels, which are equal
    return fall


def _channels_last(maps: Tensor) -> Map:
    array: Map = maps.detach().permute(0, 2, 3, 1).float().cpu().numpy()  # (B,3,H,W) -> (B,H,W,3)
    return array
