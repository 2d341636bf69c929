"""Run the notebooks on what the pipeline left: ``flowers notebooks``.

Writes each beside its text with what it shows: ``notebooks/01_data.py`` to ``notebooks/01_data.ipynb``. The text is
what people review; the other file is never committed, and made anew each time. ``folder=DIR`` runs those of another
folder.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from flowers.atomic import whole_file
from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.errors import UserError

PATIENCE_S = 600
"""For one cell; what takes longer hangs."""
START_S = 300
"""For Python to start on a busy machine."""


@dataclass
class Arguments:
    """Keys of the command."""

    folder: Path = Path("notebooks")


def run_notebook(text: Path) -> Path:
    """Run a notebook from its first cell to its last, in a Python of its own.

    Args:
        text: A file in jupytext's percent format.

    Returns:
        The notebook with its outputs, beside the text. An older one is replaced, but only if no cell fails.

    Raises:
        UserError: With the sentence of the cell that asks the reader for something, or if Jupyter is not installed.
        CellExecutionError: If a cell fails otherwise.
    """
    try:
        import jupytext
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        raise UserError(f"notebooks need {error.name}, which is not installed: call `make install`.") from error
    notebook = jupytext.read(text)
    client = NotebookClient(notebook, timeout=PATIENCE_S, startup_timeout=START_S, kernel_name="python3")
    try:
        # In the folder where Jupyter starts it; without the kernel's stderr, on which it says that it listens.
        client.execute(cwd=str(text.parent.resolve()), stderr=subprocess.DEVNULL)
    except CellExecutionError as error:
        if error.ename == UserError.__name__:
            raise UserError(f"{text}: {error.evalue}") from error
        raise
    out = text.with_suffix(".ipynb")
    with whole_file(out) as partial:
        nbformat.write(notebook, partial)
    return out


def main() -> None:
    """Run the notebooks of the folder that the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        texts = sorted(arguments.folder.glob("*.py"))
        if not texts:
            raise UserError(
                f"{arguments.folder} holds no notebook: call this in the project's folder, or give folder=DIR."
            )
        for text in texts:
            begin = time.monotonic()
            out = run_notebook(text)
            print(f"{out}  ({time.monotonic() - begin:.0f} s)", flush=True)
