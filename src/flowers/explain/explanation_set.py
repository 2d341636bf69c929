"""Which photographs a page explains, by the methods of the other modules, and what the network has learned to see."""

from dataclasses import dataclass

import numpy as np
from captum.attr import LayerActivation
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from flowers.evaluation.scores import number_groups
from flowers.evaluation.selection import choose, spread
from flowers.explain.adversarial import Attack, attack
from flowers.explain.attribution import Explanation, Explanations, explain, randomised_similarity
from flowers.explain.layers import make_explainable, to_batch

WORST, UNSURE, BEST = 5, 2, 3
"""Photographs of each kind that are explained."""
COMPARED = 3
"""Photographs whose maps are compared with those of shuffled weights."""
ATTACKED = 192
"""Photographs that are attacked; they are spread over the classes."""
FOOLED = 4
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


@dataclass(frozen=True)
class ExplanationSet:
    """Why a network predicts what it does, what it has learned to see, and what little fools it."""

    kinds: dict[str, list[int]]
    """Numbers of the explained photographs that are the `worst`, `unsure` and `best` predictions; kinds that there are
    none of are left out."""
    about: Explanations
    similarity: dict[str, float]
    """See :func:`flowers.explain.attribution.randomised_similarity`."""
    filters: Filters | None
    maps: list[FeatureMaps]
    """Of the first photograph of ``best``, or of the first that there is."""
    seen: NDArray[np.uint8]
    """That photograph, (H,W,3)."""
    attack: Attack
    chance: float
    """Share of the most frequent class among the attacked photographs."""

    def of_kind(self, kind: str) -> list[Explanation]:
        """List the explanations of a kind, in the order of the choice."""
        by_number = {each.number: each for each in self.about.each}
        return [by_number[number] for number in self.kinds[kind]]


def explain_test(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    name: str,
    seed: int,
    groups: ArrayLike | None = None,
) -> ExplanationSet:
    """Explain the test photographs that tell most, and attack some.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        pixels: (N,H,W,3), N > 0; rows are taken when they are needed, so that it may be a store.
        labels: True classes, (N,).
        probabilities: What was predicted, (N,K).
        name: What the network is called in sentences.
        seed: Of noise and shuffling.
        groups: Groups of near-duplicates, (N,); None: no two photographs are alike.
    """
    chosen = choose(labels, probabilities, max(WORST, UNSURE, BEST))
    wanted = {"worst": chosen.worst[:WORST], "unsure": chosen.unsure[:UNSURE], "best": chosen.best[:BEST]}
    kinds = {kind: numbers for kind, numbers in wanted.items() if numbers}
    rows = np.array([row for numbers in kinds.values() for row in numbers], dtype=np.int64)
    about = explain(network, pixels[rows], labels[rows], name, rows)
    first = kinds.get("best", [about.each[0].number])[0]
    seen = next(each.photograph for each in about.each if each.number == first)
    attacked, groups = spread(labels, ATTACKED), number_groups(groups, len(labels))
    return ExplanationSet(
        kinds,
        about,
        randomised_similarity(network, about.each, seed, COMPARED),
        filters(network, seen),
        feature_maps(network, seen),
        seen,
        attack(network, pixels[attacked], labels[attacked], FOOLED, seed, attacked, groups[attacked]),
        float(np.bincount(labels[attacked]).max() / len(attacked)),
    )


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
    name, kind = explainable.reader, explainable.templates or "filters"
    if name is None:
        return None
    weights = explainable.hookable.get_submodule(name).weight
    assert isinstance(weights, Tensor)
    if explainable.templates:
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
    layers = [explainable.hookable.get_submodule(name) for name in explainable.map_layers]
    outputs = LayerActivation(explainable.hookable, layers).attribute(pixels) if layers else []
    found = []
    for name, output in zip(explainable.map_layers, outputs, strict=True):
        maps = output[0].detach().float().cpu().numpy()  # (C,h,w)
        chosen = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:count]
        found.append(FeatureMaps(name, chosen, maps[chosen], len(maps)))
    return found
