"""The split is a file, and nothing else decides."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flowers.commands.download import download
from flowers.commands.split import split
from flowers.config.compose import read_data
from flowers.config.schema import Settings
from flowers.curation.prepare import find_photographs
from flowers.curation.split_table import read_splits
from flowers.errors import UserError


@pytest.fixture
def downloaded(make_settings: Callable[..., Settings], tmp_path: Path) -> Path:
    """The project's folder after the stage `download`."""
    download(make_settings("out_dir=artifacts/download"))
    return tmp_path


def test_split_is_written_stratified(
    downloaded: Path, make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    split(make_settings("out_dir=artifacts/split"))
    table = read_splits(downloaded / "artifacts/split/split.csv")
    assert list(table.columns) == ["path", "label", "group", "split", "fold", "sha256"]
    counts = pd.crosstab(table["label"], table["split"])[["train", "val", "test"]]
    assert (counts == [8, 2, 2]).all(axis=None)
    assert not table["path"].duplicated().any()
    said = capsys.readouterr().out
    assert "artifacts/split/split.csv" in said
    assert "roses" in said
    assert "0 groups of near-duplicates" in said


def test_copies_of_a_picture_stay_together_and_conflicts_are_said(
    make_settings: Callable[..., Settings], photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "mine"))
    for name in ("00", "01", "02"):
        with Image.open(root / f"roses/roses_{name}.jpg") as image:
            image.resize((80, 80)).save(root / f"roses/large_{name}.jpg", quality=85)
    with Image.open(root / "daisy/daisy_03.jpg") as image:
        image.save(root / "sunflowers/daisy.png")
    download(make_settings("out_dir=artifacts/download", f"data.root={root}"))
    split(make_settings("out_dir=artifacts/split"))
    table = read_splits(tmp_path / "artifacts/split/split.csv").set_index("path")
    for name in ("00", "01", "02"):
        assert table["group"][f"roses/large_{name}.jpg"] == table["group"][f"roses/roses_{name}.jpg"]
    said = capsys.readouterr().out
    assert "4 groups of near-duplicates (8 photographs)" in said
    assert "the same picture under different labels: daisy/daisy_03.jpg, sunflowers/daisy.png" in said


def test_split_is_independent_of_the_order_of_files(downloaded: Path, make_settings: Callable[..., Settings]) -> None:
    split(make_settings("out_dir=one"))
    manifest = downloaded / "artifacts/download/manifest.csv"
    rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    rows.sample(frac=1, random_state=0).to_csv(manifest, index=False)
    split(make_settings("out_dir=two"))
    assert (downloaded / "one/split.csv").read_bytes() == (downloaded / "two/split.csv").read_bytes()


def test_other_shares_and_seeds(downloaded: Path, make_settings: Callable[..., Settings]) -> None:
    split(make_settings("out_dir=one", "data.split.val_frac=0.25", "data.split.test_frac=0"))
    split(make_settings("out_dir=two", "data.split.val_frac=0.25", "data.split.test_frac=0", "data.split.seed=1"))
    one, two = (read_splits(downloaded / name / "split.csv") for name in ("one", "two"))
    assert one["split"].value_counts().to_dict() == {"train": 27, "val": 9}
    assert set(one.loc[one["split"] == "val", "path"]) != set(two.loc[two["split"] == "val", "path"])


def test_decisions_are_applied(downloaded: Path, make_settings: Callable[..., Settings]) -> None:
    rows = ["daisy/daisy_00.jpg,drop", "daisy/daisy_01.jpg,relabel:roses"]
    lines = "".join(f"{row},Ada,2026-01-31T12:00:00Z\n" for row in rows)
    (downloaded / "decisions.csv").write_text("path,decision,by,when\n" + lines)
    split(make_settings("out_dir=out", "data.decisions=decisions.csv"))
    label_of = read_splits(downloaded / "out/split.csv").set_index("path")["label"]
    assert "daisy/daisy_00.jpg" not in label_of
    assert label_of["daisy/daisy_01.jpg"] == "roses"
    assert label_of["daisy/daisy_02.jpg"] == "daisy"
    with pytest.raises(UserError, match=r"other\.csv does not exist"):
        split(make_settings("out_dir=out", "data.decisions=other.csv"))


def test_missing_manifest_is_named(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match=r"manifest\.csv does not exist; run `dvc repro download`"):
        split(make_settings())


def test_class_too_small_for_the_splits_is_named(downloaded: Path, make_settings: Callable[..., Settings]) -> None:
    manifest = downloaded / "artifacts/download/manifest.csv"
    rows = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    few = rows.groupby("label").head(2)
    pd.concat([rows[rows["label"] != "roses"], few[few["label"] == "roses"]]).to_csv(manifest, index=False)
    with pytest.raises(UserError, match="Class roses has 2 different photographs"):
        split(make_settings("out_dir=artifacts/split"))
    assert not (downloaded / "artifacts/split").exists()


@pytest.mark.slow
def test_a_folder_that_came_divided_keeps_its_division(
    photographs: Path, make_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mine"
    for index, file in enumerate(sorted(photographs.glob("*/*.jpg"))):
        place = root / ("Train", "Train", "Train", "TEST")[index % 4] / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    shutil.copy(root / "Train/daisy/daisy_00.jpg", root / "TEST/daisy/leak.jpg")
    shutil.copy(photographs / "roses/roses_00.jpg", root / "TEST/extra.jpg")
    (root / "TEST/lily").mkdir()
    shutil.copy(photographs / "roses/roses_01.jpg", root / "TEST/lily/1.jpg")  # that nothing is tested with, so no leak
    download(make_settings("out_dir=artifacts/download", f"data.root={root}"))
    said = capsys.readouterr().out
    assert "is divided already, and used so: train (Train), test (TEST)" in said
    assert "extra.jpg" in said
    split(make_settings("out_dir=artifacts/split"))
    said = capsys.readouterr().out
    assert (
        "the published division has no val: 3 of its training photographs are kept for it (data.split.val_frac)" in said
    )
    assert "left out, as the training has no photographs of these classes: lily 1" in said
    assert "1 photographs left out: the published division has the same pictures in another split" in said
    table = read_splits(tmp_path / "artifacts/split/split.csv")
    assert table["split"].value_counts().to_dict() == {"train": 23, "test": 10, "val": 3}
    assert (table["path"].str.startswith("TEST/") == (table["split"] == "test")).all()
    assert "Train/daisy/daisy_00.jpg" not in set(table["path"])
    # Without the stages it is the same, and another division can be asked for.
    assert find_photographs(read_data(make_settings(f"data.root={root}")))[1].equals(table)
    assert find_photographs(read_data(make_settings(f"data.root={root}", "data.split.official=1")))[1].equals(table)
    shutil.rmtree(root / "TEST/lily")
    _, other, words = find_photographs(read_data(make_settings(f"data.root={root}", "data.split.per_class=[6,2]")))
    assert "own division is not used, as data.split.per_class asks for another" in words
    assert (pd.crosstab(other["label"], other["split"])[["train", "val"]] == [6, 2]).all(axis=None)


@pytest.mark.slow
def test_labels_of_a_table_go_through_the_pipeline(
    photographs: Path, make_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rows, names = ["id;breed"], {"daisy": "007", "roses": "NA", "sunflowers": "Sonnen-Blüte"}
    for file in sorted(photographs.glob("*/*.jpg")):
        shutil.copy(file, images)
        rows.append(f"{file.stem};{names[file.parent.name]}")
    (images / "empty.jpg").touch()
    (tmp_path / "labels.csv").write_text("\ufeff" + "\n".join([*rows, "gone;NA", "empty;NA"]))
    given = ("data=table", "data.table=labels.csv", "data.root=images")
    download(make_settings(*given, "out_dir=artifacts/download"))
    said = capsys.readouterr().out
    assert "007 12, NA 12, Sonnen-Blüte 12" in said
    assert "1 rows without a file: gone" in said
    assert "refused empty.jpg: zero bytes" in said
    split(make_settings(*given, "out_dir=artifacts/split"))
    table = read_splits(tmp_path / "artifacts/split/split.csv")
    assert pd.crosstab(table["label"], table["split"]).to_numpy().tolist() == [[2, 8, 2]] * 3
    assert find_photographs(read_data(make_settings(*given)))[1].equals(table)
    with pytest.raises(UserError, match=r"the table of labels is not named: give data\.table=FILE"):
        find_photographs(read_data(make_settings("data=table")))
    with pytest.raises(UserError, match=r"data\.layout='clases': did you mean 'classes'"):
        find_photographs(read_data(make_settings("data.layout=clases")))
    with pytest.raises(UserError, match=r"data\.layout=classes is about folders"):
        find_photographs(read_data(make_settings(*given, "data.layout=classes")))
