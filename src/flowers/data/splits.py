"""Divide photographs into train, validation and test, once and for all.

Each class is ranked by a digest of (seed, content); the first of the ranking are the test, the next the
validation. So names, file order and the machine do not matter, and a photograph added or removed shifts the
borders of one ranking by one place instead of dealing everything anew.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.errors import UserError
from flowers.settings import Split

COLUMNS = ["path", "label", "group", "split", "fold", "sha256"]
SPLITS = ("train", "val", "test")


def assign_splits(manifest: pd.DataFrame, split: Split, alike: Iterable[tuple[str, str]] = ()) -> pd.DataFrame:
    """Assign every usable photograph to a split and a cross-validation fold.

    Photographs of one group (same bytes, or named in `alike`) stay together even where their labels differ.
    In each class the shares are those asked for to within one photograph (largest remainder), as far as the
    sizes of groups allow, and no split lacks a class. Folds are independent of the division into train and
    validation.

    Args:
        manifest: Columns path, label, sha256 and status of :func:`flowers.data.intake.scan`, in any order.
        split: Shares, number of folds and seed.
        alike: Pairs of sha256 of near-duplicates.

    Returns:
        Columns path, label, group (16 hexadecimal digits), split, fold (-1 in the test), sha256; sorted by
        path.

    Raises:
        UserError: A setting is out of range, or a class has too few photographs for the splits.
    """
    _check_settings(split)
    table = manifest.loc[manifest["status"] == "ok", ["path", "label", "sha256"]].sort_values("path", ignore_index=True)
    if table.empty:
        raise UserError("The manifest has no usable photograph to split: see its reason column.")
    table["group"] = table["sha256"].map(_group_names(table["sha256"], alike))

    split_of: dict[str, str] = {}
    fold_of: dict[str, int] = {}
    for label, sizes in _strata(table).items():
        places = _divide(label, sizes, split)
        split_of |= places
        kept = {group: size for group, size in sizes.items() if places[group] != "test"}
        fold_of |= _fold(label, kept, split)
    table["split"] = table["group"].map(split_of)
    table["fold"] = table["group"].map(fold_of).fillna(-1).astype(np.int64)
    return table[COLUMNS]


def _check_settings(split: Split) -> None:
    """Refuse shares and folds that cannot be."""
    if not 0 < split.val_frac < 1:
        raise UserError(f"data.split.val_frac is {split.val_frac}: set it between 0 and 1, both excluded.")
    if not 0 <= split.test_frac < 1:
        raise UserError(f"data.split.test_frac is {split.test_frac}: set it to 0 or more and less than 1.")
    if split.val_frac + split.test_frac >= 1:
        raise UserError(
            f"data.split.val_frac {split.val_frac} and data.split.test_frac {split.test_frac} leave "
            "nothing to train on: lower one so that they add up to less than 1."
        )
    if split.folds < 2:
        raise UserError(f"data.split.folds is {split.folds}: set it to 2 or more.")


def _group_names(digests: pd.Series, alike: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name each digest's group by the group's smallest digest: union-find over the pairs that are alike."""
    parent = {digest: digest for digest in digests}

    def find(digest: str) -> str:
        while parent[digest] != digest:
            parent[digest] = parent[parent[digest]]  # path halving
            digest = parent[digest]
        return digest

    for one, other in alike:
        if one in parent and other in parent:
            low, high = sorted((find(one), find(other)))
            parent[high] = low
    return {digest: find(digest)[:16] for digest in parent}


