"""Damaged files of every format: no crash, no hang, no warning, nothing on stderr, no file changed, a row for each."""

import hashlib
import io
import logging
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from flowers.curation import manifest as intake
from flowers.curation.manifest import scan

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
HEADER_BYTES = 64
SECONDS_PER_FILE = 0.03
"""Several times what is needed, so that only a decoder that hangs is caught, not a machine that is busy."""


def seeds() -> dict[str, bytes]:
    """Small whole files of each format and kind that Pillow writes."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    smooth = rough.resize((9, 7)).resize((64, 48), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    pages = {"save_all": True, "append_images": [rough, smooth]}
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "plain.jpg": (smooth, "JPEG", {"exif": exif}),
        "progressive.jpg": (smooth, "JPEG", {"progressive": True, "quality": 60}),
        "cmyk.jpg": (smooth.convert("CMYK"), "JPEG", {}),
        "two.jpg": (smooth, "MPO", pages),
        "plain.png": (smooth, "PNG", {"exif": exif}),
        "palette.png": (smooth.quantize(16), "PNG", {"transparency": 3}),
        "deep.png": (Image.fromarray(rng.integers(0, 65536, (48, 64), dtype=np.uint16)), "PNG", {}),
        "animated.png": (smooth, "PNG", pages),
        "lossy.webp": (smooth, "WEBP", {"exif": exif}),
        "lossless.webp": (smooth.convert("RGBA"), "WEBP", {"lossless": True}),
        "animated.webp": (smooth, "WEBP", pages),
        "plain.avif": (smooth, "AVIF", {"exif": exif}),
        "plain.tiff": (smooth, "TIFF", {"exif": exif}),
        "deflated.tiff": (smooth, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "lzw.tiff": (smooth.convert("L"), "TIFF", {"compression": "tiff_lzw"}),
        "jpeg.tiff": (smooth, "TIFF", {"compression": "jpeg"}),
        "fax.tiff": (smooth.convert("1"), "TIFF", {"compression": "group4"}),
        "plain.bmp": (smooth, "BMP", {}),
        "plain.gif": (smooth.quantize(32), "GIF", {}),
        "animated.gif": (smooth, "GIF", pages),
        "plain.jp2": (smooth, "JPEG2000", {}),
        "plain.ppm": (smooth, "PPM", {}),
        "profile.jpg": (smooth, "JPEG", {"icc_profile": SRGB.tobytes()}),
    }
    files = {"telephone.heic": (Path(__file__).parents[1] / "sources/display_p3.heic").read_bytes()}
    for name, (image, kind, options) in kinds.items():
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        files[name] = stream.getvalue()
    return files


def mutate(whole: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one way of five."""
    content = np.frombuffer(whole, np.uint8).copy()
    way = rng.integers(5)
    if way == 0:  # a few bits anywhere
        places = rng.integers(0, len(content), rng.integers(1, 9))
        content[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    elif way == 1:  # cut off
        content = content[: rng.integers(0, len(content))]
    elif way == 2:  # the end of another file
        content = np.append(content[: rng.integers(1, len(content))], np.frombuffer(other[len(other) // 2 :], np.uint8))
    elif way == 3:  # sizes, counts and offsets stand in the header
        places = rng.integers(0, min(HEADER_BYTES, len(content)), rng.integers(1, 5))
        content[places] = rng.choice(np.array([0, 1, 0x7F, 0x80, 0xFF], np.uint8), len(places))
    else:  # a piece is missing, or stands there twice
        first, last = np.sort(rng.integers(0, len(content), 2))
        again = content[first:last] if rng.random() < 0.5 else content[:0]
        content = np.concatenate([content[:first], again, again, content[last:]])
    return content.tobytes()


@pytest.mark.parametrize(("count", "seed"), [(200, 0), pytest.param(2_400, 1, marks=pytest.mark.slow)])
def test_damaged_files(
    count: int, seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(seed)
    files = seeds()
    names = list(files)
    digests: dict[str, str] = {}
    for index in range(count):
        name = names[index % len(names)]
        content = mutate(files[name], files[names[rng.integers(len(names))]], rng)
        path = tmp_path / ("daisy", "roses")[index % 2] / f"{index:04d}_{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        digests[path.relative_to(tmp_path).as_posix()] = hashlib.sha256(content).hexdigest()
    for name, whole in files.items():  # nothing that was damaged before may harm what is sound
        (tmp_path / "daisy" / name).write_bytes(whole)
        digests[f"daisy/{name}"] = hashlib.sha256(whole).hexdigest()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capfd.readouterr()
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING):
        manifest = scan(tmp_path, strict=False)
    assert time.monotonic() - begin < 5 + SECONDS_PER_FILE * count

    assert dict(zip(manifest["path"], manifest["sha256"], strict=True)) == digests
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    assert {path: hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() for path in digests} == digests
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []

    whole_rows = manifest[manifest["path"].isin([f"daisy/{name}" for name in names])]
    assert set(whole_rows["status"]) == {"ok"}
    refused = manifest[manifest["status"] == "refused"]
    assert 0.2 * count < len(refused) < 0.9 * count
    assert all(re.fullmatch(r"\S[^\n]*", reason) for reason in refused["reason"])
    usable = manifest[manifest["status"] == "ok"]
    assert (usable[["width_px", "height_px"]] > 0).all(axis=None)
    assert (usable["dhash"].str.len() == 2 * intake.HASH_CELLS**2 // 4).all()
