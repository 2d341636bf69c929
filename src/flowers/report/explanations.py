"""The part of a network's page that says why: its explanations, what it has learned to see, what little fools it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from flowers.explain.adversarial import AdversarialExample
from flowers.explain.attribution import METHODS, verdict
from flowers.explain.explanation_set import ExplanationSet
from flowers.report import style
from flowers.report.image_grid import Panel, map_pictures, montage, strip, weight_pictures

_TILE_PX = 56
_CAPTION_LETTERS = 26


def explanation_figures(found: ExplanationSet, classes: Sequence[str], name: str, noun: str) -> dict[str, Figure]:
    """Draw the accuracy under attack, and the explanations as a sheet, by the names of their files."""
    attacked = int(found.attack.table["photographs"].max())
    title = f"{name}: {attacked} test {noun}s changed against it"
    return {
        "attack": attack_figure(found.attack.table, found.chance, title),
        "explanations": sheet([strip(each, classes) for each in found.about.each]),
    }


def sheet(strips: Sequence[Sequence[Panel]]) -> Figure:
    """Set strips below one another, each picture under its caption."""
    columns, side, head = max(map(len, strips)), 1.5, 0.42
    height = len(strips) * (side + head)
    figure = Figure(figsize=(columns * (side + 0.12), height), dpi=style.DPI, facecolor=style.PAPER)
    for row, panels in enumerate(strips):
        for column, panel in enumerate(panels):
            bottom = height - row * (side + head) - head - side
            box = (column / columns + 0.004, bottom / height, 1 / columns - 0.008, side / height)
            axes = figure.add_axes(box)
            axes.imshow(panel.picture)
            axes.set_axis_off()
            words, cut = panel.caption, panel.caption.rfind(" ", 0, _CAPTION_LETTERS)
            if len(words) > _CAPTION_LETTERS and cut > 0:  # at most two lines
                words = f"{words[:cut]}\n{words[cut + 1 :]}"
            axes.set_title(words, fontsize=6.5, color=style.INK, loc="left", pad=2, parse_math=False)
    return figure


def attack_figure(table: pd.DataFrame, chance: float, title: str) -> Figure:
    """Draw accuracy against strength, for the gradient's direction and for noise of the same size.

    Args:
        table: As :attr:`flowers.explain.adversarial.Attack.table`.
        chance: Accuracy of always predicting the most frequent class.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    figure = style.open_figure(8.4, 4.2, title)
    below = "change of each colour of each pixel, in levels of 255"
    axes = style.open_panel(figure, (0.075, 0.15, 0.66, 0.66), "accuracy, with its 95 % interval", below)
    strengths = sorted(table["strength"].unique())
    axes.set(xlim=(-0.3, len(strengths) - 0.7), ylim=(0, 1.02))
    axes.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.axhline(chance, color=style.FAINT, lw=1.2, ls=style.DASHED)
    ends = [style.EndLabel(chance, f"most frequent class {chance:.0%}", style.FAINT)]
    for change, color, words in (
        ("noise", style.RIGHT, "random directions"),
        ("gradient", style.WRONG, "against the network"),
    ):
        rows = table[table["change"] == change].sort_values("strength")
        at = [strengths.index(strength) for strength in rows["strength"]]
        axes.fill_between(at, rows["acc_low"], rows["acc_high"], color=color, alpha=0.15, lw=0)
        axes.plot(at, rows["acc"], color=color, lw=2.2, marker="o", ms=5, clip_on=False)
        last = float(rows["acc"].iloc[-1])
        ends.append(style.EndLabel(last, f"{words} {last:.0%}", color))
    style.label_ends(axes, ends)
    return figure


def fooled_panels(example: AdversarialExample, strength: float, classes: Sequence[str]) -> list[Panel]:
    """Make the pictures of one example: before, what was added, and after.

    Args:
        example: The photograph.
        strength: Of the change, in levels.
        classes: The K class names.
    """
    times = max(int(127 // strength), 1)
    change = np.clip(np.rint(128 + times * example.change), 0, 255).astype(np.uint8)
    before, after = classes[example.truth], classes[example.after]
    return [
        Panel("photograph", f"{before}: {example.confidence:.0%} sure", example.photograph),
        Panel("change", f"what is added, × {times}", change),
        Panel("changed", f"{after}: {example.confidence_after:.0%} sure", example.changed),
    ]


def describe_explanations(found: ExplanationSet, classes: Sequence[str]) -> Mapping[str, Any]:
    """Draw the pictures that the page's template sets beside what is said of explanations.

    Args:
        found: The explanations.
        classes: The K names.
    """
    weights = None
    if found.filters is not None:
        # Filters are of a few pixels, what sees the whole photograph is not.
        side_px = _TILE_PX if found.filters.kind == "filters" else 2 * _TILE_PX
        weights = montage(weight_pictures(found.filters.weights), columns=8, side_px=side_px)
    return {
        "found": found,
        "strips": {kind: [(each, strip(each, classes)) for each in found.of_kind(kind)] for kind in found.kinds},
        "similarity": [(METHODS[method], value, verdict(value)) for method, value in found.similarity.items()],
        "weights": weights,
        "maps": [(each, montage(map_pictures(each.maps), columns=8, side_px=_TILE_PX)) for each in found.maps],
        "fooled": [fooled_panels(each, found.attack.strength, classes) for each in found.attack.fooled],
    }
