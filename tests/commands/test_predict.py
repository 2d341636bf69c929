"""What was trained can be used, on any folder of photographs."""

import io
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from flowers.commands.predict import main, predict, read_paths
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.evaluation.calibration import threshold_for
from flowers.evaluation.predictions import find_files
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


def test_own_test_photographs_are_counted_and_not_named(
    model: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    split = pd.read_csv(model / "split.csv")
    test = split.loc[split["split"] == "test", "path"]
    renamed = shutil.copy(photographs / test.iloc[0], tmp_path / "test0.jpg")  # known by its bytes
    assert call(monkeypatch, f"model={model}", f"photos=[{renamed},{photographs}/roses/*.jpg]") == 0
    shown = capfd.readouterr().out
    count = 1 + int(test.str.startswith("roses/").sum())
    assert f"{count} are test photographs of {model}, which are not named" in shown
    assert not any(name in shown for name in ("test0.jpg", *test.map(lambda path: path.rpartition("/")[2])))
    assert call(monkeypatch, f"model={model}", f"photos={renamed}") == 0
    assert "least sure  " not in capfd.readouterr().out


def test_small_photographs_are_refused_as_at_intake(model: Path, mine: Path) -> None:
    Image.new("RGB", (1, 3000)).save(mine / "line.png")
    _, refused = predict(model, mine)
    assert refused["line.png"] == "1 x 3000 pixels, a side is below data.min_side_px=8"
    config = OmegaConf.load(model / "config.yaml")
    config.data.min_side_px = 1
    OmegaConf.save(config, model / "config.yaml")
    assert "line.png" in set(predict(model, mine)[0]["path"])


def test_single_photograph_can_be_named(model: Path, mine: Path) -> None:
    table, refused = predict(model, mine / "roses_00.jpg")
    assert list(table["path"]) == ["roses_00.jpg"]
    assert not refused


def test_linked_folders_are_followed_once_and_not_in_circles(mine: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(mine / "deep", outside / "deep")
    (outside / "circle").symlink_to(outside)
    (outside / "up").symlink_to(mine)
    (mine / "deep/linked").symlink_to(outside)
    (mine / "again").symlink_to(mine / "deep")
    (mine / "gone.jpg").symlink_to("nowhere")
    files, refused = find_files(mine, "photos")
    names = ["deep/deeper/roses_02.jpg", "deep/empty.jpg", "deep/roses_01.jpg"]
    linked = [f"deep/linked/{name}" for name in names]
    assert list(files) == [
        "deep/deeper/roses_02.jpg",
        "deep/empty.jpg",
        *linked,
        *names[2:],
        "notes.txt",
        "roses_00.jpg",
    ]
    assert refused == {
        "again": "a link to a folder",
        "deep/linked/circle": "a link to a folder",
        "deep/linked/up": "a link to a folder",
        "gone.jpg": "a link that leads nowhere",
    }


def test_lists_and_patterns_keep_what_was_typed(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine)
    shutil.copy("roses_00.jpg", "a[1].jpg")
    shutil.copy("roses_00.jpg", "caf\udce9.jpg")
    files, refused = find_files(
        ["./deep/*.jpg", "a[1].jpg", "deep/deeper", "roses_0?.jpg", "deep/../a[1].jpg"], "photos"
    )
    typed = ["./deep/empty.jpg", "./deep/roses_01.jpg", "a[1].jpg", "deep/deeper/roses_02.jpg", "roses_00.jpg"]
    assert list(files) == [*typed, "deep/../a[1].jpg"]
    assert [str(path) for path in files.values()] == [str(Path(name)) for name in files]
    assert refused == {}
    assert find_files(
        ["a[1].jpg", "b.jpg", "a[1].jpg", "b*", b"caf\xe9.jpg".decode(errors="surrogateescape")], "photos"
    ) == (
        {"a[1].jpg": Path("a[1].jpg"), "caf\\xe9.jpg": Path(os.fsdecode(b"caf\xe9.jpg"))},
        {"b.jpg": "does not exist", "b*": "matches nothing"},
    )
    for given, said in (("b.jpg", "does not exist"), ("b*.jpg", "matches nothing")):
        with pytest.raises(UserError, match=said):
            find_files(given, "photos")


def test_what_is_named_twice_is_there_once(mine: Path) -> None:
    once, refused = find_files([mine], "photos")
    assert find_files([mine, mine, f"{mine}/*.jpg"], "photos") == (once, refused)
    assert find_files(mine / "roses_00.jpg", "photos") == ({"roses_00.jpg": mine / "roses_00.jpg"}, {})
    (mine / "gone.jpg").symlink_to("nowhere")
    assert find_files(mine / "gone.jpg", "photos") == ({}, {"gone.jpg": "a link that leads nowhere"})


def test_paths_come_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, paths in (
        (b"a b.jpg\r\n\n[c].jpg", ["a b.jpg", "[c].jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"\xff.jpg\n", ["\udcff.jpg"]),
        (b"\xef\xbb\xbfa.jpg\r\n", ["a.jpg"]),  # as PowerShell writes
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert read_paths() == paths
    with pytest.raises(UserError, match="standard input names no photograph"):
        read_paths()


def test_what_lies_where_the_table_would_go_is_kept(
    tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (mine / "roses_00.jpg").read_bytes()
    (tmp_path / "mine.csv").write_text("path,label\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "like.csv").write_text("path,prediction,probability,ood_percentile_x\n")
    for out, said in (
        ("mine/roses_00.jpg", "must end in .csv"),
        ("mine.csv", "is there and no table of predictions"),
        ("like.csv", "is there and no table of predictions"),
        ("folder.csv", "is there and no table of predictions"),
        ("mine.csv/predictions.csv", "cannot be used"),
    ):
        assert call(monkeypatch, "model=none", f"photos={mine}", f"out={tmp_path / out}") == 2
        shown = capfd.readouterr().err
        assert said in shown
        assert shown.count("\n") == 1
    assert (mine / "roses_00.jpg").read_bytes() == before
    assert (tmp_path / "mine.csv").read_text() == "path,label\n"


def test_names_of_every_kind_and_an_interrupted_table(
    model: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["-a.jpg", "<b>.jpg", 'c,"d".jpg', "e\nf.jpg", "🌸.jpg", "g" * 251 + ".jpg"]
    for name in (*names, "caf\udce9.jpg", "h\ri.jpg"):
        shutil.copy(mine / "roses_00.jpg", mine / "deep" / name)
    os.mkfifo(mine / "pipe.jpg")
    capfd.readouterr()
    words = (f"model={model}", f"photos={mine}", "out=predictions.csv")
    assert call(monkeypatch, *words) == 0
    shown = capfd.readouterr().out
    assert "11 photographs, 3 not read" in shown
    assert "not read: pipe.jpg (not a regular file)" in shown
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert {*(f"deep/{name}" for name in names), "deep/caf\\xe9.jpg", "deep/h\\ri.jpg"} < set(table["path"])
    for answer, count in table["prediction"].value_counts().items():
        assert re.search(rf"^{answer} +{count}$", shown, re.MULTILINE)
    least = table.sort_values("probability", kind="stable")["path"].iloc[0]
    assert shown.index("least sure") < shown.index(" ".join(least.splitlines()))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    whole = (tmp_path / "predictions.csv").read_bytes()
    monkeypatch.setattr(pd.DataFrame, "to_csv", stop)
    assert call(monkeypatch, *words) == 130
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: Path("/dev/full").write_text("x"))
    assert call(monkeypatch, *words) == 2
    assert "predictions.csv cannot be written (No space left on device)" in capfd.readouterr().err
    monkeypatch.undo()
    assert (tmp_path / "predictions.csv").read_bytes() == whole
    assert not list(tmp_path.glob("*.part*")) + list(tmp_path.glob(".*part*"))


def test_several_are_predicted_as_they_are_named(model: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine)
    table, refused = predict(model, ["roses_00.jpg", "gone.jpg", "deep"])
    assert table["path"].tolist() == ["roses_00.jpg", "deep/deeper/roses_02.jpg", "deep/roses_01.jpg"]
    assert list(refused) == ["gone.jpg", "deep/empty.jpg"]
    alone, _ = predict(model, "deep/roses_01.jpg")
    pd.testing.assert_frame_equal(alone.iloc[:, 1:], table.iloc[2:, 1:].reset_index(drop=True), rtol=1e-5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"deep/roses_01.jpg\n")))
    assert call(monkeypatch, f"model={model}", "photos=-", "out=piped.csv") == 0
    assert pd.read_csv("piped.csv")["path"].tolist() == ["deep/roses_01.jpg"]


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


def test_unsure_answers_are_withheld(
    model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with np.load(model / "validation.npz") as arrays:
        many = {name: array.repeat(50, axis=0) for name, array in arrays.items()}
    many["labels"] = many["logits"].argmax(axis=1)
    np.savez(model / "validation.npz", **many)
    split = pd.read_csv(model / "split.csv")
    rows = split[split["split"] == "val"].iloc[np.arange(300) // 50]
    numbered = {name: [f"{each} {number}" for number, each in enumerate(rows[name])] for name in ("path", "group")}
    pd.concat([split[split["split"] != "val"], rows.assign(**numbered)]).to_csv(model / "split.csv", index=False)
    opened = open_model(model)
    assert opened.validation is not None
    sure = calibrated(opened.validation.logits, opened.temperature).max(axis=1)
    threshold = threshold_for(0.95, sure, np.ones(300, bool))
    assert threshold is not None
    assert threshold == sure.min()
    assert call(monkeypatch, f"model={model}", f"photos={photographs}", "accuracy=0.95") == 0
    said = capfd.readouterr().out
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    assert (table["prediction"].ne("") == (table["probability"].round(6) >= round(threshold, 6))).all()
    assert f"{table['prediction'].eq('').sum()} predictions withheld" in said
    assert "with 95 % confidence, 95 % of those that are not withheld are right" in said
    everything, _ = predict(model, photographs)
    assert everything["prediction"].ne("").all()
    for accuracy, said in ((0.0, "must be above 0"), (1.0, "must be above 0"), (1.5, "must be above 0")):
        with pytest.raises(UserError, match=said):
            predict(model, photographs, accuracy=accuracy)


def test_an_accuracy_out_of_reach_is_said(model: Path, photographs: Path) -> None:
    with np.load(model / "validation.npz") as arrays:
        spoilt = dict(arrays)
    spoilt["labels"] = (spoilt["logits"].argmax(axis=1) + 1) % 3  # it is always wrong
    np.savez(model / "validation.npz", **spoilt)
    with pytest.raises(UserError, match=r"6 validation .* cannot promise accuracy=0\.9 .* \(the 29 surest would"):
        predict(model, photographs, accuracy=0.9)
    (model / "validation.npz").unlink()
    with pytest.raises(UserError, match=r"has no validation\.npz to find a threshold in"):
        predict(model, photographs, accuracy=0.9)
    table, _ = predict(model, photographs)
    assert table["ood_percentile"].isna().all()
