"""Show what is in a data set: ``flowers data_card data=folder data.root=PHOTOS out_dir=OUT``.

Writes ``card/index.html``, one page with everything in it, and ``card/card.json`` with its figures. What the pipeline
has downloaded and split under the data set's name is shown with that split; other photographs are taken in and split
as a training would.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.config.cli import run_command
from flowers.config.compose import read_data
from flowers.config.schema import Data, Settings
from flowers.curation.manifest import read_manifest
from flowers.curation.prepare import find_photographs, take_in
from flowers.curation.split_table import read_splits
from flowers.data.pixels import open_store
from flowers.errors import UserError
from flowers.evaluation.result_files import write_json
from flowers.report.data_card import describe, write_card
from flowers.tracking.runs import announce_store, tracked_run

PIPELINE = Path("artifacts")
THUMBNAIL_PX = 96
LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in brightness (ITU-R BT.709)."""
LICENCES = ("LICENSE.txt", "LICENSE", "LICENSE.md", "LICENCE.txt", "LICENCE", "README.txt")


def card(settings: Settings) -> Path:
    """Show what is in a data set.

    Returns:
        The page.

    Raises:
        UserError: If the photographs or their split cannot be used.
    """
    announce_store(settings)
    contents, out = look_into(read_data(settings)), Path(settings.out_dir) / "card"
    if contents.summary:
        print(contents.summary, flush=True)
    root = contents.root
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "card.json", contents.found)
    source = settings.data.source or {}
    origin = {"folder": str(root), **{key.strip("_"): str(value) for key, value in source.items()}}
    licence = next((root / name for name in LICENCES if (root / name).is_file()), None)
    text = "" if licence is None else licence.read_text(encoding="utf-8", errors="replace")
    write_card(contents.found, contents.table, contents.pixels, origin, text, out / "index.html")
    if settings.tracking.enabled:
        with tracked_run(settings, f"{settings.data.name} card", {"kind": "card"}) as run:
            for name in ("index.html", "card.json"):
                run.log_file(out / name, "card")
    print(f"{out / 'index.html'}: {len(contents.table)} photographs of {root}", flush=True)
    return out / "index.html"


@dataclass(frozen=True)
class Contents:
    """What is in a data set."""

    root: Path
    """Folder that paths are relative to."""
    table: pd.DataFrame
    """The N usable photographs: the rows of the split, and `width_px`, `height_px`, `bytes`, `brightness`."""
    pixels: np.ndarray
    """(N,H,H,3) uint8, thumbnails."""
    found: dict[str, Any]
    """What :func:`flowers.report.data_card.describe` says of them and of refused files, and `name`."""
    summary: str
    """What was found when they were taken in, in words; empty where that was done earlier."""


def look_into(data: Data) -> Contents:
    """Gather what is in a data set.

    Raises:
        UserError: If the photographs or their split cannot be used.
    """
    root, split, manifest, summary = _read(data)
    sizes = manifest.set_index("path")[["width_px", "height_px"]].astype(int)
    unknown = set(split["path"]) - set(sizes.index)
    if unknown:
        remedy = "run split again" if data.split_csv is None else "correct data.split_csv or data.root"
        raise UserError(f"the manifest of {root} lacks {min(unknown)}, which the split names; {remedy}.")
    table = split.join(sizes, on="path").reset_index(drop=True)
    pixels = open_store(root, table, THUMBNAIL_PX, Path(data.cache_dir), data.fit)
    table["bytes"] = [(root / path).stat().st_size for path in table["path"]]
    # The bars beside a photograph are not its own light.
    whole = open_store(root, table, THUMBNAIL_PX, Path(data.cache_dir), "squash") if data.fit == "pad" else pixels
    table["brightness"] = brightness(whole)
    refused = manifest[manifest["status"] == "refused"]
    return Contents(root, table, pixels, {"name": data.name, **describe(table, refused, data.fit)}, summary)


def _read(data: Data) -> tuple[Path, pd.DataFrame, pd.DataFrame, str]:
    """Find the photographs' folder, their split, the manifest of all files that were looked at, and words on them."""
    photographs, manifest = PIPELINE / "download" / data.name, PIPELINE / "download/manifest.csv"
    split_csv = PIPELINE / "split/split.csv"
    # A folder of the user's own may have changed since, and is looked at itself.
    made = data.source is not None and photographs.is_dir() and manifest.is_file() and split_csv.is_file()
    if data.split_csv is None and made:
        return photographs, read_splits(split_csv, "run split again"), read_manifest(manifest), ""
    root, split, summary = find_photographs(data)
    if data.split_csv is not None and root.parent == manifest.parent and manifest.is_file():
        return root, split, read_manifest(manifest), summary  # it knows of files that were not copied there
    return root, split, take_in(root, data)[0], summary


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


def main() -> None:
    """Describe the data set that the command line names."""
    run_command(card)
