"""The learning curve: what a larger training set is worth, recipe by recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from flowers.review.matrix import DPI, FAINT, INK, PAPER, RIGHT, WRONG
from flowers.review.panels import open_panel

COLOURS = (WRONG, RIGHT, "#007a5a", "#8a4f94", "#8a6d00", "#4a4f57")
"""One for each recipe, in order; then again from the first. Markers and labels tell them apart too."""
MARKERS = ("o", "s", "^", "D", "v", "P")
_LONGEST_NAME = 18
"""So many letters have room beside the curves; for longer names all are written smaller."""


@dataclass(frozen=True)
class Curve:
    """How well one recipe does with training sets of different sizes.

    Attributes:
        name: The recipe.
        counts: Training photographs, rising.
        values: For each count the accuracies of all seeds, in [0, 1].
    """

    name: str
    counts: list[int]
    values: list[list[float]]

    @property
    def means(self) -> list[float]:
        """The mean over the seeds at each count."""
        return [float(np.mean(each)) for each in self.values]


def finding(curves: Sequence[Curve]) -> str | None:
    """Say how few photographs the best recipe needs to do what the worst does with all of them.

    Returns:
        A sentence; None where there is nothing of the kind to say.
    """
    if len(curves) < 2:
        return None
    ranked = sorted(curves, key=lambda curve: curve.means[-1])
    worst, best = ranked[0], ranked[-1]
    enough = [count for count, mean in zip(best.counts, best.means, strict=True) if mean >= worst.means[-1]]
    if not enough or enough[0] == best.counts[-1]:
        return None
    reached = best.means[best.counts.index(enough[0])]
    return (
        f"{best.name} reaches {_percent(reached)} with {enough[0]:,} photographs, "
        f"{worst.name} {_percent(worst.means[-1])} with {worst.counts[-1]:,}"
    )


def sizes_figure(curves: Sequence[Curve], title: str, caption: str) -> Figure:
    """Draw accuracy against the number of training photographs, which is on a logarithmic axis.

    Lines join the means over the seeds; small points are the seeds, and a band spans them.

    Args:
        curves: One for each recipe.
        title: One line.
        caption: A line or two on what was measured.

    Returns:
        The figure; its background is opaque white.
    """
    figure = Figure(figsize=(7.6, 4.9), dpi=DPI, facecolor=PAPER)
    figure.text(0.075, 0.965, title, fontsize=12, weight="bold", color=INK, va="top", parse_math=False)
    subtitle = finding(curves)
    if subtitle is not None:
        figure.text(0.075, 0.905, subtitle, fontsize=9.5, color=INK, va="top", parse_math=False)
    figure.text(0.075, 0.022, caption, fontsize=8.5, color=FAINT, va="bottom", linespacing=1.4, parse_math=False)
    axes = open_panel(figure, (0.075, 0.23, 0.685, 0.555), below="training photographs")
    axes.set_xscale("log")
    for number, curve in enumerate(curves):
        _draw(axes, curve, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])
    counts = sorted({count for curve in curves for count in curve.counts})
    axes.xaxis.set_major_locator(FixedLocator(_apart(counts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    axes.tick_params(axis="x", length=3, color=FAINT)
    axes.text(0, 1.04, "validation accuracy", transform=axes.transAxes, fontsize=10, color=INK, va="bottom")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))
    _label_ends(axes, curves)
    return figure


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and as SVG, the same bytes each time.

    Args:
        figure: The figure.
        stem: The files' name without its ending.

    Returns:
        The two files.
    """
    png, vector = stem.with_suffix(".png"), stem.with_suffix(".svg")
    figure.savefig(png, dpi=150)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": stem.name}):
        figure.savefig(vector, metadata={"Date": None})
    return [png, vector]


def _draw(axes: Axes, curve: Curve, color: str, marker: str) -> None:
    axes.plot(curve.counts, curve.means, color=color, lw=2.2, marker=marker, ms=6.5, clip_on=False, zorder=3)
    if max(map(len, curve.values)) == 1:
        return
    low, high = (np.array([pick(each) for each in curve.values]) for pick in (min, max))
    axes.fill_between(curve.counts, low, high, color=color, alpha=0.14, lw=0, zorder=1)
    for count, each in zip(curve.counts, curve.values, strict=True):
        axes.plot([count] * len(each), each, color=color, ls="", marker=marker, ms=3, alpha=0.55, clip_on=False)


def _label_ends(axes: Axes, curves: Sequence[Curve]) -> None:
    """Name each curve beside its end, a line apart from its neighbours."""
    low, high = axes.get_ylim()
    gap = 0.115
    ends = sorted((curve.means[-1], number) for number, curve in enumerate(curves))
    heights = [(value - low) / (high - low) for value, _ in ends]
    for at in range(1, len(heights)):
        heights[at] = max(heights[at], heights[at - 1] + gap)
    surplus = max(0.0, heights[-1] - 1)
    size_pt = 9.5 * min(1, _LONGEST_NAME / max(len(curve.name) for curve in curves))
    for height, (value, number) in zip(heights, ends, strict=True):
        axes.text(
            1.03,
            height - surplus,
            f"{curves[number].name}\n{_percent(value)}",
            transform=axes.transAxes,
            color=COLOURS[number % len(COLOURS)],
            fontsize=size_pt,
            weight="bold",
            va="center",
            linespacing=1.15,
            parse_math=False,
        )


def _apart(counts: list[int]) -> list[int]:
    """Leave out ticks whose numbers would touch, but neither the first nor the last."""
    width = np.log(counts[-1] / counts[0]) or 1.0
    kept = [counts[0]]
    for count in counts[1:-1]:
        if min(np.log(count / kept[-1]), np.log(counts[-1] / count)) > 0.07 * width:
            kept.append(count)
    return [*kept, counts[-1]] if counts[-1] != counts[0] else kept


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
