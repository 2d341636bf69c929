"""Photographs are taken over as they are, and nothing of the user's is touched."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flowers.commands import download as command
from flowers.commands.download import copy_accepted, download
from flowers.config.schema import Settings
from flowers.curation.manifest import scan
from flowers.errors import UserError

SMALL = [
    "data.root=unused",
    "data.source.size_px=16",
    "data.source.counts={daisy: 2, roses: 3, sunflowers: 1, tulips: 1, dandelion: 1}",
]
COLUMNS = ["path", "label", "sha256", "width_px", "height_px", "dhash", "status", "reason"]


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, with files that are no photographs."""
    root = Path(shutil.copytree(photographs, tmp_path / "photographs"))
    whole = (root / "roses/roses_00.jpg").read_bytes()
    (root / "roses/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "roses/text.jpg").write_text("no photograph")
    (root / "daisy/empty.jpg").touch()
    (root / "LICENCE.txt").write_text("mine")
    return root


def test_folder_is_copied_and_bad_files_are_set_aside(
    folder: Path, tmp_path: Path, make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    download(make_settings(f"data.root={folder}"))
    out = tmp_path / "out"
    manifest = pd.read_csv(out / "manifest.csv")
    assert list(manifest.columns) == COLUMNS
    refused = manifest[manifest["status"] == "refused"].set_index("path")["reason"]
    assert set(refused.index) == {"roses/cut.jpg", "roses/text.jpg", "daisy/empty.jpg"}
    assert refused.notna().all()
    copies = contents(out / "folder")
    assert before.keys() - copies.keys() == {*refused.index, "LICENCE.txt"}
    assert all(copies[name] == before[name] for name in copies)
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    said = capsys.readouterr().out
    assert "36 photographs in 3 classes, 3 files refused" in said
    assert "refused daisy/empty.jpg: zero bytes" in said
    assert {path.name for path in out.iterdir()} == {"folder", "manifest.csv"}


def test_sample_is_rendered(tmp_path: Path, make_settings: Callable[..., Settings]) -> None:
    download(make_settings("data=sample", *SMALL))
    manifest = pd.read_csv(tmp_path / "out/manifest.csv")
    counted = manifest["label"].value_counts().to_dict()
    assert counted == {"roses": 3, "daisy": 2, "sunflowers": 1, "tulips": 1, "dandelion": 1}
    assert (manifest["status"] == "ok").all()
    assert all((tmp_path / "out/sample" / path).is_file() for path in manifest["path"])


def test_what_lies_there_is_not_overwritten(tmp_path: Path, make_settings: Callable[..., Settings]) -> None:
    mine = tmp_path / "out/folder/mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"out/folder is not empty; choose another out_dir"):
        download(make_settings())
    assert contents(tmp_path / "out") == {"folder/mine.jpg": b"mine"}


@pytest.mark.slow
def test_a_call_goes_on_where_it_was_stopped(
    photographs: Path, tmp_path: Path, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for data, words in (("folder", [f"data.root={photographs}"]), ("sample", SMALL)):
        settings = make_settings(f"data={data}", "data.name=mine", f"out_dir={tmp_path / data}", *words)
        with monkeypatch.context() as patch:
            patch.setattr(command, "write_table", stop)
            with pytest.raises(KeyboardInterrupt):
                download(settings)
        assert len(contents(tmp_path / data / "mine")) > 5
        changed = ["data.name=mine", f"out_dir={tmp_path / data}", *SMALL, "data.source.seed=9"]
        with pytest.raises(UserError, match=r"mine was filled with other photographs by a download that was stopped"):
            download(make_settings("data=sample", *changed))
        download(settings)
        assert {path.name for path in (tmp_path / data).iterdir()} == {"mine", "manifest.csv"}
        with pytest.raises(UserError, match="is not empty"):
            download(settings)


@pytest.mark.parametrize(("root", "said"), [("nowhere", "nowhere does not exist"), (".", "holds no photographs")])
def test_folder_without_photographs_is_named(root: str, said: str, make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match=said):
        download(make_settings(f"data.root={root}"))


def test_photograph_that_vanished_is_named_and_nothing_is_half(folder: Path, tmp_path: Path) -> None:
    manifest = scan(folder, strict=False)
    (folder / "roses/roses_03.jpg").unlink()
    with pytest.raises(UserError, match=r"roses_03\.jpg vanished while it was read; run download again"):
        copy_accepted(manifest, folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_photograph_that_changed_is_named_and_nothing_is_half(folder: Path, tmp_path: Path) -> None:
    manifest = scan(folder, strict=False)
    (folder / "roses/roses_03.jpg").write_bytes((folder / "roses/roses_04.jpg").read_bytes())
    with pytest.raises(UserError, match=r"roses_03\.jpg changed while it was read; run download again"):
        copy_accepted(manifest, folder, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"photographs"}


def test_no_room_for_the_copies(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = scan(folder, strict=False)

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"copy cannot be written \(No space left on device\): make room there"):
        copy_accepted(manifest, folder, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"photographs"}
