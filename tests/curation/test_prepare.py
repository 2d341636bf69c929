import functools
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flowers.config.schema import Data, Split
from flowers.curation import prepare as sources
from flowers.curation.manifest import read_manifest, scan
from flowers.curation.prepare import find_folder, find_photographs, obtain, remembered_scan
from flowers.curation.splits import assign_splits
from flowers.errors import UserError
from flowers.sources.layouts import Listing
from flowers.sources.synthetic import sample
from flowers.sources.synthetic.composition import Picture

SPLIT = Split(val_frac=0.15, test_frac=0.15, folds=5, seed=0, near_bits=-1)
RENDERED: dict[str, Any] = {
    "_target_": "flowers.sources.synthetic.sample.render",
    "seed": 0,
    "size_px": 16,
    "counts": {"daisy": 2, "roses": 2},
    **dict.fromkeys(("illumination", "occlusion", "deformation", "clutter", "variation"), 0.0),
    "domain": "garden",
    "workers": 1,
}


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(photographs, tmp_path / "photographs"))


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were looked through since the test began."""
    seen: list[Path] = []

    def counted(root: Path, strict: bool, listing: Listing, min_side_px: int) -> pd.DataFrame:
        seen.append(root)
        return scan(root, strict, listing=listing, min_side_px=min_side_px)

    monkeypatch.setattr(sources, "scan", counted)
    return seen


def test_a_folder_whose_name_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9").mkdir()
    with pytest.raises(UserError, match=r"outliers=.*caf\\xe9 is not UTF-8: rename that folder"):
        find_folder(str(tmp_path / "caf\udce9"), "outliers")


def test_a_source_fills_once_and_other_settings_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    render = sample.render

    @functools.wraps(render)
    def counted(root: Path, **settings: Any) -> None:
        calls.append(settings)
        render(root, **settings)

    monkeypatch.setattr(sample, "render", counted)

    root = tmp_path / "data" / "sample"
    first = obtain(root, RENDERED)
    assert first.parent == root.parent
    assert first.name.startswith("sample-")
    assert len(contents(first)) == 4
    assert "_target_" not in calls[0]
    (first / "mine.txt").write_text("kept")
    assert obtain(root, dict(reversed(RENDERED.items()))) == first
    assert (first / "mine.txt").exists()
    other = obtain(root, RENDERED | {"seed": 1})
    assert other != first
    assert len(calls) == 2


def test_a_filling_that_fails_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = sample.save

    def fail(picture: Picture, path: Path) -> None:
        if picture.species == "roses":
            raise OSError("the disk is full")
        save(picture, path)

    root = tmp_path / "sample"
    with monkeypatch.context() as patch:
        patch.setattr(sample, "save", fail)
        with pytest.raises(OSError, match="full"):
            obtain(root, RENDERED)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    with pytest.raises(UserError, match="did you mean 'roses'"):
        obtain(root, RENDERED | {"counts": {"rose": 2}})
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert len(contents(obtain(root, RENDERED))) == 4


def test_a_folder_is_looked_through_again_only_when_a_file_changed(
    folder: Path, tmp_path: Path, scans: list[Path]
) -> None:
    def look(strict: bool = False) -> pd.DataFrame:
        manifest, file = remembered_scan(folder, strict, tmp_path / "cache")
        assert len(read_manifest(file)) == len(manifest)
        return manifest.astype(str)  # as which it is read again

    first = look()
    assert len(first) == 36
    pd.testing.assert_frame_equal(look(), first)
    assert len(scans) == 1

    one = folder / "daisy" / "daisy_00.jpg"
    os.utime(one, ns=(0, 0))
    pd.testing.assert_frame_equal(look(), first)
    assert len(scans) == 2
    one.write_bytes(b"no photograph")
    assert list(look()["status"]).count("refused") == 1
    assert len(scans) == 3
    one.rename(folder / "daisy" / "daisy_99.jpg")
    assert "daisy/daisy_99.jpg" in set(look()["path"])
    (folder / "daisy" / "daisy_99.jpg").unlink()
    assert len(look()) == 35
    assert len(scans) == 5
    look(strict=True)
    assert len(scans) == 6
    assert len(look()) == 35
    assert len(scans) == 6


def test_a_linked_class_folder_is_watched_too(folder: Path, tmp_path: Path, scans: list[Path]) -> None:
    elsewhere = tmp_path / "elsewhere"
    (folder / "daisy").rename(elsewhere)
    (folder / "daisy").symlink_to(elsewhere)
    assert len(remembered_scan(folder, False, tmp_path / "cache")[0]) == 36
    (elsewhere / "daisy_00.jpg").unlink()
    assert len(remembered_scan(folder, False, tmp_path / "cache")[0]) == 35
    assert len(scans) == 2


def test_what_is_remembered_is_whole_or_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scans: list[Path]
) -> None:
    write = pd.DataFrame.to_csv

    def interrupted(table: pd.DataFrame, path: Path, **options: Any) -> None:
        write(table.iloc[:7], path, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remembered_scan(folder, False, tmp_path / "cache")
    assert len(remembered_scan(folder, False, tmp_path / "cache")[0]) == 36


@pytest.mark.parametrize(("make", "sentence"), [(False, "does not exist"), (True, "holds no photographs")])
def test_a_folder_without_photographs_is_not_remembered(
    make: bool, sentence: str, tmp_path: Path, folder: Path
) -> None:
    root = tmp_path / "mine"
    if make:
        root.mkdir()
    with pytest.raises(UserError, match=sentence):
        remembered_scan(root, False, tmp_path / "cache")
    shutil.copytree(folder, root, dirs_exist_ok=True)
    assert len(remembered_scan(root, False, tmp_path / "cache")[0]) == 36


def test_another_limit_or_decoder_looks_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scans: list[Path]
) -> None:
    manifest, _ = remembered_scan(folder, False, tmp_path / "cache", min_side_px=40)
    assert (manifest["status"] == "ok").all()
    with pytest.raises(UserError, match=r"a side is below data\.min_side_px=41"):
        remembered_scan(folder, False, tmp_path / "cache", min_side_px=41)
    monkeypatch.setattr(sources, "decoder_version", lambda: ["another"])
    remembered_scan(folder, False, tmp_path / "cache", min_side_px=40)
    assert len(scans) == 3


def data(root: Path, tmp_path: Path, **changes: Any) -> Data:
    settings: dict[str, Any] = {"name": "mine", "root": str(root), "source": None, "strict": False, "split": SPLIT}
    settings["decisions"] = None
    return Data(**settings | {"split_csv": None, "cache_dir": str(tmp_path / "cache")} | changes)


def test_photographs_are_prepared_from_a_folder_or_a_source(folder: Path, tmp_path: Path) -> None:
    (folder / "roses" / "roses_03.jpg").write_bytes(b"no photograph")
    before = contents(folder)
    root, split, summary = find_photographs(data(folder, tmp_path))
    assert root == folder
    pd.testing.assert_frame_equal(split, assign_splits(scan(folder, strict=False), SPLIT), check_dtype=False)
    assert "35 photographs in 3 classes, 1 files refused" in summary
    assert "refused roses/roses_03.jpg: " in summary
    assert find_photographs(data(folder, tmp_path))[2] == summary
    assert Path(summary.rpartition("manifest of all files: ")[2]).is_file()
    assert contents(folder) == before
    decisions = tmp_path / "decisions.csv"
    decisions.write_text("path,decision,by,when\nroses/roses_04.jpg,relabel:daisy,Ada,2026-01-31T12:00:00Z\n")
    _, relabelled, summary_then = find_photographs(data(folder, tmp_path, decisions=str(decisions)))
    assert relabelled.set_index("path")["label"]["roses/roses_04.jpg"] == "daisy"
    assert "daisy 13, roses 10" in summary_then
    with pytest.raises(UserError, match=r"roses_03\.jpg.*data\.strict=false"):
        find_photographs(data(folder, tmp_path, strict=True))

    rendered = RENDERED | {"counts": {"daisy": 3, "tulips": 3}}
    root, split, summary = find_photographs(data(tmp_path / "sample", tmp_path, source=rendered))
    assert root.name.startswith("sample-")
    assert set(split["label"]) == {"daisy", "tulips"}
    assert all((root / path).is_file() for path in split["path"])
    assert "manifest" not in summary


def test_advice_fits_a_person_who_knows_no_stage(folder: Path, tmp_path: Path) -> None:
    settings = data(folder, tmp_path)
    _, _, summary = find_photographs(settings)
    [remembered] = Path(settings.cache_dir).glob("manifest-*.csv")
    remembered.write_text("damaged")
    assert find_photographs(settings)[2] == summary  # looked at anew
    with pytest.raises(UserError, match=r"none\.csv does not exist: correct it, or name another split\.csv"):
        find_photographs(data(folder, tmp_path, split_csv=str(tmp_path / "none.csv")))
    for extra in sorted((folder / "roses").iterdir())[2:]:
        extra.unlink()
    with pytest.raises(UserError, match=r"Class roses has 2 different .*: add photographs of it or leave it out"):
        find_photographs(settings)


@pytest.mark.parametrize("root", [".", "..", "/", "a/.."])
def test_a_source_is_given_a_folder_with_a_name(root: str) -> None:
    with pytest.raises(UserError, match=rf"data\.root={root} has no name for the folder that is filled"):
        obtain(Path(root), {"_target_": "flowers.sources.synthetic.sample.render"})


def test_what_is_missing_is_looked_for_in_the_working_folder_which_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = rf"does not exist in the working folder {re.escape(str(tmp_path))}: name"
    for changes in ({}, {"table": "labels.csv"}):
        with pytest.raises(UserError, match=rf"data\.root=photos {where} the folder of the photographs"):
            find_photographs(data(Path("photos"), tmp_path, **changes))
    with pytest.raises(UserError, match=r"split\.csv does not exist in the working folder .*with data\.split_csv"):
        find_photographs(data(Path("photos"), tmp_path, split_csv="split.csv"))
    with pytest.raises(UserError, match=rf"data\.root={re.escape(str(tmp_path))}/photos does not exist: name"):
        find_photographs(data(tmp_path / "photos", tmp_path))


@pytest.mark.parametrize("kind", ["manifest", "pairs"])
def test_what_is_remembered_and_damaged_is_made_anew(kind: str, folder: Path, tmp_path: Path) -> None:
    settings = data(folder, tmp_path)
    found = find_photographs(settings)[2]
    [remembered] = Path(settings.cache_dir).glob(f"{kind}-*.csv")
    whole = remembered.read_bytes()
    remembered.write_text("damaged")
    assert find_photographs(settings)[2] == found
    assert remembered.read_bytes() == whole
