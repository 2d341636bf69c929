"""Which photograph is for training, validation and test; folds for cross-validation, and shares of the training.

Groups of near-duplicates stay together everywhere.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from flowers.config.schema import Split
from flowers.curation.split_table import COLUMNS, SPLITS
from flowers.errors import UserError, some


def assign_splits(
    manifest: pd.DataFrame,
    split: Split,
    alike: Iterable[tuple[str, str]] = (),
    published: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Assign every usable photograph to a split and a cross-validation fold.

    Photographs of one group (same bytes, or named in `alike`) stay together even where their labels differ.
    In each class the shares are those asked for to within one photograph (largest remainder). Groups stay whole: of a
    class, validation and test never have more than that, and lack less than its smallest group in the training. But no
    split lacks a class, and a group with several labels counts as its commonest. Of 200 random data sets with groups of
    up to 8, the share that was missed most was missed by 1.7 photographs on average; by 1.6 with scikit-learn's
    StratifiedGroupKFold, by 2.0 with the largest groups placed first. Folds are independent of the division into train
    and validation.

    A published division is kept as it is, but for its leaks: of a group that it tears apart, only the photographs
    in the test remain, or else those in the validation. Classes that the training lacks are left out. Where there is no
    validation or no test at all, its share of the training becomes one.

    Args:
        manifest: Columns path, label, sha256 and status of :func:`flowers.curation.manifest.scan`, in any order.
        split: How to divide, number of folds and seed.
        alike: Pairs of sha256 of near-duplicates.
        published: Path to train, val or test, where a published division is to be kept.

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

    if published is None:
        table["split"] = _divide_all(table, split)
    else:
        table = _keep_published(table, split, published)
    folds = _number_folds(table[table["split"] != "test"], split.folds, split.seed)
    table["fold"] = folds.reindex(table.index, fill_value=-1)
    return table[COLUMNS]


def _divide_all(table: pd.DataFrame, split: Split) -> pd.Series:
    """Place the photographs class by class."""
    split_of: dict[str, str] = {}
    strata = _strata(table)
    quotas = {label: _quota(label, sum(sizes.values()), split) for label, sizes in strata.items()}
    if short := [label for label, sizes in strata.items() if len(sizes) < len(quotas[label])]:
        others = f" (too few are also of {some(short[1:])})" if short[1:] else ""
        raise UserError(
            f"Class {short[0]} has {len(strata[short[0]])} different photographs (not counting copies) but "
            f"{', '.join(sorted(quotas[short[0]], key=SPLITS.index))} need one each{others}: add photographs of it or "
            "leave it out."
        )
    for label, sizes in strata.items():
        split_of |= _divide(quotas[label], sizes, split.seed)
    return table["group"].map(split_of)


def _keep_published(table: pd.DataFrame, split: Split, published: Mapping[str, str]) -> pd.DataFrame:
    """Divide as was published, less what would leak from a split into a more honest one."""
    places = table["path"].map(published)
    if places.isna().any():
        raise UserError(
            f"The published division does not say what {table.loc[places.isna(), 'path'].iloc[0]} is for: "
            "download the data set anew, or set data.split.official to null."
        )
    table = _of_trained_classes(table.assign(split=places))
    honesty = table["split"].map(SPLITS.index)
    table = _of_trained_classes(table[honesty == honesty.groupby(table["group"]).transform("max")]).copy()
    if table.empty:
        raise UserError("The published division leaves nothing to train on: see which photographs it calls train.")
    shares = {
        f"{name}_frac": getattr(split, f"{name}_frac") for name in SPLITS[1:] if not (table["split"] == name).any()
    }
    if any(shares.values()):
        missing = replace(split, **{"val_frac": 0.0, "test_frac": 0.0, **shares})
        train = table["split"] == "train"
        table.loc[train, "split"] = _divide_all(table[train], missing)
    return table


def _of_trained_classes(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the photographs of classes that are in the training."""
    return table[table["label"].isin(table.loc[table["split"] == "train", "label"])]


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


def _middles(sizes: dict[str, int], *salt: object) -> dict[str, float]:
    """Order groups at random, and say how many photographs stand before the middle of each."""
    ranked = _rank(sizes, *salt)
    counts = np.array([sizes[group] for group in ranked])
    return dict(zip(ranked, (counts.cumsum() - counts / 2).tolist(), strict=True))


def _quota(label: str, total: int, split: Split) -> dict[str, int]:
    """Say how many photographs of a class go where; the last of the splits takes what does not fit elsewhere."""
    if split.per_class is not None:
        train, val = split.per_class
        if total < train + val:
            raise UserError(
                f"Class {label} has {total} photographs, but data.split.per_class asks for {train} and {val}: "
                "lower them or add photographs."
            )
        quota = {"val": val, "train": train, "test": total - train - val}
        return {name: count for name, count in quota.items() if count}  # none for the test: then the training is last
    shares = {"test": split.test_frac, "val": split.val_frac}
    exact = {name: share for name, share in shares.items() if share > 0}
    exact["train"] = 1 - sum(exact.values())
    # Largest remainder (Hamilton): all get their whole part, the largest fractions get the places left over.
    quota = {name: int(total * share) for name, share in exact.items()}
    by_fraction = sorted(exact, key=lambda name: total * exact[name] - quota[name], reverse=True)
    for name in by_fraction[: total - sum(quota.values())]:
        quota[name] += 1
    return quota


def _divide(quota: dict[str, int], sizes: dict[str, int], seed: int) -> dict[str, str]:
    """Place the groups of one class, at least as many as there are splits."""
    *first, last = quota
    ranked = _rank(sizes, "split", seed)
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


def _number_folds(table: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Number each class's groups by equal slices of their ranking, begun elsewhere in each class."""
    fold_of: dict[str, int] = {}
    for label, sizes in _strata(table).items():
        start, total = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4]), sum(sizes.values())
        for group, middle in _middles(sizes, "fold", seed).items():
            fold_of[group] = (int(middle * folds / total) + start) % folds
    return table["group"].map(fold_of).astype(np.int64)


def numbered_folds(table: pd.DataFrame, seed: int, folds: int) -> pd.DataFrame:
    """Number the photographs outside the test by so many folds, as :func:`assign_splits` does.

    The table's own folds are kept where there are as many. New ones are as even, keep groups whole too, and follow
    from the photographs and the seed alone.

    Args:
        table: Rows of a ``split.csv``.
        seed: That the table was divided with.
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
        # A decision may have dropped the photograph that a group was named after, and people write names of their own.
        names = rows.groupby("group")["sha256"].transform("min").str[:16]
        rows["fold"] = _number_folds(rows.assign(group=names), folds, seed)
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
    kept: set[str] = set()
    for sizes in _strata(train).values():
        middles, wanted = _middles(sizes, "subset", seed), frac * sum(sizes.values())
        # Rounded to whole groups: one counts as reached where its middle is. The first is kept in any case.
        kept.update(group for rank, group in enumerate(middles) if rank == 0 or middles[group] <= wanted)
    chosen = train["group"].isin(kept)
    missing = set(train["label"]) - set(train.loc[chosen, "label"])
    if missing:
        raise UserError(f"sizes has {frac:g}, at which class {min(missing)} has no photograph; give a larger one.")
    return table[(table["split"] == "val") | chosen.reindex(table.index, fill_value=False)].reset_index(drop=True)
