"""Look at every file once and write down what it is: the manifest.

A photograph is decoded to its last byte here, so that a damaged one is found before a training and not during
it, and is set aside with its reason. Nothing in the folder is ever written to.
"""

import hashlib
import os
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from flowers.config.provenance import usable_processors
from flowers.config.schema import Fit
from flowers.curation.split_table import read_table
from flowers.errors import UserError, readable, some
from flowers.sources.layouts import Listed, Listing, list_folders
from flowers.sources.photograph import PhotographError, decode, read_size

COLUMNS = ["path", "label", "sha256", "width_px", "height_px", "dhash", "status", "reason"]
FILES_PER_TASK = 16
HASH_CELLS = 16
LOOKED_AT = 1000
"""So many photographs, evenly spread, stand for all in :func:`describe_fit`."""
MANY_FRAC = 1 / 3


def difference_hash(image: Image.Image) -> str:
    """Describe a photograph by 512 bits that survive resizing, recompression and changes of colour.

    Bit by bit: is a cell of a greyscale thumbnail brighter than its left, then: than its upper neighbour?
    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013, there with 8 x 8 bits from left to right:
    too few for photographs of flowers, which are alike in their large shapes. Figures are in
    :mod:`flowers.curation.duplicates`.

    Args:
        image: Any size, mode RGB.

    Returns:
        128 hexadecimal digits; two photographs are alike where few bits differ.
    """
    grey, cells = image.convert("L"), HASH_CELLS
    across = np.asarray(grey.resize((cells + 1, cells), Image.Resampling.BOX))
    down = np.asarray(grey.resize((cells, cells + 1), Image.Resampling.BOX))
    return np.packbits([across[:, 1:] > across[:, :-1], down[1:] > down[:-1]]).tobytes().hex()


def scan(
    root: Path, strict: bool, workers: int | None = None, listing: Listing | None = None, min_side_px: int = 1
) -> pd.DataFrame:
    """Read and decode every photograph of a data set.

    A file that changes meanwhile is refused. Pillow decodes and hashlib hashes without Python's lock, so threads do: on
    two cores 1,200 photographs of 1024 px a second (one core 730), of 224 px, where much is Python, 2,400 to 3,700 (one
    core 2,600).

    Args:
        root: Folder that the photographs are in.
        strict: Raise if any file is refused.
        workers: Threads; None: one per core.
        listing: Which files, see :mod:`flowers.sources.layouts`; None: those in class folders, or in a division's.
        min_side_px: A photograph whose shorter side is below is refused.

    Returns:
        One row per file, sorted by path: `path` (relative to `root`, with slashes), `label`, `sha256` of the bytes,
        `width_px` and `height_px` of the upright photograph, `dhash` (:func:`difference_hash`), `status` (ok or
        refused), `reason`; where the data set came divided, `split` too. Of a refused file, what is unknown is empty
        or 0.

    Raises:
        UserError: There are no two classes of photographs in `root`, or `strict` and a file was refused.
    """
    found = sorted((listing or list_folders(root)).files, key=lambda file: file.path)
    with ThreadPool(workers or usable_processors()) as pool:
        rows = pool.imap(lambda file: _inspect(root, file, min_side_px), found, FILES_PER_TASK)
        bar = tqdm(rows, desc="reading", total=len(found), unit=" files", disable=None, leave=False)
        manifest = pd.DataFrame(list(bar), columns=COLUMNS)
    if any(file.split for file in found):
        manifest["split"] = [file.split for file in found]

    refused = manifest[manifest["status"] == "refused"]
    first = f"{refused['path'].iloc[0]} ({refused['reason'].iloc[0]})" if len(refused) else ""
    if len(refused) == len(manifest):
        raise UserError(f"{root} holds no usable photograph: {len(refused)} refused, first {first}; replace them.")
    if strict and len(refused):
        raise UserError(
            f"{root} holds {len(refused)} files that are refused, first {first}: "
            "repair or remove them, or set data.strict=false to leave them out."
        )
    usable = manifest[manifest["status"] == "ok"]
    labels = usable["label"].unique()
    if len(labels) == 1:
        raise UserError(
            f"{root} has usable photographs in one class only ({labels[0]}): {_second_class(usable, root)}."
        )
    return manifest


