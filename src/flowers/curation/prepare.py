"""From a folder or a source to photographs with a split, made on the way where there is none yet."""

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
from omegaconf import OmegaConf

from flowers.config.compose import compose_config, find_source, names_in, read_data, read_settings
from flowers.config.provenance import code_digest
from flowers.config.schema import Data, Settings
from flowers.curation.manifest import HASH_CELLS, read_manifest, scan, write_manifest
from flowers.curation.split_table import read_splits
from flowers.curation.splits import divide
from flowers.errors import UserError, suggestion
from flowers.sources.photograph import FORMATS

Fill = Callable[..., None]
"""Writes class folders into an empty ``root``, for example :func:`flowers.sources.synthetic.sample.render`."""


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
    text = (json.dumps(source, sort_keys=True) + code_digest("sources")).encode()
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


def find_photographs(data: Data) -> tuple[Path, pd.DataFrame, str | None]:
    """Find the photographs and their split, or make the split on the way.

    Returns:
        The folder that paths are relative to, the rows of the split, and what intake has to say; None if the split was
        made earlier.

    Raises:
        UserError: If the photographs or the split cannot be used.
    """
    if data.split_csv is not None:
        return Path(data.root), read_splits(Path(data.split_csv)), None
    root, split, summary = prepare(data, None if data.source is None else find_source(data.source))
    return root, split, f"{root}: {summary}"


def photographs_of(settings: Settings) -> tuple[Path, pd.DataFrame]:
    """Find the photographs that a configuration means, and their split, and say what intake refused.

    Returns:
        The folder that paths are relative to, and the rows of the split.

    Raises:
        UserError: If the photographs or the split cannot be used.
    """
    root, split, summary = find_photographs(read_data(settings))
    if summary and settings.progress != "none":
        print(summary, flush=True)
    return root, split


def find_folder(data: str, key: str) -> tuple[str, Path, bool]:
    """Find, and obtain where it is not here yet, what a user calls other photographs.

    Args:
        data: A name of ``conf/data``, or a folder (`./NAME` where it is called like one of those).
        key: What it was given with.

    Returns:
        The data set's name, its folder, and whether a file in it that cannot be used is an error.

    Raises:
        UserError: If there is neither such a data set nor such a folder.
    """
    names = names_in("data")
    if data in names:
        composed = compose_config([f"data={data}", "name=shift", "out_dir=."])  # what only a command has
        if OmegaConf.is_missing(composed.data, "root"):
            raise UserError(f"{key}={data} names no photographs by itself: name their folder with {key}=DIR.")
        settings = read_data(read_settings(composed))
        root = Path(settings.root)
        if settings.source is not None:
            root = obtain(root, settings.source, find_source(settings.source))
        return data, root, settings.strict
    if Path(data).is_dir():
        return Path(data).resolve().name, Path(data), False
    raise UserError(f"{key}={data} is neither a folder nor a data set of conf/data: {suggestion(data, names)}")
