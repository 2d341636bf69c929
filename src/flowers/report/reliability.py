"""How far a network can be relied on, as figures: calibration, risk and coverage, out-of-distribution, corruptions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from flowers.evaluation.calibration import reliability, risk_coverage
from flowers.report import style

_COLUMNS = 3


def reliability_figure(
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_],
    title: str,
    noun: str,
    groups: ArrayLike | None = None,
) -> Figure:
    """Draw accuracy against confidence, and below it a histogram of confidence.

    Args:
        confidence: Probability of the predicted class, (N,).
        right: Whether the prediction is right, (N,).
        title: One line.
        noun: What a photograph is called.
        groups: Groups of near-duplicates, (N,); None: no two photographs are alike.
    """
    table = reliability(confidence, right, groups)
    figure = style.open_figure(5.2, 5.2, title, "On the dashed line, accuracy equals confidence.")
    axes = style.open_panel(figure, (0.115, 0.37, 0.83, 0.44), "accuracy, with its 95 % interval")
    axes.plot([0, 1], [0, 1], color=style.FAINT, lw=1.2, ls=style.DASHED, zorder=1)
    axes.vlines(table["confidence"], table["acc_low"], table["acc_high"], color=style.RIGHT, lw=5, alpha=0.35)
    axes.plot(table["confidence"], table["acc"], color=style.RIGHT, lw=1.6, marker="o", ms=5.5)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter("{x:.0%}")
    below = "confidence (probability of the predicted class)"
    counts = style.open_panel(figure, (0.115, 0.1, 0.83, 0.14), f"{noun}s", below)
    middle, width = (table["low"] + table["high"]) / 2, 0.9 * (table["high"] - table["low"])
    heights = (table["acc"] * table["photographs"]).round()
    counts.bar(middle, heights, width, color=style.RIGHT)
    counts.bar(middle, table["photographs"] - heights, width, heights, color=style.WRONG)
    counts.locator_params(axis="y", nbins=3, integer=True)
    for panel in (axes, counts):
        panel.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
        panel.xaxis.set_major_formatter("{x:.0%}")
    wrong = int((~right).sum())
    # The colours of the words are the bars' colours.
    for place, words, color in ((0.8, f"{len(right) - wrong} right", style.RIGHT), (1, f"{wrong} wrong", style.WRONG)):
        style.write(counts, place, 1.12, words, style.TICK_PT, color, ha="right", weight="bold")
    return figure


def coverage_figure(
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_],
    selective: Sequence[Mapping[str, Any]],
    title: str,
    noun: str,
) -> Figure:
    """Draw how the share of errors grows with the share of photographs that get a prediction (selective prediction).

    Args:
        confidence: Probability of the predicted class, (N,).
        right: Whether the prediction is right, (N,).
        selective: Rows of :func:`flowers.evaluation.calibration.selective_prediction`, marked in the curve.
        title: One line.
        noun: What a photograph is called.
    """
    curve = risk_coverage(confidence, right)
    figure = style.open_figure(5.2, 5.2, title, "From the left, the most confident predictions first.")
    below = f"{noun}s that get a prediction"
    axes = style.open_panel(figure, (0.115, 0.12, 0.83, 0.69), "errors among the predictions made", below)
    axes.step(curve["coverage"], curve["risk"], where="post", color=style.RIGHT, lw=2)
    top = max(float(curve["risk"].max()), 0.01) * 1.15
    axes.set(xlim=(0, 1), ylim=(0, top))
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.0%}" if top > 0.05 else "{x:.1%}")
    # One point may serve several wanted accuracies, and its label then names them all.
    marks: dict[tuple[float, float], list[str]] = {}
    for row in selective:
        if row["acc"] is not None:
            marks.setdefault((row["coverage"], 1 - row["acc"]), []).append(f"{row['wanted']:.0%}")
    heights = style.spread_out([risk / top + 0.05 for _, risk in marks], 0.05)
    look: dict[str, Any] = {"transform": axes.transData, "va": "center", "weight": "bold"}
    for ((coverage, risk), wanted), height in zip(marks.items(), heights, strict=True):
        axes.plot(coverage, risk, marker="o", ms=7, color=style.WRONG, zorder=3, clip_on=False)
        at, side = (coverage - 0.015, "right") if coverage > 0.06 + 0.09 * len(wanted) else (coverage + 0.015, "left")
        style.write(axes, at, height * top, f"for {', '.join(wanted)}", style.TICK_PT, style.WRONG, ha=side, **look)
    return figure


def ood_figure(ordinary: pd.DataFrame, others: pd.DataFrame, title: str, noun: str) -> Figure:
    """Draw the out-of-distribution scores of test photographs and of photographs of other things.

    Args:
        ordinary: Test photographs, with the column `outlier`.
        others: Photographs of other things, with the same column.
        title: One line.
        noun: What a photograph is called.
    """
    figure = style.open_figure(8.2, 3.4, title, f"Those furthest to the right are least like the {noun}s trained on.")
    axes = style.open_panel(figure, (0.06, 0.15, 0.9, 0.58), f"share of {noun}s", "out-of-distribution score (nats)")
    both = np.concatenate([ordinary["outlier"], others["outlier"]])
    edges = np.linspace(both.min(), np.quantile(both, 0.995), 31)
    for table, color, name, place in (
        (ordinary, style.RIGHT, "test", 0.72),
        (others, style.WRONG, "out-of-distribution", 1.0),
    ):
        counts, _ = np.histogram(table["outlier"].clip(edges[0], edges[-1]), edges)
        shares = counts / len(table)
        axes.stairs(shares, edges, color=color, alpha=0.35, fill=True)
        axes.stairs(shares, edges, color=color, lw=1.6)
        style.write(axes, place, 1.06, f"{len(table)} {name}", style.LABEL_PT, color, ha="right", weight="bold")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.tick_params(axis="x", labelcolor=style.INK)
    return figure


def corruptions_figure(
    table: pd.DataFrame, examples: Mapping[str, Sequence[np.ndarray]], chance: float, title: str
) -> Figure:
    """Draw accuracy against strength, a panel for each corruption, above one photograph corrupted in that way.

    Args:
        table: ``corruptions.csv``, see :func:`flowers.evaluation.robustness.measure_corruptions`.
        examples: For each corruption one original photograph and the same at each strength, (H,H,3) uint8.
        chance: Accuracy of always predicting the most frequent class.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    rows = -(-len(examples) // _COLUMNS)
    width, height, side = 11.4, 3.75, 0.066
    total = rows * height + 0.95
    mean = float(table.loc[table["corruption"] == "mean", "acc"].iloc[0])
    subtitle = (
        f"accuracy with its 95 % interval, {mean:.1%} on average over all corruptions and strengths; "
        "dashed: always predicting the most frequent class"
    )
    figure = style.open_figure(width, total, title, subtitle)
    clean = table[table["corruption"] == "none"]
    for number, (name, photographs) in enumerate(examples.items()):
        row, column = divmod(number, _COLUMNS)
        left, base = 0.045 + column * 0.325, (rows - 1 - row) * height
        panel = style.open_panel(figure, (left, (base + 1.4) / total, 0.28, 1.95 / total))
        points = pd.concat([clean, table[table["corruption"] == name].sort_values("strength")])
        _draw_corruption(panel, points, chance, name)
        for place, photograph in enumerate(photographs):
            middle = left + 0.28 * (place + 0.5) / 4
            box = (middle - side / 2, (base + 0.25) / total, side, side * width / total)
            strip = figure.add_axes(box)
            strip.imshow(photograph, interpolation="lanczos")
            strip.set_axis_off()
    return figure


def _draw_corruption(axes: Axes, points: pd.DataFrame, chance: float, name: str) -> None:
    """Draw one corruption: a point for each strength, with its interval and its accuracy in figures."""
    axes.set(xlim=(-0.5, len(points) - 0.5), ylim=(0, 1.09), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_xticks(range(len(points)), points["setting"], parse_math=False)
    axes.set_title(name, fontsize=style.HEADING_PT, color=style.INK, loc="left", pad=8, parse_math=False)
    axes.axhline(chance, color=style.FAINT, lw=1.2, ls=style.DASHED)
    axes.vlines(range(len(points)), points["acc_low"], points["acc_high"], color=style.RIGHT, lw=6, alpha=0.35)
    axes.plot(range(len(points)), points["acc"], color=style.RIGHT, lw=2, marker="o", ms=5)
    # To the right and above, where a curve that falls leaves room.
    look: dict[str, Any] = {"transform": axes.transData, "ha": "left", "va": "bottom", "weight": "bold"}
    for x, acc in enumerate(points["acc"]):
        style.write(axes, x + 0.08, acc + 0.02, f"{acc:.0%}", style.TICK_PT, style.INK, **look)
