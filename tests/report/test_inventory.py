from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowers.report.data_card import cue_accuracies, describe, groups_of

NO_FILES = pd.DataFrame({"path": [], "reason": []})


def inventory(per_class: int = 60, **changes: Any) -> pd.DataFrame:
    """Three classes of photographs that differ in nothing but their names."""
    rng = np.random.default_rng(0)
    size = 3 * per_class
    number = np.arange(size)
    table = pd.DataFrame(
        {
            "path": [f"c{k % 3}/{k:04d}.jpg" for k in number],
            "label": [f"c{k % 3}" for k in number],
            "group": [f"g{k:04d}" for k in number],
            "split": np.where(number % 6 < 3, "train", np.where(number % 12 < 6, "val", "test")),
            "fold": np.where((number % 6 >= 3) & (number % 12 >= 6), -1, number // 3 % 5),
            "sha256": [f"{k:064x}" for k in number],
            "width_px": 320,
            "height_px": 240,
            "bytes": rng.integers(20_000, 40_000, size),
            "brightness": rng.uniform(0.3, 0.7, size),
        }
    )
    return table.assign(**changes)


def accuracies(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {cue["cue"]: cue for cue in cue_accuracies(table)}


def test_counts_of_each_class_and_split() -> None:
    card = describe(inventory(), NO_FILES)
    assert card["photographs"] == 180
    assert [row["class"] for row in card["per_class"]] == ["c0", "c1", "c2"]
    for row in card["per_class"]:
        assert (row["train"], row["val"], row["test"], row["photographs"]) == (30, 15, 15, 60)
        assert (row["width_px"], row["height_px"]) == (320, 240)
        assert row["brightness"] == sorted(row["brightness"])
    assert card["sizes"] == [{"width_px": 320, "height_px": 240, "photographs": 180}]


def test_what_says_nothing_is_no_leak() -> None:
    for cue in accuracies(inventory()).values():
        assert cue["chance"] == pytest.approx(1 / 3)
        assert cue["acc_low"] < cue["chance"] + 0.05
        assert not cue["leaks"]


def test_file_size_that_tells_the_class_is_a_leak() -> None:
    table = inventory()
    table["bytes"] += table["label"].map({"c0": 0, "c1": 20_000, "c2": 40_000})
    found = accuracies(table)
    assert found["bytes"]["acc"] > 0.9
    assert found["bytes"]["leaks"]
    assert not found["brightness"]["leaks"]


def test_a_bin_does_not_vote_for_itself() -> None:
    """A number of each photograph's own would look like a perfect cue, if bins were filled by those they answer for."""
    few = inventory(per_class=6, fold=np.arange(18) % 5, split="train")
    assert accuracies(few)["bytes"]["acc"] < 0.7


def test_test_photographs_take_no_part() -> None:
    table = inventory()
    other = table.copy()
    other.loc[other["split"] == "test", ["bytes", "brightness", "width_px"]] = (1, 0.0, 9999)
    assert cue_accuracies(table) == cue_accuracies(other)


def test_conflicting_groups_come_first() -> None:
    table = inventory()
    table.loc[[0, 3], ["group", "sha256"]] = ("copies", "same")
    table.loc[[6, 7], "group"] = "conflict"
    conflict, copies = groups_of(table)
    assert (conflict["group"], conflict["conflict"], conflict["same_bytes"]) == ("conflict", True, False)
    assert (copies["group"], copies["conflict"], copies["same_bytes"]) == ("copies", False, True)
    assert [photograph["path"] for photograph in copies["photographs"]] == ["c0/0000.jpg", "c0/0003.jpg"]
    assert copies["split"] == "train"
