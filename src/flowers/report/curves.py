"""Learning curves, rates, and accuracy against the number of photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from flowers.report.confusion import DPI, FAINT, INK, PAPER, RIGHT, WRONG, ConfusionSheet
from flowers.report.style import open_panel


def confusion_figure(counts: NDArray[np.integer], classes: list[str], title: str) -> Figure:
    """Draw a confusion matrix.

    Rows are the truth, columns the prediction. A cell's shade is its share of its row: blue on the diagonal,
    vermilion off it, where the scale is steeper at the low end so that a few errors in a hundred are seen.
    Cells without a photograph are left blank. With more than 25 classes only the most frequent errors are
    numbered.

    Args:
        counts: (K, K), rows truth, columns prediction. Rows may be all zero.
        classes: The K class names, by number.
        title: One line.

    Returns:
        The figure; its background is opaque white.

    Raises:
        ValueError: The matrix does not fit the classes.
    """
    return ConfusionSheet(counts, classes, title).figure


class ConfusionPainter:
    """Turns one confusion matrix after another into an image, quickly.

    Drawing the class names is most of the work and they are the same every epoch, so what stays is drawn once
    and kept; the result equals :func:`confusion_figure` pixel by pixel. Not for use by two threads at once.
    """

    def __init__(self) -> None:
        self._sheet: ConfusionSheet | None = None
        self._canvas: FigureCanvasAgg | None = None
        self._blank: NDArray[np.uint8] | None = None
        self._key: tuple[object, ...] = ()

    def __call__(self, counts: NDArray[np.integer], classes: list[str], title: str) -> NDArray[np.uint8]:
        """Draw a confusion matrix as :func:`confusion_figure` does.

        Args:
            counts: (K, K), rows truth, columns prediction.
            classes: The K class names, by number.
            title: One line.

        Returns:
            RGB image, (H, W, 3), in 0..255.

        Raises:
            ValueError: The matrix does not fit the classes.
        """
        key = (tuple(classes), counts.sum(axis=1).tolist())
        if self._sheet is None or self._canvas is None or self._blank is None or key != self._key:
            self._sheet = ConfusionSheet(counts, classes, title)
            self._canvas = FigureCanvasAgg(self._sheet.figure)
            self._sheet.show_changing(False)
            self._canvas.draw()
            self._sheet.show_changing(True)
            self._blank = np.array(self._canvas.buffer_rgba())
            self._key = key
        else:
            self._sheet.fill(counts, title)
        pixels = np.asarray(self._canvas.buffer_rgba())
        pixels[:] = self._blank
        renderer = self._canvas.get_renderer()
        for artist in self._sheet.changing():
            artist.draw(renderer)
        return pixels[..., :3].copy()


def curves_figure(history: pd.DataFrame, stage_starts: Sequence[tuple[int, str]], title: str) -> Figure:
    """Draw loss and accuracy over the epochs, training against validation.

    Args:
        history: One row per epoch with columns `epoch`, `train/loss`, `val/loss` (nats), `train/acc` and
            `val/acc` (in [0, 1]). Missing values are skipped.
        stage_starts: The first epoch and the name of each stage.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    figure = Figure(figsize=(9.6, 3.8), dpi=DPI, facecolor=PAPER)
    figure.text(0.05, 0.965, title, fontsize=12, weight="bold", color=INK, va="top", parse_math=False)
    boxes = ((0.05, 0.13, 0.335, 0.58), (0.555, 0.13, 0.335, 0.58))
    for box, metric, heading in zip(boxes, ("loss", "acc"), ("loss (nats)", "accuracy"), strict=True):
        axes = open_panel(figure, box, below="epoch")
        axes.tick_params(axis="x", length=3, color=FAINT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.text(0, 1.19, heading, transform=axes.transAxes, fontsize=10, color=INK, va="bottom")
        _draw_curves(axes, history, metric)
        _draw_stages(axes, stage_starts)
    return figure


def rates_figure(
    rates: Sequence[float], losses: NDArray[np.float64], suggestions: Mapping[str, float], title: str
) -> Figure:
    """Draw the loss of a learning-rate sweep, with the rates that it suggests.

    Args:
        rates: (N,), rising geometrically.
        losses: (N,) smoothed, in nats; what is not finite is left out.
        suggestions: Rates by what they are called.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    figure = Figure(figsize=(7.2, 4.2), dpi=DPI, facecolor=PAPER)
    figure.text(0.09, 0.96, title, fontsize=12, weight="bold", color=INK, va="top", parse_math=False)
    axes = open_panel(figure, (0.09, 0.13, 0.86, 0.64), below="learning rate of the head")
    axes.set_xscale("log")
    axes.text(0, 1.12, "loss (nats), smoothed", transform=axes.transAxes, fontsize=10, color=INK, va="bottom")
    axes.plot(rates, losses, color=RIGHT, lw=2.4)
    finite = losses[np.isfinite(losses)]
    if len(finite):  # the divergence at the end must not flatten what is read
        low, start = float(finite.min()), float(finite[0])
        axes.set_ylim(low - 0.1 * (start - low) - 0.02, max(start + 0.5 * (start - low), low + 0.1))
    for number, (name, rate) in enumerate(sorted(suggestions.items(), key=lambda item: item[1])):
        height = 1.03 - 0.075 * number
        axes.axvline(rate, ymax=0.83, color=WRONG, lw=1.2, ls=(0, (4, 3)))
        axes.text(
            rate,
            height,
            f"{name} {rate:.1e}",
            transform=axes.get_xaxis_transform(),
            color=WRONG,
            fontsize=9,
            ha="center",
        )
    return figure


def _draw_curves(axes: Axes, history: pd.DataFrame, metric: str) -> None:
    """Draw the training and the validation curve of one metric, and label their ends."""
    ends: list[tuple[float, str, str]] = []
    for split, color, width in (("train", WRONG, 1.4), ("val", RIGHT, 2.4)):
        curve = history.loc[:, ["epoch", f"{split}/{metric}"]].dropna().to_numpy(float)
        if not len(curve):
            continue
        marker = "o" if len(curve) <= 12 else ""
        axes.plot(curve[:, 0], curve[:, 1], color=color, lw=width, marker=marker, ms=width * 2, clip_on=False)
        last = curve[-1, 1]
        ends.append((last, f"{split} {last:.3f}" if metric == "loss" else f"{split} {last:.1%}", color))
    if metric == "loss":
        axes.set_ylim(bottom=0)
    else:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if np.ptp(axes.get_ylim()) > 0.05 else 1))
        axes.set_ylim(max(axes.get_ylim()[0], 0), min(axes.get_ylim()[1], 1))
    if not ends:
        return
    # Two labels at the same height would cover each other: keep them a line apart.
    low, high = axes.get_ylim()
    ends.sort()
    heights = [(value - low) / (high - low) for value, _, _ in ends]
    if len(heights) == 2 and heights[1] - heights[0] < 0.08:
        middle = sum(heights) / 2
        heights = [middle - 0.04, middle + 0.04]
    for height, (_, label, color) in zip(heights, ends, strict=True):
        axes.text(
            1.03,
            height,
            label,
            transform=axes.transAxes,
            color=color,
            fontsize=9.5,
            weight="bold",
            va="center",
        )


def _draw_stages(axes: Axes, stage_starts: Sequence[tuple[int, str]]) -> None:
    """Mark where stages begin, half an epoch before their first one, and name them above the panel."""
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    next_free = -1.0
    for number, (epoch, name) in enumerate(stage_starts):
        at = (epoch - 0.5 - low) / (high - low) if number else 0.0
        # The name of a stage after a short one goes above that one's name instead of over it.
        raised = at < next_free
        next_free = -1.0 if raised else at + (len(name) + 2) * 0.021
        if number:
            axes.axvline(epoch - 0.5, ymax=1.15 if raised else 1.08, color=FAINT, lw=1, ls=(0, (4, 3)), clip_on=False)
        axes.text(
            at + (0.012 if number else 0),
            1.115 if raised else 1.05,
            name,
            transform=axes.transAxes,
            fontsize=8.5,
            color=FAINT,
            va="center",
            parse_math=False,
        )


MEMORISING_FRAC = 0.05
"""From this lead of the training over the validation accuracy on, the page speaks of memorising."""


def stage_starts(history: pd.DataFrame) -> list[tuple[int, str]]:
    """Find the first epoch and the name of each stage of a history with columns `epoch` and `stage`."""
    begins = history["stage"].ne(history["stage"].shift())
    return [
        (int(epoch), str(name))
        for epoch, name in zip(history.loc[begins, "epoch"], history.loc[begins, "stage"], strict=True)
    ]


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
