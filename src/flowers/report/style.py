"""The look that all figures have in common: colours, sizes, panels, and labels that do not overlap.

Blue stands for right and for validation, vermilion for wrong and for training, whatever the figure: the pair
is told apart with every common colour blindness (Okabe and Ito 2008, "Color Universal Design").
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.ticker import PercentFormatter
from scipy.optimize import isotonic_regression

INK = "#1b1f24"
FAINT = "#68707a"
PAPER = "#ffffff"
RIGHT = "#2f6db3"
WRONG = "#d55e00"
COLOURS = (WRONG, RIGHT, "#007a5a", "#8a4f94", "#8a6d00", "#4a4f57")
"""For several curves, in order; then again from the first. Markers and labels tell them apart too."""
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHED = (0, (4, 3))

TITLE_PT, HEADING_PT, LABEL_PT, TICK_PT, CAPTION_PT = 12, 10, 9.5, 9, 8.5
WIDTH_IN = 9.6
"""Of figures that are as wide as a page."""
DPI = 100
_LINE_SPACING = 1.2


class EndLabel(NamedTuple):
    """What is written beside the end of a curve."""

    value: float
    """Where the curve ends, in the unit of the axis."""
    text: str
    """One line or several."""
    color: str
    bold: bool = True


def open_figure(width_in: float, height_in: float, title: str, subtitle: str = "", left_in: float = 0.5) -> Figure:
    """Begin a figure on opaque white.

    Args:
        width_in: Width in inches.
        height_in: Height in inches.
        title: One line.
        subtitle: One line, smaller.
        left_in: Where the lines begin, in inches.
    """
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor=PAPER)
    left = left_in / width_in
    write(figure, left, 1 - 0.13 / height_in, title, TITLE_PT, INK, va="top", weight="bold")
    if subtitle:
        write(figure, left, 1 - 0.4 / height_in, subtitle, LABEL_PT, FAINT, va="top")
    return figure


def open_panel(figure: Figure, box: tuple[float, float, float, float], heading: str = "", below: str = "") -> Axes:
    """Add axes with only a base line and faint horizontal lines.

    Args:
        figure: The figure.
        box: Left, bottom, width, height as shares of the figure.
        heading: What the vertical axis shows, written above.
        below: What the horizontal axis shows.
    """
    axes = figure.add_axes(box)
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, labelsize=TICK_PT, labelcolor=FAINT)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.8)
    axes.set_axisbelow(True)
    if heading:
        axes.set_title(heading, fontsize=HEADING_PT, color=INK, loc="left", pad=10, parse_math=False)
    if below:
        axes.set_xlabel(below, fontsize=TICK_PT, color=FAINT, loc="right", labelpad=2)
    return axes


def write(where: Figure | Axes, x: float, y: float, text: str, size_pt: float, color: str = FAINT, **look: Any) -> Text:
    """Write a text in which dollars are no formula.

    Args:
        where: A figure or axes.
        x: As a share of its width, from the left.
        y: As a share of its height, from below.
        text: One line or several.
        size_pt: Size of the letters.
        color: Of the letters.
        **look: Further properties of :class:`matplotlib.text.Text`.
    """
    if isinstance(where, Axes):
        look = {"transform": where.transAxes, **look}
    return where.text(x, y, text, fontsize=size_pt, color=color, parse_math=False, **look)


def show_shares(axes: Axes, decimals: int = 0, symbol: str = "%") -> None:
    """Write the vertical axis, which shows shares, in percent, and end it at 0 and at 1 at the latest."""
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals, symbol))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))


def label_ends(axes: Axes, ends: Sequence[EndLabel], size_pt: float = LABEL_PT, x: float = 1.03) -> list[Text]:
    """Write labels beside the ends of curves, moved up or down so that none covers another.

    Args:
        axes: With their final limits; the vertical axis is linear.
        ends: In any order.
        size_pt: Size of the letters.
        x: Where the labels begin, as a share of the axes' width.

    Returns:
        The labels, in the order of `ends`.
    """
    low, high = axes.get_ylim()
    height_in = axes.bbox.height / DPI
    lines = max((end.text.count("\n") + 1 for end in ends), default=1)
    apart = (lines * _LINE_SPACING + 0.2) * size_pt / 72 / height_in
    heights = spread_out([(end.value - low) / (high - low) for end in ends], apart)
    look: dict[str, Any] = {"va": "center", "linespacing": _LINE_SPACING}
    return [
        write(axes, x, height, end.text, size_pt, end.color, weight="bold" if end.bold else "normal", **look)
        for height, end in zip(heights, ends, strict=True)
    ]


def spread_out(heights: Sequence[float], apart: float) -> list[float]:
    """Move labels by as little as possible, in the sense of least squares, so that none covers another.

    Args:
        heights: Where they should be, in any order, as shares of a panel's height.
        apart: How far two neighbours must be from each other at least.

    Returns:
        Where they are, in the same order; not above 1 because of others.
    """
    order = np.argsort(heights, kind="stable")
    wanted = np.asarray(heights, dtype=float)[order]
    # Less the distances that they need, the places must only not fall: a regression with that condition.
    needed = apart * np.arange(len(wanted))
    level = isotonic_regression(wanted - needed).x if len(wanted) else wanted
    top = max(1.0, wanted.max(initial=0)) - needed[-1:]
    moved = np.empty(len(wanted))
    moved[order] = np.minimum(level, top) + needed
    return moved.tolist()


def text_width_in(text: str, size_pt: float) -> float:
    """Measure a line of text, in inches, without a figure."""
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size_pt), False)[0]) / 72


def cut_text(text: str, width_in: float, size_pt: float) -> str:
    """Shorten a line that is wider than this; an ellipsis shows it."""
    short = text
    while len(short) > 1 and text_width_in(short, size_pt) > width_in:
        text = text[:-1]
        short = f"{text.rstrip()}…"
    return short
