"""Whatever kind of file a photograph is, it is decoded to upright RGB."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from flowers.sources import photograph
from flowers.sources.photograph import PhotographError, decode, open_rgb


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_is_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (60, 40), "blue")
    upright.paste("red", (0, 0, 20, 20))  # a corner that says where up and left are
    # What a camera stores is the inverse of what a viewer does.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    (upright if stored is None else upright.transpose(stored)).save(path, exif=exif)
    assert np.array_equal(np.asarray(open_rgb(path)), np.asarray(upright))
    assert decode(path, None)[1] == (60, 40)


def test_modes_become_rgb(tmp_path: Path) -> None:
    def opened(image: Image.Image, name: str, **options: Any) -> list[int]:
        image.save(tmp_path / name, **options)
        result = open_rgb(tmp_path / name)
        assert result.mode == "RGB"
        return np.asarray(result)[0, 0].tolist()

    def near(found: list[int], wanted: list[int]) -> bool:
        return bool(np.abs(np.subtract(found, wanted)).max() <= 3)

    size = (8, 8)
    assert opened(Image.new("RGBA", size, (200, 0, 0, 0)), "clear.png") == [255, 255, 255]
    assert near(opened(Image.new("RGBA", size, (200, 0, 0, 128)), "half.png"), [227, 127, 127])
    assert opened(Image.new("LA", size, (0, 0)), "grey_clear.png") == [255, 255, 255]
    assert near(opened(Image.new("CMYK", size, (0, 255, 255, 0)), "cmyk.jpg"), [255, 0, 0])
    assert opened(Image.new("L", size, 77), "grey.png") == [77, 77, 77]
    assert opened(Image.new("1", size, 1), "bits.png") == [255, 255, 255]
    sixteen = Image.fromarray(np.full(size, 0x4D00, np.uint16))
    assert opened(sixteen, "grey16.png") == [77, 77, 77]
    assert opened(sixteen, "grey16.tiff") == [77, 77, 77]
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert opened(palette, "palette.png") == [10, 20, 30]
    assert opened(palette, "palette.gif") == [10, 20, 30]
    assert opened(palette, "palette_clear.png", transparency=b"\x00\x00") == [255, 255, 255]


def sixteen_bit_png(path: Path, colour_type: int, samples: list[int]) -> None:
    """Write 2 x 2 equal pixels, as Pillow itself cannot."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    row = b"\0" + struct.pack(f">{2 * len(samples)}H", *samples * 2)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b""))


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    for colour_type, samples, wanted in (
        (0, [0x4D00], [77, 77, 77]),
        (2, [0x4D00, 0x2A00, 0xFFFF], [77, 42, 255]),
        (4, [0x4D00, 0x0000], [255, 255, 255]),
        (6, [0x4D00, 0x2A00, 0xFFFF, 0xFFFF], [77, 42, 255]),
    ):
        sixteen_bit_png(path, colour_type, samples)
        assert np.asarray(open_rgb(path))[0, 0].tolist() == wanted


RED_THEN_BLUE: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (8, 6), "blue")]}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.bmp", {}),
        ("a.webp", {}),
        ("a.avif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("a.tiff", {"compression": "jpeg"}),
        ("animated.gif", RED_THEN_BLUE),
        ("animated.png", RED_THEN_BLUE),
        ("animated.webp", RED_THEN_BLUE),
        ("pages.tiff", RED_THEN_BLUE),
        ("two_lenses.mpo", RED_THEN_BLUE),  # such a JPEG is what some cameras and telephones write
    ],
)
def test_each_format_gives_its_first_picture(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    Image.new("RGB", (8, 6), "red").save(tmp_path / name, **options)
    found = open_rgb(tmp_path / name)
    assert found.size == (8, 6)
    assert np.abs(np.asarray(found).reshape(-1, 3).astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("name", ["cmyk.tiff", "lab.tiff", "ycbcr.tiff"])
def test_modes_of_print(tmp_path: Path, name: str) -> None:
    image = Image.new("RGB", (8, 6), "red")
    mode = {"cmyk": "CMYK", "lab": "LAB", "ycbcr": "YCbCr"}[name.partition(".")[0]]
    if mode == "LAB":
        rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.applyTransform(image, ImageCms.buildTransform(rgb, lab, "RGB", "LAB"))
        assert stored is not None
    else:
        stored = image.convert(mode)
    stored.save(tmp_path / name)
    assert np.abs(np.asarray(open_rgb(tmp_path / name))[0, 0].astype(int) - (255, 0, 0)).max() <= 6


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    image = Image.new("RGB", (64, 48), "red")
    heif.from_pillow(image).save(tmp_path / "a.HEIC", quality=90)
    found, size = decode(tmp_path / "a.HEIC", shorter_px=16)
    assert size == (64, 48)
    assert np.abs(np.asarray(found)[5, 5].astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("as_stream", [False, True])
def test_heic_without_its_library_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_stream: bool
) -> None:
    monkeypatch.setattr(photograph, "pillow_heif", None)
    monkeypatch.setattr(photograph, "FORMATS", ("JPEG", "PNG"))
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(PhotographError, match="a HEIC file: pip install pillow-heif, or save it as JPEG"):
        open_rgb(io.BytesIO(path.read_bytes()) if as_stream else path)
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))  # a film
    with pytest.raises(PhotographError, match="not an image in a known format"):
        open_rgb(path)


def test_decoding_in_threads_leaves_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_rgb, [tmp_path / "a.jpg"] * 100))
    assert list(warnings.filters) == before
