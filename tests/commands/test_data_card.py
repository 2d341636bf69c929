"""The card describes what a training would use."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowers.commands.data_card import THUMBNAIL_PX, brightness, card, look_into
from flowers.commands.download import download
from flowers.commands.split import split
from flowers.config.compose import read_data
from flowers.config.schema import FITS, Settings
from flowers.curation.prepare import find_photographs
from flowers.curation.split_table import write_splits
from flowers.data.pixels import read_square
from flowers.errors import UserError
from flowers.report.data_card import findings


@pytest.fixture
def garden(photographs: Path, tmp_path: Path) -> Path:
    """Photographs with a copy under another label, and a file that is none."""
    root = Path(shutil.copytree(photographs, tmp_path / "garden"))
    shutil.copy(root / "daisy/daisy_00.jpg", root / "roses/copy.jpg")
    (root / "roses/empty.jpg").touch()
    (root / "LICENSE.txt").write_text("Free as the wind.\n")
    return root


def test_a_folder_is_described_with_the_split_of_a_training(
    garden: Path, make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(f"data.root={garden}")
    page = card(settings)
    assert page == Path(settings.out_dir) / "card/index.html"
    found = json.loads((page.parent / "card.json").read_text())
    assert found["photographs"] == 37
    (group,) = found["groups"]
    assert group["conflict"]
    assert {row["path"] for row in group["photographs"]} == {"daisy/daisy_00.jpg", "roses/copy.jpg"}
    assert found["refused"] == [{"path": "roses/empty.jpg", "reason": "zero bytes"}]
    _, table, _ = find_photographs(read_data(settings))
    for row in found["per_class"]:
        mine = table[table["label"] == row["class"]]
        assert {name: row[name] for name in ("train", "val", "test")} == mine["split"].value_counts().to_dict()
        assert (row["width_px"], row["height_px"]) == (40, 40)
    text = page.read_text(encoding="utf-8")
    assert "Free as the wind." in text
    assert "roses/copy.jpg" in text
    said = capsys.readouterr().out
    assert str(page) in said
    assert "refused roses/empty.jpg: zero bytes" in said


def test_contents_are_there_without_the_page(garden: Path, make_settings: Callable[..., Settings]) -> None:
    contents = look_into(read_data(make_settings(f"data.root={garden}")))
    assert contents.root == garden
    assert len(contents.table) == len(contents.pixels) == contents.found["photographs"] == 37
    assert {"path", "label", "split", "width_px", "bytes", "brightness"} <= set(contents.table)
    assert [row["path"] for row in contents.found["refused"]] == ["roses/empty.jpg"]
    assert not Path("out").exists()


def test_what_the_pipeline_made_is_described_with_its_split(make_settings: Callable[..., Settings]) -> None:
    download(make_settings("data.name=sample", "out_dir=artifacts/download"))
    split(make_settings("data.split.val_frac=0.25", "out_dir=artifacts/split"))
    settings = make_settings("data=sample", "data.root=nowhere")  # nothing need be drawn
    found = json.loads((card(settings).parent / "card.json").read_text())
    assert found["name"] == "sample"
    assert {row["class"]: row["val"] for row in found["per_class"]} == {"daisy": 3, "roses": 3, "sunflowers": 3}
    assert not list(Path.cwd().glob("nowhere*"))

    rows = pd.read_csv("artifacts/download/manifest.csv", dtype=str, keep_default_na=False)
    rows.iloc[1:].to_csv("artifacts/download/manifest.csv", index=False)
    with pytest.raises(UserError, match=f"lacks {rows['path'].iloc[0]}, which the split names; run split again"):
        card(settings)


@pytest.mark.slow
def test_refusals_of_a_folder_that_went_through_the_pipeline_are_told(
    garden: Path, make_settings: Callable[..., Settings]
) -> None:
    download(make_settings(f"data.root={garden}", "out_dir=artifacts/download"))
    split(make_settings("out_dir=artifacts/split"))
    made = ("data.root=artifacts/download/folder", "data.split_csv=artifacts/split/split.csv", "out_dir=artifacts")
    page = card(make_settings(*made))
    assert page == Path("artifacts/card/index.html")
    assert "roses/empty.jpg" in page.read_text(encoding="utf-8")


def test_a_split_made_earlier_is_used(
    garden: Path, make_settings: Callable[..., Settings], photographs: Path, tmp_path: Path
) -> None:
    table = find_photographs(read_data(make_settings(f"data.root={garden}")))[1]
    write_splits(table[table["label"] != "sunflowers"], tmp_path / "split.csv")
    page = card(make_settings(f"data.root={garden}", f"data.split_csv={tmp_path}/split.csv"))
    found = json.loads((page.parent / "card.json").read_text())
    assert [row["class"] for row in found["per_class"]] == ["daisy", "roses"]


def test_brightness_is_the_mean_luma() -> None:
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    pixels[1] = 255
    pixels[2, ..., 1] = 255
    np.testing.assert_allclose(brightness(pixels, at_once=2), [0, 1, 0.7152])


def test_photographs_are_shown_as_a_network_sees_them(banners: Path, make_settings: Callable[..., Settings]) -> None:
    data = read_data(make_settings(f"data.root={banners}", "data.split.near_bits=-1"))
    light = {}
    for fit in FITS:
        contents = look_into(replace(data, fit=fit))
        file = banners / contents.table["path"][0]
        assert np.array_equal(contents.pixels[0], read_square(file, THUMBNAIL_PX, fit))
        light[fit] = contents.table["brightness"]
        told = [sentence for sentence in findings(contents.found) if "data.fit=pad" in sentence]
        assert len(told) == (fit == "crop")
        assert all(sentence.startswith("100 % of the photographs lose more than a third") for sentence in told)
    assert light["pad"].equals(light["squash"])  # of the photograph, and not of the bars beside it
