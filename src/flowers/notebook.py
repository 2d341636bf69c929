"""What notebooks begin with: the project's folder, figures that show, errors in one sentence."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flowers.errors import UserError

if TYPE_CHECKING:
    from IPython.display import Markdown

PROJECT_FILE = "params.yaml"


def start_notebook() -> None:
    """Make a notebook ready: call it first.

    The working folder becomes the project's, wherever below it Jupyter was started. matplotlib's figures show without
    pyplot. An error that the reader can correct is one sentence instead of a traceback, and still
    ends what "run all" does.

    Raises:
        UserError: If the notebook lies in no project.
    """
    from IPython.core.getipython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    # Bars of text will do where the widgets are not installed.
    warnings.filterwarnings("ignore", message="IProgress not found")
    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((UserError,), _say_error)
        # As large as the package draws them, and not cut at their outermost ink.
        select_figure_formats(shell, {"retina"}, bbox_inches=None)
    os.chdir(project_folder(Path.cwd()))


def _say_error(
    shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: int | None = None
) -> list[str]:
    """Show an error as its sentence alone; called by IPython."""
    lines = [f"flowers: {error}"]
    shell._showtraceback(kind, error, lines)
    return lines


def project_folder(folder: Path) -> Path:
    """Find the project that a folder belongs to: itself, or the nearest one above it.

    Raises:
        UserError: If there is none.
    """
    for each in (folder, *folder.parents):
        if (each / PROJECT_FILE).is_file():
            return each
    raise UserError(f"{folder} is in no project (there is no {PROJECT_FILE} in it or above): call `make lab` in one.")


def sentences(lines: Iterable[str]) -> "Markdown":
    """Show sentences in a notebook as a list; what looks like markup in a name stays as it is."""
    from IPython.display import Markdown

    special = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|$~"})
    return Markdown("\n".join(f"- {sentence.translate(special)}" for sentence in lines))
