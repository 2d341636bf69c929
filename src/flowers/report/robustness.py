"""How corrupted and adversarial images are answered, as figures."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flowers.explain.adversarial import AdversarialExample
from flowers.report.confusion import DPI, FAINT, INK, PAPER, RIGHT, WRONG
from flowers.report.heatmaps import Panel
from flowers.report.style import open_figure, open_panel

_COLUMNS = 3


def corruptions_figure(
    table: pd.DataFrame, examples: Mapping[str, Sequence[np.ndarray]], chance: float, title: str
) -> Figure:
    """Draw accuracy against strength, a panel for each corruption, above one photograph spoilt so.

    Args:
        table: Columns `corruption`, `strength`, `setting`, `acc`, `acc_low` and `acc_high` (in [0, 1]); one row with
            strength 0, which all panels begin with.
        examples: For each corruption one photograph as it is and at each strength, (H,H,3) uint8.
        chance: Accuracy of always answering the most frequent class.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    names = list(examples)
    rows = -(-len(names) // _COLUMNS)
    width, height, head = 11.4, 3.75, 0.95
    figure = Figure(figsize=(width, rows * height + head), dpi=DPI, facecolor=PAPER)
    total = rows * height + head
    figure.text(0.045, 1 - 0.18 / total, title, fontsize=13, weight="bold", color=INK, va="top", parse_math=False)
    figure.text(
        0.045,
        1 - 0.48 / total,
        "accuracy with its 95 % interval; dashed: always answering the most frequent class",
        fontsize=9.5,
        color=FAINT,
        va="top",
    )
    clean = table[table["strength"] == 0]
    for number, name in enumerate(names):
        row, column = divmod(number, _COLUMNS)
        left, base = 0.045 + column * 0.325, (rows - 1 - row) * height
        panel = open_panel(figure, (left, (base + 1.4) / total, 0.28, 1.95 / total))
        points = pd.concat([clean, table[table["corruption"] == name].sort_values("strength")])
        _draw_panel(panel, points, chance, name)
        for place, photograph in enumerate(examples[name]):
            side = 0.066
            strip = figure.add_axes(
                (left + 0.28 * (place + 0.5) / 4 - side / 2, (base + 0.25) / total, side, side * width / total)
            )
            strip.imshow(photograph, interpolation="lanczos")
            strip.set_axis_off()
    return figure


def _draw_panel(axes: Axes, points: pd.DataFrame, chance: float, name: str) -> None:
    """Draw one corruption: a point for each strength, with its interval and its accuracy in figures."""
    axes.tick_params(labelsize=8.5)
    axes.set(xlim=(-0.5, len(points) - 0.5), ylim=(0, 1.09))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xticks(range(len(points)), ["as it is", *points["setting"].iloc[1:]], parse_math=False)
    axes.set_title(name, fontsize=11, color=INK, loc="left", pad=8, parse_math=False)
    axes.axhline(chance, color=FAINT, lw=1.2, ls=(0, (4, 3)))
    at, acc = np.arange(len(points)), points["acc"].to_numpy()
    axes.vlines(at, points["acc_low"], points["acc_high"], color=RIGHT, lw=6, alpha=0.35)
    axes.plot(at, acc, color=RIGHT, lw=2, marker="o", ms=5)
    for x, value, high in zip(at.tolist(), acc.tolist(), points["acc_high"].tolist(), strict=True):
        axes.text(
            x,
            high + 0.025,
            f"{value:.0%}",
            ha="center",
            va="bottom",
            fontsize=9,
            weight="bold",
            color=INK,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )


def attack_figure(table: pd.DataFrame, chance: float, title: str) -> Figure:
    """Draw accuracy against strength, for the gradient's direction and for noise of the same size.

    Args:
        table: As :attr:`flowers.explain.adversarial.Attack.table`.
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


def _a_line_apart(heights: Sequence[float], least: float = 0.09) -> list[float]:
    """Move labels up until none covers another; the lowest stays."""
    moved = list(heights)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + least)
    return moved
