"""Labels in a table beside the photographs: a row for each file, with its class and perhaps its split.

The table is text with a header: separated by commas, tabs or semicolons, in UTF-8. Its columns are found by their
names and by what stands in them; what cannot be told for certain is asked for, never guessed.
"""

import csv
import io
import re
from collections import defaultdict
from pathlib import Path

from flowers.errors import UserError, readable, some
from flowers.sources.layouts import NAMES, SPLIT_WORDS, Listed, Listing, check_names, class_name, files_below, is_image


def list_table(root: Path, table: Path, columns: list[str] | None) -> Listing:
    """List the files that a table names, with their labels.

    A row names a file by its path below `root` or the end of it, with or without its extension; with slashes or
    backslashes, in any case and Unicode form. Where the table's paths begin with folders that are not here (it was made
    elsewhere, or `root` is one of them), as many leading folders are dropped from all rows as makes most of them fit. A
    row without a file or label is listed with its reason.

    Args:
        root: Folder that the photographs are in, at any depth.
        table: The table.
        columns: Names of the columns of files and of labels; None: they are found.

    Raises:
        UserError: The table cannot be read or understood, contradicts itself, or names no file.
    """
    if not root.is_dir():
        raise UserError(f"{root} does not exist or is no folder: name the folder of the photographs with data.root.")
    content = _read(table)
    index = _Index(root)
    if columns and (len(columns) != 2 or not set(columns) <= content.keys()):
        raise UserError(
            f"data.table_columns is [{','.join(columns)}], but must name the columns of {table} with the files and "
            f"with the labels, two of: {', '.join(content)}."
        )
    files, labels = columns or _find_columns(table, content, index)
    if not columns and not _is_called(files, "file") and any(index.find([files])):
        raise UserError(
            f"{table} begins with a row for {files}: give it a first line with names, such as 'file,label'."
        )
    splits = _find_splits(table, content, {files, labels})
    found = index.find(content[files])
    if not any(found):
        raise UserError(
            f"{table} names no file below {root} in its column {files} (first {content[files][0]}): correct data.root, "
            "or name the columns with data.table_columns=[FILE,LABEL]."
        )
    for names in (name for name in found if len(name) > 1):
        raise UserError(
            f"{table} may mean {names[0]} or {names[1]} of {root}: name the folder that is meant with data.root, or "
            "write their paths into the table."
        )
    listed: dict[str, tuple[str, Listed]] = {}
    for name, paths, text, split in zip(content[files], found, content[labels], splits, strict=True):
        path, label = paths[0] if paths else name, class_name(" ".join(text.split()))
        reason = index.reasons.get(path, "there is no such file") if label else f"{table.name} gives it no label"
        row = Listed(path, label, split, reason)
        before, known = listed.setdefault(path, (name, row))
        if known != row:
            differ = (known.label, label) if known.label != label else (known.split, split)
            raise UserError(
                f"{table} names {path} more than once, as '{differ[0]}' and as '{differ[1]}': correct the table so "
                "that each photograph has one label and one split."
            )
        if _parts(before) != _parts(name):
            raise UserError(f"{table} means {path} by '{before}' and by '{name}': one of the two files is missing.")
    rows = [row for _, row in listed.values()]
    _refuse_several_labels(table, labels, {row.label for row in rows})
    check_names(str(table), (row.label for row in rows if row.label))
    notes = [f"{table}: files are in the column '{files}', labels in '{labels}'"]
    if any(splits):
        notes[0] += ", and it is divided already and used so"
    missing = [row.path for row in rows if row.path not in index.reasons]
    unlabelled = [path for path in index.reasons if path not in listed and is_image(path)]
    for what, names in (("rows without a file", missing), ("files without a row, left out", unlabelled)):
        if names:
            notes.append(readable(f"{len(names)} {what}: {some(names)}"))
    return Listing(rows, notes)


def _read(table: Path) -> dict[str, list[str]]:
    """Read the columns of a table as text.

    Raises:
        UserError: It is no table.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{table} does not exist; name the table of labels with data.table=FILE.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is no text in UTF-8 ({error.reason}); save it as CSV in UTF-8.") from error
    text = re.sub(r"\Asep=.\r?\n", "", text)  # which some spreadsheets write first
    try:
        readings = [list(csv.reader(io.StringIO(text, newline=""), delimiter=each)) for each in ",\t;"]
    except csv.Error as error:
        raise UserError(f"{table} cannot be read as CSV ({error}); save it as CSV in UTF-8.") from error
    best = max(readings, key=lambda rows: len(rows[0]) if rows else 0)
    filled = [[value.strip() for value in row] for row in best if any(map(str.strip, row))]
    names, *rows = filled or [[]]
    if len(names) < 2 or len(set(names)) < len(names):
        problem = "lacks two columns separated by commas, tabs or semicolons" if len(names) < 2 else "repeats a name"
        raise UserError(f"{table} {problem} in its first line; give it a header such as 'file,label'.")
    for row in rows:
        if len(row) != len(names):
            shown = " ".join(",".join(row).split())[:80]
            raise UserError(
                f"{table} has {len(names)} columns, but a row with {len(row)} values ({shown}): correct it, "
                "with quotes, opened and closed, around what contains the separator."
            )
    if not rows:
        raise UserError(f"{table} has no rows; name another one with data.table.")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


class _Index:
    """Finds files by what a table calls them."""

    def __init__(self, root: Path) -> None:
        """List the files below a folder.

        Attributes:
            reasons: By the path of each file, why it must not be opened, or nothing.
        """
        self.root = root
        self.reasons = {path.relative_to(root).as_posix(): reason for path, reason in sorted(files_below(root))}
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._ends: dict[str, list[str]] = defaultdict(list)
        for path in (path for path in self.reasons if is_image(path, bare=True)):
            parts = _parts(path)
            for names in (parts, [*parts[:-1], parts[-1].rpartition(".")[0]]):
                self._whole["/".join(names)].append(path)
                for first in range(1, len(names)):
                    self._ends["/".join(names[first:])].append(path)

    def find(self, names: list[str]) -> list[list[str]]:
        """Find the files of each name: mostly one, none, or several where it is not clear."""
        best: list[list[str]] = []
        for dropped in range(max(len(_parts(name)) for name in names)):
            found = [self._look_up(name, dropped) for name in names]
            if len({paths[0] for paths in found if paths}) > len({paths[0] for paths in best if paths}):
                best = found
        return best or [[] for _ in names]

    def _look_up(self, name: str, dropped: int) -> list[str]:
        if name in self.reasons and not dropped:
            return [name]
        end = "/".join(_parts(name)[dropped:])
        return (self._whole.get(end) or self._ends.get(end) or []) if end else []


def _parts(path: str) -> list[str]:
    """Split a path as any system writes it into what is compared of it."""
    return [part for part in class_name(path).casefold().replace("\\", "/").split("/") if part not in ("", ".")]


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.casefold())


def _is_called(name: str, kind: str) -> bool:
    """Say whether a column is called as one of a kind often is; only letters count."""
    return _letters(name) in NAMES["columns"][kind]


def _find_columns(table: Path, content: dict[str, list[str]], index: _Index) -> tuple[str, str]:
    """Find the columns of files and of labels by their names, and by which of them names files.

    Raises:
        UserError: There is none, or more than one.
    """
    ask = f"name the columns with data.table_columns=[FILE,LABEL], two of: {', '.join(content)}."
    known = [name for name in content if _is_called(name, "label")]
    named = [name for name in content if _is_called(name, "file")]
    for candidates in (named, [name for name in content if name not in known]):
        found = {name: index.find(content[name]) for name in candidates}
        matching = [name for name in candidates if any(found[name])]
        if matching:
            break
    else:
        raise UserError(
            f"no column of {table} names a file below {index.root}, which has {some(sorted(index.reasons)) or 'none'}: "
            f"correct data.root, or {ask}"
        )
    if any(found[name] != found[matching[0]] for name in matching[1:]):
        raise UserError(f"{table} has several columns that name files ({', '.join(matching)}): {ask}")
    others = [name for name in content if name not in matching and _splits_of(name, content[name]) is None]
    labels = [name for name in content if name in known and name not in matching] or others
    if len(labels) != 1:
        flags = [name for name in labels if set(content[name]) <= {"0", "1", "0.0", "1.0"}]
        if len(flags) > 1:
            raise UserError(
                f"{table} has a column of 0 and 1 for each of {some(flags)}, but a photograph has one label here: give "
                "the table one column with the name of the class."
            )
        problem = f"several columns that may be the label ({', '.join(labels)})" if labels else "no column of labels"
        raise UserError(f"{table} has {problem}: {ask}")
    return matching[0], labels[0]


def _splits_of(name: str, values: list[str]) -> list[str] | None:
    """Read a column as one of splits; None if it is none."""
    is_flag = _is_called(name, "is_valid")
    words = NAMES["is_valid"] if is_flag else SPLIT_WORDS
    splits = [words.get(value.casefold(), "") for value in values]
    is_named = is_flag or _is_called(name, "split")
    return splits if all(splits) and (is_named or len(set(splits)) > 1) else None


def _find_splits(table: Path, content: dict[str, list[str]], used: set[str]) -> list[str]:
    """Find the split of each row; empty where the table is not divided."""
    found = {}
    for name, values in content.items():
        if name in used:
            continue
        if splits := _splits_of(name, values):
            found[name] = splits
            continue
        wrong = [value for value in values if value.casefold() not in SPLIT_WORDS]
        if _letters(name) == "split" or (_is_called(name, "split") and len(wrong) < len(values)):
            raise UserError(
                f"{table} has '{wrong[0]}' in its column {name}, which must say train, val or test for each row: "
                "correct it, or give the column another name."
            )
    if len({tuple(splits) for splits in found.values()}) > 1:
        raise UserError(f"{table} has several columns that divide it ({', '.join(found)}): leave one of them.")
    return next(iter(found.values()), [""] * len(content[next(iter(content))]))


def _refuse_several_labels(table: Path, column: str, labels: set[str]) -> None:
    """Refuse labels that are lists of labels.

    Separated by blanks or commas they are lists only where each part is a label by itself, since names of classes
    contain both.
    """
    for label in sorted(labels):
        parts = [part.strip() for part in re.split(r"[,\s]+", label)]
        if re.search(r"[|;]|^\[.*\]$", label) or (len(parts) > 1 and labels.issuperset(parts)):
            raise UserError(
                f"{table} has '{label}' in its column {column}: several labels for a photograph, which has one here; "
                "keep one of them in each row (if it is the name of one class, write it in another way)."
            )
