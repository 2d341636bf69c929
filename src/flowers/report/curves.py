"""Curves: of a training, of several trainings, of a learning-rate sweep, and of accuracy against photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from flowers.atomic import whole_file
from flowers.report import style
from flowers.report.html import percent

if TYPE_CHECKING:
    from flowers.training.rate_finder import Recommendation

MEMORISING_FRAC = 0.05
"""From this lead of the training over the validation accuracy on, the pages speak of it."""


def stage_starts(history: pd.DataFrame) -> list[tuple[int, str]]:
    """Find the first epoch and the name of each stage of a history with columns `epoch` and `stage`."""
    first = history[history["stage"].ne(history["stage"].shift())]
    return list(zip(first["epoch"].astype(int).tolist(), first["stage"].astype(str).tolist(), strict=True))


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
    figure = style.open_figure(style.WIDTH_IN, 3.8, title)
    for left, metric, heading in ((0.05, "loss", "loss (nats)"), (0.555, "acc", "accuracy")):
        axes = style.open_panel(figure, (left, 0.13, 0.335, 0.58), below="epoch")
        axes.tick_params(axis="x", length=3, color=style.FAINT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        _draw_curves(axes, history, metric)
        top = _draw_stages(axes, stage_starts)
        style.write(axes, 0, top, heading, style.HEADING_PT, style.INK, va="bottom")
    return figure


def _draw_curves(axes: Axes, history: pd.DataFrame, metric: str) -> None:
    """Draw the training and the validation curve of one metric, and label their ends."""
    ends = []
    for split, color, width in (("train", style.WRONG, 1.4), ("val", style.RIGHT, 2.4)):
        curve = history[["epoch", f"{split}/{metric}"]].dropna().to_numpy(float)
        if len(curve):
            marker = "o" if len(curve) <= 12 else ""
            axes.plot(*curve.T, color=color, lw=width, marker=marker, ms=width * 2, clip_on=False)
            last = curve[-1, 1]
            ends.append(
                style.EndLabel(last, f"{split} {last:.3f}" if metric == "loss" else f"{split} {last:.1%}", color)
            )
    if metric == "loss":
        axes.set_ylim(bottom=0)
    else:
        style.show_shares(axes, decimals=0 if np.ptp(axes.get_ylim()) > 0.05 else 1)
    style.label_ends(axes, ends)


def _draw_stages(axes: Axes, stage_starts: Sequence[tuple[int, str]]) -> float:
    """Mark where stages begin, half an epoch before their first one, and name them above the panel.

    Returns:
        The height above the names, as a share of the panel's.
    """
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    width_in = axes.get_position().width * style.WIDTH_IN
    ends = [-1.0] * 3  # of the last name in each row, from the lowest row on
    used = 1
    for number, (epoch, name) in enumerate(stage_starts):
        at = (epoch - 0.5 - low) / (high - low) if number else 0.0
        row = next((row for row, end in enumerate(ends) if end <= at), int(np.argmin(ends)))
        ends[row] = at + (style.text_width_in(name, style.CAPTION_PT) + 0.1) / width_in
        used = max(used, row + 1)
        height = 1.05 + 0.068 * row
        if number:
            axes.axvline(epoch - 0.5, ymax=height + 0.03, color=style.FAINT, lw=1, ls=style.DASHED, clip_on=False)
        style.write(axes, at + (0.012 if number else 0), height, name, style.CAPTION_PT, style.FAINT, va="center")
    return 1.05 + 0.068 * used


def side_by_side_figure(histories: Mapping[str, pd.DataFrame], chosen: str, title: str) -> Figure:
    """Draw the validation accuracy of several trainings, one of them in colour.

    Args:
        histories: By the name of the training: columns `epoch` and `val/acc`, at least one row.
        chosen: Which is in colour.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    figure = style.open_figure(style.WIDTH_IN, 3.9, title)
    axes = style.open_panel(figure, (0.055, 0.13, 0.66, 0.68), "validation accuracy", "epoch")
    ends, epochs = [], []
    for name, history in histories.items():
        curve = history[["epoch", "val/acc"]].dropna().to_numpy(float)
        color, width = (style.RIGHT, 2.4) if name == chosen else (style.FAINT, 1.2)
        marker, zorder = "o" if len(curve) <= 2 else "", 3 if name == chosen else 2
        axes.plot(*curve.T, color=color, lw=width, marker=marker, zorder=zorder)
        text = f"{curve[-1, 1]:.1%}  {style.cut_text(name, 1.6, style.LABEL_PT)}"
        ends.append(style.EndLabel(curve[-1, 1], text, color, bold=name == chosen))
        epochs.append(curve[-1, 0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    style.show_shares(axes)
    _, last = axes.set_xlim(axes.get_xlim())
    for epoch, end, label in zip(epochs, ends, style.label_ends(axes, ends, x=1.06), strict=True):
        x, y = axes.transLimits.inverted().transform((1.05, label.get_position()[1]))
        axes.plot([epoch, last, x], [end.value, end.value, y], color=end.color, lw=0.6, ls=":", clip_on=False)
    return figure


def rates_figure(rates: Sequence[float], losses: Sequence[float], found: "Recommendation", title: str) -> Figure:
    """Draw the loss of a learning-rate sweep, and the rate that it recommends with the slope that tells why.

    Args:
        rates: (N,), rising geometrically.
        losses: (N,) of single batches, in nats; values that are not finite are left out.
        found: What :func:`flowers.training.rate_finder.recommend` reads off them.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    figure = style.open_figure(7.2, 4.2, title, found.why[0].upper() + found.why[1:] + ".", left_in=0.65)
    axes = style.open_panel(figure, (0.09, 0.13, 0.86, 0.64), "loss (nats)", "learning rate of the head")
    axes.set_xscale("log")
    axes.plot(rates, losses, color=style.FAINT, alpha=0.55, marker=".", ms=4, ls="")
    axes.plot(rates, found.smooth, color=style.RIGHT, lw=2.4)
    shown = found.smooth[np.isfinite(found.smooth)]
    if len(shown):  # the divergence at the end must not flatten what is read
        low, start = float(shown.min()), float(np.median(shown[:10]))
        axes.set_ylim(low - 0.25 * (start - low) - 0.05, max(start + 0.5 * (start - low), low + 0.1))
    if found.rate is not None and found.slope is not None:
        height = float(found.smooth[list(rates).index(found.rate)])
        near = np.array([-0.7, 0, 0.7])  # decades
        axes.axvline(found.rate, color=style.WRONG, lw=1.2, ls=style.DASHED)
        line = found.rate * 10**near, height + found.slope * near
        axes.plot(*line, color=style.WRONG, lw=1.6, marker="o", markevery=[1])
        look = {"transform": axes.get_xaxis_transform(), "ha": "right", "weight": "bold"}
        style.write(
            axes, found.rate * 0.85, 0.04, f"recommended: {found.rate:.1e}", style.LABEL_PT, style.WRONG, **look
        )
    return figure


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
    worst, *_, best = sorted(curves, key=lambda curve: curve.means[-1])
    for count, mean in zip(best.counts[:-1], best.means[:-1], strict=True):
        if mean >= worst.means[-1]:
            return (
                f"{best.name} reaches {percent(mean)} with {count:,} photographs, "
                f"{worst.name} {percent(worst.means[-1])} with {worst.counts[-1]:,}"
            )
    return None


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
    figure = style.open_figure(7.6, 4.9, title, finding(curves) or "", left_in=0.57)
    style.write(figure, 0.075, 0.022, caption, style.CAPTION_PT, style.FAINT, va="bottom", linespacing=1.4)
    axes = style.open_panel(figure, (0.075, 0.23, 0.685, 0.555), below="training photographs")
    axes.set_xscale("log")
    ends = []
    for number, curve in enumerate(curves):
        color, marker = style.COLOURS[number % len(style.COLOURS)], style.MARKERS[number % len(style.MARKERS)]
        axes.plot(curve.counts, curve.means, color=color, lw=2.2, marker=marker, ms=6.5, clip_on=False, zorder=3)
        if max(map(len, curve.values)) > 1:
            low, high = (list(map(pick, curve.values)) for pick in (min, max))
            axes.fill_between(curve.counts, low, high, color=color, alpha=0.14, lw=0, zorder=1)
            for count, each in zip(curve.counts, curve.values, strict=True):
                axes.plot([count] * len(each), each, color=color, ls="", marker=marker, ms=3, alpha=0.55, clip_on=False)
        ends.append(style.EndLabel(curve.means[-1], f"{curve.name}\n{percent(curve.means[-1])}", color))
    axes.xaxis.set_major_locator(FixedLocator(_apart(sorted({count for curve in curves for count in curve.counts}))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="x", length=3, color=style.FAINT)
    style.show_shares(axes, symbol=" %")
    style.write(axes, 0, 1.04, "validation accuracy", style.HEADING_PT, style.INK, va="bottom")
    widest_in = max(style.text_width_in(curve.name, style.LABEL_PT) for curve in curves) * 1.15  # bold
    style.label_ends(axes, ends, size_pt=style.LABEL_PT * min(1, 1.6 / widest_in))
    return figure


def _apart(counts: list[int]) -> list[int]:
    """Leave out ticks whose numbers would touch, but never the first or the last."""
    width = np.log(counts[-1] / counts[0]) or 1.0
    kept = [counts[0]]
    for count in counts[1:-1]:
        if min(np.log(count / kept[-1]), np.log(counts[-1] / count)) > 0.07 * width:
            kept.append(count)
    return [*kept, counts[-1]] if counts[-1] != counts[0] else kept


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the file's ending; whole or not at all, and the same bytes each time.

    Raises:
        UserError: The disk is full, say.
    """
    options: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 150}
    with whole_file(path) as partial, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(partial, **options)
