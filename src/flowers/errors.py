"""The one kind of error for what a user can correct, and how its sentences name things."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path


class UserError(Exception):
    """One sentence that names the file or key at fault and says what to do.

    Commands print it without a traceback and exit with code 2.
    """


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
