"""How long the search for near-duplicates takes, and how much memory, in 100,000 photographs."""

import hashlib
import subprocess
import sys
import time

import numpy as np
import pandas as pd

from benchmarks.intake import peak_kib
from flowers.curation.duplicates import near_duplicates
from flowers.curation.manifest import HASH_CELLS

PHOTOGRAPHS, COPIES, NEAR_BITS = 100_000, 1_000, 90


def measure() -> list[tuple[str, str]]:
    """Search in a process of its own, whose memory is its alone."""
    command = [sys.executable, "-m", "benchmarks.duplicates"]
    seconds, gib, found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [
        (f"pairs found among {PHOTOGRAPHS:,} photographs with {COPIES:,} near-duplicates", f"{int(found):,}"),
        ("time", f"{float(seconds):.0f} s"),
        ("peak memory", f"{float(gib):.1f} GiB"),
    ]


def manifest() -> pd.DataFrame:
    """Make hashes as unequal as those of real photographs, where a bit is often like its neighbours."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (PHOTOGRAPHS, HASH_CELLS**2), dtype=np.uint8).repeat(2, axis=1)
    bits[-COPIES:] = bits[:COPIES]
    for row in bits[-COPIES:]:
        row[rng.choice(row.size, rng.integers(1, NEAR_BITS), replace=False)] ^= 1
    hashes = [row.tobytes().hex() for row in np.packbits(bits, axis=1)]
    table = pd.DataFrame({"dhash": hashes, "status": "ok", "label": "a"})
    names = [str(number) for number in range(PHOTOGRAPHS)]
    return table.assign(path=names, sha256=[hashlib.sha256(name.encode()).hexdigest() for name in names])


def main() -> None:
    """Print seconds, GiB and the number of pairs."""
    table = manifest()
    begin = time.perf_counter()
    found = near_duplicates(table, NEAR_BITS)
    print(time.perf_counter() - begin, peak_kib() / 2**20, len(found))


if __name__ == "__main__":
    main()
