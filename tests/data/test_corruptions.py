from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowers.data.pixels import read_square
from flowers.evaluation.robustness import CORRUPTIONS, STRENGTHS, corrupt


@pytest.fixture(scope="module")
def photograph(photographs: Path) -> np.ndarray:
    return read_square(photographs / "daisy/daisy_00.jpg", 128)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_photograph_is_corrupted_in_the_same_way(photograph: np.ndarray, name: str) -> None:
    before = photograph.copy()
    one, other = (corrupt(photograph, name, 2, "ab") for _ in range(2))
    assert (one == other).all()
    assert (one.shape, one.dtype) == (photograph.shape, np.uint8)
    assert (photograph == before).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_strength_changes_more(photograph: np.ndarray, name: str) -> None:
    changes = [difference(corrupt(photograph, name, strength, "ab"), photograph) for strength in STRENGTHS]
    assert 0.3 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", ["illumination", "noise", "occlusion", "rotation"])
def test_photographs_are_corrupted_in_different_ways(photograph: np.ndarray, name: str) -> None:
    ways = {corrupt(photograph, name, 1, identity).tobytes() for identity in "abcdefgh"}
    assert len(ways) > 1


@pytest.mark.parametrize("strength", STRENGTHS)
def test_occlusion_hides_its_share_and_nothing_else(photograph: np.ndarray, strength: int) -> None:
    hidden = (corrupt(photograph, "occlusion", strength, "ab") != photograph).any(axis=2)
    assert hidden.mean() == pytest.approx((0.1, 0.25, 0.4)[strength - 1], abs=0.06)


def test_exposure_goes_one_way_at_all_strengths(photograph: np.ndarray) -> None:
    for identity in "abcdef":
        means = [corrupt(photograph, "illumination", strength, identity).mean() for strength in STRENGTHS]
        darker = [mean < photograph.mean() for mean in means]
        assert len(set(darker)) == 1


def test_rotation_leaves_no_black_corners(photograph: np.ndarray) -> None:
    white = np.full_like(photograph, 250)
    assert corrupt(white, "rotation", 2, "ab").min() > 240


def test_few_pixels_are_too_few_to_tell_neighbours_apart(photograph: np.ndarray) -> None:
    for side_px, strength in ((64, 1), (48, 2), (32, 3)):
        image = Image.fromarray(photograph)
        assert (
            corrupt(photograph, "resolution", strength, "ab") == image.resize((side_px,) * 2).resize((128, 128))
        ).all()
    small = photograph[:32, :32]
    assert (corrupt(small, "resolution", 3, "ab") == small).all()
