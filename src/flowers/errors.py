"""The one error for what a user can correct, how its sentences name things, and files that are whole or raise it."""

import contextlib
import difflib
import errno
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

_NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory|can't start new thread", re.IGNORECASE)
"""What torch says, on the processor and on a GPU, and Python where a thread's stack finds no room."""


class UserError(Exception):
    """One sentence that names the file or key at fault and says what to do.

    Commands print it without a traceback and exit with code 2.
    """


def is_short_of_memory(error: BaseException) -> bool:
    """Tell whether Python, numpy, torch or the system says with an error that memory is short."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def missing(path: Path) -> str:
    """Say that a file or folder is not there, and where a relative path was looked for."""
    return f"{path} does not exist" + ("" if path.is_absolute() else f" in the working folder {Path.cwd()}")


def listed(names: Sequence[str]) -> str:
    """Join names as English does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Word a hint for a mistyped name.

    Args:
        name: What the user wrote.
        known: What could have been meant.

    Returns:
        ``"did you mean 'x'?"`` where one of the known names is near, else the list of all of them.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(names)}" if names else "none exist"


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
    partial = path.with_name(f".{os.getpid()}{mark}{path.suffix}")
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
