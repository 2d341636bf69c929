"""Where photographs come from: a folder as it is, or a source that fills one."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from flowers.data.intake import read_manifest, scan
from flowers.data.splits import assign_splits, read_splits
from flowers.errors import UserError
from flowers.settings import Data

Fill = Callable[..., None]
"""Writes class folders into an empty ``root``, for example :func:`flowers.data.sample.render`."""


def prepare(data: Data, fill: Fill | None) -> tuple[Path, pd.DataFrame]:
    """Get photographs ready for a training, doing on the way what no DVC stage has done.

    Args:
        data: With ``split_csv`` the split is read; without, photographs are obtained, taken in and split.
        fill: What ``data.source`` names, if it names something.

    Returns:
        The folder that paths are relative to, and the rows of the split.

    Raises:
        UserError: If the photographs or their split cannot be used.
    """
    if data.split_csv is not None:
        return Path(data.root), read_splits(Path(data.split_csv))
    root = Path(data.root) if fill is None else obtain(Path(data.root), data.source or {}, fill)
    return root, assign_splits(remembered_scan(root, data.strict, Path(data.cache_dir)), data.split)


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


def remembered_scan(root: Path, strict: bool, cache_dir: Path) -> pd.DataFrame:
    """Take a folder in, or reuse what was found when no file's size or time of change has altered since.

    Args:
        root: A folder of class folders.
        strict: Refuse the folder if a file in it is refused.
        cache_dir: Where the manifest is remembered.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
    listing = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([str(root.resolve()), strict, listing]).encode()).hexdigest()[:16]
    remembered = cache_dir / f"manifest-{key}.csv"
    if remembered.exists():
        return read_manifest(remembered)
    manifest = scan(root, strict)
    cache_dir.mkdir(parents=True, exist_ok=True)
    manifest.to_csv(remembered, index=False)
    return manifest


def copy_accepted(manifest: pd.DataFrame, root: Path, target: Path) -> None:
    """Copy the photographs that intake accepted, byte for byte.

    Args:
        manifest: With ``path`` and ``status``.
        root: Folder that its paths are relative to.
        target: Made anew.

    Raises:
        UserError: If a photograph went away in the meantime.
    """
    for path in manifest.loc[manifest["status"] == "ok", "path"]:
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(root / path, copy)
        except FileNotFoundError as error:
            raise UserError(f"{root / path} vanished while it was read; run download again.") from error
