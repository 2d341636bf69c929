"""Curves of a training, of several, and of accuracy against photographs: what they show, legibly."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from flowers.report.curves import (
    Curve,
    curves_figure,
    finding,
    rates_figure,
    save_figure,
    side_by_side_figure,
    sizes_figure,
)
from flowers.report.style import COLOURS, FAINT, RIGHT, WRONG
from flowers.training.rate_finder import STEPS, rate_at, recommend

COUNTS = [70, 140, 350, 700]
SCRATCH = Curve("cnn_scratch", COUNTS, [[0.4, 0.42], [0.5, 0.54], [0.66, 0.7], [0.8, 0.82]])
TRANSFER = Curve("sample_finetune", COUNTS, [[0.7, 0.74], [0.82, 0.8], [0.88, 0.9], [0.93, 0.93]])
CAPTION = (
    "Accuracy on the same 1,150 validation photographs, not on the test; mean and span of 10 seeds.\n"
    "Each seed draws its own smaller sets. All trainings take equally many optimiser steps."
)
CLOSE = [Curve(f"mobilenetv2_number_{i}", COUNTS, [[0.5], [0.6], [0.7], [0.8 + i / 1000]]) for i in range(5)]


def history(epochs: int) -> pd.DataFrame:
    rise = np.linspace(0.3, 0.9, epochs)
    return pd.DataFrame(
        {
            "epoch": range(epochs),
            "stage": "all",
            "train/loss": 1 - rise,
            "train/acc": rise,
            "val/loss": 1.1 - rise,
            "val/acc": rise - 0.1,
        }
    )


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_curves_show_all_epochs_and_name_the_stages() -> None:
    figure = curves_figure(history(12), [(0, "head"), (4, "all")], "a $ recipe")
    FigureCanvasAgg(figure).draw()
    loss, accuracy = figure.axes
    for axes, metric in ((loss, "loss"), (accuracy, "acc")):
        train, val, border = axes.lines
        assert np.asarray(train.get_ydata()).tolist() == history(12)[f"train/{metric}"].tolist()
        assert np.asarray(val.get_ydata()).tolist() == history(12)[f"val/{metric}"].tolist()
        assert np.asarray(border.get_xdata()).tolist() == [3.5, 3.5]
        assert {"head", "all"} <= set(texts(axes))
    assert {"train 90.0%", "val 80.0%"} <= set(texts(accuracy))


@pytest.mark.parametrize("epochs", [0, 1, 2, 40])
def test_curves_of_any_length(epochs: int) -> None:
    FigureCanvasAgg(curves_figure(history(epochs), [(0, "all")] if epochs else [], "title")).draw()


def test_a_missing_curve_is_left_out() -> None:
    gap = history(5).assign(**{"train/acc": np.nan})
    figure = curves_figure(gap, [(0, "all")], "title")
    FigureCanvasAgg(figure).draw()
    assert not any(text.startswith("train") for text in texts(figure.axes[1]))


def test_labels_of_curves_that_end_together_stay_apart() -> None:
    close = history(5).assign(**{"val/acc": history(5)["train/acc"] - 0.001})
    figure = curves_figure(close, [(0, "all")], "title")
    FigureCanvasAgg(figure).draw()
    train, val = (text for text in figure.axes[1].texts if text.get_text().startswith(("train", "val")))
    assert not train.get_window_extent().overlaps(val.get_window_extent())


def test_names_of_short_stages_do_not_overlap() -> None:
    stages = [(1, "a_long_stage_name"), (3, "another_long_one"), (6, "all")]
    figure = curves_figure(history(30), stages, "title")
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        names = [text for text in axes.texts if text.get_text() in {name for _, name in stages} | {"accuracy"}]
        boxes = [text.get_window_extent() for text in names]
        assert all(not one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_pyplot_stays_out() -> None:
    check = "import sys, flowers.report.curves; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def accuracies(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(1, len(values) + 1), "val/acc": values})


def test_the_chosen_one_is_in_colour_and_each_end_is_labelled() -> None:
    figure = side_by_side_figure({"a": accuracies(0.2, 0.5), "b_$x": accuracies(0.3, 0.6, 0.61)}, "b_$x", "title")
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    colors = {text.get_text(): to_hex(text.get_color()) for text in axes.texts}
    assert colors == {"50.0%  a": FAINT, "61.0%  b_$x": RIGHT}


@pytest.mark.parametrize("values", [[0.5], [0.0], [1.0], [0.5, float("nan")]])
def test_a_short_or_flat_curve_is_drawn(values: list[float]) -> None:
    FigureCanvasAgg(side_by_side_figure({"a": accuracies(*values)}, "a", "title")).draw()


def test_labels_of_equal_ends_do_not_overlap() -> None:
    figure = side_by_side_figure({name: accuracies(0.1, 0.9) for name in "abcd"}, "a", "title")
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = sorted((text.get_window_extent(renderer) for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 2 for below, above in itertools.pairwise(boxes))


def all_texts(figure: Figure) -> list[str]:
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
    assert all(not one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
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
    assert {"what it is", "how it was measured", "validation accuracy"} <= set(all_texts(figure))


def test_the_mean_is_drawn_and_the_seeds_beside_it() -> None:
    (axes,) = sizes_figure([SCRATCH], "t", "c").axes
    mean, *seeds = axes.lines
    assert np.asarray(mean.get_ydata()).tolist() == pytest.approx(SCRATCH.means)
    assert sorted(np.concatenate([np.asarray(line.get_ydata()) for line in seeds]).tolist()) == sorted(
        itertools.chain(*SCRATCH.values)
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
        paths = [tmp_path / name / "curve.png", tmp_path / name / "curve.svg"]
        for path in paths:
            save_figure(figure, path)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    with Image.open(tmp_path / "one/curve.png") as image:
        assert image.width > 1000
    vector = (tmp_path / "one/curve.svg").read_text()
    assert "sample_finetune" in vector
    assert "t &amp; &lt;t&gt;" in vector


def test_a_sweep_shows_the_rate_and_the_slope_that_tells_why() -> None:
    rates = [rate_at(step) for step in range(STEPS)]
    noise = np.random.default_rng(0).normal(0, 0.1, STEPS)
    losses = 2 - 1 / (1 + np.exp(-4 * (np.log10(rates) + 3))) + np.exp(4 * (np.log10(rates) + 1)) + noise
    found = recommend(rates, losses.tolist())
    assert found.rate is not None
    assert found.slope is not None
    figure = rates_figure(rates, losses.tolist(), found, "a $ recipe")
    (axes,) = figure.axes
    assert texts(axes) == [f"recommended: {found.rate:.1e}"]
    assert "The smoothed loss falls most steeply at this rate" in figure.texts[1].get_text()
    (rise,) = (np.ptp(line.get_ydata()) for line in axes.lines if line.get_linewidth() == 1.6)
    assert rise == pytest.approx(-1.4 * found.slope)  # over 1.4 decades
    FigureCanvasAgg(figure).draw()


@pytest.mark.parametrize("losses", [[2.0] * STEPS, [2.0, np.nan], [np.nan]])
def test_a_sweep_that_recommends_nothing_says_why(losses: list[float]) -> None:
    rates = [rate_at(step) for step in range(len(losses))]
    found = recommend(rates, losses)
    figure = rates_figure(rates, losses, found, "a recipe")
    FigureCanvasAgg(figure).draw()
    assert texts(figure.axes[0]) == []
    assert figure.texts[1].get_text() == found.why[0].upper() + found.why[1:] + "."
