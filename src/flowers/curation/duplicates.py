"""Find photographs that are the same picture in different files, so that they do not lie on both sides of a split.

On 2,569 real photographs, looked at pair by pair: the 512 bits of :func:`flowers.curation.manifest.difference_hash` of
the same picture (cropped by a little, sharpened, toned, made black and white) differ in 8 to 80, those of different
ones in 104 and more. With 64 bits the two ranges overlap (0 to 13, and from 5), with 256 they do too (4 to 49, and from
40). Copies of 250 of them made for the purpose (JPEG of quality 40, half the size, more contrast) differ in 66 at most;
so do brighter ones, but for one that turned nearly white. Of those that lost 1 % at each edge 1 in 250 differs in more
than 90, of those that lost 2 % 13: what lost more is found by :mod:`flowers.curation.overlay`. A mirrored or turned
picture has the same bits in other places. Other shots of the same scene are not found.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn

from flowers.config.provenance import usable_processors
from flowers.curation.manifest import HASH_CELLS
from flowers.curation.overlay import TURNS, Turn, alike, overlaid_pairs, turn_pictures
from flowers.errors import UserError

COLUMNS = ["path_a", "path_b", "label_a", "label_b", "sha256_a", "sha256_b", "bits"]
WORDS = 2 * HASH_CELLS * HASH_CELLS // 64
ROWS, PLACES = 16, 4096
"""Pairs that are compared at once: as many as stay in a core's second cache (0.6 MB)."""
ALL_PAIRS = 512
"""Of so few photographs the turned ones are looked for in all pairs."""
FREQUENCIES, TURNED_COSINE = 8, 0.42
"""Of 16 in each direction, those that the first look compares; and how alike turned copies are to it at least."""


def near_duplicates(manifest: pd.DataFrame, most_bits: int, root: Path | None = None) -> pd.DataFrame:
    """Find the pairs of usable photographs that are the same picture, also mirrored, by quarter turns, or cropped.

    100,000 hashes take about a minute of processor time and 0.9 GiB (``python -m benchmarks duplicates``).

    Args:
        manifest: Columns path, label, sha256, dhash and status of :func:`flowers.curation.manifest.scan`.
        most_bits: Largest number of bits, of 512, in which the hashes of a pair may differ; -1: only files of the same
            bytes, which are always found.
        root: Folder of the photographs, which cropped copies are looked for in; None: they are not.

    Returns:
        A row for each pair: `path_a` < `path_b`, `label_a`, `label_b`, `sha256_a`, `sha256_b`, `bits`; sorted by bits
        and paths. Of files with the same bytes or hash, each stands in a pair with the first only, and only the first
        in pairs with others: that joins all the same groups.

    Raises:
        UserError: `most_bits` is too large, or the manifest has hashes of another kind.
    """
    if most_bits >= 64 * WORDS // 4:
        raise UserError(
            f"data.split.near_bits is {most_bits}, but different photographs differ in about {32 * WORDS} bits: "
            f"set it below {64 * WORDS // 4} (90 is usual), or to -1 to keep only equal files together."
        )
    table = manifest.loc[manifest["status"] == "ok", ["path", "label", "sha256", "dhash"]]
    table = table.sort_values("path", ignore_index=True)
    pairs = [_to_first(table["sha256"])]
    if most_bits >= 0 and len(table):
        if (table["dhash"].str.len() != 16 * WORDS).any():
            raise UserError(
                f"the manifest's dhash of {table['path'][0]} is not of {64 * WORDS} bits, so an older version wrote "
                "it: run download again."
            )
        pictures = table.drop_duplicates("sha256")
        twins = _to_first(pictures["dhash"])
        different = pictures.drop_duplicates("dhash")
        hashes = np.frombuffer(bytes.fromhex("".join(different["dhash"])), np.uint64).reshape(-1, WORDS)
        close = [close_pairs(hashes, most_bits), turned_pairs(hashes, most_bits)]
        if root is not None:
            paths = [root / path for path in different["path"]]
            close.append(np.array(list(overlaid_pairs(paths, most_bits)), np.int64).reshape(-1, 3))
        for each in close:
            each[:, :2] = different.index.to_numpy()[each[:, :2]]
        pairs += [twins, *close]
    every = pd.DataFrame(np.concatenate(pairs), columns=["one", "other", "bits"]).sort_values("bits")
    one, other, bits = every.drop_duplicates(["one", "other"]).to_numpy().T  # some are found in two ways
    table = table.drop(columns="dhash")
    sides = [table.loc[rows].add_suffix(side).reset_index(drop=True) for rows, side in ((one, "_a"), (other, "_b"))]
    found = pd.concat(sides, axis=1).assign(bits=bits)[COLUMNS]
    return found.sort_values(["bits", "path_a", "path_b"], ignore_index=True)


def _to_first(values: pd.Series) -> np.ndarray:
    """Pair each repeated value with its first: (M,3) int64 of two index labels and 0."""
    rows = values.index.to_series()
    first = rows.groupby(values).transform("first")
    pairs = pd.DataFrame({"first": first, "again": rows, "bits": 0}, dtype=np.int64)
    return pairs[first < rows].to_numpy()


