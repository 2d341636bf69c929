"""Figures of confidence: calibration, selective prediction and out-of-distribution scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from flowers.evaluation.calibration import DIAGRAM_BINS, reliability, risk_coverage
from flowers.report.style import (
    DASHED,
    FAINT,
    INK,
    LABEL_PT,
    RIGHT,
    TICK_PT,
    WRONG,
    open_figure,
    open_panel,
    spread_out,
)


def reliability_figure(confidence: NDArray[np.floating], right: NDArray[np.bool_], title: str) -> Figure:
    """Draw accuracy against confidence, and below it a histogram of confidence.

    Args:
        confidence: Probability of the predicted class, (N,).
        right: Whether the prediction is right, (N,).
        title: One line.
    """
    table = reliability(confidence, right)
    figure = open_figure(5.2, 5.2, title, "On the dashed line, accuracy equals confidence.")
    axes = open_panel(figure, (0.115, 0.37, 0.83, 0.44), "accuracy, with its 95 % interval")
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls=DASHED, zorder=1)
    axes.vlines(table["confidence"], table["acc_low"], table["acc_high"], color=RIGHT, lw=5, alpha=0.35)
    axes.plot(table["confidence"], table["acc"], color=RIGHT, lw=1.6, marker="o", ms=5.5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    counts = open_panel(
        figure, (0.115, 0.1, 0.83, 0.14), "photographs", "confidence (probability of the predicted class)"
    )
    edges = np.linspace(0, 1, DIAGRAM_BINS + 1)
    counts.hist(
        [confidence[right], confidence[~right]], bins=edges.tolist(), stacked=True, color=[RIGHT, WRONG], rwidth=0.9
    )
    counts.set(xlim=(0, 1))
    counts.set_xticks(np.linspace(0, 1, 6))
    counts.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    counts.locator_params(axis="y", nbins=3, integer=True)
    wrong = int((~right).sum())
    # The colours of the words are the bars' colours.
    for place, words, color in ((0.8, f"{len(right) - wrong} right", RIGHT), (1, f"{wrong} wrong", WRONG)):
        counts.text(
            place, 1.12, words, transform=counts.transAxes, ha="right", size=TICK_PT, weight="bold", color=color
        )
    return figure


def coverage_figure(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], selective: Sequence[Mapping[str, Any]], title: str
) -> Figure:
    """Draw how the share of errors grows with the share of photographs that get a prediction (selective prediction).

    Args:
        confidence: Probability of the predicted class, (N,).
        right: Whether the prediction is right, (N,).
        selective: Rows of :func:`flowers.evaluation.calibration.selective_prediction`, marked in the curve.
        title: One line.
    """
    curve = risk_coverage(confidence, right)
    figure = open_figure(5.2, 5.2, title, "From the left, the most confident predictions first.")
    axes = open_panel(
        figure, (0.115, 0.12, 0.83, 0.69), "errors among the predictions made", "photographs that get a prediction"
    )
    axes.step(curve["coverage"], curve["risk"], where="post", color=RIGHT, lw=2)
    top = max(float(curve["risk"].max()), 0.01) * 1.15
    marks = [
        (row["coverage"], 1 - row["acc"], f"for {row['wanted']:.0%}") for row in selective if row["acc"] is not None
    ]
    heights = spread_out([risk / top + 0.05 for _, risk, _ in marks], 0.05)
    for (coverage, risk, words), height in zip(marks, heights, strict=True):
        axes.plot(coverage, risk, marker="o", ms=7, color=WRONG, zorder=3, clip_on=False)
        place = (coverage - 0.015, height * top)
        axes.annotate(
            words, (coverage, risk), place, ha="right", va="center", fontsize=TICK_PT, weight="bold", color=WRONG
        )
    axes.set(xlim=(0, 1), ylim=(0, top))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if top > 0.05 else 1))
    return figure


def ood_figure(ordinary: pd.DataFrame, others: pd.DataFrame, title: str) -> Figure:
    """Draw the out-of-distribution scores of test photographs and of photographs of other things.

    Args:
        ordinary: Test photographs, with the column `outlier`.
        others: Photographs of other things, with the same column.
        title: One line.
    """
    figure = open_figure(8.2, 3.4, title, "The further to the right, the less a photograph resembles those trained on.")
    axes = open_panel(figure, (0.06, 0.15, 0.9, 0.58), "share of photographs", "out-of-distribution score (nats)")
    both = np.concatenate([ordinary["outlier"], others["outlier"]])
    edges = np.linspace(both.min(), np.quantile(both, 0.995), 31)
    for table, color, name, place in ((ordinary, RIGHT, "test", 0.72), (others, WRONG, "out-of-distribution", 1.0)):
        counts, _ = np.histogram(table["outlier"].clip(edges[0], edges[-1]), edges)
        shares = counts / len(table)
        axes.stairs(shares, edges, color=color, alpha=0.35, fill=True)
        axes.stairs(shares, edges, color=color, lw=1.6)
        words = f"{len(table)} {name}"
        axes.text(place, 1.06, words, transform=axes.transAxes, ha="right", size=LABEL_PT, weight="bold", color=color)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(axis="x", labelcolor=INK)
    return figure
