"""A model on corrupted test photographs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowers.commands.evaluate import evaluate
from flowers.commands.report import report
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.evaluation.robustness import CORRUPTIONS, STRENGTHS, measure_corruptions
from flowers.models.trained import open_model
from flowers.report.reliability import corruptions_figure


@pytest.mark.slow
def test_table_and_figure_of_corrupted_photographs(
    make_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_settings("model.stages.0.epochs=1"))
    metrics = evaluate(tmp_path / "out", tmp_path / "one", corruptions=True, explanations=False)
    report(tmp_path / "one", tmp_path / "one")
    table = pd.read_csv(tmp_path / "one/corruptions.csv")
    assert (table["corruption"][0], table["strength"][0]) == ("none", 0)
    assert table.loc[0, "acc"] == pytest.approx(metrics["test/acc"], abs=1e-6)
    assert [tuple(row) for row in table.loc[1:, ["corruption", "strength"]].to_numpy()] == [
        *((name, strength) for name in CORRUPTIONS for strength in STRENGTHS),
        ("mean", 0),
    ]
    corrupted = table[table["strength"] > 0]
    assert table["acc"].iloc[-1] == pytest.approx(corrupted["acc"].mean(), abs=1e-6)
    assert table["loss"].iloc[-1] == pytest.approx(corrupted["loss"].mean(), abs=1e-6)
    written = json.loads((tmp_path / "one/metrics.json").read_text())
    assert written == metrics
    assert written["corrupted/acc"] == pytest.approx(table["acc"].iloc[-1], abs=1e-6)
    assert written["interval"]["corrupted/acc"] == pytest.approx(table.iloc[-1][["acc_low", "acc_high"]], abs=1e-6)
    page = (tmp_path / "one/report.html").read_text()
    assert f"the accuracy is {100 * written['corrupted/acc']:.1f}" in page
    assert (table["acc_low"] <= table["acc"]).all()
    assert (table["acc"] <= table["acc_high"]).all()
    assert (table["photographs"] == metrics["photographs"]).all()
    assert table["loss"].nunique() > len(STRENGTHS)  # the network did see other pixels
    with Image.open(tmp_path / "one/figures/corruptions.png") as figure:
        assert min(figure.size) > 500
    assert "mean accuracy" in capsys.readouterr().out


def test_the_same_model_is_measured_the_same_twice(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    train(make_settings("model.stages.0.epochs=1"))
    model = open_model(tmp_path / "out")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    names = list("abcdef")
    test = pd.DataFrame({"path": names, "label": 2 * model.classes, "sha256": names, "group": names})
    one, other = (measure_corruptions(model, pixels, test) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.slow
def test_figure_says_every_accuracy_and_setting() -> None:
    levels = [
        ("mean", 0, "all", 0.44),
        ("none", 0, "as it is", 0.9),
        ("blur", 1, "$weak_", 0.71),
        ("blur", 2, "middle", 0.42),
        ("blur", 3, "x", 0.2),
    ]
    rows = [(*level, level[3] - 0.05, level[3] + 0.05) for level in levels]
    table = pd.DataFrame(rows, columns=["corruption", "strength", "setting", "acc", "acc_low", "acc_high"])
    figure = corruptions_figure(table, {"blur": [np.zeros((8, 8, 3), np.uint8)] * 4}, 0.2, "net_$x")
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.texts] == ["90%", "71%", "42%", "20%"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["as it is", "$weak_", "middle", "x"]
    assert len(figure.axes) == 1 + 4
    assert any("44.0% on average" in text.get_text() for text in figure.texts)
