"""Folds for cross-validation, and shares of the training photographs for learning curves."""

import hashlib
import math
from dataclasses import replace
from itertools import pairwise

import pandas as pd

from flowers.config.schema import Split
from flowers.curation.splits import assign_splits
from flowers.errors import UserError


def numbered_folds(table: pd.DataFrame, split: Split, folds: int) -> pd.DataFrame:
    """Number the photographs outside the test by so many folds, as :func:`flowers.curation.splits.assign_splits` does.

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


def subset_split(table: pd.DataFrame, frac: float, seed: int) -> pd.DataFrame:
    """Keep a share of the training photographs, and all those of the validation.

    In each class the groups are ranked by a digest of (seed, group), and the first of them are kept until the share is
    reached as nearly as their sizes allow. So a larger share contains a smaller one, no group is torn, and neither
    file order nor the machine matters.

    Args:
        table: Rows of a ``split.csv``.
        frac: The share, in (0, 1]; 1 keeps all.
        seed: Of the ranking.

    Returns:
        The rows kept, in the table's order; none of the test.

    Raises:
        UserError: The share is out of range, or a class would have no photograph.
    """
    if not 0 < frac <= 1:
        raise UserError(f"sizes has {frac:g}, but a size is a share of the training photographs above 0 and up to 1.")
    train = table[table["split"] == "train"]
    for label, count in train["label"].value_counts(sort=False).sort_index().items():
        if frac * count < 0.5:
            least = math.ceil(500 / count) / 1000
            raise UserError(
                f"sizes has {frac:g}, at which class {label} with its {count} training photographs has none; give "
                f"{least:g} or more."
            )
    # A group of several labels counts for its commonest; of equally common ones the first by name.
    label_of = train.groupby("group")["label"].agg(lambda labels: labels.mode().iloc[0])
    sizes = train.groupby("group").size()
    kept: set[str] = set()
    for _, groups in label_of.groupby(label_of):
        before, total = 0, int(sizes[groups.index].sum())
        for number, group in enumerate(sorted(groups.index, key=lambda name: _rank(name, seed))):
            # Rounded to whole groups: one counts as reached where its middle is. The middles only rise.
            if number and before + sizes[group] / 2 > frac * total:
                break
            kept.add(group)
            before += int(sizes[group])
    chosen = train["group"].isin(kept)
    missing = set(train["label"]) - set(train.loc[chosen, "label"])
    if missing:
        raise UserError(f"sizes has {frac:g}, at which class {min(missing)} has no photograph; give a larger one.")
    return table[(table["split"] == "val") | chosen.reindex(table.index, fill_value=False)].reset_index(drop=True)


def _rank(group: str, seed: int) -> bytes:
    return hashlib.sha256(repr(("subset", seed, group)).encode()).digest()
