"""What a network has learned: filters and feature maps, or the templates of a network without convolutions."""

from dataclasses import dataclass

import numpy as np
from captum.attr import LayerActivation
from numpy.typing import NDArray
from torch import Tensor, nn

from flowers.explain.layers import make_explainable, to_batch

MOST_FILTERS = 64
MOST_CHANNELS = 8


@dataclass(frozen=True)
class Filters:
    """Weights that read the photograph's colours.

    Attributes:
        layer: Name of the layer.
        kind: ``filters`` (of a convolution), ``classes`` (a template for each class: the whole network is one layer) or
            ``units`` (templates of hidden units).
        weights: (F,h,w,3), the strongest first, but classes in their order.
        of: Number of all of them, shown or not.
    """

    layer: str
    kind: str
    weights: NDArray[np.float32]
    of: int


@dataclass(frozen=True)
class FeatureMaps:
    """The output of some channels of a layer for one photograph.

    Attributes:
        layer: Name of the layer.
        channels: Numbers of the channels that vary most over the photograph, (C,).
        maps: (C,h,w), one for each of them.
        of: Number of channels of the layer.
    """

    layer: str
    channels: NDArray[np.intp]
    maps: NDArray[np.float32]
    of: int


def filters(network: nn.Module, photograph: NDArray[np.uint8]) -> Filters | None:
    """Take the weights of the layer that reads the photograph.

    The weights of a fully connected layer, one for each colour of each pixel, make an image too.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        photograph: (H,W,3). It shows which layer reads the photograph.

    Returns:
        None if there is no such layer, for which :func:`flowers.explain.attribution.explain` gives the reason.
    """
    explainable = make_explainable(network, to_batch(photograph[None], network))
    name = explainable.first_convolution or explainable.first_dense
    if name is None:
        return None
    weights = explainable.layer(name).weight
    assert isinstance(weights, Tensor)
    kind = "filters"
    if explainable.first_dense:
        is_last = sum(isinstance(module, nn.Linear) for module in explainable.hookable.modules()) == 1
        kind = "classes" if is_last else "units"
        weights = weights.reshape(len(weights), 3, *photograph.shape[:2])  # nn.Flatten puts (3,H,W) in this order
    images = weights.float().permute(0, 2, 3, 1).cpu().numpy()  # (F,3,h,w) -> (F,h,w,3)
    if kind != "classes":
        strength = np.square(images).sum(axis=(1, 2, 3))
        images = images[np.argsort(-strength, kind="stable")[:MOST_FILTERS]]
    return Filters(name, kind, images, len(weights))


def feature_maps(network: nn.Module, photograph: NDArray[np.uint8], count: int = MOST_CHANNELS) -> list[FeatureMaps]:
    """Compute the feature maps of a photograph in an early, a middle and the last layer.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        photograph: (H,W,3).
        count: Most channels of a layer.

    Returns:
        From the input to the output; empty if the network has no such layer.
    """
    pixels = to_batch(photograph[None], network)
    explainable = make_explainable(network, pixels)
    names = list(explainable.map_layers)
    layers = [explainable.layer(name) for name in names]
    outputs = LayerActivation(explainable.hookable, layers).attribute(pixels) if layers else []
    found = []
    for name, output in zip(names, outputs, strict=True):
        maps = output[0].detach().float().cpu().numpy()  # (C,h,w)
        chosen = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:count]
        found.append(FeatureMaps(name, chosen, maps[chosen], len(maps)))
    return found
