"""Where photographs come from: a folder as it is, or a source that fills one."""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from flowers.data.division import divide
from flowers.data.intake import HASH_CELLS, read_manifest, scan, write_manifest
from flowers.data.photograph import FORMATS
from flowers.settings import Data

Fill = Callable[..., None]
"""Writes class folders into an empty ``root``, for example :func:`flowers.data.sample.render`."""


def prepare(data: Data, fill: Fill | None) -> tuple[Path, pd.DataFrame, str]:
    """Get photographs ready for a training as the stages ``download`` and ``split`` would.

    Args:
        data: Where the photographs are and how they are split.
        fill: What ``data.source`` names, if it names something.

    Returns:
        The folder that paths are relative to, the rows of the split, and what was found, in words.

    Raises:
        UserError: If the photographs cannot be used.
    """
    root = Path(data.root) if fill is None else obtain(Path(data.root), data.source or {}, fill)
    manifest, file = remembered_scan(root, data.strict, Path(data.cache_dir))
    split, summary = divide(manifest, data, root)
    if (manifest["status"] == "refused").any():
        summary += f"\nmanifest of all files: {file}"
    return root, split, summary


def obtain(root: Path, source: dict[str, Any], fill: Fill) -> Path:
    """Fill a folder beside `root` that is named after the source's settings, unless it is there already.

    Args:
        root: Its name begins the folder's.
        source: The settings, given to `fill`.
        fill: Called once; it leaves either a whole folder or none.

    Returns:
        The filled folder.
    """
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    text = json.dumps(source, sort_keys=True).encode() + code
    folder = root.with_name(f"{root.name}-{hashlib.sha256(text).hexdigest()[:8]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            fill(folder, **{name: value for name, value in source.items() if name != "_target_"})
    return folder


def remembered_scan(root: Path, strict: bool, cache_dir: Path) -> tuple[pd.DataFrame, Path]:
    """Take a folder in, or reuse what was found when no file's size or time of change has altered since.

    Args:
        root: A folder of class folders.
        strict: Refuse the folder if a file in it is refused.
        cache_dir: Where the manifest is remembered.

    Returns:
        The manifest, and the file that it is remembered in.
    """
    reader = [*FORMATS, HASH_CELLS]  # what another version, or with another library, would find otherwise
    key = hashlib.sha256(json.dumps([str(root.resolve()), strict, reader, _listing(root)]).encode()).hexdigest()[:16]
    remembered = cache_dir / f"manifest-{key}.csv"
    if remembered.exists():
        return read_manifest(remembered), remembered
    manifest = scan(root, strict)
    write_manifest(manifest, remembered)
    return manifest, remembered


def _listing(root: Path) -> list[tuple[str, int, int]]:
    """List name, size and time of change of every file in the class folders; what vanishes meanwhile is left out."""
    # A class folder may be a link, which rglob would not follow from above.
    classes = [entry for entry in root.iterdir() if os.path.isdir(entry)] if root.is_dir() else []  # noqa: PTH112
    found = []
    for path in sorted(path for folder in classes for path in folder.rglob("*")):
        with contextlib.suppress(OSError):
            state = path.stat()
            if stat.S_ISREG(state.st_mode):
                found.append((str(path), state.st_size, state.st_mtime_ns))
    return found
