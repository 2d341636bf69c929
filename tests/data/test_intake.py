"""Every kind of file that a person may leave in a class folder gets its row and its reason."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowers.data import intake
from flowers.data.photograph import open_rgb
from flowers.errors import UserError

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


def test_real_photographs() -> None:
    if not REAL.is_dir():
        pytest.skip(f"real photographs are not at {REAL}; FLOWERS_PHOTOS can name another place")
    manifest = intake.scan(REAL, strict=True)
    folders = {path.name: len(list(path.glob("*.jpg"))) for path in REAL.iterdir() if path.is_dir()}
    assert manifest["label"].value_counts().to_dict() == folders
    assert (manifest["status"] == "ok").all()
