"""Cross-validation: each fold validates once, and all others train."""

from dataclasses import replace
from itertools import pairwise

import pandas as pd

from flowers.data.splits import assign_splits
from flowers.errors import UserError
from flowers.settings import Split


def numbered_folds(table: pd.DataFrame, split: Split, folds: int) -> pd.DataFrame:
    """Number the photographs outside the test by so many folds, as :func:`flowers.data.splits.assign_splits` does.

    The table's own folds are kept where there are as many. New ones are as even, keep groups whole too, and follow
    from the photographs and `split.seed` alone.

    Args:
        table: Rows of a ``split.csv``.
        split: How the table was divided.
        folds: How many, at least 2.

    Returns:
        The rows outside the test, with folds in [0, `folds`); -1 where the table's own folds leave a row out, which
        then always trains.

    Raises:
        UserError: There are too few photographs for so many folds.
    """
    if folds < 2:
        raise UserError(f"folds={folds}, but one fold validates and another trains; give folds=2 or more.")
    rows = table[table["split"] != "test"].reset_index(drop=True)
    for label, groups in rows.groupby("label")["group"].nunique().items():
        if groups < folds:
            raise UserError(
                f"folds={folds}, but class {label} has {groups} different photographs outside the test; give "
                f"folds={max(groups, 2)} or less, or add photographs of it."
            )
    if set(rows["fold"]) - {-1} != set(range(folds)):
        rows["fold"] = _new_folds(rows, replace(split, folds=folds))
    for fold in range(folds):
        missing = set(rows["label"]) - set(rows.loc[rows["fold"] != fold, "label"])
        if missing or not (rows["fold"] == fold).any():
            what = f"all photographs of class {min(missing)}" if missing else "no photograph"
            raise UserError(f"folds={folds}, but fold {fold + 1} would have {what}; give fewer folds.")
    return rows


def fold_split(numbered: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Make the table of one fold: it validates, the others train.

    Args:
        numbered: From :func:`numbered_folds`.
        fold: Which, from 0.
    """
    return numbered.assign(split=["val" if each == fold else "train" for each in numbered["fold"]])


def _new_folds(rows: pd.DataFrame, split: Split) -> pd.Series:
    """Number rows anew; the division that they have stands for a published one, which is kept as it is."""
    alike = [pair for _, digests in rows.groupby("group")["sha256"] for pair in pairwise(digests)]
    published = dict.fromkeys(rows["path"], "train")
    found = assign_splits(
        rows.assign(status="ok"), replace(split, per_class=None, official=1), alike=alike, published=published
    )
    return rows["path"].map(found.set_index("path")["fold"])
