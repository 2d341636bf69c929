"""The figure of accuracy against the strength of an attack, and the pictures of those that it fooled."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flowers.review.attack import Fooled
from flowers.review.heat import Panel
from flowers.review.matrix import FAINT, RIGHT, WRONG
from flowers.review.panels import open_figure, open_panel


def attack_figure(table: pd.DataFrame, chance: float, title: str) -> Figure:
    """Draw accuracy against strength, for the gradient's direction and for noise of the same size.

    Args:
        table: As :attr:`flowers.review.attack.Attack.table`.
        chance: Accuracy of always answering the most frequent class.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    figure = open_figure(8.4, 4.2, title)
    below = "change of each colour of each pixel, in levels of 255"
    axes = open_panel(figure, (0.075, 0.15, 0.66, 0.66), "accuracy, with its 95 % interval", below)
    strengths = sorted(table["strength"].unique())
    axes.set(xlim=(-0.3, len(strengths) - 0.7), ylim=(0, 1.02))
    axes.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.axhline(chance, color=FAINT, lw=1.2, ls=(0, (4, 3)))
    ends = [(chance, f"most frequent class {chance:.0%}", FAINT)]
    for change, color, words in (("noise", RIGHT, "random directions"), ("gradient", WRONG, "against the network")):
        rows = table[table["change"] == change].sort_values("strength")
        at = [strengths.index(strength) for strength in rows["strength"]]
        axes.fill_between(at, rows["acc_low"], rows["acc_high"], color=color, alpha=0.15, lw=0)
        axes.plot(at, rows["acc"], color=color, lw=2.2, marker="o", ms=5, clip_on=False)
        ends.append((float(rows["acc"].iloc[-1]), f"{words} {rows['acc'].iloc[-1]:.0%}", color))
    heights = _a_line_apart([height for height, _, _ in ends])
    for height, (_, words, color) in zip(heights, ends, strict=True):
        axes.text(
            1.025, height / 1.02, words, transform=axes.transAxes, color=color, fontsize=9.5, weight="bold", va="center"
        )
    return figure


def fooled_panels(example: Fooled, strength: float, classes: Sequence[str]) -> list[Panel]:
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


def _a_line_apart(heights: Sequence[float], least: float = 0.09) -> list[float]:
    """Move labels up until none covers another; the lowest stays."""
    moved = list(heights)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + least)
    return moved
