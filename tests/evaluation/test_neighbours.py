"""Neighbours equal those of whole-number arithmetic, ties included, however the work is cut up."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from flowers.evaluation import neighbours
from flowers.evaluation.neighbours import METRICS, nearest, vote


def reference(queries: np.ndarray, references: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Compare one by one in 64-bit whole numbers; a stable sort takes the first of equals."""
    wide = references.reshape(len(references), -1).astype(np.int64)
    rows, distances = [], []
    for query in queries.reshape(len(queries), -1).astype(np.int64):
        differences = np.abs(wide - query)
        distance = (differences if metric == "l1" else differences**2).sum(axis=1)
        order = np.argsort(distance, kind="stable")[:k]
        rows.append(order)
        distances.append(distance[order])
    return np.array(rows), np.array(distances)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (9, 32, 3), (65, 1025)])
def test_neighbours_equal_those_of_whole_numbers(metric: str, shape: tuple[int, ...], threads: int) -> None:
    rng = np.random.default_rng(0)
    # Few levels and copies, so that there are many ties.
    references = rng.integers(0, 3, (150, *shape[1:]), dtype=np.uint8) * 127
    references[100:] = references[:50]
    queries = rng.integers(0, 256, shape, dtype=np.uint8)
    queries[0] = references[120]
    rows, distances = nearest(queries, references, 12, metric)
    wanted_rows, wanted_distances = reference(queries, references, 12, metric)
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_array_equal(distances, wanted_distances)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("metric", METRICS)
def test_sums_beyond_float32_are_exact(metric: str) -> None:
    # Rows of 64 px whose squared distances to black, near 8e8, differ by 1: float32 has steps of 64 there.
    numbers = 64 * 64 * 3
    references = np.full((6, numbers), 255, np.uint8)
    references[[1, 3, 5], 0] = [254, 253, 254]
    rows, distances = nearest(np.zeros((1, numbers), np.uint8), references, 6, metric)
    assert rows.tolist() == [[3, 1, 5, 0, 2, 4]]
    full = 255 * numbers if metric == "l1" else 255**2 * numbers
    steps = [2, 1, 1] if metric == "l1" else [255**2 - 253**2, 255**2 - 254**2, 255**2 - 254**2]
    assert distances.tolist() == [[*(full - step for step in steps), full, full, full]]


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_change_nothing(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries, references = (rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8) for count in (23, 41))
    whole = nearest(queries, references, 41, metric)
    for name, size in {"QUERIES": 4, "REFERENCES": 7, "_TILE_ROWS": 3, "_TILE_NUMBERS": 50, "_EXACT": 17}.items():
        monkeypatch.setattr(neighbours, name, size)
    for rows, cut in zip(whole, nearest(queries, references, 41, metric), strict=True):
        np.testing.assert_array_equal(rows, cut)


def test_equal_pixels_are_equally_near() -> None:
    rows, distances = nearest(np.full((2, 12), 7, np.uint8), np.full((5, 12), 7, np.uint8), 3, "l1")
    assert rows.tolist() == [[0, 1, 2]] * 2
    assert not distances.any()


def test_memory_mapped_pixels_serve_as_well(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    rows, _ = nearest(mapped, mapped, 1, "l2")
    assert rows[:, 0].tolist() == list(range(20))


def test_nobody_asks_about_no_queries() -> None:
    rows, distances = nearest(np.empty((0, 12), np.uint8), np.zeros((5, 12), np.uint8), 3, "l2")
    assert rows.shape == distances.shape == (0, 3)


def test_what_cannot_be_compared_is_refused() -> None:
    some = np.zeros((3, 4), np.uint8)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k={k} is out of range"):
            nearest(some, some, k, "l1")
    with pytest.raises(ValueError, match="cannot be compared"):
        nearest(some, np.zeros((3, 5), np.uint8), 1, "l1")
    with pytest.raises(ValueError, match="must be uint8, not uint8 and float32"):
        nearest(some, some.astype(np.float32), 1, "l1")


def test_votes_are_shares_beside_one_vote_of_the_training_frequencies() -> None:
    frequencies = np.array([0.5, 0.3, 0.2])
    probabilities = vote(np.array([[2, 2, 1], [1, 2, 0]]), frequencies)
    np.testing.assert_allclose(probabilities, [[0.125, 0.325, 0.55], [0.375, 0.325, 0.3]])
    assert (vote(np.array([[1]]), np.array([0.5, 0.5, 0.0]))[0] == [0.25, 0.75, 0]).all()
