"""What has a say in the split: near-duplicates, published divisions, decisions."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowers.config.schema import Data, Split
from flowers.curation.prepare import describe, divide
from flowers.errors import UserError
from flowers.sources.published import OFFICIAL


def data(decisions: Path | None = None, **changes: Any) -> Data:
    split = Split(**{"val_frac": 0.2, "test_frac": 0.2, "folds": 3, "seed": 0, "near_bits": 0} | changes)
    return Data(
        name="mine",
        root="unused",
        source=None,
        strict=False,
        decisions=None if decisions is None else str(decisions),
        split=split,
        split_csv=None,
        cache_dir="unused",
    )


def manifest_of(labels: str, pictures: list[int]) -> pd.DataFrame:
    """Make a manifest of different files; those with the same number in `pictures` show the same."""
    rng = np.random.default_rng(1)
    hashes = [rng.bytes(64).hex() for _ in range(max(pictures) + 1)]
    rows = [
        (f"{label}/{i}.jpg", label, hashlib.sha256(str(i).encode()).hexdigest(), hashes[picture], "ok", "")
        for i, (label, picture) in enumerate(zip(labels, pictures, strict=True))
    ]
    return pd.DataFrame(rows, columns=["path", "label", "sha256", "dhash", "status", "reason"])


def test_a_picture_keeps_to_one_split_and_conflicts_are_told(tmp_path: Path) -> None:
    manifest = manifest_of("a" * 30 + "b" * 30 + "a" * 12 + "b" * 8, [*range(60), *range(20)])
    divided, words = divide(manifest, data(), tmp_path)
    assert divided["group"].nunique() == 60
    assert len(divided[["group", "split", "fold"]].drop_duplicates()) == 60
    *_, first = (line for line in words.splitlines() if "groups of" in line)
    assert first == "20 groups of near-duplicates (40 photographs) and 0 of equal files, each kept in one split"
    told = [line for line in words.splitlines() if line.startswith("the same picture under different labels: a/1")]
    assert len(told) == 8
    named = [line.rpartition(": ")[2].split(", ") for line in told]
    assert all([path[0] for path in paths] == ["a", "b"] for paths in named)  # the classes
    assert describe(divided, most_conflicts=3).splitlines()[-1].endswith(": 5 groups more")

    apart, words = divide(manifest, data(near_bits=-1), tmp_path)
    assert apart["group"].nunique() == 80
    assert "0 groups of near-duplicates" in words


def test_a_decision_moves_no_other_photograph(tmp_path: Path) -> None:
    manifest = manifest_of("a" * 40 + "b" * 40, list(range(80)))
    before, _ = divide(manifest, data(), tmp_path)
    decisions = tmp_path / "decisions.csv"
    rows = ["a/3.jpg,relabel:b", "b/50.jpg,drop", "a/4.jpg,drop", "b/60.jpg,relabel:a", "a/7.jpg,keep"]
    decisions.write_text("path,decision,by,when\n" + "".join(f"{row},Ada,2026-01-31T12:00:00Z\n" for row in rows))
    after, words = divide(manifest, data(decisions), tmp_path)
    wanted = before[~before["path"].isin(["b/50.jpg", "a/4.jpg"])].set_index("path")
    wanted.loc[["a/3.jpg", "b/60.jpg"], "label"] = ["b", "a"]
    pd.testing.assert_frame_equal(after.set_index("path"), wanted)
    assert "2 dropped by decisions" in words


def test_a_published_division_is_read_from_beside_the_photographs(tmp_path: Path) -> None:
    manifest = manifest_of("a" * 9 + "b" * 9, [*range(17), 0])
    with pytest.raises(UserError, match=r"official\.csv does not exist.*data\.split\.official to null"):
        divide(manifest, data(official=1), tmp_path)
    places = ["train", "val", "test"] * 6
    table = pd.DataFrame({"path": manifest["path"], "official_1": places, "official_2": places[::-1]})
    table.to_csv(tmp_path / OFFICIAL, index=False)
    for number, kept in ((1, places), (2, places[::-1])):
        divided, words = divide(manifest, data(official=number), tmp_path)
        published = dict(zip(manifest["path"], kept, strict=True))
        assert all(published[path] == split for path, split in zip(divided["path"], divided["split"], strict=True))
        assert len(divided) == 17  # of the picture that is on both sides of a border, one stays
        assert "1 photographs left out" in words
    with pytest.raises(UserError, match=r"data\.split\.official is 3, but .* has 1, 2"):
        divide(manifest, data(official=3), tmp_path)
