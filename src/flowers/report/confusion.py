"""The confusion matrix as a figure, laid out for two classes or a hundred."""

import functools
import math
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

from flowers.report.style import DPI, FAINT, INK, PAPER, RIGHT, TICK_PT, TITLE_PT, WRONG, cut_text, text_width_in

COUNTED_CLASSES = 25
"""Up to this many classes every cell says its count; beyond, only the worst errors do."""
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


class ConfusionSheet:
    """The figure of a confusion matrix, with the artists that differ between two matrices kept apart."""

    def __init__(self, counts: NDArray[np.integer], classes: list[str], title: str) -> None:
        num_classes = len(classes)
        if counts.shape != (num_classes, num_classes):
            raise ValueError(f"a confusion matrix of shape {counts.shape} does not fit {num_classes} classes")
        self._cell_in, self._font_pt = _cell_size(num_classes)
        names = [cut_text(name, _LONGEST_NAME_IN, self._font_pt) for name in classes]
        support = [f"{total:d}" for total in counts.sum(axis=1).tolist()]
        name_in = max(text_width_in(name, self._font_pt) for name in names)
        support_in = max(text_width_in(text, self._font_pt) for text in [*support, "all"])
        slanted = name_in > self._cell_in * 0.92
        # Sizes in inches, which place the axes: a layout engine would cost more than the drawing.
        side = self._cell_in * num_classes
        gap = 0.09
        left, right = max(name_in, 0.35) + 0.15 + gap, support_in + 0.28
        top, bottom = 0.84, (name_in if slanted else self._font_pt / 72 * 1.3) + 0.34 + gap
        width, height = max(left + side + right, 4.2), top + side + bottom
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
        axes = self.figure.add_axes((left / width, bottom / height, side / width, side / height))
        axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5), facecolor="none")
        axes.spines[:].set_visible(False)
        ticks = range(num_classes)
        axes.set_xticks(ticks, names, rotation=90 if slanted else 0, parse_math=False)
        axes.set_yticks(ticks, names, parse_math=False)
        axes.tick_params(length=0, pad=gap * 72 * 0.6, labelsize=self._font_pt, labelcolor=INK)

        def beside(text: str, x_in: float, y_in: float, **look: Any) -> Text:
            """Write at a distance from the axes' lower left corner."""
            return self.figure.text(
                (left + x_in) / width,
                (bottom + y_in) / height,
                text,
                parse_math=False,
                **{"color": FAINT, **look},
            )

        for row, text in enumerate(support):
            middle = side - (row + 0.5) * self._cell_in
            beside(text, side + right - 0.18, middle, ha="right", va="center_baseline", size=self._font_pt)
        beside("all", side + right - 0.18, side + 0.06, ha="right", va="bottom", size=TICK_PT)
        beside("true", -gap, side + 0.06, ha="right", va="bottom", size=TICK_PT)
        beside("predicted", 0, 0.07 - bottom, ha="left", va="bottom", size=TICK_PT)
        self._title = beside("", 0, side + top - 0.14, va="top", size=TITLE_PT, weight="bold", color=INK)
        self._subtitle = beside("", 0, side + top - 0.4, va="top", size=TICK_PT)
        blank = np.zeros((num_classes, num_classes, 4))
        self._image = axes.imshow(blank, interpolation="none", aspect="auto", zorder=0)
        self._lines = _grid(num_classes)
        axes.add_collection(self._lines, autolim=False)
        # One collection of outlines instead of a text per cell, which would take ten times as long to draw.
        self.numbers = PathCollection(
            [], [1.0], offset_transform=axes.transData, transform=IdentityTransform(), linewidths=0, zorder=2
        )
        axes.add_collection(self.numbers, autolim=False)
        self.fill(counts, title)

    def fill(self, counts: NDArray[np.integer], title: str) -> None:
        """Show this matrix, (K, K), instead of the one before."""
        num_classes = len(counts)
        total, right = int(counts.sum()), int(counts.trace())
        self._title.set_text(title)
        self._subtitle.set_text(f"{right} of {total} right ({_percent(right, total)})")
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        diagonal = np.eye(num_classes, dtype=bool)
        cells = np.where(diagonal[..., None], np.array(to_rgba(RIGHT)), np.array(to_rgba(WRONG)))
        # Shade is opacity, so that the figure also works on a dark page.
        wrong = np.sqrt(shares)
        if num_classes > COUNTED_CLASSES:  # A cell is a dot then, which must not be pale to be found.
            wrong = np.where(counts > 0, 0.2 + 0.8 * np.minimum(2 * wrong, 1), 0)
        cells[..., 3] = np.where(diagonal, shares, wrong)
        # Bytes, because matplotlib resamples those several times faster than floats.
        self._image.set_data((cells * 255).round().astype(np.uint8))
        if num_classes <= COUNTED_CLASSES:
            said = [(row, column) for row, column in np.argwhere(counts > 0).tolist()]
        else:
            said = [(row, column) for row, column, _ in worst_confusions(counts, WORST_CELLS)]
        self.numbers.set_paths([self._words(counts[cell], shares[cell]) for cell in said])
        self.numbers.set_offsets([(column, row) for row, column in said] or np.empty((0, 2)))
        self.numbers.set_facecolor(
            [PAPER if row == column and shares[row, column] >= 0.8 else INK for row, column in said]
        )

    def _words(self, count: int, share: float) -> Path:
        """Word a cell: its count, and its share of the row where there is room."""
        roomy = self._cell_in >= 0.5
        size_pt = 9.5 if roomy else 8.5 if self._cell_in > 0.3 else 6
        return _outline(f"{count:d}\n{_percent(share, 1)}" if roomy else f"{count:d}", size_pt)

    def changing(self) -> list[Artist]:
        """List the artists that differ from matrix to matrix, from the lowest to the topmost."""
        return [self._image, self._lines, self.numbers, self._title, self._subtitle]

    def show_changing(self, visible: bool) -> None:
        """Show or hide all of :meth:`changing`."""
        for artist in self.changing():
            artist.set_visible(visible)


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
    rows, columns = np.unravel_index(cells, errors.shape)
    return [
        (int(row), int(column), int(errors[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if errors[row, column] > 0
    ]


def _cell_size(num_classes: int) -> tuple[float, float]:
    """Choose the side of a cell in inches and the size of the class names in points."""
    if num_classes <= 6:
        return 0.86, 10
    if num_classes <= 12:
        return 0.56, 9.5
    if num_classes <= COUNTED_CLASSES:
        return 0.36, 9
    # Names must not touch: a line of text takes 1.25 of its size.
    cell = max(0.115, min(0.3, 12 / num_classes))
    return cell, min(8.5, cell * 72 / 1.25)


def _grid(num_classes: int) -> LineCollection:
    """Separate the cells: (K-1) lines each way."""
    # Lines of paper colour would vanish on a dark page and hide nothing between tiny cells.
    edges = np.arange(num_classes + 1) - 0.5
    low, high = edges[0], edges[-1]
    segments = [((low, edge), (high, edge)) for edge in edges] + [((edge, low), (edge, high)) for edge in edges]
    width = 0.8 if num_classes <= COUNTED_CLASSES else 0.3
    return LineCollection(segments, colors=FAINT, linewidths=width, alpha=0.28, zorder=1, clip_on=False)


@functools.lru_cache(maxsize=64)
def _glyph(letter: str, size_pt: float) -> tuple[Path, float]:
    """Outline one letter, and say how far the next one stands from it, in points."""
    return TextPath((0, 0), letter, size=size_pt), text_width_in(letter, size_pt) * 72


def _outline(text: str, size_pt: float) -> Path:
    """Outline lines of digits in points, centred on the origin."""
    vertices, codes = [], []
    lines = text.split("\n")
    height = 0.73 * size_pt  # of matplotlib's digits
    for number, line in enumerate(lines):
        glyphs = [_glyph(letter, size_pt) for letter in line]
        x = -sum(advance for _, advance in glyphs) / 2
        y = ((len(lines) - 1) / 2 - number) * size_pt * 1.25 - height / 2
        for path, advance in glyphs:
            vertices.append(np.add(path.vertices, (x, y)))
            codes.append(np.asarray(path.codes))
            x += advance
    return Path(np.concatenate(vertices), np.concatenate(codes))


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
