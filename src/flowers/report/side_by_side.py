"""The curves of several trainings in one figure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flowers.report.confusion import FAINT, RIGHT
from flowers.report.style import open_figure, open_panel

_LEAST_APART = 0.055
_LONGEST_NAME = 30


def side_by_side_figure(histories: Mapping[str, pd.DataFrame], chosen: str, title: str) -> Figure:
    """Draw the validation accuracy of trainings, one of them in colour.

    Args:
        histories: By what each is called: columns `epoch` and `val/acc`, at least one row.
        chosen: Which is in colour.
        title: One line.
    """
    figure = open_figure(9.6, 3.9, title)
    axes = open_panel(figure, (0.055, 0.13, 0.66, 0.68), "accuracy on validation photographs", "epoch")
    ends = []
    for name, history in histories.items():
        curve = history[["epoch", "val/acc"]].dropna().to_numpy(float)
        mine = name == chosen
        marker = "o" if len(curve) <= 2 else ""
        color, width = (RIGHT, 2.4) if mine else (FAINT, 1.2)
        axes.plot(curve[:, 0], curve[:, 1], color=color, lw=width, marker=marker, zorder=3 if mine else 2)
        ends.append((float(curve[-1, 1]), float(curve[-1, 0]), name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))
    low, high = axes.get_ylim()
    _, last = axes.get_xlim()
    ends.sort()
    heights = spread_out([(value - low) / (high - low) for value, _, _ in ends], _LEAST_APART)
    for height, (value, epoch, name) in zip(heights, ends, strict=True):
        color = RIGHT if name == chosen else FAINT
        place = axes.transLimits.inverted().transform((1.05, height))
        axes.plot([epoch, last, place[0]], [value, value, place[1]], color=color, lw=0.6, ls=":", clip_on=False)
        short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
        axes.text(
            1.06,
            height,
            f"{value:.1%}  {short}",
            transform=axes.transAxes,
            color=color,
            size=9.5,
            weight="bold" if name == chosen else "normal",
            va="center",
            parse_math=False,
        )
    axes.set(xlim=(axes.get_xlim()[0], last), ylim=(low, high))
    return figure


def spread_out(heights: list[float], apart: float) -> list[float]:
    """Move labels as little as makes them not overlap.

    Args:
        heights: Where they should be, rising.
        apart: How far two neighbours must be from each other.

    Returns:
        Where they are, rising: the nearest in the sense of least squares.
    """
    # Less what they must be apart, the places need only not fall: pool neighbours that do, at their mean.
    pools: list[list[float]] = []
    for number, height in enumerate(heights):
        pools.append([height - number * apart])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = [float(np.mean(pool)) for pool in pools for _ in pool]
    return [value + number * apart for number, value in enumerate(level)]
