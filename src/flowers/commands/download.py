"""Get the photographs of a data set: ``flowers download data=sample out_dir=artifacts/download``.

Writes the photographs that intake accepted in class folders, and ``manifest.csv`` with a row for every file that was
looked at, refused ones with their reason.
"""

import shutil
from pathlib import Path

import pandas as pd

from flowers.config.cli import run_command
from flowers.config.compose import find_source, read_data
from flowers.config.provenance import file_digest
from flowers.config.schema import Settings
from flowers.curation.manifest import scan, summarise
from flowers.curation.prepare import list_photographs
from flowers.curation.split_table import write_table
from flowers.errors import UserError
from flowers.sources.archives import whole_folder


def download(settings: Settings) -> None:
    """Fill ``out_dir/<data set>`` and write ``out_dir/manifest.csv``.

    Raises:
        UserError: If the photographs cannot be used, or there are some in the folder already.
    """
    data = read_data(settings)
    out = Path(settings.out_dir)
    photographs = out / data.name
    if photographs.exists() and any(photographs.iterdir()):
        raise UserError(f"{photographs} is not empty; choose another out_dir, or delete that folder to fill it anew.")
    out.mkdir(parents=True, exist_ok=True)
    if data.source is not None:
        find_source(data.source)(photographs)
    root = Path(data.root) if data.source is None else photographs
    listing = list_photographs(root, data)
    manifest = scan(root, data.strict, listing=listing, min_side_px=data.min_side_px)
    if data.source is None:
        copy_accepted(manifest, root, photographs)
    write_table(manifest, out / "manifest.csv")
    print("\n".join([f"{photographs}:", summarise(manifest), *listing.notes]), flush=True)


def copy_accepted(manifest: pd.DataFrame, root: Path, target: Path) -> None:
    """Copy the photographs that intake accepted, byte for byte.

    Args:
        manifest: With ``path``, ``sha256`` and ``status``.
        root: Folder that its paths are relative to.
        target: Made anew, whole or not at all.

    Raises:
        UserError: If a photograph went away or changed in the meantime, or there is no room.
    """
    accepted = manifest[manifest["status"] == "ok"]
    try:
        with whole_folder(target) as building:
            for path, digest in zip(accepted["path"], accepted["sha256"], strict=True):
                copy = building / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copyfile(root / path, copy)
                except FileNotFoundError as error:
                    raise UserError(f"{root / path} vanished while it was read; run download again.") from error
                if file_digest(copy) != digest:
                    raise UserError(f"{root / path} changed while it was read; run download again.")
    except OSError as error:  # it may name the photograph, where the place that it is copied to is meant
        raise UserError(f"{target} cannot be filled ({error.strerror}): make room there.") from error


def main() -> None:
    """Get the data set that the command line names."""
    run_command(download)
