"""How an oblong photograph becomes a square: what is seen of it, in which store it lies, and what is said of it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from flowers.config.compose import read_data
from flowers.config.schema import FITS, Fit, Settings
from flowers.curation.manifest import describe_fit, is_oblong
from flowers.data import pixels
from flowers.data.pixels import GREY, open_store, read_square
from flowers.errors import UserError
from flowers.sources.photograph import decoder_version


def table_of(root: Path) -> pd.DataFrame:
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    return pd.DataFrame(
        {"path": paths, "sha256": [hashlib.sha256((root / each).read_bytes()).hexdigest() for each in paths]}
    )


@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("suffix", ["png", "jpg"])  # a JPEG is scaled while it is decoded
def test_what_is_seen_of_a_photograph(suffix: str, is_wide: bool, tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 900)[None, :, None], (300, 900, 3)).astype(np.uint8)
    file = tmp_path / f"ramp.{suffix}"
    Image.fromarray(np.ascontiguousarray(ramp if is_wide else ramp.transpose(1, 0, 2))).save(file, quality=95)

    def seen(fit: Fit) -> np.ndarray:
        square = read_square(file, 60, fit).astype(int)
        assert square.shape == (60, 60, 3)
        return square if is_wide else square.transpose(1, 0, 2)

    assert np.abs(seen("crop")[30, :, 0] - np.linspace(85, 170, 60)).max() <= 3
    assert np.abs(seen("squash")[30, :, 0] - np.linspace(0, 255, 60)).max() <= 4
    padded = seen("pad")
    assert np.abs(padded[20:40, :, 0] - np.linspace(0, 255, 60)).max() <= 4
    assert (padded[:20] == GREY).all()
    assert (padded[40:] == GREY).all()


@pytest.mark.parametrize("fit", FITS)
def test_orientation_and_grey_are_those_of_the_photograph_by_every_fit(fit: Fit, tmp_path: Path) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90), np.uint8))
    upright.convert("RGB").save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)  # greyscale, too
    assert np.array_equal(read_square(tmp_path / "turned.png", 32, fit), read_square(tmp_path / "upright.png", 32, fit))


def test_a_square_is_the_same_by_all(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(tmp_path / "square.jpg")
    squares = [read_square(tmp_path / "square.jpg", 48, fit) for fit in FITS]
    assert all(np.array_equal(square, squares[0]) for square in squares)


@pytest.mark.parametrize("size", [(4000, 2), (1, 700), (1, 1)])
@pytest.mark.parametrize("fit", FITS)
def test_the_most_oblong_ones_are_squares_too(fit: Fit, size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, "white").save(tmp_path / "extreme.png")
    square = read_square(tmp_path / "extreme.png", 30, fit)
    assert square.shape == (30, 30, 3)
    assert (square == 255).any()  # it is still seen
    assert (square == GREY).any() == (fit == "pad" and size != (1, 1))


def test_an_unknown_fit_is_refused(photographs: Path, make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match=r"'data\.fit' is 'letterbox', but must be .*'crop', 'pad'.*'squash'"):
        make_settings("data.fit=letterbox")
    with pytest.raises(ValueError, match="fit='letterbox' is none of crop, pad, squash"):
        read_square(photographs / "daisy/daisy_00.jpg", 32, "letterbox")  # type: ignore[arg-type]


def test_each_fit_has_a_store_of_its_own(banners: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(banners)
    stores = {fit: open_store(banners, table, 24, tmp_path, fit) for fit in FITS}
    monkeypatch.setattr(pixels, "decode", None)  # nothing is decoded again
    for fit, store in stores.items():
        assert np.array_equal(open_store(banners, table, 24, tmp_path, fit), store)
    # Stores that were made before there was a choice are found.
    rule = "upright RGB, JPEG scaled while decoding, centre square, bicubic"
    known = json.dumps([1, rule, *decoder_version(), 24, list(table["sha256"])])
    assert np.array_equal(
        np.load(tmp_path / hashlib.sha256(known.encode()).hexdigest()[:16] / "pixels.npy"), stores["crop"]
    )


def test_what_tells_the_classes_apart_at_the_edges_is_lost_by_cropping_alone(banners: Path, tmp_path: Path) -> None:
    table = table_of(banners)
    assert len(np.unique(open_store(banners, table, 24, tmp_path, "crop"), axis=0)) == 1
    for fit in ("pad", "squash"):
        mean = open_store(banners, table, 24, tmp_path, fit).mean(axis=(1, 2))
        assert ((mean[:, 0] > mean[:, 2]) == table["path"].str.startswith("daisy")).all()


@pytest.mark.parametrize(
    ("size", "loses"),
    [((600, 200), True), ((1920, 1080), True), ((3, 9), True), ((4000, 3000), False), ((500, 333), False),
     ((213, 320), False), ((6000, 4000), False), ((64, 64), False)],
)  # fmt: skip
def test_three_to_two_is_not_oblong(size: tuple[int, int], loses: bool) -> None:
    assert is_oblong(*size) == loses


def test_what_many_photographs_lose_is_said(banners: Path, photographs: Path, tmp_path: Path) -> None:
    files = sorted(banners.rglob("*.png"))
    [note] = describe_fit(files, 64, "crop")
    assert note.startswith("100% of the photographs lose more than a third of their area")
    assert "data.fit=pad" in note
    others = sorted(photographs.rglob("*.jpg"))
    assert not describe_fit([*files[:18], *others], 64, "crop")  # a third of them, no more
    assert len(describe_fit([*files[:19], *others], 64, "crop")) == 1
    assert not describe_fit(files, 64, "pad") + describe_fit(files, 64, "squash")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert not describe_fit([tmp_path / "broken.png", tmp_path / "gone.png"], 64, "crop") + describe_fit([], 64, "crop")


def test_what_many_photographs_are_enlarged_by_is_said(banners: Path) -> None:
    files = sorted(banners.rglob("*.png"))
    assert not describe_fit(files, 400, "squash")
    [note] = describe_fit(files, 401, "squash")
    assert note.startswith("100% of the photographs are enlarged more than twofold to the 401 px")
    assert not describe_fit(files, 1200, "pad")
    assert len(describe_fit(files, 1201, "pad")) == 1


def test_who_chooses_nothing_crops(make_settings: Callable[..., Settings]) -> None:
    plain, padded = (read_data(make_settings(*words)) for words in ((), ("data.fit=pad",)))
    assert (plain.fit, padded.fit) == ("crop", "pad")
    assert plain == padded  # the same photographs
