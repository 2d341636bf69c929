"""Decide on suspect labels: ``flowers review_labels suspects=DIR decisions=FILE``.

Shows what ``flowers find_label_errors`` found on a page of this machine, one photograph after the other. Each decision (keep,
drop, or count as another class) is written to the table of decisions at once; no photograph is touched. Give the table
to the next training with ``data.decisions=FILE``. Ctrl-C ends it.
"""

import getpass
import io
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.errors import UserError
from flowers.report.label_review import Desk, Suspect, make_server


@dataclass
class Arguments:
    """Keys of the command."""

    suspects: Path
    decisions: Path | None = None
    port: int = 0
    by: str | None = None


def open_desk(folder: Path, decisions: Path | None, by: str | None) -> Desk:
    """Lay out what is to be decided.

    Args:
        folder: What ``suspects`` wrote.
        decisions: The table that is added to; None: the one that the search for suspects took into account, else
            ``decisions.csv`` beside the suspects.
        by: Who decides; None: the user's name on this machine.

    Raises:
        UserError: If a file is missing or cannot be read, or nobody is named.
    """
    from flowers.curation.label_edits import DecisionFile

    suspects, about = read_suspects(folder)
    if by is None:
        try:
            by = getpass.getuser()
        except (KeyError, OSError):
            raise UserError("this user has no name; say who decides with by=NAME.") from None
    if not by.strip():
        raise UserError("by is empty; say who decides with by=NAME.")
    known = about.get("decisions")
    ledger = DecisionFile(decisions or (Path(known) if known else folder / "decisions.csv"))
    ledger.read()  # now is the time to learn that it cannot be
    root = Path(about["photographs"])
    if not root.is_dir():
        raise UserError(
            f"{root}, where the photographs were, is gone; bring it back, or run flowers find_label_errors again."
        )
    return Desk(suspects, about["classes"], ledger, by, lambda path, side_px: picture(root / path, side_px))


def read_suspects(folder: Path) -> tuple[list[Suspect], dict]:
    """Read what ``suspects`` wrote.

    Returns:
        The suspects, and the content of ``suspects.json``.

    Raises:
        UserError: If a file is missing, damaged, or names a file outside the folder of photographs.
    """
    import pandas as pd

    try:
        about = json.loads((folder / "suspects.json").read_text())
        table = pd.read_csv(folder / "suspects.csv", dtype=str, keep_default_na=False)
        suspects = [
            Suspect(
                row["path"],
                row["label"],
                row["suggested"],
                float(row["probability_given"]),
                float(row["probability_suggested"]),
                row["why"],
            )
            for row in table.to_dict("records")
        ]
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
                f"{folder}/suspects.csv names {path}, outside the photographs; run flowers.commands.find_label_errors again."
            )
    return suspects, about


def picture(file: Path, side_px: int) -> bytes | None:
    """Make a JPEG that every browser shows, upright and no larger than needed.

    Args:
        file: A photograph of any kind that intake accepts.
        side_px: Its longer side at most.

    Returns:
        None if there is none, or it cannot be decoded.
    """
    from flowers.sources.photograph import PhotographError, open_rgb

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
        arguments = read_arguments(Arguments, __doc__)
        desk = open_desk(arguments.suspects, arguments.decisions, arguments.by)
        with make_server(desk, arguments.port) as server:
            print(
                f"{len(desk.suspects)} suspects: open http://127.0.0.1:{server.server_port}/ in a browser "
                "(Ctrl-C ends this).",
                flush=True,
            )
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                file, count = desk.ledger.file, len(desk.decisions())
                print(
                    f"\n{file}: {count} of {len(desk.suspects)} suspects decided. Train with data.decisions={file}",
                    flush=True,
                )
