"""A picture of words, for places where people look for a picture that is not there yet."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowers.report.style import DPI, INK, PAPER


def hint_image(lines: list[str]) -> NDArray[np.uint8]:
    """Draw words.

    Args:
        lines: At most seven, of at most 20 characters.

    Returns:
        RGB image, (H,W,3), in 0..255.
    """
    # Large and in the corner, since a small card shows only that of a picture.
    figure = Figure(figsize=(4.8, 4.8), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.04, 0.96, "\n".join(lines), size=24, color=INK, ha="left", va="top", parse_math=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
