"""The part of a network's page that says why: its explanations, what it has learned to see, what little fools it."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from flowers.explain.explanation_set import ExplanationSet
from flowers.explain.filters import Filters
from flowers.explain.sanity_check import METHODS, verdict
from flowers.report.html import picture_address
from flowers.report.image_grid import Panel, map_pictures, montage, strip, weight_pictures
from flowers.report.robustness import attack_figure, fooled_panels
from flowers.report.style import DPI, INK, PAPER

KINDS = {"worst": "Confident and wrong", "unsure": "Undecided", "best": "Confident and right"}
_TILE_PX = 56
PANEL_PX, PANEL_QUALITY = 176, 75


def explanation_figures(found: ExplanationSet, classes: Sequence[str], name: str) -> dict[str, Figure]:
    """Draw the accuracy under attack, and the explanations as a sheet, by the names of their files."""
    attacked = int(found.attack.table["photographs"].max())
    title = f"{name}: {attacked} test photographs changed against it"
    return {
        "attack": attack_figure(found.attack.table, found.chance, title),
        "explanations": sheet([strip(each, classes) for each in found.about.each]),
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


def describe_explanations(found: ExplanationSet, classes: Sequence[str], paths: Sequence[str]) -> Mapping[str, Any]:
    """Turn explanations into what the page's template is filled with.

    Args:
        found: The explanations.
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
                for each in found.of_kind(kind)
            ],
        }
        for kind in found.kinds
    ]
    return {
        "kinds": kinds,
        "cannot": found.about.cannot,
        "notes": found.about.notes,
        "cam_layer": found.about.cam_layer,
        "similarity": [(METHODS[method], value, verdict(value)) for method, value in found.similarity.items()],
        "seen": picture_address(found.seen),
        "filters": None if found.filters is None else _describe_filters(found.filters, classes),
        "maps": [
            {
                "layer": each.layer,
                "of": each.of,
                "count": len(each.maps),
                "side_px": each.maps.shape[1],
                "address": picture_address(montage(map_pictures(each.maps), columns=8, side_px=_TILE_PX)),
            }
            for each in found.maps
        ],
        "strength": found.attack.strength,
        "fooled": [
            {"path": paths[each.number], "panels": _addressed(fooled_panels(each, found.attack.strength, classes))}
            for each in found.attack.fooled
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
