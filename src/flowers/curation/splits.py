"""Which photograph is for training, validation and test: groups of near-duplicates stay together."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from flowers.config.schema import Data, Split
from flowers.curation.duplicates import conflicts, near_duplicates
from flowers.curation.label_edits import apply_label_edits, read_label_edits
from flowers.curation.manifest import summarise
from flowers.curation.split_table import COLUMNS, SPLITS, check_splits
from flowers.errors import UserError
from flowers.sources.published import OFFICIAL


def assign_splits(
    manifest: pd.DataFrame,
    split: Split,
    alike: Iterable[tuple[str, str]] = (),
    published: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Assign every usable photograph to a split and a cross-validation fold.

    Photographs of one group (same bytes, or named in `alike`) stay together even where their labels differ.
    In each class the shares are those asked for to within one photograph (largest remainder), as far as the
    sizes of groups allow, and no split lacks a class. Folds are independent of the division into train and
    validation.

    A published division is kept as it is, but for its leaks: of a group that it tears apart, only the photographs
    in the test remain, or else those in the validation.

    Args:
        manifest: Columns path, label, sha256 and status of :func:`flowers.curation.manifest.scan`, in any order.
        split: How to divide, number of folds and seed.
        alike: Pairs of sha256 of near-duplicates.
        published: Path to train, val or test, where `split.official` is set.

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

    if split.official is None:
        split_of: dict[str, str] = {}
        for label, sizes in _strata(table).items():
            split_of |= _divide(label, sizes, split)
        table["split"] = table["group"].map(split_of)
    else:
        table = _keep_published(table, published or {})
    fold_of: dict[str, int] = {}
    for label, sizes in _strata(table[table["split"] != "test"]).items():
        fold_of |= _fold(label, sizes, split)
    table["fold"] = table["group"].map(fold_of).fillna(-1).astype(np.int64)
    return table[COLUMNS]


def _keep_published(table: pd.DataFrame, published: Mapping[str, str]) -> pd.DataFrame:
    """Divide as was published, less what would leak from a split into a more honest one."""
    places = table["path"].map(published)
    if places.isna().any():
        raise UserError(
            f"The published division does not say what {table.loc[places.isna(), 'path'].iloc[0]} is for: "
            "download the data set anew, or set data.split.official to null."
        )
    honesty = places.map(SPLITS.index)
    return table.assign(split=places)[honesty == honesty.groupby(table["group"]).transform("max")]


def _check_settings(split: Split) -> None:
    """Refuse shares, numbers and folds that cannot be."""
    if split.per_class is not None and split.official is not None:
        raise UserError("data.split.per_class and data.split.official exclude each other: set one of them to null.")
    if split.per_class is not None and (len(split.per_class) != 2 or min(split.per_class) < 1):
        raise UserError(
            f"data.split.per_class is {split.per_class}: give two numbers, 1 or more, like [65,15] for 65 photographs "
            "of each class to train on and 15 to validate."
        )
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
    """Name each digest's group, all that pairs join, by the group's smallest digest."""
    known = pd.Index(digests.unique()).sort_values()
    pairs = known.get_indexer(np.array(list(alike), dtype=object).reshape(-1, 2).ravel()).reshape(-1, 2)
    one, other = pairs[(pairs >= 0).all(axis=1)].T  # pairs with a photograph that is not here join nothing
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(len(known), len(known)))
    _, groups = connected_components(graph, directed=False)
    smallest = pd.Series(known).groupby(groups).transform("first")
    return dict(zip(known, smallest.str[:16], strict=True))


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


def _quota(label: str, total: int, split: Split) -> dict[str, int]:
    """Say how many photographs of a class go where; the last of the splits takes what does not fit elsewhere."""
    if split.per_class is not None:
        train, val = split.per_class
        if total < train + val:
            raise UserError(
                f"Class {label} has {total} photographs, but data.split.per_class asks for {train} and {val}: "
                "lower them or add photographs."
            )
        rest = {"test": total - train - val}
        # Without a test, the training takes groups that fit nowhere else.
        return {"val": val, "train": train} | rest if rest["test"] else {"val": val, "train": train}
    shares = {"test": split.test_frac, "val": split.val_frac}
    exact = {name: share for name, share in shares.items() if share > 0}
    exact["train"] = 1 - sum(exact.values())
    # Largest remainder (Hamilton): all get their whole part, the largest fractions get the places left over.
    quota = {name: int(total * share) for name, share in exact.items()}
    by_fraction = sorted(exact, key=lambda name: total * exact[name] - quota[name], reverse=True)
    for name in by_fraction[: total - sum(quota.values())]:
        quota[name] += 1
    return quota


def _divide(label: str, sizes: dict[str, int], split: Split) -> dict[str, str]:
    """Place the groups of one class."""
    quota = _quota(label, sum(sizes.values()), split)
    *first, last = quota
    if len(sizes) < len(quota):
        raise UserError(
            f"Class {label} has {len(sizes)} different photographs (not counting copies) but "
            f"{', '.join(sorted(quota, key=SPLITS.index))} need one each: add photographs of it or remove its folder."
        )
    ranked = _rank(sizes, "split", split.seed)
    places: dict[str, str] = {}
    for group in ranked:
        room = (name for name in first if sizes[group] <= quota[name])  # a large group may have to wait for the last
        places[group] = next(room, last)
        quota[places[group]] -= sizes[group]
    for name in quota:  # a small class, or one of large groups, can leave a split without any
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


def divide(manifest: pd.DataFrame, data: Data, root: Path) -> tuple[pd.DataFrame, str]:
    """Assign every usable photograph to a split, each picture with its near-duplicates, and carry decisions out.

    A decision changes or removes its own row alone: photographs are divided by the labels that they came with, so that
    cleaning moves nothing between the training and the test.

    Args:
        manifest: What :func:`flowers.curation.manifest.scan` returned.
        data: How to divide, and where the decisions are.
        root: Folder that paths are relative to.

    Returns:
        The table of :func:`flowers.curation.splits.assign_splits`; and what was found, in words.

    Raises:
        UserError: A setting is out of range, a class has too few photographs for the splits, or a decision fits none.
    """
    pairs = near_duplicates(manifest, data.split.near_bits)
    published = None if data.split.official is None else read_published(root, data.split.official)
    table = assign_splits(manifest, data.split, zip(pairs["sha256_a"], pairs["sha256_b"], strict=True), published)
    words = describe(table)
    left_out = int((manifest["status"] == "ok").sum()) - len(table)
    if left_out:
        words += f"\n{left_out} photographs left out: the published division has the same pictures in another split"
    edits = {} if data.decisions is None else read_label_edits(Path(data.decisions))
    after = apply_label_edits(manifest, edits).set_index("path")
    table["label"] = table["path"].map(after["label"])
    table = table[table["path"].map(after["status"]) == "ok"].reset_index(drop=True)
    check_splits(table)
    return table, f"{summarise(after.reset_index())}\n{words}"


def read_published(root: Path, number: int) -> dict[str, str]:
    """Read one of the divisions that a data set was published with.

    Args:
        root: The folder of its class folders.
        number: Which, from 1.

    Returns:
        Path to train, val or test.

    Raises:
        UserError: If there is none of that number.
    """
    file, column = root / OFFICIAL, f"official_{number}"
    if not file.is_file():
        raise UserError(f"{file} does not exist, so there is no published division: set data.split.official to null.")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if column not in table:
        known = ", ".join(name.removeprefix("official_") for name in table.columns if name != "path")
        raise UserError(f"data.split.official is {number}, but {file} has {known}: choose one of them.")
    return dict(zip(table["path"], table[column], strict=True))


def describe(table: pd.DataFrame, most_conflicts: int = 10) -> str:
    """Word the groups of a split for a person.

    Args:
        table: What :func:`flowers.curation.splits.assign_splits` returned.
        most_conflicts: How many groups with different labels are listed.

    Returns:
        A line on near-duplicates, and one for each group whose labels differ.
    """
    groups = table.groupby("group")["sha256"].agg(["nunique", "size"])
    near, copied = groups[groups["nunique"] > 1], groups[groups["size"] > groups["nunique"]]
    lines = [
        f"{len(near)} groups of near-duplicates ({near['size'].sum()} photographs) and {len(copied)} of equal files, "
        "each kept in one split"
    ]
    torn = list(conflicts(table).groupby("group", sort=True))
    for _, rows in torn[:most_conflicts]:
        lines.append(f"the same picture under different labels: {', '.join(rows['path'])}")
    if len(torn) > most_conflicts:
        lines.append(f"the same picture under different labels: {len(torn) - most_conflicts} groups more")
    return "\n".join(lines)
