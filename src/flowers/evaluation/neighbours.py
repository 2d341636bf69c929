"""The nearest of many pixel rows, exactly, in blocks that bound the memory.

Pixels are whole numbers, and so are the distances, which are computed without rounding: the neighbours do not depend on
the machine, the number of threads or the sizes of blocks, and of equally near rows the first is taken. scikit-learn's
search serves features (:func:`flowers.evaluation.baselines.nearest_directions`); of pixels it needs copies of four
times the size, and for L1 twelve times as long (``python -m benchmarks neighbours`` measures both).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

QUERIES, REFERENCES = 512, 512
"""Rows that are compared at once, by each thread: 2 MiB of distances."""
_EXACT = 1024
"""Products of centred pixels, at most 2^14 each, that float32 adds up without rounding: 2^24 in all."""
_TILE_ROWS, _TILE_NUMBERS = 64, 1024
"""Pairs of 64 by 64 rows, so many numbers of each at a time: 4 MiB, which stay in the cache."""


def nearest(queries: np.ndarray, references: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest references of each query; every pair is compared.

    Args:
        queries: (M,…) uint8, in memory or memory-mapped.
        references: (N,…) uint8, with as many numbers in a row.
        k: How many, in [1, N].
        metric: ``l1``, the sum of absolute differences, or ``l2``, the sum of their squares.

    Returns:
        Rows of `references`, (M,k) int64, the nearest first and of equally near ones the first; and their distances,
        (M,k) int64 (of ``l2``, the squares).

    Raises:
        ValueError: If k is out of range, or the rows do not fit each other.
    """
    if queries.dtype != np.uint8 or references.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, not {queries.dtype} and {references.dtype}")
    if queries.shape[1:] != references.shape[1:]:
        raise ValueError(f"rows of {queries.shape[1:]} and of {references.shape[1:]} cannot be compared")
    if not 1 <= k <= len(references):
        raise ValueError(f"there are {len(references)} references, so k={k} is out of range")
    distances = METRICS[metric]
    threads = torch.get_num_threads()
    block = min(QUERIES, max(1, -(-len(queries) // threads)))

    def search(first: int) -> np.ndarray:
        wanted = _centred(queries[first : first + block])
        best = np.empty((len(wanted), 0), np.int64)
        for start in range(0, len(references), REFERENCES):
            found = distances(wanted, _centred(references[start : start + REFERENCES]))
            # Distance and row in one number, so that its order is that of distances and then of rows.
            keys = found * len(references) + np.arange(start, start + found.shape[1])
            best = np.concatenate([best, keys], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, k - 1, axis=1)[:, :k]
        return np.sort(best, axis=1)

    try:
        # Each thread has a block of its own and computes alone: sharing out such small operations costs more than they.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            found = list(pool.map(search, range(0, len(queries), block)))
    finally:
        torch.set_num_threads(threads)
    distance, row = np.divmod(np.concatenate([np.empty((0, k), np.int64), *found]), len(references))
    return row, distance


def vote(labels: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Turn the labels of neighbours into probabilities.

    Beside the k neighbours votes one more that is spread over the classes as the training photographs are: p = (votes +
    frequency) / (k + 1), the mean of a Dirichlet posterior. So no class has probability 0, which would cost 16 nats
    where it is the true one, and of classes with equal votes the more frequent one wins.

    Args:
        labels: (M,k), each in [0, K).
        frequencies: (K,), the classes' shares of the training photographs.

    Returns:
        (M,K) float64; rows sum to 1.
    """
    votes = np.zeros((len(labels), len(frequencies)))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)
    return (votes + frequencies) / (labels.shape[1] + 1)


def _centred(rows: np.ndarray) -> Tensor:
    """Shift pixels from [0, 255] to [-128, 127], which changes no distance: (B,D) int8."""
    flat = np.asarray(rows).reshape(len(rows), -1)
    return torch.from_numpy((flat ^ np.uint8(128)).view(np.int8))


def _l1(left: Tensor, right: Tensor) -> np.ndarray:
    """Add up absolute differences: (Q,D) and (R,D) int8 to (Q,R) int64.

    |a - b| = a + b - 2 min(a, b), where the first two are sums over rows. The minima of a tile are made of bytes, 64 in
    an instruction, and a product with ones adds them up in int32. Nothing saturates on the way, on no processor: a sum
    of two bytes, which is the most that older ones keep in 16 bits, is far from full.
    """
    smaller = torch.zeros(len(left), len(right), dtype=torch.int32)
    sums = [torch.zeros(len(side), 1, dtype=torch.int32) for side in (left, right)]
    room = torch.empty(_TILE_ROWS**2 * _TILE_NUMBERS, dtype=torch.int8)
    for first in range(0, left.shape[1], _TILE_NUMBERS):
        some, others = (side[:, first : first + _TILE_NUMBERS] for side in (left, right))
        ones = torch.ones(some.shape[1], 1, dtype=torch.int8)
        # The one product of bytes whose sums are whole numbers; torch has no public name for it.
        for total, side in zip(sums, (some, others), strict=True):
            total += torch._int_mm(side.contiguous(), ones)
        for row in range(0, len(left), _TILE_ROWS):
            a = some[row : row + _TILE_ROWS, None]
            for column in range(0, len(right), _TILE_ROWS):
                b = others[column : column + _TILE_ROWS]
                shape = (len(a), *b.shape)
                minima = torch.minimum(a, b, out=room[: len(a) * b.numel()].view(shape))
                added = torch._int_mm(minima.flatten(0, 1), ones).view(shape[:2])
                smaller[row : row + _TILE_ROWS, column : column + _TILE_ROWS] += added
    return (sums[0] + sums[1].T - 2 * smaller).numpy().astype(np.int64)


def _l2(left: Tensor, right: Tensor) -> np.ndarray:
    """Add up squared differences: (Q,D) and (R,D) int8 to (Q,R) int64.

    |a - b|² = |a|² + |b|² - 2 ab by matrix products of float32, each of so few columns that its sums are exact.
    """
    products = torch.zeros(len(left), len(right), dtype=torch.float64)
    squares = [torch.zeros(len(side), dtype=torch.float64) for side in (left, right)]
    for first in range(0, left.shape[1], _EXACT):
        a, b = (side[:, first : first + _EXACT].float() for side in (left, right))
        products += a @ b.T
        for square, side in zip(squares, (a, b), strict=True):
            square += side.square().sum(dim=1)
    return (squares[0][:, None] + squares[1] - 2 * products).long().numpy()


METRICS: Mapping[str, Callable[[Tensor, Tensor], np.ndarray]] = MappingProxyType({"l1": _l1, "l2": _l2})
