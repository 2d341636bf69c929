"""What was trained can be used, on any folder of photographs."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowers.commands.predict import main, predict
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.evaluation.calibration import threshold_for
from flowers.models.inference import calibrated
from flowers.models.trained import open_model

CLASSES = ["daisy", "roses", "sunflowers"]


@pytest.fixture
def model(make_settings: Callable[..., Settings], tmp_path: Path) -> Path:
    """The folder of a trained model."""
    train(make_settings("model.stages.0.epochs=1"))
    return tmp_path / "out"


@pytest.fixture
def mine(photographs: Path, tmp_path: Path) -> Path:
    """Photographs on three levels, and files that are none."""
    root = tmp_path / "mine"
    (root / "deep/deeper").mkdir(parents=True)
    for i, place in enumerate((".", "deep", "deep/deeper")):
        shutil.copy(photographs / f"roses/roses_0{i}.jpg", root / place)
    (root / "deep/empty.jpg").touch()
    (root / "notes.txt").write_text("no photograph")
    return root


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["predict.py", *words])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def test_table_has_a_row_for_each_photograph(
    model: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert call(monkeypatch, f"model={model}", f"photos={mine}", "out=there/predictions.csv") == 0
    table = pd.read_csv(tmp_path / "there/predictions.csv")
    assert list(table.columns) == ["path", "prediction", "probability", "ood_percentile", *CLASSES]
    assert set(table["path"]) == {"roses_00.jpg", "deep/roses_01.jpg", "deep/deeper/roses_02.jpg"}
    assert (table[CLASSES].idxmax(axis=1) == table["prediction"]).all()
    assert (table[CLASSES].max(axis=1) == table["probability"]).all()
    np.testing.assert_allclose(table[CLASSES].sum(axis=1), 1, atol=1e-5)
    shown = capfd.readouterr()
    assert "there/predictions.csv: 3 photographs" in shown.out
    assert "not read: deep/empty.jpg (" in shown.out
    assert "not read: notes.txt (" in shown.out
    assert shown.err == ""


def test_single_photograph_can_be_named(model: Path, mine: Path) -> None:
    table, refused = predict(model, mine / "roses_00.jpg")
    assert list(table["path"]) == ["roses_00.jpg"]
    assert not refused


def test_prediction_is_that_of_the_whole_folder_in_portions(model: Path, photographs: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    for i in range(23):  # 23 * 12 = 276 photographs, more than one portion
        shutil.copytree(photographs / "roses", many / f"{i:02d}")
    (many / "zz_last.jpg").touch()
    table, refused = predict(model, many)
    assert len(table) == 276
    assert list(refused) == ["zz_last.jpg"]
    first, last = (table[table["path"].str.startswith(name)].reset_index(drop=True) for name in ("00/", "22/"))
    np.testing.assert_allclose(first[CLASSES], last[CLASSES], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.mkdir(), "holds no photograph that can be read"),
        (lambda root: (root.mkdir(), (root / "a.jpg").touch()), "holds no photograph that can be read"),
    ],
    ids=["missing", "empty", "unreadable"],
)
def test_folder_without_photographs_is_one_sentence(
    make: Callable[[Path], object],
    said: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "other")
    capfd.readouterr()
    assert call(monkeypatch, f"model={model}", f"photos={tmp_path / 'other'}") == 2
    shown = capfd.readouterr().err
    assert shown.startswith("flowers: ")
    assert said in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "predictions.csv").exists()


def test_checkpoint_of_another_architecture_is_refused(
    model: Path, mine: Path, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    train(make_settings("model.stages.0.epochs=1", "model.net.width=8", "out_dir=other"))
    shutil.copy(tmp_path / "other/model.safetensors", model)
    with pytest.raises(UserError, match="holds another architecture than its config"):
        predict(model, mine)


@pytest.mark.parametrize("word", ["modle=x", "model", "photos=x"])
def test_wrong_call_is_one_sentence(
    word: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, word) == 2
    shown = capfd.readouterr().err
    assert shown.startswith("flowers: ")
    assert shown.count("\n") == 1


def test_unsure_answers_are_withheld(model: Path, photographs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = open_model(model)
    assert opened.validation is not None
    val = calibrated(opened.validation.logits, opened.temperature)
    right = val.argmax(axis=1) == opened.validation.labels
    wanted = float(right.mean())
    threshold = threshold_for(wanted, val.max(axis=1), right)
    assert threshold is not None
    table, _ = predict(model, photographs, accuracy=wanted)
    assert (table["prediction"].ne("") == (table["probability"] >= threshold)).all()
    everything, _ = predict(model, photographs)
    assert everything["prediction"].ne("").all()
    for accuracy, said in ((0.0, "must be above 0"), (1.5, "must be above 0")):
        with pytest.raises(UserError, match=said):
            predict(model, photographs, accuracy=accuracy)


def test_an_accuracy_out_of_reach_is_said(model: Path, photographs: Path) -> None:
    with np.load(model / "validation.npz") as arrays:
        spoilt = dict(arrays)
    spoilt["labels"] = (spoilt["logits"].argmax(axis=1) + 1) % 3  # it is always wrong
    np.savez(model / "validation.npz", **spoilt)
    with pytest.raises(UserError, match=r"accuracy=0\.9 is beyond"):
        predict(model, photographs, accuracy=0.9)
    (model / "validation.npz").unlink()
    with pytest.raises(UserError, match=r"has no validation\.npz to find a threshold in"):
        predict(model, photographs, accuracy=0.9)
    table, _ = predict(model, photographs)
    assert table["ood_percentile"].isna().all()
