"""Get the photographs of a data set: ``flowers download data=sample out_dir=artifacts/download``.

Writes the photographs that intake accepted in class folders, and ``manifest.csv`` with a row for every file that was
looked at, refused ones with their reason.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from flowers.atomic import whole_file
from flowers.config.cli import run_command
from flowers.config.compose import find_source, read_data
from flowers.config.provenance import file_digest
from flowers.config.schema import Settings
from flowers.curation.manifest import scan, summarise
from flowers.curation.prepare import list_photographs, source_digest
from flowers.curation.split_table import write_table
from flowers.errors import UserError
from flowers.sources.archives import is_empty, unfinished_folder, whole_folder


def download(settings: Settings) -> None:
    """Fill ``out_dir/<data set>`` and write ``out_dir/manifest.csv``; go on where the same call was killed.

    Raises:
        UserError: If the photographs cannot be used, or there are some in the folder already.
    """
    data = read_data(settings)
    photographs = Path(settings.out_dir, data.name)
    begun = photographs.with_name(f".{photographs.name}.begun")
    if not is_empty(photographs) and not begun.exists():
        raise UserError(f"{photographs} is not empty; choose another out_dir, or delete that folder to fill it anew.")
    if data.source is not None:
        fill_once(photographs, begun, source_digest(data.source), find_source(data.source))
    root = Path(data.root) if data.source is None else photographs
    listing = list_photographs(root, data)
    manifest = scan(root, data.strict, listing=listing, min_side_px=data.min_side_px)
    if data.source is None:
        digest = hashlib.sha256(manifest.to_csv().encode()).hexdigest()
        fill_once(photographs, begun, digest, lambda folder: copy_accepted(manifest, root, folder))
    write_table(manifest, Path(settings.out_dir, "manifest.csv"))
    print("\n".join([f"{photographs}:", summarise(manifest), *listing.notes]), flush=True)
    begun.unlink()


def fill_once(folder: Path, begun: Path, digest: str, fill: Callable[[Path], Any]) -> None:
    """Fill a folder, unless a call that was killed later has done so.

    Args:
        folder: Empty, or filled by such a call.
        begun: A file for the digest, which is there until the whole call ends.
        digest: What the folder is filled with.
        fill: Fills it whole or not at all.

    Raises:
        UserError: It was filled with something else.
    """
    if not is_empty(folder):
        if begun.read_text(encoding="utf-8") != digest:
            raise UserError(
                f"{folder} was filled with other photographs by a download that was stopped: delete that folder, or "
                "choose another out_dir."
            )
        with unfinished_folder(folder):  # which removes what that call could not
            return
    with whole_file(begun) as partial:
        partial.write_text(digest, encoding="utf-8")
    try:
        fill(folder)
    except BaseException:
        begun.unlink()
        raise


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


def main() -> None:
    """Get the data set that the command line names."""
    run_command(download)
