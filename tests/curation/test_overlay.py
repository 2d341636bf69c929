"""Copies without their edges are the same picture, as they are, mirrored or turned; other pictures are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.curation.test_duplicates import NEAR_BITS, REAL, painted

from flowers.curation.duplicates import near_duplicates
from flowers.curation.manifest import scan
from flowers.curation.overlay import best_fit, overlaid_pairs
from flowers.sources.photograph import open_rgb

Change = Callable[[Image.Image], Image.Image]
TURN = Image.Transpose


def without_edges(left: float, top: float, right: float, bottom: float) -> Change:
    """Cut shares of the width and height away."""

    def cut(image: Image.Image) -> Image.Image:
        width_px, height_px = image.size
        return image.crop(
            (
                round(left * width_px),
                round(top * height_px),
                round((1 - right) * width_px),
                round((1 - bottom) * height_px),
            )
        )

    return cut


CROPS: dict[str, Change] = {
    "all edges": without_edges(0.05, 0.05, 0.05, 0.05),
    "left and top": without_edges(0.05, 0.05, 0, 0),
    "right": without_edges(0, 0, 0.05, 0),
    "each another": without_edges(0.01, 0.04, 0.03, 0.02),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rendered pictures, as `0.png` to `5.png`."""
    folder = tmp_path_factory.mktemp("painted")
    for number, picture in enumerate(painted(2)[:6]):
        picture.save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("turn", [None, TURN.FLIP_LEFT_RIGHT, TURN.ROTATE_90, TURN.TRANSVERSE])
def test_a_part_is_found_whichever_way_it_is_turned(
    name: str, turn: Image.Transpose | None, folder: Path, tmp_path: Path
) -> None:
    for number in range(3):
        copy = CROPS["each another" if turn else name](open_rgb(folder / f"{number}.png"))
        (copy if turn is None else copy.transpose(turn)).save(tmp_path / f"{number}.jpg", quality=85)
    paths = [*sorted(folder.iterdir()), *sorted(tmp_path.iterdir())]
    assert sorted((one, other) for one, other, _ in overlaid_pairs(paths, NEAR_BITS)) == [(0, 6), (1, 7), (2, 8)]


def test_what_cannot_be_read_is_in_no_pair(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_text("no photograph")
    first = folder / "0.png"
    pairs = list(overlaid_pairs([tmp_path / "gone.jpg", first, tmp_path / "damaged.jpg", first], NEAR_BITS))
    assert pairs[0] == (1, 3, 0)
    assert not list(overlaid_pairs([tmp_path / "gone.jpg"], NEAR_BITS))
    assert not list(overlaid_pairs([], NEAR_BITS))


def test_even_pictures_fit_nothing() -> None:
    even = np.full((64, 64), 200, np.uint8)
    assert best_fit(even, even)[0] == 0


needs_photographs = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"real photographs are not at {REAL}; FLOWERS_PHOTOS can name another place"
)
TURNED: dict[str, Change] = {turn.name: lambda image, turn=turn: image.transpose(turn) for turn in TURN}  # type: ignore[misc]


@needs_photographs
@pytest.mark.slow
def test_copies_of_real_photographs_are_found(tmp_path: Path) -> None:
    files = sorted(REAL.rglob("*.jpg"))
    chosen = np.random.default_rng(0).choice(len(files), 60, replace=False)
    for number in chosen:
        image = open_rgb(files[number])
        for kind, change in {"original": lambda image: image, **TURNED, **CROPS}.items():
            (tmp_path / kind).mkdir(exist_ok=True)
            change(image).save(tmp_path / kind / f"{number}.jpg", quality=85)
    pairs = near_duplicates(scan(tmp_path, strict=True), NEAR_BITS, tmp_path)
    found = set(zip(pairs["path_a"], pairs["path_b"], strict=True))
    for kind in (*TURNED, *CROPS):
        ends = [tuple(sorted((f"original/{number}.jpg", f"{kind}/{number}.jpg"))) for number in chosen]
        assert sum(pair in found for pair in ends) >= 0.95 * len(chosen), kind


@needs_photographs
@pytest.mark.slow
def test_real_photographs_laid_over_each_other() -> None:
    pairs = near_duplicates(scan(REAL, strict=True), NEAR_BITS, REAL)
    assert len(pairs) == 17  # each looked at: all are the same picture
    assert (pairs["label_a"] == pairs["label_b"]).all()
