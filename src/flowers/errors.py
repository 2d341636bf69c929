"""The one error for what a user can correct, and how its sentences name things."""

import difflib
import errno
import re
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeGuard

_NO_MEMORY = re.compile(
    "not enough memory|(can't|cannot) allocate memory|out of memory|can't start new thread|failed to map segment",
    re.IGNORECASE,
)
"""What torch says, on the processor and on a GPU, Python of a thread's stack, and what loads libraries."""


class UserError(Exception):
    """One sentence that names the file or key at fault and says what to do.

    Commands print it without a traceback and exit with code 2.
    """


def is_short_of_memory(error: BaseException) -> bool:
    """Tell whether Python, numpy, torch or the system says with an error that memory is short."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, ImportError | OSError | RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def reason_of(error: BaseException) -> str:
    """Bring what a library says of damaged content, which it may quote whole, to a line of a sensible length."""
    return textwrap.shorten(str(error).encode(errors="backslashreplace").decode() or type(error).__name__, 300)


def is_disk_full(error: BaseException) -> TypeGuard[OSError]:
    """Tell whether the system says with an error that a disk, a quota or a limit leaves no room for a file."""
    if not isinstance(error, OSError):
        return False
    # Python tries each folder for temporary files, and says no more.
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No usable temporary directory" in str(error)


def disk_full(error: OSError, place: Path | str | None = None, presumed: str | None = None) -> str:
    """Say that a place has no room.

    Args:
        error: For which :func:`is_disk_full` holds.
        place: None: what the error names.
        presumed: What is meant if the error names nothing, as most do; None: it is not known.
    """
    place = place or error.filename2 or error.filename or presumed  # of a copy, the second is what is written
    unknown = f"standard output, {Path.cwd()} or the folder of temporary files ({tempfile.tempdir or 'TMPDIR'})"
    return f"{place or unknown} cannot be written ({error.strerror}): make room there."


def missing(path: Path) -> str:
    """Say that a file or folder is not there, and where a relative path was looked for."""
    return f"{path} does not exist" + ("" if path.is_absolute() else f" in the working folder {Path.cwd()}")


def listed(names: Sequence[str]) -> str:
    """Join names as English does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def some(names: Sequence[str], most: int = 3) -> str:
    """Name the first of many, and say how many there are."""
    return ", ".join(names[:most]) + (f" … ({len(names)} in all)" if len(names) > most else "")


def readable(text: str) -> str:
    """Show the bytes of a file's name that are not UTF-8, so that it can be printed."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


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
