"""The same picture is found in other files, different pictures are told apart, and no pair is overlooked."""

import hashlib
import io
import os
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageEnhance

from flowers.curation import duplicates
from flowers.curation.duplicates import close_pairs, near_duplicates, similar_features, turn_hashes, turned_pairs
from flowers.curation.manifest import difference_hash, scan
from flowers.curation.overlay import TURNS, turn_pictures
from flowers.errors import UserError
from flowers.sources.synthetic.composition import Picture
from flowers.sources.synthetic.sample import paint

REAL = Path(os.environ.get("FLOWERS_PHOTOS") or Path(__file__).parents[3] / "shared" / "data" / "flower_photos_224")
CONF = Path(__file__).parents[2] / "conf" / "data"
NEAR_BITS: int = yaml.safe_load((CONF / "base.yaml").read_text())["split"]["near_bits"]
KNOBS = dict.fromkeys(("illumination", "occlusion", "deformation", "clutter", "variation"), 0.5)


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def trimmed(image: Image.Image) -> Image.Image:
    width_px, height_px = image.size
    return image.crop((1, 1, width_px - 1, height_px - 1))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{f"quality {quality}": partial(recompressed, quality=quality) for quality in (40, 60, 80, 95)},
    "half": lambda image: image.resize((64, 64), Image.Resampling.LANCZOS),
    "enlarged": lambda image: image.resize((300, 300), Image.Resampling.BICUBIC),
    "half and compressed": lambda image: recompressed(image.resize((64, 64), Image.Resampling.BOX), 60),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.15),
    "black and white": lambda image: image.convert("L").convert("RGB"),
    "trimmed": trimmed,
}


def painted(each: int) -> list[Image.Image]:
    """Render so many pictures of each of five species."""
    species = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    return [
        paint(Picture(name, index, seed=3, size_px=128, domain="garden", **KNOBS))
        for name in species
        for index in range(1, each + 1)
    ]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return painted(3)


def bits_apart(one: Image.Image, two: Image.Image) -> int:
    return (int(difference_hash(one), 16) ^ int(difference_hash(two), 16)).bit_count()


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_near(name: str, pictures: list[Image.Image]) -> None:
    assert max(bits_apart(picture, COPIES[name](picture)) for picture in pictures) <= NEAR_BITS


@pytest.mark.parametrize("all_pairs", [0, duplicates.ALL_PAIRS])
def test_mirrored_and_turned_copies_are_found(
    all_pairs: int, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "ALL_PAIRS", all_pairs)
    turned = [recompressed(picture.transpose(turn), 80) for picture in pictures for turn in Image.Transpose]
    hashes = [difference_hash(picture) for picture in (*pictures, *turned)]
    found = turned_pairs(np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, 8), NEAR_BITS)
    count, turns = len(pictures), len(Image.Transpose)
    source = np.r_[np.arange(count), np.arange(count).repeat(turns)]
    assert (source[found[:, 0]] == source[found[:, 1]]).all()
    originals = found[(found[:, 0] < count) & (found[:, 1] >= count)]
    assert len(originals) >= 0.95 * len(turned)
    assert originals[:, 2].max() <= NEAR_BITS


def test_a_turned_hash_is_the_hash_of_the_turned_picture() -> None:
    rng = np.random.default_rng(0)
    cells: np.ndarray = np.kron(rng.permutation(256).reshape(16, 16), np.ones((17, 17))).astype(np.uint8)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(difference_hash(Image.fromarray(cells))), np.uint8))[None]
    for turn in TURNS:
        picture = Image.fromarray(turn_pictures(cells, turn))
        wanted = np.frombuffer(bytes.fromhex(difference_hash(picture)), np.uint64)
        assert np.bitwise_count(turn_hashes(bits, turn)[0] ^ wanted).sum() <= 4, turn  # where cells are nearly equal


def test_different_pictures_are_far(pictures: list[Image.Image]) -> None:
    assert min(bits_apart(one, two) for one, two in combinations(pictures, 2)) > 1.3 * NEAR_BITS


def table_of(hashes: list[str], labels: str, contents: str | None = None) -> pd.DataFrame:
    """A manifest; photographs with the same letter in `contents` have the same bytes."""
    contents = contents or "".join(chr(200 + number) for number in range(len(hashes)))
    rows = [
        (f"{label}/{number}.jpg", label, hashlib.sha256(content.encode()).hexdigest(), digits, "ok")
        for number, (digits, label, content) in enumerate(zip(hashes, labels, contents, strict=True))
    ]
    return pd.DataFrame(rows, columns=["path", "label", "sha256", "dhash", "status"])


