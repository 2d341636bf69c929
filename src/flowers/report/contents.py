"""What is in a data set, gathered: its photographs, their split, what was refused, and what these tell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.config.schema import Data
from flowers.curation.manifest import read_manifest
from flowers.curation.prepare import prepare, remembered_scan
from flowers.curation.split_table import read_splits
from flowers.data.pixels import open_store
from flowers.errors import UserError
from flowers.report.data_card import describe

PIPELINE = Path("artifacts")
THUMBNAIL_PX = 96
LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in brightness (ITU-R BT.709)."""


@dataclass(frozen=True)
class Contents:
    """What is in a data set."""

    root: Path
    """Folder that paths are relative to."""
    table: pd.DataFrame
    """The N usable photographs: the rows of the split, and `width_px`, `height_px`, `bytes`, `brightness`."""
    refused: pd.DataFrame
    """Files that are set aside, with `path` and `reason`."""
    pixels: np.ndarray
    """(N,H,H,3) uint8, thumbnails."""
    found: dict[str, Any]
    """What :func:`flowers.report.data_card.describe` says of them, and `name`."""


def look_into(data: Data) -> Contents:
    """Gather what is in a data set.

    Raises:
        UserError: If the photographs or their split cannot be used.
    """
    root, split, manifest = _read(data)
    sizes = manifest.set_index("path")[["width_px", "height_px"]].astype(int)
    unknown = set(split["path"]) - set(sizes.index)
    if unknown:
        raise UserError(f"the manifest of {root} lacks {min(unknown)}, which the split names; run split again.")
    table = split.join(sizes, on="path").reset_index(drop=True)
    pixels = open_store(root, table, THUMBNAIL_PX, Path(data.cache_dir))
    table["bytes"] = [(root / path).stat().st_size for path in table["path"]]
    table["brightness"] = brightness(pixels)
    refused = manifest[manifest["status"] == "refused"]
    return Contents(root, table, refused, pixels, {"name": data.name, **describe(table, refused)})


def brightness(pixels: np.ndarray, at_once: int = 256) -> np.ndarray:
    """Compute the mean luma of each photograph.

    Args:
        pixels: (N,H,W,3) uint8.
        at_once: Photographs taken at a time, which bounds the memory.

    Returns:
        (N,) in [0, 1].
    """
    parts = [pixels[first : first + at_once].mean(axis=(1, 2)) for first in range(0, len(pixels), at_once)]
    return np.concatenate(parts) @ np.array(LUMA) / 255


def _read(data: Data) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """Find the photographs' folder, their split and the manifest of all files that were looked at."""
    photographs, manifest = PIPELINE / "download" / data.name, PIPELINE / "download" / "manifest.csv"
    split_csv = PIPELINE / "split" / "split.csv"
    # A folder of the user's own may have changed since, and is looked at itself.
    made = data.source is not None and photographs.is_dir() and manifest.is_file() and split_csv.is_file()
    if data.split_csv is None and made:
        return photographs, read_splits(split_csv), read_manifest(manifest)
    if data.split_csv is not None:
        root, split = Path(data.root), read_splits(Path(data.split_csv))
        if root.parent == manifest.parent and manifest.is_file():  # it knows of files that were not copied there
            return root, split, read_manifest(manifest)
    else:
        root, split, _ = prepare(data)
    return root, split, remembered_scan(root, data.strict, Path(data.cache_dir))[0]
