"""The confusion matrix as a figure."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowers.report.confusion import WORST_CELLS, confusion_figure, worst_confusions


def rendered(figure: Figure) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def matrix(num_classes: int, seed: int = 0) -> tuple[NDArray[np.int64], list[str]]:
    """Counts whose rows sum to 60, whatever the seed."""
    wrong = np.random.default_rng(seed).multinomial(12, [1 / num_classes] * num_classes, size=num_classes)
    return (wrong + 48 * np.eye(num_classes, dtype=int)).astype(np.int64), [
        f"species {number}" for number in range(num_classes)
    ]


def color_at(counts: NDArray[np.int64], row: int, column: int) -> NDArray[np.float64]:
    """The colour near a cell's corner, in 0..255."""
    figure = confusion_figure(counts, [str(number) for number in range(len(counts))], "title")
    pixels = rendered(figure)
    x, y = figure.axes[0].transData.transform((column - 0.4, row - 0.4))
    return pixels[len(pixels) - 1 - int(y), int(x)].astype(float)


def test_right_is_blue_wrong_is_vermilion_and_nothing_is_blank() -> None:
    counts = np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]])
    red, _, blue = color_at(counts, 1, 1)
    assert blue > red + 80
    red, _, blue = color_at(counts, 0, 1)
    assert red > blue + 50
    assert color_at(counts, 0, 2).tolist() == [255, 255, 255]
    assert color_at(counts, 2, 2).tolist() == [255, 255, 255]  # a class without photographs


def test_rows_are_the_truth() -> None:
    counts = np.array([[5, 5], [0, 5]])
    assert color_at(counts, 0, 1).min() < 200
    assert color_at(counts, 1, 0).min() == 255


@pytest.mark.parametrize("num_classes", [1, 5, 12, 26, 102])
def test_class_names_neither_touch_nor_leave_the_figure(num_classes: int) -> None:
    counts, classes = matrix(num_classes)
    figure = confusion_figure(counts, [f"{name} of the meadows" for name in classes], "title")
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    rows = [label.get_window_extent() for label in axes.get_yticklabels()]
    columns = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(rows) == len(columns) == num_classes
    for boxes in (rows, columns):
        for first, second in itertools.pairwise(boxes):
            assert not first.overlaps(second)
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1


def test_beyond_25_classes_only_the_worst_errors_are_numbered() -> None:
    few, many = matrix(5), matrix(102)
    for (counts, classes), numbered in ((few, (few[0] > 0).sum()), (many, WORST_CELLS)):
        *_, numbers = confusion_figure(counts, classes, "title").axes[0].collections
        assert len(numbers.get_paths()) == numbered


def test_a_name_with_dollars_is_no_formula() -> None:
    names = ["$x$", "a_$b", "\\frac"]
    figure = confusion_figure(np.eye(3, dtype=int), names, "$\\nothing$")
    rendered(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == names
    assert not any(label.get_parse_math() for label in figure.axes[0].get_xticklabels())


def test_an_empty_matrix_can_be_drawn_and_a_misfit_is_refused() -> None:
    numbers = [str(number) for number in range(30)]
    rendered(confusion_figure(np.zeros((30, 30), int), numbers, "before training"))
    with pytest.raises(ValueError, match="does not fit"):
        confusion_figure(np.zeros((2, 2), int), ["a"], "title")


def test_worst_confusions_come_first_and_right_answers_never() -> None:
    counts = np.array([[90, 3, 0], [7, 90, 1], [0, 0, 90]])
    assert worst_confusions(counts, 2) == [(1, 0, 7), (0, 1, 3)]
    assert worst_confusions(counts, 9) == [(1, 0, 7), (0, 1, 3), (1, 2, 1)]
