"""The part of a network's page that says why: its explanations, what it has learned to see, what little fools it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from flowers.explain.adversarial import Attack, attack
from flowers.explain.attribution import Explanation, Explanations, explain
from flowers.explain.filters import FeatureMaps, Filters, feature_maps, filters
from flowers.explain.sanity_check import METHODS, randomised_similarity, verdict
from flowers.explain.selection import choose, spread
from flowers.report.heatmaps import Panel, map_pictures, montage, strip, weight_pictures
from flowers.report.html import picture_address
from flowers.report.robustness import attack_figure, fooled_panels
from flowers.report.style import DPI, INK, PAPER

WORST, UNSURE, BEST = 5, 2, 3
"""Photographs of each kind that are explained."""
COMPARED = 3
"""Photographs whose maps are compared with those of shuffled weights."""
ATTACKED = 192
"""Photographs that are attacked; they are spread over the classes."""
FOOLED = 4
KINDS = {"worst": "Sure, and wrong", "unsure": "Could not decide", "best": "Sure, and right"}
_TILE_PX = 56
PANEL_PX, PANEL_QUALITY = 176, 75


@dataclass(frozen=True)
class Reasons:
    """All that was found about why a network answers as it does."""

    kinds: dict[str, list[Explanation]]
    """Explanations, by the keys of :data:`KINDS`; what there is none of is left out."""
    about: Explanations
    """What cannot be shown, and what to mind."""
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


def find_reasons(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    name: str,
    seed: int,
) -> Reasons:
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
    rows = np.array([row for numbers in wanted.values() for row in numbers], dtype=np.int64)
    about = explain(network, pixels[rows], labels[rows], name, rows)
    by_row = {each.number: each for each in about.each}
    kinds = {kind: [by_row[row] for row in numbers] for kind, numbers in wanted.items() if numbers}
    seen = (kinds.get("best") or about.each)[0].photograph
    attacked = spread(labels, ATTACKED)
    return Reasons(
        kinds,
        about,
        randomised_similarity(network, about.each, seed, COMPARED),
        filters(network, seen),
        feature_maps(network, seen),
        seen,
        attack(network, pixels[attacked], labels[attacked], FOOLED, seed, attacked),
        float(np.bincount(labels[attacked]).max() / len(attacked)),
    )


def reason_figures(reasons: Reasons, classes: Sequence[str], name: str) -> dict[str, Figure]:
    """Draw the accuracy under attack, and the explanations as a sheet, by the names of their files."""
    attacked = int(reasons.attack.table["photographs"].max())
    title = f"{name}: {attacked} test photographs changed against it"
    return {
        "attack": attack_figure(reasons.attack.table, reasons.chance, title),
        "explanations": sheet([strip(each, classes) for each in reasons.about.each]),
    }


def sheet(strips: Sequence[Sequence[Panel]]) -> Figure:
    """Set strips below one another, each picture under its caption."""
    columns, side, head = max(map(len, strips)), 1.5, 0.42
    height = len(strips) * (side + head)
    figure = Figure(figsize=(columns * (side + 0.12), height), dpi=DPI, facecolor=PAPER)
    for row, panels in enumerate(strips):
        for column, panel in enumerate(panels):
            bottom = height - row * (side + head) - head - side
            box = (column / columns + 0.004, bottom / height, 1 / columns - 0.008, side / height)
            axes = figure.add_axes(box)
            axes.imshow(panel.picture)
            axes.set_axis_off()
            words = _wrapped(panel.caption)
            axes.set_title(words, fontsize=6.5, color=INK, loc="left", pad=2, parse_math=False)
    return figure


def describe_reasons(reasons: Reasons, classes: Sequence[str], paths: Sequence[str]) -> Mapping[str, Any]:
    """Turn what was found into what the page's template is filled with.

    Args:
        reasons: What was found.
        classes: The K names.
        paths: Of the N photographs.
    """
    kinds = [
        {
            "title": KINDS[kind],
            "cases": [
                {
                    "path": paths[each.number],
                    "truth": classes[each.truth],
                    "predicted": classes[each.predicted],
                    "confidence": each.confidence,
                    "confidence_truth": each.confidence_truth,
                    "is_right": each.is_right,
                    "panels": _addressed(strip(each, classes)),
                }
                for each in explanations
            ],
        }
        for kind, explanations in reasons.kinds.items()
    ]
    return {
        "kinds": kinds,
        "cannot": reasons.about.cannot,
        "notes": reasons.about.notes,
        "cam_layer": reasons.about.cam_layer,
        "similarity": [(METHODS[method], value, verdict(value)) for method, value in reasons.similarity.items()],
        "seen": picture_address(reasons.seen),
        "filters": None if reasons.filters is None else _describe_filters(reasons.filters, classes),
        "maps": [
            {
                "layer": each.layer,
                "of": each.of,
                "count": len(each.maps),
                "side_px": each.maps.shape[1],
                "address": picture_address(montage(map_pictures(each.maps), columns=8, side_px=_TILE_PX)),
            }
            for each in reasons.maps
        ],
        "strength": reasons.attack.strength,
        "fooled": [
            {"path": paths[each.number], "panels": _addressed(fooled_panels(each, reasons.attack.strength, classes))}
            for each in reasons.attack.fooled
        ],
    }


def _describe_filters(found: Filters, classes: Sequence[str]) -> dict[str, Any]:
    """Show the weights that read the photograph; those of classes are named."""
    # Filters are of a few pixels, what sees the whole photograph is not.
    side_px = _TILE_PX if found.kind == "filters" else 2 * _TILE_PX
    sheets = montage(weight_pictures(found.weights), columns=8, side_px=side_px)
    return {
        "layer": found.layer,
        "kind": found.kind,
        "count": len(found.weights),
        "of": found.of,
        "side_px": found.weights.shape[1],
        "names": list(classes)[: len(found.weights)] if found.kind == "classes" else [],
        "address": picture_address(sheets),
    }


def _addressed(panels: Sequence[Panel]) -> list[dict[str, str]]:
    """Write panels as a template takes them."""
    return [
        {
            "method": panel.method,
            "caption": panel.caption,
            # Maps are like noise, which does not compress.
            "address": picture_address(panel.picture, PANEL_QUALITY, PANEL_PX),
        }
        for panel in panels
    ]


def _wrapped(words: str, width: int = 26) -> str:
    """Break a caption into at most two lines."""
    if len(words) <= width:
        return words
    cut = words.rfind(" ", 0, width)
    return f"{words[:cut]}\n{words[cut + 1 :]}" if cut > 0 else words
