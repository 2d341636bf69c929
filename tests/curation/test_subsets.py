"""Shares of the training photographs: nested, in proportion, with groups whole."""

import math

import pandas as pd
import pytest

from flowers.config.schema import Split
from flowers.curation.splits import assign_splits, subset_split
from flowers.errors import UserError

FRACS = (0.05, 0.1, 0.2, 0.5, 0.77, 1.0)


def table_of(counts: dict[str, int], copies: int = 0) -> pd.DataFrame:
    rows = [
        (f"{label}/{index}_{time}.jpg", label, f"{hash_of(label, index)}", "ok")
        for label, count in counts.items()
        for index in range(count)
        for time in range(4 if index < copies else 1)
    ]
    manifest = pd.DataFrame(rows, columns=["path", "label", "sha256", "status"])
    return assign_splits(manifest, Split(0.2, 0.1, 5, 0, -1))


def hash_of(label: str, index: int) -> str:
    import hashlib

    return hashlib.sha256(f"{label}{index}".encode()).hexdigest()


def trained(table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["split"] == "train", "path"])


@pytest.mark.parametrize("copies", [0, 9])
def test_larger_shares_hold_smaller_ones_and_groups_stay_whole(copies: int) -> None:
    table = table_of({"a": 200, "b": 90, "c": 40}, copies)
    before: set[str] = set()
    for frac in FRACS:
        subset = subset_split(table, frac, seed=3)
        assert before <= trained(subset)
        before = trained(subset)
        groups = subset.loc[subset["split"] == "train", "group"]
        whole = table[(table["split"] == "train") & table["group"].isin(groups)]
        assert set(whole["path"]) == before
        assert set(subset.loc[subset["split"] == "val", "path"]) == set(table.loc[table["split"] == "val", "path"])
        assert set(subset["split"]) == {"train", "val"}
    assert before == trained(table)


@pytest.mark.parametrize("frac", FRACS)
def test_every_class_has_its_share_to_the_photograph(frac: float) -> None:
    table = table_of({"a": 200, "b": 90, "c": 40})
    full = table[table["split"] == "train"]["label"].value_counts()
    kept = subset_split(table, frac, seed=0)
    counts = kept[kept["split"] == "train"]["label"].value_counts()
    for label, count in full.to_dict().items():
        assert abs(counts.to_dict()[label] - frac * count) <= 0.5


def test_share_is_near_where_groups_are_large() -> None:
    table = table_of({"a": 100, "b": 50}, copies=20)
    full = table[table["split"] == "train"]["label"].value_counts()
    kept = subset_split(table, 0.3, seed=0)
    counts = kept[kept["split"] == "train"]["label"].value_counts()
    for label, count in full.to_dict().items():
        assert abs(counts.to_dict()[label] - 0.3 * count) <= 2  # half of a group of four


def test_order_of_rows_does_not_matter_but_the_seed_does() -> None:
    table = table_of({"a": 100, "b": 50}, copies=3)
    shuffled = table.sample(frac=1, random_state=0).reset_index(drop=True)
    assert trained(subset_split(table, 0.2, seed=1)) == trained(subset_split(shuffled, 0.2, seed=1))
    assert trained(subset_split(table, 0.2, seed=1)) != trained(subset_split(table, 0.2, seed=2))


@pytest.mark.parametrize("frac", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_shares_out_of_range(frac: float) -> None:
    with pytest.raises(UserError, match=r"above 0 and up to 1"):
        subset_split(table_of({"a": 20, "b": 20}), frac, seed=0)


def test_a_class_without_a_photograph_is_named_with_a_size_that_works() -> None:
    table = table_of({"a": 200, "b": 20})
    with pytest.raises(UserError, match=r"class b with its 14 training photographs has none; give 0\.036 or more"):
        subset_split(table, 0.03, seed=0)
    kept = subset_split(table, 0.036, seed=0)
    assert (kept.loc[kept["split"] == "train", "label"] == "b").sum() == 1


def test_a_class_that_is_only_in_groups_of_another() -> None:
    table = table_of({"a": 40, "b": 20})
    train = table.index[table["split"] == "train"]
    table = table[(table["split"] != "train") | (table["label"] == "a")].copy()
    odd = [row for row in train if row in table.index][:3]
    table.loc[odd, "group"] = "one"  # three photographs alike, of which one is called b
    table.loc[odd[0], "label"] = "b"
    found = {seed: missing(table, seed) for seed in range(8)}
    assert set(found.values()) == {True, False}  # said where it happens, and only there


def missing(table: pd.DataFrame, seed: int) -> bool:
    try:
        kept = subset_split(table, 0.5, seed)
    except UserError as error:
        assert "class b has no photograph" in str(error)  # noqa: PT017
        return True
    assert "b" in set(kept.loc[kept["split"] == "train", "label"])
    return False
