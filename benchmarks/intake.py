"""How long the intake of photographs of 1 megapixel takes, and whether its memory grows with their number."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from flowers.config.provenance import usable_processors
from flowers.curation.manifest import scan
from flowers.sources.synthetic.composition import Picture
from flowers.sources.synthetic.sample import paint

NUMBERS = (2_500, 10_000)
DIFFERENT, SIDE_PX = 200, 1000
KNOBS = dict.fromkeys(("illumination", "occlusion", "deformation", "clutter", "variation"), 0.5)


def measure() -> list[tuple[str, str]]:
    """Take in a folder of each size, in a process of its own, whose memory is its alone."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in NUMBERS:
            fill(Path(folder) / "photographs", number)
            command = [sys.executable, "-m", "benchmarks.intake", f"{folder}/photographs"]
            seconds, mib = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            figures = (
                f"{float(seconds):.0f} s, {number / float(seconds):.0f} a second, peak memory {float(mib):.0f} MiB"
            )
            rows.append((f"{number:,} photographs of 1 megapixel", figures))
    return rows


def fill(root: Path, number: int) -> None:
    """Fill two class folders up to a number of JPEGs, each with other bytes: some 200 pictures and their copies."""
    rng = np.random.default_rng(0)
    for index in range(number):
        path = root / ("daisy", "roses")[index % 2] / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        if index < DIFFERENT:
            small = paint(Picture("daisy", index + 1, seed=0, size_px=128, domain="garden", **KNOBS))
            large = np.asarray(small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC), dtype=np.int16)
            grain = rng.integers(-6, 7, large.shape, dtype=np.int16)  # what a sensor adds, and JPEG has to keep
            Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        else:
            first = root / ("daisy", "roses")[index % 2] / f"{index % DIFFERENT:05d}.jpg"
            path.write_bytes(first.read_bytes() + index.to_bytes(4, "big"))


def peak_kib() -> int:
    """Read the largest resident size of this process; the one of getrusage counts its parent's too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def main() -> None:
    """Print seconds and MiB."""
    begin = time.perf_counter()
    manifest = scan(Path(sys.argv[1]), strict=True, workers=min(2, usable_processors()))
    assert manifest["sha256"].is_unique
    print(time.perf_counter() - begin, peak_kib() / 2**10)


if __name__ == "__main__":
    main()
