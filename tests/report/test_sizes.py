"""The figure of a learning curve says what was measured, legibly."""

from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from flowers.report.confusion import RIGHT, WRONG
from flowers.report.curves import COLOURS, Curve, finding, save_figure, sizes_figure

COUNTS = [70, 140, 350, 700]
SCRATCH = Curve("cnn_scratch", COUNTS, [[0.4, 0.42], [0.5, 0.54], [0.66, 0.7], [0.8, 0.82]])
TRANSFER = Curve("sample_finetune", COUNTS, [[0.7, 0.74], [0.82, 0.8], [0.88, 0.9], [0.93, 0.93]])
CAPTION = (
    "Accuracy on the same 1,150 validation photographs, not on the test; mean and span of 10 seeds.\n"
    "Each seed draws its own smaller sets. All trainings take equally many optimiser steps."
)
CLOSE = [Curve(f"mobilenetv2_number_{i}", COUNTS, [[0.5], [0.6], [0.7], [0.8 + i / 1000]]) for i in range(5)]


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def test_finding_compares_what_is_there() -> None:
    said = finding([SCRATCH, TRANSFER])
    assert said == "sample_finetune reaches 81.0 % with 140 photographs, cnn_scratch 81.0 % with 700"
    assert finding([TRANSFER, SCRATCH]) == said
    assert finding([TRANSFER]) is None
    same = Curve("other", COUNTS, [[0.1], [0.2], [0.3], [0.93]])
    assert finding([TRANSFER, same]) is None  # only with all of the photographs


@pytest.mark.parametrize("curves", [[SCRATCH, TRANSFER], CLOSE, [TRANSFER], [Curve("one", [12], [[0.5]])]])
def test_curves_are_named_beside_their_ends_without_covering_each_other(curves: list[Curve]) -> None:
    figure = sizes_figure(curves, "title", CAPTION)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    assert axes.get_legend() is None
    labels = [text for text in axes.texts if "\n" in text.get_text()]
    assert {text.get_text().partition("\n")[0] for text in labels} == {curve.name for curve in curves}
    boxes = [text.get_window_extent() for text in [*labels, *figure.texts]]
    assert all(not one.overlaps(other) for one, other in combinations(boxes, 2))
    width, height = canvas.get_width_height()
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
    for name, curve in zip(COLOURS, curves, strict=False):
        (label,) = (text for text in labels if text.get_text().startswith(f"{curve.name}\n"))
        assert to_hex(str(label.get_color())) == name


def test_axes_are_of_photographs_and_of_percent() -> None:
    figure = sizes_figure([SCRATCH, TRANSFER], "what it is", "how it was measured")
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["70", "140", "350", "700"]
    assert all(tick.get_text().endswith(" %") for tick in axes.get_yticklabels())
    assert axes.get_ylim()[1] <= 1
    assert {"what it is", "how it was measured", "validation accuracy"} <= set(texts(figure))


def test_the_mean_is_drawn_and_the_seeds_beside_it() -> None:
    (axes,) = sizes_figure([SCRATCH], "t", "c").axes
    mean, *seeds = axes.lines
    assert np.asarray(mean.get_ydata()).tolist() == pytest.approx(SCRATCH.means)
    assert sorted(np.concatenate([np.asarray(line.get_ydata()) for line in seeds]).tolist()) == sorted(
        chain(*SCRATCH.values)
    )
    assert len(axes.collections) == 1
    (alone,) = sizes_figure([CLOSE[0]], "t", "c").axes
    assert len(alone.lines) == 1  # one training has no spread
    assert not alone.collections


def test_first_colours_are_the_pair_that_all_can_tell_apart() -> None:
    assert COLOURS[:2] == (WRONG, RIGHT)
    assert len(set(COLOURS)) == len(COLOURS)


def test_files_are_the_same_each_time_and_hold_the_names_as_text(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        figure = sizes_figure([SCRATCH, TRANSFER], "t & <t>", "c")
        written.append([path.read_bytes() for path in save_figure(figure, tmp_path / name / "curve")])
    assert written[0] == written[1]
    with Image.open(tmp_path / "one/curve.png") as image:
        assert image.width > 1000
    vector = (tmp_path / "one/curve.svg").read_text()
    assert "sample_finetune" in vector
    assert "t &amp; &lt;t&gt;" in vector
