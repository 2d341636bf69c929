"""Curves of several trainings: the chosen one in colour, labels that do not overlap."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from flowers.report.confusion import FAINT, RIGHT
from flowers.report.side_by_side import side_by_side_figure, spread_out


def history(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(1, len(values) + 1), "val/acc": values})


def test_the_chosen_one_is_in_colour_and_each_end_is_labelled() -> None:
    figure = side_by_side_figure({"a": history(0.2, 0.5), "b_$x": history(0.3, 0.6, 0.61)}, "b_$x", "title")
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    colors = {text.get_text(): to_hex(text.get_color()) for text in axes.texts}
    assert colors == {"50.0%  a": FAINT, "61.0%  b_$x": RIGHT}


@pytest.mark.parametrize("values", [[0.5], [0.0], [1.0], [0.5, float("nan")]])
def test_a_short_or_flat_curve_is_drawn(values: list[float]) -> None:
    FigureCanvasAgg(side_by_side_figure({"a": history(*values)}, "a", "title")).draw()


def test_labels_of_equal_ends_do_not_overlap() -> None:
    figure = side_by_side_figure({name: history(0.1, 0.9) for name in "abcd"}, "a", "title")
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = sorted((text.get_window_extent(renderer) for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 2 for below, above in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([0.3], [0.3]),
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
        ([0.0, 0.5, 0.56], [0.0, 0.48, 0.58]),
    ],
)
def test_labels_move_as_little_as_they_can(heights: list[float], expected: list[float]) -> None:
    assert np.allclose(spread_out(heights, 0.1), expected)
