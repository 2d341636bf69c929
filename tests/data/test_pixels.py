"""The store holds what decoding gives, whole or not at all."""

import errno
import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from flowers.config.schema import FITS, Fit
from flowers.data import pixels
from flowers.data.pixels import open_store, read_square
from flowers.errors import UserError
from flowers.sources.photograph import Decoded, open_rgb

IMAGE_PX = 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index, (width_px, height_px) in enumerate([(48, 32), (32, 70), (200, 150), (20, 9), (32, 32)]):
        samples = rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
        Image.fromarray(samples).save(folder / (f"{index}.png" if index % 2 else f"{index}.jpg"))
    return folder


@pytest.fixture
def table(root: Path) -> pd.DataFrame:
    paths = sorted(path.name for path in root.iterdir())
    digests = [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths]
    return pd.DataFrame({"path": paths, "sha256": digests})


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Any:
    def forbid() -> None:
        def fail(*_: object, **__: object) -> NoReturn:
            raise AssertionError("decoded again")

        monkeypatch.setattr(pixels, "decode", fail)

    return forbid


def test_equals_direct_decoding(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    store = open_store(root, table, IMAGE_PX, tmp_path / "cache")
    assert isinstance(store, np.memmap)
    assert store.shape == (5, IMAGE_PX, IMAGE_PX, 3)
    assert store.dtype == np.uint8
    assert not store.flags.writeable
    for index, path in enumerate(table["path"]):
        assert np.array_equal(store[index], read_square(root / path, IMAGE_PX))
    # A photograph of the right height needs no resizing: exactly its middle.
    with Image.open(root / "4.jpg") as square, Image.open(root / "0.jpg") as wide:
        assert np.array_equal(store[4], np.asarray(square))
        assert np.array_equal(store[0], np.asarray(wide)[:, 8:40])


def test_shorter_side_is_resized_and_the_middle_kept(tmp_path: Path) -> None:
    gradient = np.linspace(0, 255, 900, dtype=np.uint8)
    samples = np.broadcast_to(gradient[None, :, None], (300, 900, 3))
    for name in ("wide.png", "wide.jpg"):  # the JPEG is scaled while it is decoded
        Image.fromarray(samples.copy()).save(tmp_path / name, quality=95)
        square = read_square(tmp_path / name, 60).astype(int)
        assert np.abs(square[30, :, 0] - np.linspace(85, 170, 60)).max() <= 3
    with Image.open(tmp_path / "wide.png") as image:
        reference = np.asarray(image.resize((180, 60), Image.Resampling.BICUBIC))[:, 60:120].astype(int)
    assert np.abs(read_square(tmp_path / "wide.png", 60) - reference)[:, 3:-3].max() <= 1
    assert np.asarray(pixels.decode(tmp_path / "wide.jpg", 60).image).shape == (75, 225, 3)


SIZES = [
    *((640, 427), (639, 425), (640, 426), (427, 640), (425, 639), (641, 481), (500, 333), (333, 500), (513, 385)),
    *((600, 401), (599, 401), (255, 191), (800, 533), (1023, 767), (301, 299), (450, 450), (451, 451), (387, 258)),
    *((389, 1000), (511, 641)),
]


def stored(size: tuple[int, int], orientation: int = 1) -> tuple[io.BytesIO, io.BytesIO]:
    """A photograph as a JPEG, and the same pixels, upright, in a file that is decoded in full."""
    exif, scaled, full = Image.Exif(), io.BytesIO(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(load_sample_image("flower.jpg")).resize(size).save(scaled, "JPEG", quality=92, exif=exif)
    open_rgb(scaled).save(full, "BMP")
    return scaled, full


@pytest.fixture(scope="module")
def flowers() -> list[tuple[io.BytesIO, io.BytesIO]]:
    return [stored(size) for size in SIZES]


def far_from_full_decoding(scaled: io.BytesIO, full: io.BytesIO, image_px: int, fit: Fit) -> float:
    """Measure the mean difference, in levels of 255."""
    return float(np.abs(read_square(scaled, image_px, fit).astype(int) - read_square(full, image_px, fit)).mean())


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("image_px", [64, 96, 128])
def test_a_jpeg_that_is_scaled_while_decoding_stays_in_its_place(
    image_px: int, fit: Fit, flowers: list[tuple[io.BytesIO, io.BytesIO]]
) -> None:
    far = [far_from_full_decoding(*flower, image_px, fit) for flower in flowers]
    assert max(far) < 2.5
    assert np.mean(far) < 1.1


@pytest.mark.parametrize("orientation", range(2, 9))
def test_it_does_so_whichever_way_it_is_stored(orientation: int) -> None:
    for size in ((639, 425), (425, 639)):
        assert far_from_full_decoding(*stored(size, orientation), 96, "crop") < 1.5


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_has_the_right_height_is_not_blurred(kind: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (64, 67, 3), dtype=np.uint8)
    for turned in (samples, samples.transpose(1, 0, 2)):
        stream = io.BytesIO()
        Image.fromarray(turned.copy()).save(stream, kind)
        whole = np.asarray(open_rgb(stream))
        assert np.array_equal(read_square(stream, 64), whole[:, 1:65] if turned is samples else whole[1:65])


def test_second_opening_decodes_nothing(root: Path, table: pd.DataFrame, tmp_path: Path, no_decoding: Any) -> None:
    first = open_store(root, table, IMAGE_PX, tmp_path / "cache")
    no_decoding()
    again = open_store(tmp_path / "gone", table, IMAGE_PX, tmp_path / "cache")
    assert np.array_equal(first, again)
    with pytest.raises(AssertionError, match="decoded again"):
        open_store(root, table, IMAGE_PX + 1, tmp_path / "cache")


def test_another_decoder_has_another_store(
    root: Path, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_decoding: Any
) -> None:
    open_store(root, table, IMAGE_PX, tmp_path / "cache")
    monkeypatch.setattr(pixels, "decoder_version", lambda: ["another"])
    no_decoding()
    with pytest.raises(AssertionError, match="decoded again"):
        open_store(root, table, IMAGE_PX, tmp_path / "cache")


def test_rows_follow_the_table(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    first = open_store(root, table, IMAGE_PX, tmp_path / "cache")
    other = open_store(root, table[::-1], IMAGE_PX, tmp_path / "cache")
    assert np.array_equal(first[::-1], other)
    assert not np.array_equal(first, other)
    twice = open_store(root, pd.concat([table, table]), IMAGE_PX, tmp_path / "cache")
    assert np.array_equal(twice[5:], first)


@pytest.mark.parametrize("damage", ["truncated", "empty", "longer", "other_shape", "other_kind", "garbled"])
def test_damaged_store_is_rebuilt(root: Path, table: pd.DataFrame, tmp_path: Path, damage: str) -> None:
    wanted = open_store(root, table, IMAGE_PX, tmp_path / "cache").copy()
    [path] = (tmp_path / "cache").glob("*/pixels.npy")
    whole = path.read_bytes()
    path.unlink()
    if damage == "other_shape":
        np.save(path, wanted[1:])
    elif damage == "other_kind":
        np.save(path, wanted.astype(np.int8))
    else:
        content = {
            "truncated": whole[:-1],
            "empty": b"",
            "longer": whole + b"0",
            "garbled": whole[:10] + b"(((" + whole[13:],
        }
        path.write_bytes(content[damage])
    assert np.array_equal(open_store(root, table, IMAGE_PX, tmp_path / "cache"), wanted)


def test_what_a_killed_builder_left_is_replaced(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    wanted = open_store(root, table, IMAGE_PX, tmp_path / "cache").copy()
    [path] = (tmp_path / "cache").glob("*/pixels.npy")
    path.rename(path.with_suffix(".part"))
    assert np.array_equal(open_store(root, table, IMAGE_PX, tmp_path / "cache"), wanted)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["lock", "pixels.npy"]


def test_concurrent_builders_decode_once(
    root: Path, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    decode = pixels.decode

    def counted(source: Any, *options: int) -> Decoded:
        calls.append(0)
        return decode(source, *options)

    monkeypatch.setattr(pixels, "decode", counted)
    start = threading.Barrier(4)

    def build(_: int) -> np.ndarray:
        start.wait()
        return open_store(root, table, IMAGE_PX, tmp_path / "cache")

    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(build, range(4)))
    assert len(calls) == len(table)
    assert all(np.array_equal(store, stores[0]) for store in stores)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_full_disk(root: Path, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError, match=rf"no room for {5 * IMAGE_PX**2 * 3} bytes .* data\.cache_dir"):
            open_store(root, table, IMAGE_PX, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").glob("*/*")] == ["lock"]
    assert len(open_store(root, table, IMAGE_PX, tmp_path / "cache")) == 5


def test_errors_name_the_file(root: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    content = (root / "2.jpg").read_bytes()
    (root / "2.jpg").write_bytes(content + b"0")
    with pytest.raises(
        UserError, match=r"2\.jpg changed since the split was made: bring it back as it was, or train again"
    ):
        open_store(root, table, IMAGE_PX, cache)
    (root / "2.jpg").write_bytes(content[: len(content) // 2])
    cut = table.copy()
    cut.loc[2, "sha256"] = hashlib.sha256(content[: len(content) // 2]).hexdigest()
    with pytest.raises(UserError, match=r"2\.jpg cannot be decoded \(truncated"):
        open_store(root, cut, IMAGE_PX, cache)
    (root / "2.jpg").unlink()
    with pytest.raises(UserError, match=r"2\.jpg is gone since the split was made"):
        open_store(root, table, IMAGE_PX, cache)
    assert not list(cache.glob("*/pixels*"))
    with pytest.raises(UserError, match="no photographs"):
        open_store(root, table[:0], IMAGE_PX, cache)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file cannot be used .* data\.cache_dir"):
        open_store(root, table, IMAGE_PX, tmp_path / "file")
