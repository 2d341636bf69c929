"""What the notebooks begin with: the project's folder, figures that show, errors in one sentence."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flowers.config.compose import CONF_DIR, change, compose_config, read_settings
from flowers.config.schema import Settings
from flowers.errors import UserError, suggestion

if TYPE_CHECKING:
    from IPython.display import Markdown

    from flowers.evaluation.results import Place

PROJECT_FILE = "params.yaml"
PIPELINE = Path("artifacts")
SPLIT = "split/split.csv"


def start() -> None:
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


def settings_for(photographs: str, *overrides: str) -> Settings:
    """Compose the configuration of a command on photographs; on those of the pipeline, where it has them, as it does.

    Args:
        photographs: A name of ``conf/data``, or a folder of class folders (`./NAME` where it is called like a name).
        overrides: Further ones, as on the command line.

    Raises:
        UserError: If there is neither such a data set nor such a folder, or an override cannot be used.
    """
    names = sorted(file.stem for file in (CONF_DIR / "data").glob("*.yaml"))
    if photographs in names:
        chosen = [f"data={photographs}"]
        if (PIPELINE / "download" / photographs).is_dir() and (PIPELINE / SPLIT).is_file():
            chosen += [f"data.root={PIPELINE / 'download' / photographs}", f"data.split_csv={PIPELINE / SPLIT}"]
            # The photographs are there, and the split has the decisions.
            chosen += ["data.source=null", "data.decisions=null"]
    elif Path(photographs).is_dir():
        chosen = ["data=folder", "data.root=."]
    else:
        raise UserError(
            f"'{photographs}' is neither a folder nor a data set of conf/data: {suggestion(photographs, names)}"
        )
    # What only a command has.
    settings = read_settings(compose_config(["name=notebook", "out_dir=.", *chosen, *overrides]))
    if photographs not in names:  # any characters, which an override could not hold
        settings = change(settings, {"data.root": photographs})
    return settings


def find_training(folder: Path) -> "Place":
    """Find a training and its evaluation.

    Raises:
        UserError: If it is not there or not evaluated; with the command that makes it.
    """
    from flowers.evaluation.results import own_places

    if not (folder / "run.json").is_file():
        raise UserError(
            f"{folder} holds no training yet: call `make repro`, or name the folder of a training of your own (its "
            "out_dir)."
        )
    if not (folder / "validation.npz").is_file():
        raise UserError(f"{folder} is of an earlier version of flowers (it has no validation.npz): train again.")
    return own_places([folder])[0]


def bullets(sentences: Iterable[str]) -> "Markdown":
    """Show sentences as a list; what looks like markup in a name stays as it is."""
    from IPython.display import Markdown

    special = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|$~"})
    return Markdown("\n".join(f"- {sentence.translate(special)}" for sentence in sentences))