def hash_of(*ones: int) -> str:
    """A hash with these bits set."""
    return f"{sum(1 << bit for bit in ones):0128x}"


@pytest.mark.parametrize("most_bits", [0, 3, 100])
def test_every_pair_is_found(most_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "ROWS", 7)  # so that pairs lie across the borders of blocks
    monkeypatch.setattr(duplicates, "PLACES", 50)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (240, 8), dtype=np.uint64)
    for row in range(100, 200):
        flips = np.zeros(512, dtype=np.uint8)
        flips[rng.choice(512, rng.integers(0, 130), replace=False)] = 1
        hashes[row] = hashes[row - 100] ^ np.packbits(flips).view(np.uint64)
    hashes[200] = ~hashes[0]  # 512 bits apart, which no counter may take for 0
    wanted = [
        (one, two, bits)
        for one, two in combinations(range(240), 2)
        if (bits := int(np.bitwise_count(hashes[one] ^ hashes[two]).sum())) <= most_bits
    ]
    assert len(wanted) >= {0: 0, 3: 1, 100: 60}[most_bits]
    assert [tuple(pair) for pair in close_pairs(hashes, most_bits).tolist()] == wanted


def test_pairs_have_names_and_the_nearest_come_first() -> None:
    table = table_of([hash_of(), hash_of(1, 2, 3), hash_of(*range(200)), hash_of(1), hash_of()], "aabaa", "abcde")
    table.loc[3, "status"] = "refused"
    pairs = near_duplicates(table.iloc[::-1], 5)
    assert list(pairs.columns) == duplicates.COLUMNS
    found = list(zip(pairs["path_a"], pairs["path_b"], pairs["bits"], strict=True))
    assert found == [("a/0.jpg", "a/4.jpg", 0), ("a/0.jpg", "a/1.jpg", 3)]
    assert pairs["sha256_b"][1] == hashlib.sha256(b"b").hexdigest()
    assert near_duplicates(table, 2)["path_b"].tolist() == ["a/4.jpg"]
    assert near_duplicates(table, -1).empty
    assert near_duplicates(table[:0], 5).empty


def test_equal_files_are_always_a_pair() -> None:
    table = table_of([hash_of(1)] * 4, "abab", "xxyx")
    pairs = near_duplicates(table, -1)
    assert list(zip(pairs["path_a"], pairs["path_b"], strict=True)) == [("a/0.jpg", "b/1.jpg"), ("a/0.jpg", "b/3.jpg")]
    assert list(zip(pairs["label_a"], pairs["label_b"], strict=True)) == [("a", "b")] * 2


def test_many_equal_hashes_do_not_make_a_pair_each_with_each() -> None:
    table = table_of([hash_of()] * 3000 + [hash_of(1)] * 3000, "a" * 6000)
    assert len(near_duplicates(table, 1)) == 5999


def test_errors_are_one_sentence() -> None:
    with pytest.raises(UserError, match=r"data\.split\.near_bits is 128.*set it below 128"):
        near_duplicates(table_of([hash_of()], "a"), 128)
    with pytest.raises(UserError, match=r"dhash of a/0\.jpg is not of 512 bits.*run download again"):
        near_duplicates(table_of(["00ff" * 4], "a"), 90)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_similar_features(dtype: type) -> None:
    rng = np.random.default_rng(0)
    features: np.ndarray = rng.normal(size=(300, 16)).astype(dtype)
    features[250] = 3 * features[4]
    features[299] = features[7] + 0.05 * features[8]
    features[100] = 0
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    cosines = np.triu(unit @ unit.T, 1)
    for least in (0.7, 0.99):
        wanted = set(zip(*np.nonzero(cosines > least), strict=True))
        pairs = similar_features(features, least)
        assert set(zip(pairs["row_a"], pairs["row_b"], strict=True)) == wanted
        assert pairs["cosine"].is_monotonic_decreasing
    assert pairs.iloc[0, :2].tolist() == [4, 250]
    assert similar_features(features[:1], 0.5).empty


@pytest.mark.slow
def test_real_photographs() -> None:
    if not REAL.is_dir():
        pytest.skip(f"real photographs are not at {REAL}; FLOWERS_PHOTOS can name another place")
    pairs = near_duplicates(scan(REAL, strict=True), NEAR_BITS)
    assert len(pairs) == 14  # each looked at: all are the same picture
    known = ("dandelion/4278757393_bca8415ed4_n.jpg", "dandelion/4654848357_9549351e0b_n.jpg")
    assert known in set(zip(pairs["path_a"], pairs["path_b"], strict=True))
    assert (pairs["label_a"] == pairs["label_b"]).all()
