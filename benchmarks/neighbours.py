"""How long exact neighbours among 10,000 × 10,000 photographs of 64 px take, and how much memory."""

import subprocess
import sys
import time

import numpy as np

from benchmarks.intake import peak_kib
from flowers.evaluation.neighbours import METRICS, nearest

PHOTOGRAPHS, SIDE_PX, K, RUNS = 10_000, 64, 25, 2
PEER = 1_000
"""Photographs in the comparison with scikit-learn."""


def measure() -> list[tuple[str, str]]:
    """Search in processes of their own, whose memory is theirs alone, with each metric."""
    rows = []
    for metric in METRICS:
        for run in range(1, RUNS + 1):
            command = [sys.executable, "-m", "benchmarks.neighbours", metric]
            seconds, processor_s, mib, whole_mib = map(
                float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            )
            rows.append(
                (
                    f"{metric}, {PHOTOGRAPHS:,} × {PHOTOGRAPHS:,} photographs of {SIDE_PX} px, run {run}",
                    f"{seconds:.0f} s ({processor_s:.0f} s of processor time), {mib:.0f} MiB beside the pixels, "
                    f"peak of the process {whole_mib:.0f} MiB",
                )
            )
    command = [sys.executable, "-m", "benchmarks.neighbours", "peer"]
    own_s, peer_s = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    rows.append(
        (f"l1, {PEER:,} × {PEER:,}", f"{own_s:.1f} s of processor time, scikit-learn's search {peer_s:.1f} s"),
    )
    return rows


def compare() -> None:
    """Print the processor seconds of an L1 search, ours and scikit-learn's."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    queries, references = (rng.integers(0, 256, (PEER, SIDE_PX**2 * 3), dtype=np.uint8) for _ in range(2))
    nearest(queries[:2], references[:2], 1, "l1")
    begin = time.process_time()
    rows, _ = nearest(queries, references, K, "l1")
    own_s = time.process_time() - begin
    begin = time.process_time()
    peer = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="manhattan").fit(references.astype(np.float32))
    found = peer.kneighbors(queries.astype(np.float32), return_distance=False)
    print(own_s, time.process_time() - begin)
    assert (rows[:, 0] == found[:, 0]).all()


def main() -> None:
    """Print seconds, processor seconds, and MiB: what the search added to the pixels, and the whole process' peak."""
    if sys.argv[1] == "peer":
        compare()
        return
    rng = np.random.default_rng(0)
    # Noise, whose distances are as like as can be; but no pair is left out, so what is compared makes no difference.
    shape = (PHOTOGRAPHS, SIDE_PX, SIDE_PX, 3)
    queries, references = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    nearest(queries[:2], references[:2], 1, sys.argv[1])  # what is loaded at the first use
    before_kib = peak_kib()
    begin, processor = time.perf_counter(), time.process_time()
    rows, distances = nearest(queries, references, K, sys.argv[1])
    seconds, processor_s = time.perf_counter() - begin, time.process_time() - processor
    print(seconds, processor_s, (peak_kib() - before_kib) / 1024, peak_kib() / 1024)
    check(queries, references, rows, distances)


def check(queries: np.ndarray, references: np.ndarray, rows: np.ndarray, distances: np.ndarray) -> None:
    """Compare a few queries with whole-number arithmetic, so that no figure is of a wrong answer."""
    for query in range(0, len(queries), len(queries) // 4):
        parts = []
        for first in range(0, len(references), PEER):
            differences = references[first : first + PEER].astype(np.int64) - queries[query]
            differences = np.abs(differences) if sys.argv[1] == "l1" else differences**2
            parts.append(differences.sum(axis=(1, 2, 3)))
        exact = np.concatenate(parts)
        order = np.argsort(exact, kind="stable")[: rows.shape[1]]
        assert (rows[query] == order).all(), query
        assert (distances[query] == exact[order]).all(), query


if __name__ == "__main__":
    main()
