"""Files that appear whole or not at all, whatever ends their writing."""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from flowers.errors import UserError, disk_full, is_disk_full


@contextlib.contextmanager
def room_in(place: Path | None = None, presumed: str | None = None) -> Iterator[None]:
    """Say in one sentence that there is no room; where is told as in :func:`flowers.errors.disk_full`.

    Raises:
        UserError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise UserError(disk_full(error, place, presumed)) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Have a file appear whole or not at all, creating the folder.

    Yields:
        Where to write it instead; whatever ends the writing, Ctrl-C too, leaves an older file as it was.

    Raises:
        UserError: The disk is full, say.
    """
    with _partial(path, path) as partial:
        yield partial
        partial.replace(path)


@contextlib.contextmanager
def whole_files(folder: Path, last: str) -> Iterator[Path]:
    """Have files appear in a folder, which is made, when all of them are whole, or none of them.

    Args:
        folder: It may hold others; those of the same names are replaced.
        last: The file that comes last, so that it tells that all are there.

    Yields:
        An empty folder to write them to instead.

    Raises:
        UserError: The disk is full, say.
    """
    with _partial(folder, folder / last) as partial:
        partial.mkdir()
        yield partial
        for file in sorted(partial.iterdir(), key=lambda file: file.name == last):
            file.replace(folder / file.name)


@contextlib.contextmanager
def _partial(wanted: Path, path: Path) -> Iterator[Path]:
    """Name what is written beside a path first. It does not stay, nor does what killed processes have left."""
    mark = f"@{platform.node()}.part"  # the number of a process says nothing to another machine or container
    partial = path.with_name(f".{os.getpid()}{mark}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".*{mark}*"):
            if left == partial or not psutil.pid_exists(int(left.name[1:].partition("@")[0])):
                _remove(left)
        yield partial
    except OSError as error:
        raise UserError(
            f"{wanted} cannot be written ({error.strerror or error}): make room there or choose another folder."
        ) from error
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    """Remove a file, or a folder with what it holds, if it is there and can be."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()
