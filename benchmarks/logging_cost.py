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
    """Train `cnn_scratch` as whole processes, alternately without and with tracking."""
    bare: list[tuple[float, float]] = []
    tracked: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        train("false", folder, "warm")  # renders and decodes, which later ones find done
        for number in range(PAIRS):
            bare.append(train("false", folder, f"bare{number}"))
            tracked.append(train("true", folder, f"tracked{number}"))
    pairs = list(zip(bare, tracked, strict=True))
    during = statistics.median(with_it[0] / without[0] - 1 for without, with_it in pairs)
    once_s = statistics.median(with_it[1] - without[1] for without, with_it in pairs)
    return [
        (
            "`cnn_scratch` without MLflow, from its first epoch to its last",
            f"{statistics.median(b[0] for b in bare):.1f} s",
        ),
        ("with MLflow", f"{statistics.median(t[0] for t in tracked):.1f} s"),
        ("cost while training", f"{during:+.1%} (median of {PAIRS} pairs)"),
        ("cost once per run: importing MLflow, opening its store, exporting the model", f"{once_s:.1f} s"),
    ]


def train(enabled: str, folder: str, out: str) -> tuple[float, float]:
    """Train in a process of its own.

    Returns:
        Seconds from the end of the first epoch to the end of the last, and all others of the process.
    """
    words = ["experiment=cnn_scratch", f"tracking.enabled={enabled}", f"out_dir={out}", "progress=lines"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "flowers", "train", *words]
    start = time.perf_counter()
    epochs: list[float] = []
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch"):
                epochs.append(time.perf_counter())
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    training_s = epochs[-1] - epochs[0]
    return training_s, time.perf_counter() - start - training_s
