"""Decide on suspect labels: ``flowers review_labels suspects=DIR decisions=FILE``.

Shows what ``flowers find_label_errors`` found on a page of this machine, one photograph after the other. Each decision
(keep, drop, or count as another class) is written to the table of decisions at once; no photograph is touched. Give the
table to the next training with ``data.decisions=FILE``. Ctrl-C ends it.
"""

import contextlib
import getpass
import io
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.curation.labels import LabelEditFile
from flowers.errors import UserError
from flowers.report.html import noun_of
from flowers.report.label_review import Review, Suspect, make_server, open_port
from flowers.sources.photograph import PhotographError, open_rgb


@dataclass
class Arguments:
    """Keys of the command."""

    suspects: Path
    decisions: Path | None = None
    port: int = 0
    by: str | None = None


def open_review(folder: Path, decisions: Path | None, by: str | None) -> Review:
    """Prepare what the page shows.

    Args:
        folder: What ``find_label_errors`` wrote.
        decisions: The table to which decisions are added; None: the one that the search for suspects used, or
            ``decisions.csv`` beside the suspects if it used none.
        by: Who decides; None: the user's name on this machine.

    Raises:
        UserError: If a file is missing or cannot be read, or nobody is named.
    """
    suspects, about = read_suspects(folder)
    if by is None:
        try:
            by = getpass.getuser()
        except (KeyError, OSError):
            raise UserError("this user has no name; say who decides with by=NAME.") from None
    if not by.strip():
        raise UserError("by is empty; say who decides with by=NAME.")
    known = about.get("decisions")
    edits = LabelEditFile(decisions or (Path(known) if known else folder / "decisions.csv"))
    edits.read()  # an unreadable table is named before the page opens
    root = Path(about["photographs"])
    if not root.is_dir():
        raise UserError(
            f"{root}, the folder of the photographs, does not exist; restore it or run flowers find_label_errors again."
        )
    noun = noun_of(str(about.get("dataset")))
    return Review(suspects, about["classes"], edits, by, lambda path, side_px: picture(root / path, side_px), noun)


def read_suspects(folder: Path) -> tuple[list[Suspect], dict]:
    """Read what ``find_label_errors`` wrote.

    Returns:
        The suspects, and the content of ``suspects.json``.

    Raises:
        UserError: If a file is missing, damaged, or names a file outside the folder of photographs.
    """
    try:
        about = json.loads((folder / "suspects.json").read_text(encoding="utf-8"))
        columns = Suspect.__annotations__
        table = pd.read_csv(folder / "suspects.csv", dtype=columns, keep_default_na=False)
        suspects = [Suspect(*row) for row in table[list(columns)].itertuples(index=False, name=None)]
        about = {**about, "photographs": str(about["photographs"]), "classes": [str(name) for name in about["classes"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} holds no readable suspects.csv and suspects.json ({error}); name a folder that "
            "flowers find_label_errors wrote (out_dir)."
        ) from error
    for suspect in suspects:
        path = PurePosixPath(suspect.path)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(
                f"{folder}/suspects.csv names {path}, outside the photographs; run flowers find_label_errors again."
            )
    return suspects, about


def picture(file: Path, side_px: int) -> bytes | None:
    """Make a JPEG that every browser shows, upright and no larger than needed.

    Args:
        file: A photograph of any kind that intake accepts.
        side_px: Its longer side at most.

    Returns:
        None if the file does not exist or cannot be decoded.
    """
    try:
        image = open_rgb(file, shorter_px=side_px)
    except PhotographError:
        return None
    image.thumbnail((side_px, side_px))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def main() -> None:
    """Serve the page until Ctrl-C."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)

        review = open_review(arguments.suspects, arguments.decisions, arguments.by)
        with open_port(arguments.port) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            print(f"{len(review.suspects)} suspects: open {address} in a browser (Ctrl-C ends this).", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                make_server(review, listener).run(sockets=[listener])
        file, count = review.edits.file, len(review.decisions())
        print(
            f"\n{file}: {count} of {len(review.suspects)} suspects decided. Train with data.decisions={file}",
            flush=True,
        )
