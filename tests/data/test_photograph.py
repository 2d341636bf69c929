"""Whatever kind of file a photograph is, it is decoded to upright RGB."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowers.data.photograph import decode, open_rgb


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


def test_decoding_in_threads_leaves_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_rgb, [tmp_path / "a.jpg"] * 100))
    assert list(warnings.filters) == before
