"""What MLflow costs: the same training with and without it, in turn."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAIRS = 3


def measure() -> list[tuple[str, str]]:
    """Train `cnn_scratch` as whole processes, alternately with and without tracking."""
    spent: dict[str, list[float]] = {"true": [], "false": []}
    with tempfile.TemporaryDirectory() as folder:
        train("false", folder, "warm")  # renders and decodes, which later ones find done
        train("true", folder, "store")  # makes the store, which is done once in a project's life
        for number in range(PAIRS):
            for enabled, times in spent.items():
                start = time.perf_counter()
                train(enabled, folder, f"{enabled}{number}")
                times.append(time.perf_counter() - start)
    ratios = [tracked / bare for tracked, bare in zip(spent["true"], spent["false"], strict=True)]
    return [
        ("`cnn_scratch` without MLflow", f"{statistics.median(spent['false']):.1f} s (median of {PAIRS})"),
        ("with MLflow", f"{statistics.median(spent['true']):.1f} s (median of {PAIRS})"),
        ("cost", f"{statistics.median(ratios) - 1:+.1%} (median of {PAIRS} pairs)"),
    ]


def train(enabled: str, folder: str, out: str) -> None:
    """Train in a process of its own, which includes all that it imports."""
    words = ["experiment=cnn_scratch", f"tracking.enabled={enabled}", f"out_dir={out}", "trainer.progress=none"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "flowers.train", *words]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
