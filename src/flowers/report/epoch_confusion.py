"""A confusion matrix as a small picture, of which a training makes one each epoch: drawn in milliseconds."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

BLUE, VERMILION = (0x2F, 0x6D, 0xB3), (0xD5, 0x5E, 0x00)
"""RIGHT and WRONG of :mod:`flowers.report.style`, which would have every training import matplotlib."""
_SIDE_PX, _MARGIN_PX, _FONT_PX = 480, 10, 15
_NUMBERED_PX = 26
"""From this size on a cell has room for its count."""


def epoch_confusion(counts: NDArray[np.integer], classes: list[str], title: str) -> NDArray[np.uint8]:
    """Draw a confusion matrix; that of the test is drawn with more care by :mod:`flowers.report.confusion`.

    Rows are the truth, columns the prediction, both in the order of the classes. A cell's shade is its share of its
    row, its square root off the diagonal, so that few errors are seen too.

    Args:
        counts: (K,K), rows truth, columns prediction. Rows may be all zero.
        classes: The K class names.
        title: One line.

    Returns:
        RGB (H,W,3), in 0..255.
    """
    num_classes = len(classes)
    title, order = f"{title}: {counts.trace()} of {counts.sum()} right", "predicted, in the order of the rows"
    cell = min(max(_SIDE_PX // num_classes, 6), 80)
    right = np.eye(num_classes, dtype=bool)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = np.where(right, shares, np.sqrt(shares))[..., None]
    cells = 255 + shades * (np.where(right[..., None], BLUE, VERMILION) - 255.0)
    matrix = Image.fromarray(cells.round().astype(np.uint8)).resize((cell * num_classes,) * 2, Image.Resampling.NEAREST)
    font, small = ImageFont.load_default(_FONT_PX), ImageFont.load_default(min(_FONT_PX, max(cell, 7)))
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in classes]
    left = int(max(small.getlength(name) for name in names)) + 2 * _MARGIN_PX
    top = 3 * _FONT_PX + _MARGIN_PX
    width = max(left + matrix.width, left + font.getlength(order), _MARGIN_PX + font.getlength(title)) + _MARGIN_PX
    picture = Image.new("RGB", (int(width), top + matrix.height + _MARGIN_PX), "white")
    picture.paste(matrix, (left, top))
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN_PX, 6), title, "black", font)
    draw.text((left, top - 4), order, "dimgrey", font, anchor="ls")
    for row, name in enumerate(names):
        middle = top + (row + 0.5) * cell
        draw.text((left - _MARGIN_PX, middle), name, "black", small, anchor="rm")
        for column in range(num_classes if cell >= _NUMBERED_PX else 0):
            ink = "white" if row == column and shares[row, column] > 0.6 else "black"
            draw.text((left + (column + 0.5) * cell, middle), str(counts[row, column]), ink, small, anchor="mm")
    return np.asarray(picture)
