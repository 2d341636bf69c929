"""Folds for a cross-validation: each photograph validates once, and no picture is on both sides."""

import hashlib

import pandas as pd
import pytest

from flowers.config.schema import Split
from flowers.curation.split_table import check_splits
from flowers.curation.splits import assign_splits, fold_split, numbered_folds
from flowers.errors import UserError

SPLIT = Split(val_frac=0.15, test_frac=0.15, folds=5, seed=0, near_bits=-1)


def table_of(counts: dict[str, int], copies: int = 0) -> pd.DataFrame:
    """Make a table of splits; the first `copies` photographs of each class are there three times."""
    rows = [
        (f"{label}/{index}_{time}.jpg", label, hashlib.sha256(f"{label}{index}".encode()).hexdigest(), "ok")
        for label, count in counts.items()
        for index in range(count)
        for time in range(3 if index < copies else 1)
    ]
    return assign_splits(pd.DataFrame(rows, columns=["path", "label", "sha256", "status"]), SPLIT)


def test_folds_of_the_split_are_kept() -> None:
    table = table_of({"a": 40, "b": 25})
    outside = table[table["split"] != "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(numbered_folds(table, SPLIT.seed, 5), outside)


@pytest.mark.parametrize("copies", [0, 6])
@pytest.mark.parametrize("folds", [2, 3, 10])
def test_another_number_of_folds_is_what_the_split_would_have_had(folds: int, copies: int) -> None:
    table = table_of({"a": 60, "b": 31, "c": 14}, copies)
    rows = [(path, label, sha256, "ok") for path, label, sha256 in table[["path", "label", "sha256"]].to_numpy()]
    asked = Split(0.15, 0.15, folds, 0, -1)
    direct = assign_splits(pd.DataFrame(rows, columns=["path", "label", "sha256", "status"]), asked)
    direct = direct[direct["split"] != "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(numbered_folds(table, SPLIT.seed, folds), direct)


def test_folds_part_the_photographs_evenly_and_leave_the_test_alone() -> None:
    table = table_of({"a": 60, "b": 31, "c": 14}, copies=6)
    numbered = numbered_folds(table, SPLIT.seed, 4)
    validated: list[str] = []
    for fold in range(4):
        split = fold_split(numbered, fold)
        check_splits(split)  # refuses a group on two sides, and a class that is not trained on
        assert set(split["split"]) == {"train", "val"}
        validated += split.loc[split["split"] == "val", "path"].tolist()
    assert sorted(validated) == sorted(table.loc[table["split"] != "test", "path"])
    per_fold = pd.crosstab(numbered["label"], numbered["fold"])
    assert (per_fold.max(axis=1) - per_fold.min(axis=1)).max() <= 3  # a group of three may stand at the border


def test_folds_do_not_depend_on_the_order_of_rows() -> None:
    table = table_of({"a": 30, "b": 20}, copies=3)
    shuffled = table.sample(frac=1, random_state=1)
    one, two = (numbered_folds(each, SPLIT.seed, 3).set_index("path")["fold"] for each in (table, shuffled))
    pd.testing.assert_series_equal(one, two.reindex(one.index))


def test_what_has_no_fold_always_trains() -> None:
    table = table_of({"a": 30, "b": 20})
    left_out = table.index[table["split"] != "test"][0]
    table.loc[left_out, "fold"] = -1
    numbered = numbered_folds(table, SPLIT.seed, 5)
    for fold in range(5):
        split = fold_split(numbered, fold).set_index("path")
        assert split.loc[table.loc[left_out, "path"], "split"] == "train"


@pytest.mark.parametrize(
    ("folds", "sentence"),
    [
        (1, "folds=1, but one fold validates"),
        (-2, "give folds=2 or more"),
        (9, "class b has 7 different photographs outside the test; give folds=7 or less"),
    ],
)
def test_impossible_numbers_of_folds(folds: int, sentence: str) -> None:
    table = table_of({"a": 40, "b": 10}, copies=5)  # copies do not count as photographs of their own
    with pytest.raises(UserError, match=sentence):
        numbered_folds(table, SPLIT.seed, folds)


def test_a_class_within_one_fold_is_said_before_any_training() -> None:
    table = table_of({"a": 40, "b": 25})
    table.loc[(table["label"] == "b") & (table["split"] != "test"), "fold"] = 3
    with pytest.raises(UserError, match="fold 4 would have all photographs of class b"):
        numbered_folds(table, SPLIT.seed, 5)
