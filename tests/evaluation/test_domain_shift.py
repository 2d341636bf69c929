"""A model on photographs of another data set."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowers.commands.evaluate import evaluate_elsewhere, main
from flowers.commands.report import report
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.curation.split_table import read_splits
from flowers.errors import UserError


@pytest.fixture
def model(make_settings: Callable[..., Settings], tmp_path: Path) -> Path:
    """The folder of a trained model."""
    train(make_settings("model.stages.0.epochs=1"))
    return tmp_path / "out"


@pytest.fixture
def elsewhere(photographs: Path, tmp_path: Path) -> Path:
    """Other photographs (the first ones, in negative), under other names, one class strange to the model."""
    root = tmp_path / "other garden"
    for label, there in (("daisy", "Oxeye Daisy"), ("roses", "rose"), ("sunflowers", "gorse")):
        (root / there).mkdir(parents=True)
        for path in sorted((photographs / label).iterdir())[:3]:
            Image.fromarray(255 - np.asarray(Image.open(path))).save(root / there / path.name)
    return root


def test_shared_classes_are_scored_and_the_rest_is_named(
    model: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "rose/empty.jpg").touch()
    capsys.readouterr()
    metrics = evaluate_elsewhere(model, str(elsewhere), None)
    out = model / "shift-other garden"
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert metrics["photographs"] == 6
    assert metrics["classes"] == ["daisy", "roses"]
    assert metrics["other_classes"] == ["gorse"]
    assert metrics["unmet_classes"] == ["sunflowers"]
    assert metrics["trained_on"] == []
    assert metrics["refused"] == {"rose/empty.jpg": "zero bytes"}
    predictions = pd.read_csv(out / "predictions.csv")
    assert predictions["label"].value_counts().to_dict() == {"daisy": 3, "roses": 3}
    assert set(predictions["path"].str.partition("/")[0]) == {"Oxeye Daisy", "rose"}
    assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(metrics["test/acc"])
    assert (out / "confusion.csv").is_file()
    report(out, out)
    assert not (out / "report.html").exists()  # it is not the model's own test
    assert (out / "figures/confusion.png").is_file()
    said = capsys.readouterr().out
    for name in ("gorse", "sunflowers", "rose/empty.jpg"):
        assert name in said


def test_own_test_photographs_of_the_same_classes_stand_beside(model: Path, elsewhere: Path, tmp_path: Path) -> None:
    own = evaluate_elsewhere(model, str(elsewhere), tmp_path / "shift")["own"]
    split = read_splits(model / "split.csv")
    test = split[split["split"] == "test"]
    assert own["photographs"] == test["label"].isin(["daisy", "roses"]).sum()
    low, high = own["interval"]
    assert low <= own["acc"] <= high


def test_a_model_that_came_without_its_photographs(model: Path, elsewhere: Path, tmp_path: Path) -> None:
    run = json.loads((model / "run.json").read_text())
    (model / "run.json").write_text(json.dumps(run | {"photographs": str(tmp_path / "gone")}))
    metrics = evaluate_elsewhere(model, str(elsewhere), None)
    assert metrics["own"] is None
    assert metrics["photographs"] == 6


def test_what_the_model_was_trained_on_is_left_out(
    model: Path, photographs: Path, elsewhere: Path, tmp_path: Path
) -> None:
    split = read_splits(model / "split.csv").query("label == 'roses'")
    for row in split.itertuples():
        shutil.copy(photographs / str(row.path), elsewhere / "rose" / f"{row.split}_{Path(str(row.path)).name}")
    metrics = evaluate_elsewhere(model, str(elsewhere), tmp_path / "shift")
    counts = split["split"].value_counts()
    assert len(metrics["trained_on"]) == counts["train"] + counts["val"]
    assert not any(path.startswith("rose/test_") for path in metrics["trained_on"])
    assert metrics["photographs"] == 6 + counts["test"]


def test_nothing_in_common_is_named(model: Path, elsewhere: Path) -> None:
    shutil.rmtree(elsewhere / "rose")
    (elsewhere / "Oxeye Daisy").rename(elsewhere / "heather")
    with pytest.raises(UserError, match=r"no class of the model \(daisy, roses, sunflowers\), but gorse, heather; say"):
        evaluate_elsewhere(model, str(elsewhere), None)


def test_nothing_but_trained_on_is_named(model: Path, photographs: Path, tmp_path: Path) -> None:
    rows = read_splits(model / "split.csv").query("split == 'train'")
    for path in rows["path"]:
        (tmp_path / "again" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photographs / path, tmp_path / "again" / path)
    with pytest.raises(UserError, match=r"nothing but photographs that .*out was trained on"):
        evaluate_elsewhere(model, str(tmp_path / "again"), None)


@pytest.mark.parametrize(
    ("data", "said"),
    [("herbarum", "neither a folder nor a data set of conf/data: did you mean 'herbarium'?"), ("folder", "data=DIR")],
)
def test_what_is_no_data_set_is_named(model: Path, data: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        evaluate_elsewhere(model, data, None)
    assert said in str(caught.value)


def test_rendered_data_set_is_obtained_by_its_name(
    model: Path, monkeypatch: pytest.MonkeyPatch, photographs: Path
) -> None:
    asked = []

    def obtain(root: Path, source: dict[str, object]) -> Path:
        asked.append((root.name, source["domain"]))
        return photographs

    monkeypatch.setattr("flowers.curation.prepare.obtain", obtain)
    metrics = evaluate_elsewhere(model, "herbarium", None)
    assert asked == [("herbarium", "herbarium")]
    assert metrics["data"] == "herbarium"
    assert (model / "shift-herbarium/metrics.json").is_file()


def test_the_command_takes_either(
    model: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", f"model={model}", f"data={elsewhere}", "out_dir=elsewhere"])
    main()
    assert Path("elsewhere/metrics.json").is_file()
    monkeypatch.setattr("sys.argv", ["evaluate", f"model={model}", f"data={elsewhere}", "corruptions=true"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "leave it or data=… out" in capsys.readouterr().err


def test_a_divided_folder_is_answered_for_as_a_whole(
    model: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        shutil.copytree(elsewhere, elsewhere.parent / "divided" / part)
    metrics = evaluate_elsewhere(model, str(elsewhere.parent / "divided"), None)
    assert metrics["classes"] == ["daisy", "roses"]
    said = capsys.readouterr().err
    assert "is divided already" in said
    assert "the photographs of all its splits are answered for; name one folder for that alone" in said
    assert "else: layout=classes" in said


def test_folders_are_classes_where_one_says_so(
    model: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    divided = elsewhere.parent / "divided"
    for part in ("train", "test", "roses"):
        shutil.copytree(elsewhere, divided / part)
    for given, said in (
        ([f"data={divided}", "layout=clases"], "layout='clases': did you mean 'classes'?"),
        ([f"data={divided}", "layout=table"], "layout='table': "),
        (["layout=classes"], "layout=… belongs to data=…"),
    ):
        monkeypatch.setattr("sys.argv", ["evaluate", f"model={model}", *given])
        with pytest.raises(SystemExit):
            main()
        assert said in capsys.readouterr().err
    assert evaluate_elsewhere(model, str(divided), None, layout="classes")["classes"] == ["roses"]
    assert evaluate_elsewhere(model, str(divided), None, layout="divided")["classes"] == ["daisy", "roses"]