def _second_class(usable: pd.DataFrame, root: Path) -> str:
    """Say what to do where all photographs are of one class: their folders may be classes a step further down."""
    folders = {str(Path(path).parent) for path in usable["path"]}
    inside = os.path.commonpath(folders)
    below = sorted({Path(each).relative_to(inside).parts[0] for each in folders if each != inside})
    if not inside or len(below) < 2:
        return "add photographs of a second one"
    return f"add photographs of a second one, or give data.root={root / inside} if {some(below)} are the classes"


def _inspect(root: Path, file: Listed, min_side_px: int) -> tuple[str, str, str, int, int, str, str, str]:
    """Make one row of the manifest."""
    path, reason, digest = file.path, file.reason, ""
    shown, label = printable(path), printable(file.label)
    try:
        if shown != path:
            raise PhotographError("its name has a carriage return" if "\r" in path else "its name is not UTF-8")
        if reason:
            raise PhotographError(reason)
        with (root / path).open("rb") as stream:
            before = _state(os.fstat(stream.fileno()))
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            image, (width_px, height_px), _ = decode(stream, 64, min_side_px)
        if _state((root / path).stat()) != before:
            raise PhotographError("it changed while it was read")
        return path, label, digest, width_px, height_px, difference_hash(image), "ok", ""
    except (PhotographError, OSError) as error:
        text = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        return shown, label, digest, 0, 0, "", "refused", text


def _state(found: os.stat_result) -> tuple[int, int, int]:
    """Tell what changes with a file: which one it is, its size and its time."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def printable(path: str) -> str:
    """Write a path as a table can hold it: bytes that are not UTF-8, and what would end a row of CSV, are escaped."""
    return readable(path).replace("\r", "\\r")


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest that was written as CSV, as text."""
    return read_table(path, COLUMNS, "run download again")


def summarise(manifest: pd.DataFrame, most_refused: int = 10) -> str:
    """Word the manifest for a person.

    Args:
        manifest: What :func:`scan` returned.
        most_refused: How many refused files are listed by name.

    Returns:
        A line of totals, one with the photographs per class, and one for each refused file.
    """
    usable = manifest[manifest["status"] == "ok"]
    refused = manifest[manifest["status"] == "refused"]
    counts = usable["label"].value_counts().sort_index()
    dropped = int((manifest["status"] == "dropped").sum())
    lines = [
        f"{len(usable)} photographs in {len(counts)} classes, {len(refused)} files refused"
        + (f", {dropped} dropped by decisions" if dropped else ""),
        ", ".join(f"{label} {count}" for label, count in counts.items()),
    ]
    if lost := sorted(set(refused["label"]) - set(usable["label"]) - {""}):
        lines.append(f"without a usable photograph, and so no class: {', '.join(lost)}")
    shown = refused.head(most_refused)
    lines += [f"refused {path}: {reason}" for path, reason in zip(shown["path"], shown["reason"], strict=True)]
    if len(refused) > len(shown):
        lines.append(f"refused {len(refused) - len(shown)} more, see the manifest")
    return "\n".join(lines)


def is_oblong(width_px: Any, height_px: Any) -> Any:
    """Tell of sizes, numbers or arrays, whether a photograph loses more than a third of its area by cropping.

    3:2 is not oblong, whichever way its sides were rounded.
    """
    return 3 * (np.minimum(width_px, height_px) + 1) < 2 * np.maximum(width_px, height_px)


def describe_fit(files: Sequence[Path], image_px: int, fit: Fit) -> list[str]:
    """Say in sentences how a network sees many of some photographs otherwise than a person does.

    Only their headers are read. What cannot be read is passed over.

    Args:
        files: The photographs.
        image_px: Side of the square in pixels.
        fit: How they become squares.
    """
    sizes = [size for file in files[:: len(files) // LOOKED_AT + 1] if (size := read_size(file))]
    if not sizes:
        return []
    width_px, height_px = np.array(sizes).T
    seen_px = (np.maximum if fit == "pad" else np.minimum)(width_px, height_px)
    oblong, small = float(is_oblong(width_px, height_px).mean()), float((2 * seen_px < image_px).mean())
    notes = []
    if fit == "crop" and oblong > MANY_FRAC:
        notes.append(
            f"{oblong:.0%} of the photographs lose more than a third of their area, since the network sees the square "
            "in the middle (data.fit=crop); train with data.fit=pad, or squash, to show it the whole."
        )
    if small > MANY_FRAC:
        notes.append(
            f"{small:.0%} of the photographs are enlarged more than twofold to the {image_px} px that the network "
            "sees; take larger ones, or a network for smaller images."
        )
    return notes