def close_pairs(hashes: np.ndarray, most_bits: int) -> np.ndarray:
    """Find all pairs of rows that differ in few bits.

    Args:
        hashes: (N,W) uint64, N at least 1, W even and at most 8.
        most_bits: Largest number of bits.

    Returns:
        (M,3) int64: smaller row, larger row, bits; sorted by rows.
    """
    half = hashes.shape[1] // 2
    words = np.ascontiguousarray(hashes[:, :half].T)  # (W/2,N): neighbours in memory are compared one after the other

    def compare(first: int) -> np.ndarray:
        left = hashes[first : first + ROWS]
        found = [np.empty((0, 3), np.int64)]
        differs = np.empty((len(left), PLACES), np.uint64)  # written again and again, so that it stays in the cache
        counts = np.empty((2, len(left), PLACES), np.uint8)
        for start in range(first, len(hashes), PLACES):
            right = words[:, start : start + PLACES]
            differ, count, bits = (each[:, : right.shape[1]] for each in (differs, *counts))
            bits[:] = 0
            for word in range(half):
                np.bitwise_xor(left[:, word, None], right[word], out=differ)
                # Up to 256 bits, of which uint8 makes 0: a pair too many, which the second half sorts out.
                np.add(bits, np.bitwise_count(differ, out=count), out=bits)
            if bits.min() > most_bits:
                continue
            one, other = (bits <= most_bits).nonzero()
            one, other = one + first, other + start
            one, other = one[one < other], other[one < other]
            exact = _bits_apart(hashes[one], hashes[other])
            near = exact <= most_bits
            found.append(np.stack([one[near], other[near], exact[near]], axis=1))
        return np.concatenate(found)

    with ThreadPoolExecutor(usable_processors()) as pool:  # numpy computes without Python's lock
        pairs = np.concatenate(list(pool.map(compare, range(0, len(hashes), ROWS))))
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def turned_pairs(hashes: NDArray[np.uint64], most_bits: int) -> NDArray[np.int64]:
    """Find pairs of rows that differ in few bits once one of the two pictures is mirrored or turned by quarters.

    A first look chooses pairs among many: it compares what neither mirroring nor turning changes, the amounts of low
    frequencies in both directions. Of 120 photographs, each mirrored and turned in the seven ways and recompressed, 834
    of 840 were found; the others have large areas of one brightness.

    Args:
        hashes: (N,8) uint64.
        most_bits: Largest number of bits.

    Returns:
        As :func:`close_pairs`.
    """
    bits = np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8), axis=1)
    one, other = np.triu_indices(len(bits), 1) if len(bits) <= ALL_PAIRS else _alike_when_turned(bits)
    best = np.min([_bits_apart(hashes[one], turn_hashes(bits, turn)[other]) for turn in TURNS[1:]], axis=0)
    return np.stack([one, other, best], axis=1)[best <= most_bits]


def _alike_when_turned(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Choose pairs of hashes (N,512) that may be of one picture, turned: (2,M)."""
    maps = bits.reshape(-1, 2, HASH_CELLS, HASH_CELLS).astype(np.float32) * 2 - 1
    amounts = np.abs(dctn(maps, axes=(2, 3), norm="ortho")[:, :, :FREQUENCIES, :FREQUENCIES])
    across, down = amounts[:, 0], amounts[:, 1].transpose(0, 2, 1)
    looks = np.concatenate([across + down, np.abs(across - down)], axis=1).reshape(len(bits), -1)
    looks = (looks - looks.mean(axis=0)) / np.maximum(looks.std(axis=0), 1e-6)
    return np.array([(one, other) for one, other, _ in alike(looks, looks, TURNED_COSINE)], np.int64).reshape(-1, 2).T


def turn_hashes(bits: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint64]:
    """Make hashes of pictures into those of the pictures turned; where two cells are equal, a bit is wrong.

    Mirrored, a bit lies on the other side, and is inverted if it compares in that direction.

    Args:
        bits: (N,512).
        turn: One of :data:`flowers.curation.overlay.TURNS`.

    Returns:
        (N,8).
    """
    maps = bits.reshape(-1, 2, HASH_CELLS, HASH_CELLS)
    if turn[0]:
        maps = maps[:, ::-1]  # what compared from left to right compares from top to bottom
    inverted = np.array(turn[1:], np.uint8)[:, None, None]
    return np.packbits((turn_pictures(maps, turn) ^ inverted).reshape(len(bits), -1), axis=1).view(np.uint64)


def _bits_apart(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.bitwise_count(one ^ other).sum(axis=1, dtype=np.int64)


def similar_features(features: np.ndarray, least_cosine: float) -> pd.DataFrame:
    """Find the pairs whose features of a network point in nearly the same direction.

    It finds what the hash does not, other shots of the same scene, and misses what the hash finds, strongly toned
    copies. On the photographs above, with the features of a frozen MobileNetV2: 14 pairs from 0.91 up, nearly all of
    one scene, 5 of them also near by their hashes; below 0.908 there are different flowers. The 14 pairs of the hash
    have cosines of 0.58 to 0.95.

    Args:
        features: (N,D) floating-point, one row for each photograph.
        least_cosine: In (0, 1].

    Returns:
        `row_a` < `row_b` and `cosine`, the most similar first. A row of zeros is in no pair.
    """
    pairs = pd.DataFrame(alike(features, features, least_cosine), columns=["row_a", "row_b", "cosine"])
    pairs = pairs.astype({"row_a": np.int64, "row_b": np.int64, "cosine": np.float64})
    return pairs.sort_values("cosine", ascending=False, kind="stable", ignore_index=True)
