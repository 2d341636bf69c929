"""Every kind of file that a person may leave in a class folder gets its row and its reason."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowers.curation import manifest as intake
from flowers.curation.split_table import write_table
from flowers.errors import UserError
from flowers.sources.layouts import Listing, files_below
from flowers.sources.photograph import open_rgb

REAL = Path(os.environ.get("FLOWERS_PHOTOS") or Path(__file__).parents[3] / "shared" / "data" / "flower_photos_224")


def noise(seed: int = 0, width_px: int = 40, height_px: int = 30) -> Image.Image:
    samples = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return Image.fromarray(samples)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, label in enumerate(["daisy", "rose"]):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for index in range(2):
            noise(10 * number + index).save(folder / f"{index}.jpg")
    return tmp_path / "photos"


def row(manifest: pd.DataFrame, path: str) -> dict[str, Any]:
    [found] = manifest[manifest["path"] == path].to_dict("records")
    return {str(column): value for column, value in found.items()}


def test_good_files(root: Path) -> None:
    manifest = intake.scan(root, strict=True)
    assert list(manifest.columns) == intake.COLUMNS
    assert list(manifest["path"]) == ["daisy/0.jpg", "daisy/1.jpg", "rose/0.jpg", "rose/1.jpg"]
    first = row(manifest, "daisy/0.jpg")
    assert first["sha256"] == hashlib.sha256((root / "daisy/0.jpg").read_bytes()).hexdigest()
    assert (first["width_px"], first["height_px"]) == (40, 30)
    assert len(first["dhash"]) == 128
    assert set(manifest["status"]) == {"ok"}
    pd.testing.assert_frame_equal(manifest, intake.scan(root, strict=True, workers=1))


def cut(image: Image.Image, path: Path, format_name: str) -> None:
    image.save(path, format_name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def test_each_bad_file_gets_its_reason(root: Path) -> None:
    folder = root / "daisy"
    big = noise(1, 300, 200)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("This is no photograph.")
    (folder / "script.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    cut(big, folder / "cut.jpg", "JPEG")
    cut(noise(1, 1000, 900), folder / "cut_large.jpg", "JPEG")  # scaled while decoding
    cut(big, folder / "cut.png", "PNG")
    (folder / "circle").symlink_to(root)
    (folder / "nowhere.jpg").symlink_to(root / "missing.jpg")
    os.mkfifo(folder / "pipe.jpg")
    Image.new("F", (4, 4)).save(folder / "float.tiff")

    manifest = intake.scan(root, strict=False)
    refused = manifest[manifest["status"] == "refused"].set_index("path")["reason"].to_dict()
    wanted = {
        "circle": "a link to a folder",
        "cut.jpg": "truncated: ",
        "cut.png": "truncated: ",
        "cut_large.jpg": "truncated: ",
        "empty.jpg": "zero bytes",
        "float.tiff": "its samples are floating-point",
        "nowhere.jpg": "a link that leads nowhere",
        "pipe.jpg": "not a regular file",
        "script.eps": "not an image",
        "text.jpg": "not an image",
    }
    assert list(refused) == [f"daisy/{name}" for name in wanted]
    for name, reason in wanted.items():
        assert refused[f"daisy/{name}"].startswith(reason)
    assert (manifest["status"] == "ok").sum() == 4
    summary = intake.summarise(manifest, most_refused=3)
    assert "4 photographs in 2 classes, 10 files refused" in summary
    assert "daisy 2, rose 2" in summary
    assert "refused daisy/cut.jpg: truncated" in summary
    assert summary.endswith("refused 7 more, see the manifest")


def test_bomb_is_refused_by_its_header(root: Path) -> None:
    # Beyond twice its limit Pillow raises an error, before that it only warns.
    Image.new("1", (20_000, 10_000)).save(root / "daisy" / "error.png")
    Image.new("1", (10_000, 9_000)).save(root / "daisy" / "warning.png")
    manifest = intake.scan(root, strict=False)
    for name in ("error", "warning"):
        assert row(manifest, f"daisy/{name}.png")["reason"] == "larger than 89 megapixels"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(root: Path) -> None:
    (root / "daisy" / "0.jpg").chmod(0)
    (root / "rose" / "closed").mkdir(mode=0)
    manifest = intake.scan(root, strict=False)
    assert row(manifest, "daisy/0.jpg")["reason"] == "cannot be read: Permission denied"
    assert row(manifest, "rose/closed")["reason"] == "the folder cannot be listed: Permission denied"


def test_damaged_exif_does_not_cost_the_photograph(root: Path) -> None:
    noise().save(root / "daisy" / "exif.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09\xff")
    assert row(intake.scan(root, strict=True), "daisy/exif.jpg")["status"] == "ok"


def test_names_links_nesting_and_what_is_passed_over(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    noise(5).save(elsewhere / "far.png")
    (root / "linked").symlink_to(elsewhere)
    (root / "circle").symlink_to(tmp_path)
    (root / "daisy" / "deep" / "er").mkdir(parents=True)
    noise(6).save(root / "daisy" / "deep" / "er" / "IMG_1.JPG")
    noise(7).save(root / "daisy" / "Gänseblümchen, 'weiß'\n雛菊.PNG")
    (root / "daisy" / "link.jpg").symlink_to(elsewhere / "far.png")
    (root / "daisy" / ".hidden.jpg").write_bytes(b"")
    (root / ".git").mkdir()
    noise(8).save(root / ".git" / "a.jpg")
    noise(9).save(root / "loose.jpg")
    (root / "LICENSE.txt").write_text("CC-BY")
    (root / "rose" / os.fsdecode(b"latin\xe9.jpg")).write_bytes((root / "rose" / "0.jpg").read_bytes())

    manifest = intake.scan(root, strict=False)
    labels = manifest.set_index("path")["label"].to_dict()
    extra = {path: label for path, label in labels.items() if Path(str(path)).stem not in ("0", "1")}
    assert extra == {
        "circle": "circle",
        "daisy/Gänseblümchen, 'weiß'\n雛菊.PNG": "daisy",
        "daisy/deep/er/IMG_1.JPG": "daisy",
        "daisy/link.jpg": "daisy",
        "linked/far.png": "linked",
        "rose/latin\\xe9.jpg": "rose",
    }
    assert list(manifest["path"]) == sorted(manifest["path"])
    refused = manifest[manifest["status"] == "refused"].set_index("path")["reason"].to_dict()
    assert refused == {"circle": "a link to a folder", "rose/latin\\xe9.jpg": "its name is not UTF-8"}
    manifest.to_csv(tmp_path / "manifest.csv", index=False)  # every name can be written


def test_what_is_no_photograph_yet_or_too_small_gets_its_reason(root: Path) -> None:
    (root / "daisy" / ".IMG_1.HEIC.icloud").write_bytes(b"bplist00\xd3")
    noise(5, 1, 1).save(root / "daisy" / "dot.png")
    noise(6, 3000, 7).save(root / "rose" / "line.jpg")
    refused = intake.scan(root, strict=False, min_side_px=8).query("status == 'refused'").set_index("path")["reason"]
    assert list(refused.index) == ["daisy/.IMG_1.HEIC.icloud", "daisy/dot.png", "rose/line.jpg"]
    assert "as iCloud leaves in place of a photograph" in refused.iloc[0]
    assert "3000 x 7 pixels, a side is below data.min_side_px=8" in refused.iloc[2]
    assert (intake.scan(root, strict=False)["status"] == "refused").sum() == 1


def test_what_systems_leave_behind_is_passed_over(root: Path) -> None:
    for folder in (root, root / "daisy"):
        for name in ("@eaDir", "__MACOSX", "#recycle"):
            (folder / name).mkdir()
            noise(5).save(folder / name / "0.jpg")
    for name in ("Thumbs.db", "desktop.ini", "._0.jpg", ".DS_Store", "Icon\r"):
        (root / "daisy" / name).write_bytes(b"\x00\x05\x16\x07")
    (root / "daisy" / "thumbs").mkdir()  # a person's own, though it sounds alike
    noise(6).save(root / "daisy" / "thumbs" / "db.jpg")
    paths = ["daisy/0.jpg", "daisy/1.jpg", "daisy/thumbs/db.jpg", "rose/0.jpg", "rose/1.jpg"]
    assert list(intake.scan(root, strict=True)["path"]) == paths
    assert sorted(path.relative_to(root).as_posix() for path, _ in files_below(root)) == paths


def test_long_and_odd_names_survive_the_manifest(root: Path, tmp_path: Path) -> None:
    odd = [
        "x" * 251 + ".jpg",
        " lead.jpg",
        "tail.jpg ",
        'q"u,o;te.jpg',
        "-0.jpg",
        "NA",
        "0012",
        "花🌸\u0301.WebP",
    ]
    for index, name in enumerate(odd):
        noise(index + 50).save(root / "daisy" / name, "WEBP" if name.endswith("P") else "JPEG")
    (root / "NA").mkdir()
    noise(90).save(root / "NA" / "nan.jpg")
    noise(91).save(root / "daisy" / "a\rb.jpg")
    manifest = intake.scan(root, strict=False)
    assert row(manifest, "daisy/a\\rb.jpg")["reason"] == "its name has a carriage return"
    assert {f"daisy/{name}" for name in odd} | {"NA/nan.jpg"} < set(manifest["path"])
    write_table(manifest, tmp_path / "deep" / "manifest.csv")
    pd.testing.assert_frame_equal(intake.read_manifest(tmp_path / "deep" / "manifest.csv"), manifest.astype(str))


def test_links_that_lead_to_themselves(root: Path) -> None:
    (root / "daisy" / "self.jpg").symlink_to("self.jpg")
    (root / "daisy" / "here").symlink_to(".")
    (root / "loop").symlink_to("loop")
    refused = intake.scan(root, strict=False).query("status == 'refused'")
    assert dict(zip(refused["path"], refused["reason"], strict=True)) == {
        "daisy/here": "a link to a folder",
        "daisy/self.jpg": "a link that leads nowhere",
    }


def test_a_folder_that_changes_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(2, 6):
        noise(index).save(root / "daisy" / f"{index}.jpg")
    decode, list_folders = intake.decode, intake.list_folders
    done: list[int] = []

    def list_then_change(folder: Path) -> Listing:
        found = list_folders(folder)
        (root / "daisy" / "2.jpg").unlink()  # between listing and reading
        (root / "daisy" / "3.jpg").unlink()
        (root / "daisy" / "3.jpg").mkdir()
        return found

    def decode_then_change(*args: Any, **options: Any) -> Any:
        result = decode(*args, **options)
        path = Path(args[0].name)
        if path.name == "4.jpg":
            noise(44).save(path)  # written over
        if path.name == "5.jpg":
            noise(55).save(path.with_name("new"), "JPEG")
            path.with_name("new").replace(path)  # another file of that name
        if path.name == "1.jpg" and not done:
            done.append(1)
            path.unlink()
        return result

    monkeypatch.setattr(intake, "list_folders", list_then_change)
    monkeypatch.setattr(intake, "decode", decode_then_change)
    refused = intake.scan(root, strict=False, workers=1).query("status == 'refused'")
    assert dict(zip(refused["path"], refused["reason"], strict=True)) == {
        "daisy/1.jpg": "cannot be read: No such file or directory",
        "daisy/2.jpg": "cannot be read: No such file or directory",
        "daisy/3.jpg": "cannot be read: Is a directory",
        "daisy/4.jpg": "it changed while it was read",
        "daisy/5.jpg": "it changed while it was read",
    }


def test_no_room_for_the_manifest(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, file = intake.scan(root, strict=True), tmp_path / "manifest.csv"
    write_table(manifest, file)
    before = file.read_bytes()

    def full(table: pd.DataFrame, path: Path, **_: Any) -> None:
        path.write_text("path,la")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(UserError, match=r"manifest\.csv cannot be written \(No space left on device\)"):
        write_table(manifest, file)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.csv", "photos"]


def test_originals_are_untouched(root: Path) -> None:
    (root / "daisy" / "empty.jpg").write_bytes(b"")
    before = {path: (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes()) for path in root.rglob("*")}
    intake.scan(root, strict=False)
    assert before == {path: (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes()) for path in root.rglob("*")}


def test_dhash_survives_recompression_and_tells_photographs_apart(tmp_path: Path) -> None:
    smooth = noise(3, 9, 8).resize((256, 256), Image.Resampling.BICUBIC)
    other = noise(4, 9, 8).resize((256, 256), Image.Resampling.BICUBIC)
    smooth.resize((100, 100)).save(tmp_path / "small.jpg", quality=60)

    def bits_apart(one: Image.Image, two: Image.Image) -> int:
        return (int(intake.difference_hash(one), 16) ^ int(intake.difference_hash(two), 16)).bit_count()

    assert bits_apart(smooth, open_rgb(tmp_path / "small.jpg")) <= 24
    assert bits_apart(smooth, other) > 120


def test_a_class_without_a_usable_photograph_is_named(root: Path) -> None:
    (root / "papers").mkdir()
    (root / "papers/one.pdf").write_text("%PDF")
    summary = intake.summarise(intake.scan(root, strict=False)).splitlines()
    assert summary[2] == "without a usable photograph, and so no class: papers"


def test_a_wrapper_around_the_class_folders_is_told(root: Path) -> None:
    with pytest.raises(UserError, match=rf"one class only \(photos\).* give data\.root={root} if daisy, rose are the"):
        intake.scan(root.parent, strict=False)


def test_errors_are_one_sentence(root: Path, tmp_path: Path) -> None:
    def message(folder: Path, strict: bool = False) -> str:
        with pytest.raises(UserError) as caught:
            intake.scan(folder, strict)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in message(tmp_path / "nowhere")
    assert "is not a folder" in message(root / "daisy" / "0.jpg")
    assert "no photographs in class folders" in message(root / "daisy")
    (root / "daisy" / "b.jpg").write_bytes(b"")
    (root / "daisy" / "a.jpg").write_bytes(b"")
    strict = message(root, strict=True)
    assert "2 files that are refused, first daisy/a.jpg (zero bytes)" in strict
    assert "data.strict=false" in strict
    for name in ("0.jpg", "1.jpg"):
        (root / "rose" / name).write_bytes(b"")
    assert "one class only (daisy)" in message(root)
    for path in root.glob("daisy/*"):
        path.write_bytes(b"")
    assert "6 refused, first daisy/0.jpg (zero bytes)" in message(root)


@pytest.mark.slow
def test_real_photographs() -> None:
    if not REAL.is_dir():
        pytest.skip(f"real photographs are not at {REAL}; FLOWERS_PHOTOS can name another place")
    manifest = intake.scan(REAL, strict=True)
    folders = {path.name: len(list(path.glob("*.jpg"))) for path in REAL.iterdir() if path.is_dir()}
    assert manifest["label"].value_counts().to_dict() == folders
    assert (manifest["status"] == "ok").all()


def test_table_that_is_no_manifest_is_named(tmp_path: Path) -> None:
    file = tmp_path / "manifest.csv"
    file.write_text("")
    with pytest.raises(UserError, match=r"manifest\.csv cannot be read as a CSV table .*run download again"):
        intake.read_manifest(file)
    file.write_text("path,label,sha256,width_px,height_px,status,reason\n")  # of an older version
    with pytest.raises(UserError, match=r"manifest\.csv lacks the column dhash: run download again"):
        intake.read_manifest(file)
