"""Pictures stand where they should, unchanged in shape, below their words."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from flowers.report.image_grid import gallery_figure
from flowers.report.style import WIDTH_IN

RED, BLUE = np.array([255, 0, 0], np.uint8), np.array([0, 0, 255], np.uint8)


def picture(height: int, width: int, color: np.ndarray) -> np.ndarray:
    return np.broadcast_to(color, (height, width, 3)).copy()


def test_rows_are_filled_from_the_left_and_do_not_overlap() -> None:
    figure = gallery_figure([picture(10, 10, RED)] * 5, ["a", "b\nc", "d", "e", "f"], columns=3)
    boxes = [axes.get_position() for axes in figure.axes]
    assert [round(box.y0, 3) for box in boxes[:3]] == [round(boxes[0].y0, 3)] * 3
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert boxes[3].x0 == pytest.approx(boxes[0].x0)
    assert boxes[0].x0 == pytest.approx(1 - boxes[2].x1)
    assert boxes[3].y1 < boxes[0].y0
    assert boxes[4].y0 > 0
    assert boxes[0].y1 < 1


@pytest.mark.parametrize(("height", "width"), [(10, 10), (10, 120), (30, 20)])
def test_pictures_keep_their_shape(height: int, width: int) -> None:
    figure = gallery_figure([picture(height, width, RED)], ["wide"], columns=1)
    box = figure.axes[0].get_position()
    _, total = figure.get_size_inches()
    assert (box.height * total) / (box.width * WIDTH_IN) == pytest.approx(height / width)


def test_words_are_above_their_picture_and_cut_to_its_width() -> None:
    figure = gallery_figure([picture(9, 9, BLUE)] * 8, ["x" * 200, *"abcdefg"], columns=8)
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for text, axes in zip(figure.texts, figure.axes, strict=True):
        words, box = text.get_window_extent(renderer), axes.get_window_extent(renderer)
        assert words.y0 >= box.y1 - 1
        assert words.y1 <= figure.bbox.height
        assert words.x1 <= box.x1 + 5
    assert figure.texts[0].get_text().endswith("…")


def test_names_are_not_mathematics() -> None:
    FigureCanvasAgg(gallery_figure([picture(4, 4, RED)], ["$bad_name"], columns=1)).draw()


@pytest.mark.parametrize(("pictures", "captions"), [(0, 0), (2, 1), (1, 2)])
def test_what_does_not_fit_is_refused(pictures: int, captions: int) -> None:
    with pytest.raises(ValueError, match="captions"):
        gallery_figure([picture(4, 4, RED)] * pictures, ["a"] * captions, columns=2)