def _strata(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count each label's groups: photographs in each. A mixed group is its commonest label's."""
    strata: dict[str, dict[str, int]] = {label: {} for label in sorted(table["label"].unique())}
    for group, labels in table.groupby("group", sort=True)["label"]:
        counts = Counter(sorted(labels))
        strata[counts.most_common(1)[0][0]][str(group)] = counts.total()
    return strata


def _rank(groups: Iterable[str], *salt: object) -> list[str]:
    """Order groups at random, but each by its own name and the salt alone."""
    return sorted(groups, key=lambda group: hashlib.sha256(repr((*salt, group)).encode()).digest())


def _divide(label: str, sizes: dict[str, int], split: Split) -> dict[str, str]:
    """Place the groups of one class."""
    shares = {"test": split.test_frac, "val": split.val_frac}
    wanted = {name: share for name, share in shares.items() if share > 0}
    needed = [*wanted, "train"]
    if len(sizes) < len(needed):
        raise UserError(
            f"Class {label} has {len(sizes)} different photographs (not counting copies) but "
            f"{', '.join(reversed(needed))} need one each: add photographs of it or remove its folder."
        )
    # Largest remainder (Hamilton): all get their whole part, the largest fractions get the places left over.
    total = sum(sizes.values())
    exact = wanted | {"train": 1 - sum(wanted.values())}
    quota = {name: int(total * share) for name, share in exact.items()}
    by_fraction = sorted(exact, key=lambda name: total * exact[name] - quota[name], reverse=True)
    for name in by_fraction[: total - sum(quota.values())]:
        quota[name] += 1

    ranked = _rank(sizes, "split", split.seed)
    places: dict[str, str] = {}
    for group in ranked:
        room = (name for name in wanted if sizes[group] <= quota[name])  # a large group may have to wait for train
        places[group] = next(room, "train")
        quota[places[group]] -= sizes[group]
    for name in needed:  # a small class, or one of large groups, can leave a split without any
        if name not in places.values():
            donor = Counter(places[group] for group in ranked).most_common(1)[0][0]
            places[min((g for g in ranked if places[g] == donor), key=lambda g: sizes[g])] = name
    return places


def _fold(label: str, sizes: dict[str, int], split: Split) -> dict[str, int]:
    """Number the groups of one class by equal slices of their ranking, begun elsewhere in each class."""
    start = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4])
    total, before, folds = sum(sizes.values()), 0, {}
    for group in _rank(sizes, "fold", split.seed):
        middle = before + sizes[group] / 2
        folds[group] = (int(middle * split.folds / total) + start) % split.folds
        before += sizes[group]
    return folds


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
        raise UserError(f"The split names {path} twice: run split again.")
    for column in ("group", "sha256"):
        for border in ("split", "fold"):
            places = table.groupby(column)[border].nunique()
            for torn in places[places > 1].index[:1]:
                rows = table[table[column] == torn].drop_duplicates(border)
                raise UserError(
                    f"{rows['path'].iloc[0]} and {rows['path'].iloc[1]} have the same {column} but are in "
                    f"different {border}s: run split again, or put them together."
                )
    if not (table["split"] == "val").any():
        raise UserError("The split has no photograph for val: run split again.")
    trained = set(table.loc[table["split"] == "train", "label"])
    for row in table[~table["label"].isin(trained)].itertuples():
        raise UserError(f"Class {row.label} is in {row.split} but not in train: add some and run split again.")


def read_splits(path: Path) -> pd.DataFrame:
    """Read a table that :func:`write_splits` wrote, or a person did, and check it.

    Args:
        path: A CSV file with at least the columns of :func:`assign_splits`.

    Returns:
        The table with these columns, in the file's order; all text but `fold`.

    Raises:
        UserError: The file is missing, no such table, or leaks (see :func:`check_splits`).
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: run python -m flowers.split first, or name another data.split_csv.")
    try:
        # Text stays text: a class may be called 007 or NA.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{path} cannot be read as a CSV table ({error}): run split again.") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(f"{path} lacks the column {missing[0]}: run split again.")
    numbers = pd.to_numeric(table["fold"], errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any():
        raise UserError(f"{path} has a fold that is no whole number: run split again.")
    table["fold"] = numbers.astype(np.int64)
    check_splits(table)
    return table[COLUMNS]


def write_splits(table: pd.DataFrame, path: Path) -> None:
    """Write a table of splits as CSV, creating the folder.

    Args:
        table: What :func:`assign_splits` returned.
        path: Where to; an older file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")  # so that the file is never half of one
    table[COLUMNS].to_csv(part, index=False, encoding="utf-8", lineterminator="\n")
    part.replace(path)
