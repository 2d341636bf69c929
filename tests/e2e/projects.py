"""Copies of the project whose work is a matter of seconds, and commands in them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# `key: value` lines of conf/ that make the copy's work a matter of seconds.
SMALLER = {
    "conf/data/sample.yaml": [(r"(\w+): 200", r"\1: 12"), (r"size_px: \d+", "size_px: 32")],
    "conf/data/species.yaml": [(r"(\w+): 100", r"\1: 8"), (r"size_px: \d+", "size_px: 32")],
    "conf/data/other_plants.yaml": [(r"(\w+): (12|60)", r"\1: 3"), (r"size_px: \d+", "size_px: 32")],
    "conf/trainer/default.yaml": [
        ("train_batches: null", "train_batches: 2"),
        ("precision: auto", "precision: 32-true"),
    ],
    "conf/model/*.yaml": [
        (r"image_px: \d+", "image_px: 32"),
        (r"epochs: \d+", "epochs: 1"),
        (r"width: 32", "width: 4"),
    ],
    "conf/experiment/*.yaml": [(r"epochs: [1-9]\d*", "epochs: 1")],
}


def copy_project(copy: Path, **params: Any) -> Path:
    """Copy what git knows of the project, with less to do, and commit it there.

    Args:
        copy: The folder; it is made.
        **params: Changes of ``params.yaml``.
    """
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and the project's repository")
    for name in names:
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("notebooks/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    make_smaller(copy)
    whole = yaml.safe_load((copy / "params.yaml").read_text())
    (copy / "params.yaml").write_text(yaml.safe_dump(whole | params, sort_keys=False))
    run(copy, "git", "init", "--quiet")
    commit(copy)
    return copy


def make_smaller(copy: Path) -> None:
    """Change the configuration in a folder as :data:`SMALLER` says."""
    for pattern, changes in SMALLER.items():
        for file in copy.glob(pattern):
            text = file.read_text()
            for old, new in changes:
                text = re.sub(old, new, text)
            file.write_text(text)


def commit(copy: Path) -> None:
    """Commit everything in a copy."""
    run(copy, "git", "add", "--all")
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(copy, "git", *author, "commit", "--quiet", "--no-verify", "--message=copy")


def run(project: Path, *words: str) -> str:
    """Run a command in the copy, with the copy's code; return what it printed."""
    paths = {"PYTHONPATH": str(project / "src"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    quiet = {
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_CEILING_DIRECTORIES": str(project.parent),
    }
    done = subprocess.run(
        words, cwd=project, env=os.environ | paths | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))
