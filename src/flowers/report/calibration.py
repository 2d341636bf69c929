"""Figures of how sure a network is, and whether it has reason to be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from flowers.evaluation.calibration import DIAGRAM_BINS, reliability, risk_coverage
from flowers.report.confusion import FAINT, INK, RIGHT, WRONG
from flowers.report.style import open_figure, open_panel


def reliability_figure(confidence: NDArray[np.floating], right: NDArray[np.bool_], title: str) -> Figure:
    """Draw accuracy against confidence, and below it how many answers are how sure.

    Args:
        confidence: Probability of the answer, (N,).
        right: Whether it was right, (N,).
        title: One line.
    """
    table = reliability(confidence, right)
    figure = open_figure(5.2, 5.2, title, "On the dashed line, answers are right as often as they are sure.")
    axes = open_panel(figure, (0.115, 0.37, 0.83, 0.44), "accuracy, with its 95 % interval")
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls=(0, (4, 3)), zorder=1)
    axes.vlines(table["confidence"], table["acc_low"], table["acc_high"], color=RIGHT, lw=5, alpha=0.35)
    axes.plot(table["confidence"], table["acc"], color=RIGHT, lw=1.6, marker="o", ms=5.5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    counts = open_panel(figure, (0.115, 0.1, 0.83, 0.14), "answers", "confidence (probability of the answer)")
    edges = np.linspace(0, 1, DIAGRAM_BINS + 1)
    counts.hist(
        [confidence[right], confidence[~right]], bins=edges.tolist(), stacked=True, color=[RIGHT, WRONG], rwidth=0.9
    )
    counts.set(xlim=(0, 1))
    counts.set_xticks(np.linspace(0, 1, 6))
    counts.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    counts.locator_params(axis="y", nbins=3, integer=True)
    wrong = int((~right).sum())
    # The colour of each word says which bars it means.
    for place, words, color in ((0.8, f"{len(right) - wrong} right", RIGHT), (1, f"{wrong} wrong", WRONG)):
        counts.text(place, 1.12, words, transform=counts.transAxes, ha="right", size=9, weight="bold", color=color)
    return figure


def coverage_figure(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], withheld: Sequence[Mapping[str, Any]], title: str
) -> Figure:
    """Draw how the share of wrong answers grows with the share of photographs that are answered.

    Args:
        confidence: Probability of the answer, (N,).
        right: Whether it was right, (N,).
        withheld: Rows of :func:`flowers.evaluation.calibration.withholding`, marked in the curve.
        title: One line.
    """
    curve = risk_coverage(confidence, right)
    figure = open_figure(5.2, 5.2, title, "From the left, the surest answers first.")
    axes = open_panel(
        figure, (0.115, 0.12, 0.83, 0.69), "wrong among the answers given", "photographs that get an answer"
    )
    axes.step(curve["coverage"], curve["risk"], where="post", color=RIGHT, lw=2)
    top = max(float(curve["risk"].max()), 0.01) * 1.15
    at_least = -1.0
    for row in sorted(withheld, key=lambda row: row["coverage"]):
        if row["acc"] is None:
            continue
        risk = 1 - row["acc"]
        axes.plot(row["coverage"], risk, marker="o", ms=7, color=WRONG, zorder=3, clip_on=False)
        # Names of points close to each other climb above one another.
        height = max(risk + 0.05 * top, at_least)
        at_least = height + 0.05 * top
        axes.annotate(
            f"for {row['wanted']:.0%}",
            (row["coverage"], risk),
            (row["coverage"] - 0.015, height),
            ha="right",
            fontsize=9,
            weight="bold",
            color=WRONG,
        )
    axes.set(xlim=(0, 1), ylim=(0, max(top, at_least)))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if top > 0.05 else 1))
    return figure


def strangers_figure(ordinary: pd.DataFrame, strangers: pd.DataFrame, title: str) -> Figure:
    """Draw how strange test photographs and strangers seem to the network.

    Args:
        ordinary: Test photographs, with the column `outlier`.
        strangers: Others, with the same column.
        title: One line.
    """
    figure = open_figure(8.2, 3.4, title, "The further to the right, the less a photograph resembles the known ones.")
    axes = open_panel(figure, (0.06, 0.15, 0.9, 0.58), "share of photographs", "outlier score (nats)")
    both = np.concatenate([ordinary["outlier"], strangers["outlier"]])
    edges = np.linspace(both.min(), np.quantile(both, 0.995), 31)
    for table, color, name, place in ((ordinary, RIGHT, "test", 0.8), (strangers, WRONG, "strangers", 1.0)):
        counts, _ = np.histogram(table["outlier"].clip(edges[0], edges[-1]), edges)
        shares = counts / len(table)
        axes.stairs(shares, edges, color=color, alpha=0.35, fill=True)
        axes.stairs(shares, edges, color=color, lw=1.6)
        words = f"{len(table)} {name}"
        axes.text(place, 1.06, words, transform=axes.transAxes, ha="right", size=9.5, weight="bold", color=color)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(axis="x", labelcolor=INK)
    return figure
