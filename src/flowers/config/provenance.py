"""Where a result comes from: seeds, commit, data, split, versions, machine; and digests, which tell contents apart."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import pandas as pd

_PACKAGES = ("flowers", "torch", "lightning", "torchmetrics", "numpy", "pillow", "mlflow", "hydra-core", "dvc")


def split_digest(split: "pd.DataFrame") -> str:
    """Digest which photographs are in which split; the order of rows does not count."""
    rows = split[["path", "label", "split", "sha256"]].sort_values("path")
    return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def data_digest(split: "pd.DataFrame") -> str:
    """Digest the photographs' contents and labels, whatever their names and splits."""
    rows = sorted(zip(split["sha256"], split["label"], strict=True))
    return hashlib.sha256("\n".join("/".join(row) for row in rows).encode()).hexdigest()


def git_commit() -> str | None:
    """Name the commit of the code that runs, with ``-dirty`` if the project's files differ; None outside a repository.

    New files count in ``conf`` and ``src``, ``dvc.lock`` does not: DVC itself writes it while a pipeline runs.
    """
    questions = (
        ["ls-files", "--others", "--ignored", "--exclude-standard", Path(__file__).name],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)dvc.lock"],
        ["ls-files", "--others", "--exclude-standard", "--", ":(top)conf", ":(top)src"],
    )
    options: dict[str, Any] = {"cwd": Path(__file__).parent, "text": True, "stderr": subprocess.DEVNULL, "timeout": 10}
    try:
        installed, head, changed, new = (
            subprocess.check_output(["git", *words], **options).strip() for words in questions
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if installed:  # into an environment that lies in a repository of something else
        return None
    return f"{head}-dirty" if changed or new else head


def describe(split: "pd.DataFrame | None") -> dict[str, Any]:
    """Gather what a result has to be quoted with; without a split, nothing is known of the data.

    Returns:
        For ``run.json``: ``git_commit``, ``data_sha256``, ``split_sha256``, ``peak_memory_bytes`` (of the process until
        now; what MLflow is told after a training is not in it), ``processor`` and ``versions``.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "git_commit": git_commit(),
        "data_sha256": None if split is None else data_digest(split),
        "split_sha256": None if split is None else split_digest(split),
        "peak_memory_bytes": peak_memory_bytes(),
        "processor": platform.processor() or platform.machine(),
        "versions": versions,
    }


def key_of(*decisive: Any) -> str:
    """Digest what decides a result, as far as JSON can write it, as a short name for what is kept of the work."""
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Compute the digest of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def peak_memory_bytes() -> int:
    """Read the largest resident size that this process has had so far, as the operating system counts it.

    Shared libraries and the mapped pages of files count, about 0.4 GiB of a training.
    """
    if resource is None:
        now = psutil.Process().memory_info()
        return int(getattr(now, "peak_wset", now.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def usable_processors() -> int:
    """Count the processors that this process may use; where the system does not say (macOS), all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def code_digest(*rooms: str) -> str:
    """Digest the source of some rooms of the package, or of single files, with the tables and profiles beside it.

    What is kept of their work is out of date when it changes.
    """
    package = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    found = (path for room in rooms for path in (package / room, *(package / room).rglob("*")))
    for path in sorted(path for path in found if path.suffix in (".py", ".yaml", ".icc")):
        hasher.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()


def shell_path(folder: Path) -> str:
    """Write a folder for a shell: if it is in the working folder, so that it also fits once that has moved."""
    whole = folder.absolute()
    text = str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)
    return shlex.quote(f"./{text}" if text.startswith(("~", "'", '"', "[")) else text)  # not as home, quotes or a list


def remake_command(folder: Path, more: Sequence[str] = ()) -> str:
    """Write the command that trains again what is in a folder, with equal weights, in the project's folder.

    Args:
        folder: What ``train`` wrote.
        more: Further words, such as :func:`flowers.config.untrusted.own_classes`.
    """
    out = shell_path(folder)
    # Not --config-dir, which Hydra searches after the project's own configuration.
    root = "" if out.startswith(("/", "'/")) else '"$PWD"/'
    # In short lines, as MLflow's page does not break them.
    words = shlex.join(["out_dir=again", *more])
    return f"flowers train \\\n  --config-path {root}{out} \\\n  --config-name config {words}"


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Give each use of randomness its own stream.

    Args:
        seed: The run's seed.
        purpose: What the stream is for, for example ``("shuffle", epoch)``.

    Returns:
        A seed in [0, 2**63) that differs between purposes and is the same on every machine.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
