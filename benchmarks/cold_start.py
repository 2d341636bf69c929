"""From a cold process to a saved model: seconds, and the peak of memory as the operating system counts it."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ("linear_probe", "mobilenetv2_finetune")
RUNS = 3


class Run(NamedTuple):
    """What a training in a process of its own took."""

    saved_s: float
    """Seconds until the model's folder was whole."""
    ended_s: float
    """Seconds until the process, which tells MLflow after that, had ended."""
    processor_s: float
    """Seconds of processor time of all its threads."""
    peak_gib: float
    """The largest resident size, shared libraries and mapped files included, as in `/usr/bin/time -v`."""


def measure(photographs: Path, weights: Path) -> list[tuple[str, str]]:
    """Train both recipes on class folders, seed 0, each time with new stores of pixels and of MLflow.

    Args:
        photographs: Class folders.
        weights: For timm's ``mobilenetv2_100`` with ``pad_type="same"``.
    """
    rows = []
    for experiment in EXPERIMENTS:
        runs = [train(experiment, photographs, weights) for _ in range(RUNS)]
        saved_s, ended_s, processor_s, _ = (statistics.median(figures) for figures in zip(*runs, strict=True))
        rows += [
            (f"`{experiment}`, until the model is saved", f"{saved_s:.0f} s (median of {RUNS})"),
            (f"`{experiment}`, until the process has ended", f"{ended_s:.0f} s"),
            (f"`{experiment}`, processor time", f"{processor_s:.0f} s"),
            (f"`{experiment}`, peak memory", f"{max(run.peak_gib for run in runs):.2f} GiB"),
        ]
    return rows


def train(experiment: str, photographs: Path, weights: Path) -> Run:
    """Train once."""
    words = [f"experiment={experiment}", f"weights={weights.resolve()}", "model.net.options.pad_type=same"]
    words += ["data=folder", f"data.root={photographs.resolve()}", "out_dir=out", "progress=none"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "flowers", "train", *words]
        begin_s, start = time.time(), time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
        processor_s, peak_gib = wait(process)
        ended_s = time.perf_counter() - start
        saved_s = Path(folder, "out/run.json").stat().st_mtime - begin_s  # it is the last file of the folder
    return Run(saved_s, ended_s, processor_s, peak_gib)


def wait(process: "subprocess.Popen[Any]") -> tuple[float, float]:
    """Wait for the end of a process.

    Returns:
        Seconds of processor time, and the peak of memory in GiB.

    Raises:
        SystemExit: It failed.
    """
    _, status, usage = os.wait4(process.pid, 0)  # which alone tells the memory of this one process
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{process.args!r} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 2**30
