"""All explanations of a network's test: which photographs tell most, and what the methods of this room say of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from flowers.evaluation.selection import choose, spread
from flowers.explain.adversarial import Attack, attack
from flowers.explain.attribution import Explanation, Explanations, explain
from flowers.explain.filters import FeatureMaps, Filters, feature_maps, filters
from flowers.explain.sanity_check import randomised_similarity

WORST, UNSURE, BEST = 5, 2, 3
"""Photographs of each kind that are explained."""
COMPARED = 3
"""Photographs whose maps are compared with those of shuffled weights."""
ATTACKED = 192
"""Photographs that are attacked; they are spread over the classes."""
FOOLED = 4


@dataclass(frozen=True)
class ExplanationSet:
    """Why a network predicts what it does, what it has learned to see, and what little fools it."""

    kinds: dict[str, list[int]]
    """Numbers of the explained photographs that are the `worst`, `unsure` and `best` predictions; kinds that there are
    none of are left out."""
    about: Explanations
    similarity: dict[str, float]
    """See :func:`flowers.explain.sanity_check.randomised_similarity`."""
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
) -> ExplanationSet:
    """Explain the test photographs that tell most, and attack some.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        pixels: (N,H,W,3), N > 0; rows are taken when they are needed, so that it may be a store.
        labels: True classes, (N,).
        probabilities: What was predicted, (N,K).
        name: What the network is called in sentences.
        seed: Of noise and shuffling.
    """
    chosen = choose(labels, probabilities, max(WORST, UNSURE, BEST))
    wanted = {"worst": chosen.worst[:WORST], "unsure": chosen.unsure[:UNSURE], "best": chosen.best[:BEST]}
    kinds = {kind: numbers for kind, numbers in wanted.items() if numbers}
    rows = np.array([row for numbers in kinds.values() for row in numbers], dtype=np.int64)
    about = explain(network, pixels[rows], labels[rows], name, rows)
    first = kinds.get("best", [about.each[0].number])[0]
    seen = next(each.photograph for each in about.each if each.number == first)
    attacked = spread(labels, ATTACKED)
    return ExplanationSet(
        kinds,
        about,
        randomised_similarity(network, about.each, seed, COMPARED),
        filters(network, seen),
        feature_maps(network, seen),
        seen,
        attack(network, pixels[attacked], labels[attacked], FOOLED, seed, attacked),
        float(np.bincount(labels[attacked]).max() / len(attacked)),
    )
