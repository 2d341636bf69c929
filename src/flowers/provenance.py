"""Where a result comes from: commit, data, split, versions, machine."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from flowers.learning.precision import peak_memory_bytes

_PACKAGES = (
    "flowers",
    "torch",
    "lightning",
    "torchmetrics",
    "numpy",
    "pillow",
    "mlflow",
    "hydra-core",
    "dvc",
)


def split_digest(split: pd.DataFrame) -> str:
    """Digest which photographs are in which split; the order of rows does not count."""
    rows = split[["path", "label", "split", "sha256"]].sort_values("path")
    return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()


def data_digest(split: pd.DataFrame) -> str:
    """Digest the photographs' contents and labels, whatever their names and splits."""
    rows = sorted(zip(split["sha256"], split["label"], strict=True))
    return hashlib.sha256("\n".join("/".join(row) for row in rows).encode()).hexdigest()


def git_commit() -> str | None:
    """Name the commit of the project, with ``-dirty`` if its files differ; None outside a repository.

    ``dvc.lock`` does not count: DVC itself writes it while a pipeline runs.
    """
    head = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)dvc.lock")
    if head is None or changes is None:
        return None
    return f"{head}-dirty" if changes else head


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def describe(split: pd.DataFrame) -> dict[str, Any]:
    """Gather what a result has to be quoted with.

    Returns:
        For ``run.json``: ``git_commit``, ``data_sha256``, ``split_sha256``, ``peak_memory_bytes``, ``processor`` and
        ``versions``.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "git_commit": git_commit(),
        "data_sha256": data_digest(split),
        "split_sha256": split_digest(split),
        "peak_memory_bytes": peak_memory_bytes(),
        "processor": platform.processor() or platform.machine(),
        "versions": versions,
    }
