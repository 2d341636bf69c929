"""Find copies that lost their edges, by laying photographs over each other: as they are, mirrored and turned.

Difference hashes do not find them: 5 % lost at each edge move cells by nearly their width. Here thumbnails are compared
twice: a first look at their low frequencies chooses pairs, and of these one picture is moved over the other until it
fits best.

Of 250 real photographs, those that lost 5 % at all four edges were found again in 97.6 %, at two edges in 99.6 %, at
one edge or by random shares up to 5 % in all cases; mirrored or turned as well, 99.6 % of the last. Laid over
each other they correlate by 0.967 and more, and their hashes differ in 82 of 512 bits at most. Among 2,569 photographs
it finds 12 pairs, each looked at and each the same picture, 3 of them not by their hashes as they are (0.975 and more,
72 bits at most); of those that correlate by 0.967 none is a wrong one.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from flowers.config.provenance import usable_processors
from flowers.curation.manifest import difference_hash
from flowers.sources.photograph import PhotographError, open_rgb

Turn = tuple[bool, bool, bool]
TURNS: list[Turn] = [(bool(t), bool(a), bool(d)) for t, a, d in product((0, 1), repeat=3)]
"""Whether a picture is transposed, then mirrored from left to right, then from top to bottom; the first is as it is."""
THUMBNAIL_PX, FIT_PX = 64, 32
FREQUENCIES = 8
COSINE, TURNED_COSINE = 0.6, 0.8
"""At least this alike are a picture and a part of it to the first look; a turned part is nearly the whole."""
EDGE_PX = 4.0
"""Most that is taken away at an edge of a thumbnail: 6 %."""
STEPS_PX, LEAST_BEFORE = (1.5, 0.75, 0.375), (0.5, 0.85, 0.93)
"""By how much edges are moved, coarse to fine; and how well pictures must fit to go on with that."""
LEAST_FIT = 0.967
"""Correlation of a picture with the part of another that it fits best, from which on they may be the same picture."""


def overlaid_pairs(paths: Sequence[Path], most_bits: int) -> Iterator[tuple[int, int, int]]:
    """Find pairs of photographs of which one is the other without up to 5 % at each edge, or both are such parts.

    Args:
        paths: N photographs; one that cannot be read any more is in no pair.
        most_bits: Largest number of bits, of 512, in which the difference hashes of what both show may differ.

    Yields:
        The smaller row, the larger row, and those bits; a pair may come more than once.
    """
    with ThreadPoolExecutor(usable_processors()) as pool:
        read = list(pool.map(_thumbnail, paths))
    whole = {row: thumbnail for row, thumbnail in enumerate(read) if thumbnail is not None}
    if not whole:
        return
    rows, pictures = list(whole), np.stack(list(whole.values()))
    looks = _low_frequencies(pictures)
    for turn in TURNS:
        turned = turn_pictures(pictures, turn)
        least_cosine = COSINE if turn == TURNS[0] else TURNED_COSINE
        for one, other, _ in alike(looks, _low_frequencies(turned), least_cosine):
            fit, edges = best_fit(pictures[one], turned[other])
            if fit >= LEAST_FIT and (bits := bits_apart(pictures[one], turned[other], edges)) <= most_bits:
                yield rows[one], rows[other], bits


def best_fit(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[float, list[float]]:
    """Find how two pictures fit best, after taking edges away from one or the other.

    Args:
        one: (H,H) grey.
        other: (H,H) grey.

    Returns:
        Their correlation then, in [-1, 1]; and what is lost at the left, top, right and bottom, in pixels: of the first
        picture where it is above 0, of the second where it is below.
    """
    images = Image.fromarray(one), Image.fromarray(other)

    @functools.cache
    def vector(number: int, *lost: float) -> NDArray[np.float32]:
        """Make what is left of a picture a vector of length 1 and mean 0."""
        small = np.asarray(_without(images[number], lost, FIT_PX), np.float32).ravel()
        small -= small.sum() / small.size
        return small / max(math.sqrt(small @ small), 1e-6)

    def fit(edges: Sequence[float]) -> float:
        first, second = _lost(edges)
        return float(vector(0, *first) @ vector(1, *second))

    edges = [0.0] * 4
    best = fit(edges)
    for step_px, least in zip(STEPS_PX, LEAST_BEFORE, strict=True):
        before = -1.0
        while best > max(before, least):
            before = best
            for edge, move in product(range(4), (step_px, -step_px)):
                moved = [*edges[:edge], max(-EDGE_PX, min(edges[edge] + move, EDGE_PX)), *edges[edge + 1 :]]
                if (value := fit(moved)) > best:
                    best, edges = value, moved
    return best, edges


def bits_apart(one: NDArray[np.uint8], other: NDArray[np.uint8], edges: Sequence[float]) -> int:
    """Count in how many of 512 bits the hashes of two pictures differ without the edges that :func:`best_fit` found."""
    first, second = (
        int(difference_hash(_without(Image.fromarray(picture), lost, THUMBNAIL_PX)), 16)
        for picture, lost in zip((one, other), _lost(edges), strict=True)
    )
    return (first ^ second).bit_count()


def _lost(edges: Sequence[float]) -> tuple[list[float], list[float]]:
    """Tell what the first and the second picture lose at the edges that :func:`best_fit` found."""
    return [max(edge, 0) for edge in edges], [max(-edge, 0) for edge in edges]


def _without(picture: Image.Image, lost: Sequence[float], side_px: int) -> Image.Image:
    """Make what is left of a thumbnail, without pixels at the left, top, right and bottom, a square of another size."""
    box = (lost[0], lost[1], THUMBNAIL_PX - lost[2], THUMBNAIL_PX - lost[3])
    return picture.resize((side_px, side_px), Image.Resampling.BILINEAR, box)


def _thumbnail(path: Path) -> NDArray[np.uint8] | None:
    """Read a photograph, small and grey; None if it is gone."""
    try:
        grey = open_rgb(path, shorter_px=THUMBNAIL_PX).convert("L")
    except (PhotographError, OSError):
        return None
    return np.asarray(grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def turn_pictures(pictures: np.ndarray, turn: Turn) -> np.ndarray:
    """Turn pictures (…,H,H)."""
    transposed, across, down = turn
    pictures = pictures.swapaxes(-1, -2) if transposed else pictures
    pictures = pictures[..., ::-1] if across else pictures
    return np.ascontiguousarray(pictures[..., ::-1, :] if down else pictures)


def _low_frequencies(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Transform pictures (N,H,H) to (N,64): without the mean, and the higher a frequency, the more it counts."""
    frequency = np.arange(FREQUENCIES, dtype=np.float32)
    some = (pictures[first : first + 1000].astype(np.float32) for first in range(0, len(pictures), 1000))
    low = [dctn(each, axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES] for each in some]
    return (np.concatenate(low) * np.hypot(frequency[:, None], frequency)).reshape(len(pictures), -1)


def alike(ones: np.ndarray, others: np.ndarray, least_cosine: float) -> Iterator[tuple[int, int, float]]:
    """Find rows with later rows of others that point in nearly the same direction.

    Args:
        ones: (N,D) floating-point.
        others: (N,D).
        least_cosine: In (0, 1].

    Yields:
        A row, a later row, and their cosine. A row of zeros is in no pair.
    """
    ones, others = _of_length_one(ones), _of_length_one(others)
    step = max(1, 2**24 // max(1, len(ones)))  # 64 MiB of cosines at once
    for first in range(0, len(ones), step):
        cosines = ones[first : first + step] @ others[first:].T
        one, other = (cosines >= least_cosine).nonzero()
        later = one < other
        for row, place in zip(one[later].tolist(), other[later].tolist(), strict=True):
            yield row + first, place + first, float(cosines[row, place])


def _of_length_one(rows: np.ndarray) -> NDArray[np.float32]:
    """Scale the rows (N,D); those of zeros stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros(rows.shape, np.float32), where=length > 0, casting="same_kind")
