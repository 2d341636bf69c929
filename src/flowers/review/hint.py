"""A picture of words, for places where people look for a picture that is not there yet."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowers.review.matrix import DPI, INK, PAPER


def hint_image(lines: list[str]) -> NDArray[np.uint8]:
    """Draw words.

    Args:
        lines: At most five, of at most 40 characters.

    Returns:
        RGB image, (H,W,3), in 0..255.
    """
    figure = Figure(figsize=(4.8, 2.4), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, "\n".join(lines), size=14, color=INK, ha="center", va="center", parse_math=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
