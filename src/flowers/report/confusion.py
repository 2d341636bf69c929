"""The confusion matrix as a figure, laid out for two classes or a hundred."""

import functools
import math
from typing import Any

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

from flowers.report.style import DPI, FAINT, INK, PAPER, RIGHT, TICK_PT, TITLE_PT, WRONG, cut_text, text_width_in, write

COUNTED_CLASSES = 25
"""Up to this many classes every cell says its count; beyond, only the worst errors do."""
_SHARED_CLASSES = 12
"""Up to this many, its share of the row too."""
WORST_CELLS = 20
_LONGEST_NAME_IN = 2.0


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
    num_classes = len(classes)
    if counts.shape != (num_classes, num_classes):
        raise ValueError(f"a confusion matrix of shape {counts.shape} does not fit {num_classes} classes")
    cell_in, name_pt, number_pt = _sizes(num_classes)
    names = [cut_text(name, _LONGEST_NAME_IN, name_pt) for name in classes]
    support = [f"{total:d}" for total in counts.sum(axis=1).tolist()]
    name_in = max(text_width_in(name, name_pt) for name in names)
    support_in = max(text_width_in(text, name_pt) for text in [*support, "all"])
    slanted = name_in > cell_in * 0.92
    # Sizes in inches, which place the axes: a layout engine would cost more than the drawing.
    side = cell_in * num_classes
    gap = 0.09
    left, right = max(name_in, 0.35) + 0.15 + gap, support_in + 0.28
    top, bottom = 0.84, (name_in if slanted else name_pt / 72 * 1.3) + 0.34 + gap
    width, height = max(left + side + right, 4.2), top + side + bottom
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5), facecolor="none")
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(num_classes), names, rotation=90 if slanted else 0, parse_math=False)
    axes.set_yticks(range(num_classes), names, parse_math=False)
    axes.tick_params(length=0, pad=gap * 72 * 0.6, labelsize=name_pt, labelcolor=INK)

    def beside(x_in: float, y_in: float, text: str, size_pt: float = TICK_PT, **look: Any) -> Text:
        """Write at a distance from the axes' lower left corner."""
        return write(figure, (left + x_in) / width, (bottom + y_in) / height, text, size_pt, **look)

    for row, text in enumerate(support):
        middle = side - (row + 0.5) * cell_in
        beside(side + right - 0.18, middle, text, name_pt, ha="right", va="center_baseline")
    beside(side + right - 0.18, side + 0.06, "all", ha="right", va="bottom")
    beside(-gap, side + 0.06, "true", ha="right", va="bottom")
    beside(0, 0.07 - bottom, "predicted", va="bottom")
    beside(0, side + top - 0.14, title, TITLE_PT, color=INK, va="top", weight="bold")
    total, right_count = int(counts.sum()), int(counts.trace())
    beside(0, side + top - 0.4, f"{right_count} of {total} right ({_percent(right_count, total)})", va="top")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(_cells(counts, shares), interpolation="none", aspect="auto", zorder=0)
    # Lines of paper colour would vanish on a dark page and hide nothing between tiny cells.
    edges = np.arange(num_classes + 1) - 0.5
    line_pt = 0.8 if num_classes <= COUNTED_CLASSES else 0.3
    look: dict[str, Any] = {"colors": FAINT, "lw": line_pt, "alpha": 0.28, "clip_on": False, "zorder": 1}
    axes.hlines(edges, edges[0], edges[-1], **look)
    axes.vlines(edges, edges[0], edges[-1], **look)
    said = np.argwhere(counts > 0)
    if num_classes > COUNTED_CLASSES:
        said = np.array([cell for *cell, _ in worst_confusions(counts, WORST_CELLS)], int).reshape(-1, 2)
    words = []
    for row, column in said:
        share = f"\n{_percent(shares[row, column], 1)}" if num_classes <= _SHARED_CLASSES else ""
        words.append(f"{counts[row, column]:d}{share}")
    dark = (np.eye(num_classes, dtype=bool) & (shares >= 0.8))[tuple(said.T)]
    # One collection of outlines instead of a text per cell, which would take ten times as long to draw.
    numbers = PathCollection(
        [_outline(each, number_pt) for each in words],
        [1.0],
        offsets=said[:, ::-1],
        offset_transform=axes.transData,
        transform=IdentityTransform(),
        facecolors=np.where(dark, PAPER, INK).tolist(),
        linewidths=0,
        zorder=2,
    )
    axes.add_collection(numbers, autolim=False)
    return figure


def _cells(counts: NDArray[np.integer], shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Shade the cells, (K, K, 4) in 0..255."""
    # Shade is opacity, so that the figure also works on a dark page.
    diagonal, wrong = np.eye(len(counts), dtype=bool), np.sqrt(shares)
    if len(counts) > COUNTED_CLASSES:  # A cell is a dot then, which must not be pale to be found.
        wrong = np.where(counts > 0, 0.2 + 0.8 * np.minimum(2 * wrong, 1), 0)
    cells = np.where(diagonal[..., None], to_rgba(RIGHT), to_rgba(WRONG))
    cells[..., 3] = np.where(diagonal, shares, wrong)
    # Bytes, because matplotlib resamples those several times faster than floats.
    return (cells * 255).round().astype(np.uint8)


def worst_confusions(counts: NDArray[np.integer], most: int) -> list[tuple[int, int, int]]:
    """Find the most frequent errors.

    Args:
        counts: (K, K), rows truth, columns prediction.
        most: How many to list at most.

    Returns:
        (true class, predicted class, count), most frequent first; cells without an error are not listed.
    """
    errors = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    cells = np.argsort(-errors, axis=None, kind="stable")[:most]
    rows, columns = np.divmod(cells, len(counts))
    found = zip(rows.tolist(), columns.tolist(), errors[rows, columns].tolist(), strict=True)
    return [(row, column, count) for row, column, count in found if count]


def _sizes(num_classes: int) -> tuple[float, float, float]:
    """Choose the side of a cell in inches, and the sizes of the class names and of the numbers in points."""
    if num_classes <= 6:
        return 0.86, 10, 9.5
    if num_classes <= _SHARED_CLASSES:
        return 0.56, 9.5, 9.5
    if num_classes <= COUNTED_CLASSES:
        return 0.36, 9, 8.5
    # Names must not touch: a line of text takes 1.25 of its size.
    cell = max(0.115, min(0.3, 12 / num_classes))
    return cell, min(8.5, cell * 72 / 1.25), 6


@functools.lru_cache(maxsize=1024)
def _outline(text: str, size_pt: float) -> Path:
    """Outline lines of digits in points, centred on the origin."""
    lines, height = text.split("\n"), 0.73 * size_pt  # of matplotlib's digits
    paths = []
    for number, line in enumerate(lines):
        base = ((len(lines) - 1) / 2 - number) * size_pt * 1.25 - height / 2
        paths.append(TextPath((-text_width_in(line, size_pt) * 72 / 2, base), line, size=size_pt))
    return Path.make_compound_path(*paths)


def _percent(part: float, whole: float) -> str:
    """Write a share without claiming 0 % or 100 % for what is not quite that."""
    if not whole:
        return "–"
    share = part / whole
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{math.floor(share * 100 + 0.5)}%"
