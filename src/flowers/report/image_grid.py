"""Images in rows and columns: as a figure with words above each, or as one image without any."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowers.report.style import CAPTION_PT, DPI, INK, PAPER, WIDTH_IN, cut_text

_GAP_IN = 0.1
_LINE_IN = 0.16


def gallery_figure(
    pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    captions: Sequence[str],
    columns: int,
) -> Figure:
    """Set pictures in rows.

    Args:
        pictures: At least one, (H,W,3) or (H,W,4) in an array or a list, where they may differ in size.
        captions: One for each; a line too long for its picture is cut.
        columns: Pictures in a row, which share the figure's width.

    Returns:
        The figure.

    Raises:
        ValueError: There is no picture, or not one caption for each.
    """
    if not len(pictures) or len(captions) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures with {len(captions)} captions")
    wide = (WIDTH_IN - _GAP_IN * (columns + 1)) / columns
    starts = range(0, len(pictures), columns)
    # Each row is as high as its highest picture and its longest caption.
    high = [max(wide * each.shape[0] / each.shape[1] for each in pictures[at : at + columns]) for at in starts]
    words = [max(caption.count("\n") + 1 for caption in captions[at : at + columns]) * _LINE_IN for at in starts]
    total = sum(high) + sum(words) + _GAP_IN * (len(high) + 1)
    figure = Figure(figsize=(WIDTH_IN, total), dpi=DPI, facecolor=PAPER)
    top = total - _GAP_IN
    for number, at in enumerate(starts):
        base = top - words[number]
        for column, picture in enumerate(pictures[at : at + columns]):
            left = _GAP_IN + column * (wide + _GAP_IN)
            tall = wide * picture.shape[0] / picture.shape[1]
            box = (left / WIDTH_IN, (base - tall) / total, wide / WIDTH_IN, tall / total)
            axes = figure.add_axes(box)
            axes.imshow(picture, interpolation="lanczos", interpolation_stage="rgba", aspect="auto")
            axes.set_axis_off()
            lines = [cut_text(line, wide, CAPTION_PT) for line in captions[at + column].split("\n")]
            figure.text(
                left / WIDTH_IN,
                (base + 0.06) / total,
                "\n".join(lines),
                size=CAPTION_PT,
                color=INK,
                va="baseline",
                linespacing=1.15,
                parse_math=False,
            )
        top = base - high[number] - _GAP_IN
    return figure


def tile(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], columns: int, gap_px: int, blank: int = 255
) -> NDArray[np.uint8]:
    """Put images into the rows of one image.

    Args:
        images: At least one, (h,w,C) each; each cell is as large as the largest of them.
        columns: In a row.
        gap_px: Between two.
        blank: Value of all channels where there is no image.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = (max(image.shape[axis] for image in images) + gap_px for axis in (0, 1))
    shape = (rows * height - gap_px, columns * width - gap_px, images[0].shape[2])
    sheet = np.full(shape, blank, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet
