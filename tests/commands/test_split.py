"""The split is a file, and nothing else decides."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flowers.commands.download import download
from flowers.commands.split import split
from flowers.config.schema import Settings
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
