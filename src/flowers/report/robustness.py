"""Figures of accuracy on corrupted images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flowers.report.style import (
    DASHED,
    FAINT,
    HEADING_PT,
    INK,
    PAPER,
    RIGHT,
    TICK_PT,
    open_figure,
    open_panel,
)

_COLUMNS = 3


def corruptions_figure(
    table: pd.DataFrame, examples: Mapping[str, Sequence[np.ndarray]], chance: float, title: str
) -> Figure:
    """Draw accuracy against strength, a panel for each corruption, above one photograph corrupted in that way.

    Args:
        table: Columns `corruption`, `strength`, `setting`, `acc`, `acc_low` and `acc_high` (in [0, 1]); one row with
            strength 0, which all panels begin with.
        examples: For each corruption one original photograph and the same at each strength, (H,H,3) uint8.
        chance: Accuracy of always predicting the most frequent class.
        title: One line.

    Returns:
        The figure; its background is opaque white.
    """
    names = list(examples)
    rows = -(-len(names) // _COLUMNS)
    width, height, head = 11.4, 3.75, 0.95
    total = rows * height + head
    subtitle = "accuracy with its 95 % interval; dashed: always predicting the most frequent class"
    figure = open_figure(width, total, title, subtitle)
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
    axes.set(xlim=(-0.5, len(points) - 0.5), ylim=(0, 1.09))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xticks(range(len(points)), points["setting"], parse_math=False)
    axes.set_title(name, fontsize=HEADING_PT, color=INK, loc="left", pad=8, parse_math=False)
    axes.axhline(chance, color=FAINT, lw=1.2, ls=DASHED)
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
            fontsize=TICK_PT,
            weight="bold",
            color=INK,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )
