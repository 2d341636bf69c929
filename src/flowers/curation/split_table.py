"""The table that says which photograph is for what: ``split.csv``, readable, comparable and versioned."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.atomic import whole_file
from flowers.errors import UserError, missing

COLUMNS = ["path", "label", "group", "split", "fold", "sha256"]
SPLITS = ("train", "val", "test")


def check_splits(table: pd.DataFrame) -> None:
    """Refuse a table through which the test or validation would leak into the training.

    Args:
        table: Columns as :func:`assign_splits` returns them.

    Raises:
        UserError: A split or path is invalid, there is no validation, a group or digest is in two splits or
            folds, or a label is not in train.
    """
    for row in table[~table["split"].isin(SPLITS)].itertuples():
        raise UserError(f"The split of {row.path} is '{row.split}': set it to train, val or test.")
    for path in table.loc[table["path"].duplicated(), "path"]:
        raise UserError(f"The split names {path} twice: leave one of the rows.")
    for column, border in product(("group", "sha256"), ("split", "fold")):
        places = table.groupby(column)[border].nunique()
        for torn in places.index[places > 1]:
            one, other, *_ = table.loc[table[column] == torn].drop_duplicates(border)["path"]
            raise UserError(
                f"{one} and {other} have the same {column} but are in different {border}s: put them together in one."
            )
    if not (table["split"] == "val").any():
        raise UserError("The split has no photograph for val: give some of them the split val.")
    trained = set(table.loc[table["split"] == "train", "label"])
    for row in table[~table["label"].isin(trained)].itertuples():
        raise UserError(
            f"Class {row.label} is in {row.split} but not in train: move some of it to train, or leave it out."
        )


def read_splits(path: Path, remedy: str = "correct it, or name another split.csv") -> pd.DataFrame:
    """Read a table that :func:`write_splits` wrote, or a person did, and check it.

    Args:
        path: A CSV file with at least the columns of :func:`assign_splits`.
        remedy: What to do where it is no such file.

    Returns:
        The table with these columns, in the file's order; all text but `fold`.

    Raises:
        UserError: The file is missing, no such table, or leaks (see :func:`check_splits`).
    """
    if not path.is_file():
        raise UserError(f"{missing(path)}: {remedy}.")
    table = read_table(path, COLUMNS, remedy)
    numbers = pd.to_numeric(table["fold"], errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any() or (numbers.abs() > 2**31).any():
        raise UserError(f"{path} has a fold that is no whole number: {remedy}.")
    table["fold"] = numbers.astype(np.int64)
    check_splits(table)
    return table[COLUMNS]


def write_splits(table: pd.DataFrame, path: Path) -> None:
    """Write a table of splits as CSV, creating the folder.

    Args:
        table: What :func:`assign_splits` returned.
        path: Where to; an older file is replaced.
    """
    write_table(table[COLUMNS], path)


def read_table(path: Path, columns: list[str], remedy: str) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote; all is text, since a class may be called 007 or NA.

    Args:
        path: A CSV file.
        columns: Which it must have.
        remedy: What to do where it is no such table.

    Raises:
        UserError: It is no such table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{path} cannot be read as a CSV table ({error}): {remedy}.") from error
    if lacking := [column for column in columns if column not in table]:
        raise UserError(f"{path} lacks the column {lacking[0]}: {remedy}.")
    return table


def write_table(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table as CSV, creating the folder; whole or not at all.

    Raises:
        UserError: The disk is full, say.
    """
    with whole_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", float_format=float_format)
