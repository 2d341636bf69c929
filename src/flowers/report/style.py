"""The look that all figures have in common."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowers.report.confusion import DPI, FAINT, INK, PAPER


def open_figure(width_in: float, height_in: float, title: str, subtitle: str = "") -> Figure:
    """Begin a figure on opaque white.

    Args:
        width_in: Width in inches.
        height_in: Height in inches.
        title: One line.
        subtitle: One line, smaller.
    """
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor=PAPER)
    left = 0.5 / width_in
    figure.text(left, 1 - 0.13 / height_in, title, size=12, weight="bold", color=INK, va="top", parse_math=False)
    if subtitle:
        figure.text(left, 1 - 0.4 / height_in, subtitle, size=9.5, color=FAINT, va="top", parse_math=False)
    return figure


def open_panel(figure: Figure, box: tuple[float, float, float, float], heading: str = "", below: str = "") -> Axes:
    """Add axes with nothing but a base line and faint horizontal lines.

    Args:
        figure: The figure.
        box: Left, bottom, width, height as shares of the figure.
        heading: What the heights are, written above.
        below: What the places from left to right are.
    """
    axes = figure.add_axes(box)
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, labelsize=9, labelcolor=FAINT)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.8)
    axes.set_axisbelow(True)
    if heading:
        axes.set_title(heading, fontsize=10, color=INK, loc="left", pad=10, parse_math=False)
    if below:
        axes.set_xlabel(below, fontsize=9, color=FAINT, loc="right", labelpad=2)
    return axes
