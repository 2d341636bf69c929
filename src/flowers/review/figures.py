"""Figures: which classes are confused, and how a training went.

Everything is drawn with matplotlib's objects; pyplot, which keeps figures alive behind one's back, is never
imported.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from flowers.review.matrix import DPI, FAINT, INK, PAPER, RIGHT, WRONG, ConfusionSheet
from flowers.review.panels import open_panel


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

    def paint(self, counts: NDArray[np.integer], classes: list[str], title: str) -> NDArray[np.uint8]:
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
