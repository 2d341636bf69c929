"""Wrong labels: which are probably wrong, and what a person decided about single photographs.

Suspects are found by networks that were not trained on the photograph. Source of the method: C. G. Northcutt, L. Jiang
and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of Artificial Intelligence
Research 70, 2021; computed by cleanlab.

Label edits are a table that can be read, compared and versioned. A row says that the photograph `path` is to be kept as
it is (`keep`), counted as another class (`relabel:CLASS`) or left out (`drop`), who decided so and when. The
photographs themselves are not touched: edits are applied to the manifest whenever it is split. The last decision on a
path wins, so rows are only ever added at the end.
"""

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import lock_descriptor
from numpy.typing import NDArray

from flowers.errors import UserError, suggestion

SUSPECT_COLUMNS = ["rank", "path", "label", "suggested", "probability_given", "probability_suggested", "loss", "why"]
COPIES, CONFIDENT, LOSS = "copies disagree", "confident in another class", "large loss"
"""The reasons, the most certain first."""
LOSSES_FRAC = 0.01
"""Share of the photographs, those of the largest loss, that are suspects for their loss alone."""
EDIT_COLUMNS = ["path", "decision", "by", "when"]
RELABEL = "relabel:"
_WORDS = ("keep", "drop", f"{RELABEL}CLASS")


def confident_joint(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Estimate how many photographs of each given label are truly of each class.

    Args:
        labels: (N,) given classes in 0 … K-1.
        probabilities: (N,K) out of fold; rows sum to 1.

    Returns:
        (K,K): rows the given, columns the true class; each row adds up to the number of photographs with its label. The
        entries off the diagonal, together and divided by N, estimate the share of wrong labels.
    """
    from cleanlab.count import compute_confident_joint  # takes a second or two to import

    return np.asarray(compute_confident_joint(labels, probabilities, calibrate=True), dtype=np.int64)


def rank_suspects(table: pd.DataFrame, probabilities: NDArray[np.floating], classes: list[str]) -> pd.DataFrame:
    """List the photographs whose labels a person should look at, the most certainly wrong first.

    First come copies of one photograph under different labels, of which all but one are certainly wrong. Then come the
    photographs that are confidently of another class than their label's, by their margin (the probability of the label
    less that of the most probable other class); then the largest losses of the rest.

    Args:
        table: N rows with `path`, `label` and `group` (of the same picture), as in a split.
        probabilities: (N,K) out of fold; rows sum to 1.
        classes: Names of the K columns.

    Returns:
        A row for each suspect with :data:`SUSPECT_COLUMNS`: `rank` from 1, `suggested` (another class than `label`,
        except for a copy whose own label is the most probable of its copies'), both probabilities in [0, 1], `loss` in
        nats and `why`.
    """
    from cleanlab.filter import find_label_issues

    labels = table["label"].map(classes.index).to_numpy(dtype=np.int64)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    suggested = others.argmax(axis=1)
    wrong = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)

    copied = np.zeros(len(labels), dtype=bool)
    for positions in pd.Series(rows).groupby(table["group"].to_numpy()).indices.values():
        present = np.unique(labels[positions])
        if len(present) > 1:
            copied[positions] = True
            suggested[positions] = present[probabilities[positions].mean(axis=0)[present].argmax()]

    losses = -np.log(np.maximum(own.astype(np.float64), 1e-12))
    place = pd.Series(losses).rank(method="first", ascending=False).to_numpy()
    large = (place <= np.ceil(LOSSES_FRAC * len(labels))) & (others.max(axis=1) > own)

    result = table[["path", "label"]].assign(
        suggested=[classes[i] for i in suggested],
        probability_given=own,
        probability_suggested=probabilities[rows, suggested],
        loss=losses,
        why=np.select([copied, wrong], [COPIES, CONFIDENT], LOSS),
        order=np.select([copied, wrong], [0, 1], 2),
        group=np.where(copied, table["group"], ""),
        margin=own - probabilities[rows, suggested],
    )
    result = result[copied | wrong | large].sort_values(["order", "group", "margin", "path"], ignore_index=True)
    result["rank"] = np.arange(1, len(result) + 1)
    return result[SUSPECT_COLUMNS]


@dataclass(frozen=True)
class LabelEdit:
    """One row of the table."""

    path: str
    """Relative to the folder of class folders, with slashes."""
    decision: str
    """`keep`, `drop` or `relabel:CLASS`."""
    by: str
    when: str
    """ISO 8601 with its offset from UTC."""


def read_label_edits(file: Path) -> dict[str, LabelEdit]:
    """Read a table of label edits; one with only its header holds none.

    So does a file of 0 bytes: it is what :meth:`LabelEditFile.undo` leaves of the first decision, and `touch` makes.

    Args:
        file: CSV in UTF-8 with the columns path, decision, by, when.

    Returns:
        The last decision on each path.

    Raises:
        UserError: If the file is missing or no such table; the sentence names the line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{file} does not exist; name the table of decisions with data.decisions, or set it to null."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error.reason}); save it as CSV in UTF-8.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); make it a readable CSV table.") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    edits: dict[str, LabelEdit] = {}
    try:
        header = next(rows, EDIT_COLUMNS)
        if header != EDIT_COLUMNS:
            raise UserError(f"{file}, line 1, is {','.join(header)!r}; it must be {','.join(EDIT_COLUMNS)}.")
        for row in rows:
            if row:
                edit = _checked(row, f"{file}, line {rows.line_num}")
                edits[edit.path] = edit
    except csv.Error as error:
        raise UserError(f"{file}, line {rows.line_num}, is no row of CSV ({error}); correct its quotes.") from error
    return edits


def _checked(row: list[str], place: str) -> LabelEdit:
    """Make a label edit of a row, or say what is wrong with it."""
    if len(row) != len(EDIT_COLUMNS):
        raise UserError(
            f"{place}, has {len(row)} values instead of {len(EDIT_COLUMNS)} ({','.join(EDIT_COLUMNS)}); correct it."
        )
    edit = LabelEdit(*row)
    if not edit.path:
        raise UserError(f"{place}, names no photograph; fill in its path, or remove the line.")
    word = edit.decision
    if word not in ("keep", "drop") and (not word.startswith(RELABEL) or word == RELABEL):
        raise UserError(f"{place}, has the decision '{word}': {suggestion(word, _WORDS)}")
    if not edit.by.strip():
        raise UserError(f"{place}, does not say who decided; fill in the column by.")
    try:
        aware = datetime.fromisoformat(edit.when).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise UserError(
            f"{place}, has the time '{edit.when}'; write it in ISO 8601 with its zone, as in 2026-01-31T12:00:00Z."
        )
    return edit


def apply_label_edits(manifest: pd.DataFrame, edits: dict[str, LabelEdit]) -> pd.DataFrame:
    """Apply label edits to a manifest; no file is touched.

    Args:
        manifest: What :func:`flowers.curation.manifest.scan` returned.
        edits: From :func:`read_label_edits`.

    Returns:
        A copy in which a photograph to drop has the status `dropped` and a reason, and one to relabel has the new
        label and its old path. Refused files stay refused.

    Raises:
        UserError: If a path or class is not in the manifest, or fewer than two classes are left.
    """
    if not edits:
        return manifest
    edited = manifest.set_index("path")
    classes = sorted(edited.loc[edited["status"] == "ok", "label"].unique())
    for path, edit in edits.items():
        if path not in edited.index:
            raise UserError(f"there is a decision on {path}, but no such photograph: {suggestion(path, edited.index)}")
        if edit.decision == "drop" and edited.loc[path, "status"] == "ok":
            day = datetime.fromisoformat(edit.when).astimezone(UTC).date()
            edited.loc[path, ["status", "reason"]] = "dropped", f"dropped by {edit.by} on {day}"
        elif edit.decision.startswith(RELABEL):
            label = edit.decision.removeprefix(RELABEL)
            if label not in classes:
                raise UserError(f"a decision gives {path} the class '{label}': {suggestion(label, classes)}")
            edited.loc[path, "label"] = label
    left = edited.loc[edited["status"] == "ok", "label"].unique()
    if len(left) < 2:
        raise UserError("the decisions leave photographs of fewer than two classes; take some of them back.")
    return edited.reset_index()


class LabelEditFile:
    """A table of label edits, to which several threads and processes can add at the same time.

    Each row is on the disk before :meth:`append` returns. Existing rows are never rewritten; only :meth:`undo` removes
    the last one, and only if this object wrote it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._written: list[tuple[int, bytes, str]] = []  # where each line begins, what was written there, its path

    def read(self) -> dict[str, LabelEdit]:
        """Read the edits so far; none if the file does not exist yet."""
        return read_label_edits(self.file) if self.file.exists() else {}

    def append(self, path: str, decision: str, by: str) -> None:
        """Write a decision, with the present time.

        Raises:
            UserError: If :func:`read_label_edits` could not read it.
        """
        row = [path, decision, by, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")]
        _checked(row, "the decision")
        line = _as_line(row)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as stream:
            end = stream.seek(0, os.SEEK_END)
            if end == 0:
                line = _as_line(EDIT_COLUMNS) + line
            elif _read_at(stream, end - 1, 1) != b"\n":  # the last line of a table edited by hand
                line = b"\n" + line
            try:
                if stream.write(line) != len(line):
                    raise OSError(28, "No space left on device", str(self.file))
            except OSError:
                stream.truncate(end)  # half a line would make the table unreadable
                raise
            os.fsync(stream)
            self._written.append((end, line, path))

    def undo(self) -> str | None:
        """Take back the last decision that was appended here.

        Returns:
            Its path; None if there is none, or something else was written after it.
        """
        with self._locked() as stream:
            if not self._written:
                return None
            begin, line, path = self._written.pop()
            if _read_at(stream, begin, len(line) + 1) != line:  # somebody else has written since
                self._written.clear()
                return None
            stream.truncate(begin)
            os.fsync(stream)
            return path

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        """Open the file for this thread alone, against others and other processes."""
        with self.file.open("a+b", buffering=0) as stream:
            lock_descriptor(stream.fileno(), poll_interval=0.01)
            yield stream


def _read_at(stream: FileIO, place: int, count: int) -> bytes:
    stream.seek(place)
    return stream.read(count)


def _as_line(row: list[str]) -> bytes:
    """Write a row as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()
