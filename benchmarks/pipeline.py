"""How long a newcomer waits: `make repro` in a fresh clone, with and without the installation, and again."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def measure() -> list[tuple[str, str]]:
    """Clone the last commit into an empty folder and follow the README there."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "flowers"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        install_s = seconds(["make", ".venv/.ready"], clone)
        first_s = seconds(["make", "repro"], clone)
        second_s = seconds(["make", "repro"], clone)
        help_s = seconds([".venv/bin/python", "-m", "flowers", "train", "--help"], clone)
    return [
        ("the installation", f"{install_s / 60:.1f} min"),
        ("`make repro` from nothing, without it", f"{first_s / 60:.1f} min"),
        ("`make repro` again", f"{second_s:.1f} s"),
        ("`flowers train --help`", f"{help_s:.2f} s"),
    ]


def seconds(command: list[str], folder: Path) -> float:
    """Time a command, in seconds of wall clock."""
    # An active environment must not stand in for the clone's own.
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
