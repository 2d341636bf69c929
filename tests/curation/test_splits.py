"""A split is disjoint, stratified, and a function of contents and seed alone."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowers.config.schema import Split
from flowers.curation.split_table import COLUMNS, check_splits, read_splits, write_splits
from flowers.curation.splits import assign_splits
from flowers.errors import UserError

SPLIT = Split(val_frac=0.15, test_frac=0.15, folds=5, seed=0, near_bits=-1)


def manifest_of(counts: dict[str, int], copies: int = 0, seed: int = 0) -> pd.DataFrame:
    """Make a manifest; the first `copies` photographs of each class are there up to four times."""
    rng = np.random.default_rng(seed)
    rows = []
    for label, count in counts.items():
        for index in range(count):
            digest = hashlib.sha256(f"{label} {index} {seed}".encode()).hexdigest()
            times = int(rng.integers(2, 5)) if index < copies else 1
            rows += [(f"{label}/{index}_{time}.jpg", label, digest, "ok") for time in range(times)]
    return pd.DataFrame(rows, columns=["path", "label", "sha256", "status"])


def places(table: pd.DataFrame) -> dict[str, tuple[str, int]]:
    pairs = zip(table["split"].tolist(), table["fold"].tolist(), strict=True)
    return dict(zip(table["path"].tolist(), pairs, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_exact_to_within_one(seed: int) -> None:
    counts = {"a": 100, "b": 37, "c": 3, "d": 250, "e": 11}
    table = assign_splits(manifest_of(counts, seed=seed), Split(0.15, 0.2, 5, seed, -1))
    assert list(table.columns) == COLUMNS
    assert list(table["path"]) == sorted(table["path"])
    for label, count in counts.items():
        found = table[table["label"] == label]["split"].value_counts()
        for name, share in {"val": 0.15, "test": 0.2, "train": 0.65}.items():
            assert abs(found[name] - share * count) <= 1
    folds = table[table["split"] != "test"]
    assert set(folds["fold"]) == set(range(5))
    assert set(table.loc[table["split"] == "test", "fold"]) == {-1}
    sizes = pd.crosstab(folds["label"], folds["fold"])
    assert ((sizes.max(axis=1) - sizes.min(axis=1)) <= 1).all()
    check_splits(table)


@pytest.mark.parametrize("seed", range(8))
def test_groups_never_cross(seed: int) -> None:
    manifest = manifest_of({"a": 40, "b": 30, "c": 5}, copies=10, seed=seed)
    mixed = manifest.iloc[[0, 5]].assign(label="b", path=["b/stray.jpg", "b/astray.jpg"])
    manifest = pd.concat([manifest, mixed])
    digests = sorted(set(manifest["sha256"]))
    alike = [(digests[i], digests[i + 1]) for i in range(0, 12, 3)] + [(digests[1], digests[2]), ("x", "y")]
    table = assign_splits(manifest, Split(0.2, 0.2, 4, seed, -1), alike)
    assert len(table) == len(manifest)
    for column in ("group", "sha256"):
        assert len(table[[column, "split", "fold"]].drop_duplicates()) == len(set(table[column]))
    groups = table.drop_duplicates("sha256").set_index("sha256")["group"]
    assert groups[digests[0]] == groups[digests[1]] == groups[digests[2]] == digests[0][:16]
    shares = pd.crosstab(table["label"], table["split"], normalize="index")
    assert ((shares[["val", "test"]].loc[["a", "b"]] - 0.2).abs() < 0.08).all(axis=None)
    check_splits(table)


def test_large_groups_leave_no_split_without_the_class() -> None:
    manifest = manifest_of({"a": 3, "b": 40})
    manifest = pd.concat([manifest, *[manifest[:1].assign(path=f"a/copy{i}.jpg") for i in range(60)]])
    table = assign_splits(manifest, SPLIT)
    assert set(table.loc[table["label"] == "a", "split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("seed", range(20))
def test_groups_leave_less_room_than_the_smallest_of_the_training(seed: int) -> None:
    rng = np.random.default_rng(seed)
    manifest = manifest_of({f"class {number}": int(rng.integers(12, 50)) for number in range(4)}, seed=seed)
    times = rng.choice([1, 1, 2, 5, 8] if seed % 2 else [3, 5, 8], len(manifest))
    copied = manifest.loc[manifest.index.repeat(times)].reset_index(drop=True)
    copied["path"] += copied.index.astype(str)
    table = assign_splits(copied, Split(0.15, 0.2, 5, seed, -1))
    for _, found in table.groupby("label"):
        smallest = found[found["split"] == "train"].groupby("group").size().min()
        for name, share in {"val": 0.15, "test": 0.2}.items():
            assert -1 < share * len(found) - (found["split"] == name).sum() < smallest + 1  # 1 for the rounded share


def test_depends_on_neither_order_nor_names() -> None:
    manifest = manifest_of({"a": 50, "b": 60}, copies=5)
    table = assign_splits(manifest, SPLIT)
    shuffled = manifest.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(table, assign_splits(shuffled, SPLIT))
    renamed = manifest.assign(path=manifest["path"].str.replace("/", "/z"))
    by_content = assign_splits(renamed, SPLIT).drop_duplicates("sha256").set_index("sha256")["split"]
    assert by_content.to_dict() == table.drop_duplicates("sha256").set_index("sha256")["split"].to_dict()
    assert places(assign_splits(manifest, Split(0.15, 0.15, 5, 1, -1))) != places(table)


@pytest.mark.parametrize("seed", range(10))
def test_one_photograph_more_moves_few_others(seed: int) -> None:
    small = assign_splits(manifest_of({"a": 200, "b": 200}), Split(0.15, 0.15, 5, seed, -1))
    large = assign_splits(manifest_of({"a": 201, "b": 200}), Split(0.15, 0.15, 5, seed, -1))
    before, after = places(small), places(large)
    assert sum(before[path][0] != after[path][0] for path in before) <= 3
    assert sum(before[path][1] != after[path][1] for path in before) <= 8
    assert all(before[path] == after[path] for path in before if path.startswith("b/"))


def test_without_a_test_split() -> None:
    table = assign_splits(manifest_of({"a": 50, "b": 100}), Split(0.2, 0.0, 5, 0, -1))
    assert table["split"].value_counts().to_dict() == {"train": 120, "val": 30}
    assert table["fold"].min() == 0


def test_refused_files_are_left_out() -> None:
    manifest = manifest_of({"a": 10, "b": 10})
    manifest.loc[3, "status"] = "refused"
    assert manifest.loc[3, "path"] not in set(assign_splits(manifest, SPLIT)["path"])
    with pytest.raises(UserError, match="no usable photograph"):
        assign_splits(manifest.assign(status="refused"), SPLIT)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(0.0, 0.1, 5, 0, -1), "data.split.val_frac is 0.0"),
        (Split(1.5, 0.1, 5, 0, -1), "data.split.val_frac is 1.5"),
        (Split(float("nan"), 0.1, 5, 0, -1), "data.split.val_frac is nan"),
        (Split(0.2, -0.1, 5, 0, -1), "data.split.test_frac is -0.1"),
        (Split(0.2, 1.0, 5, 0, -1), "data.split.test_frac is 1.0"),
        (Split(0.5, 0.5, 5, 0, -1), "add up to less than 1"),
        (Split(0.2, 0.1, 1, 0, -1), "data.split.folds is 1"),
    ],
)
def test_settings_out_of_range(split: Split, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_splits(manifest_of({"a": 10, "b": 10}), split)


def test_class_too_small() -> None:
    with pytest.raises(UserError, match=r"Class b has 2 different photographs .* train, val, test need one each"):
        assign_splits(manifest_of({"a": 10, "b": 2}), SPLIT)
    with pytest.raises(
        UserError, match=r"Class b has 2 .* need one each \(too few are also of c, d, e … \(4 in all\)\)"
    ):
        assign_splits(manifest_of({"a": 10, "b": 2, "c": 1, "d": 1, "e": 2, "f": 1}), SPLIT)
    assign_splits(manifest_of({"a": 10, "b": 2}), Split(0.2, 0.0, 5, 0, -1))
    copies = pd.concat([manifest_of({"a": 10, "b": 1})] * 3)
    with pytest.raises(UserError, match="Class b has 1 different"):
        assign_splits(copies.assign(path=[f"{i}" for i in range(len(copies))]), Split(0.2, 0.0, 5, 0, -1))


def test_written_and_read_again(tmp_path: Path) -> None:
    table = assign_splits(manifest_of({"NA": 10, "007": 10, 'com,ma "é"': 10}), SPLIT)
    path = tmp_path / "deep" / "split.csv"
    write_splits(table, path)
    pd.testing.assert_frame_equal(read_splits(path), table, check_dtype=False)
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as a spreadsheet saves it
    pd.testing.assert_frame_equal(read_splits(path), table, check_dtype=False)


def test_unusable_files(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    table = assign_splits(manifest_of({"a": 10, "b": 10}), SPLIT)
    with pytest.raises(UserError, match=r"split\.csv does not exist"):
        read_splits(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"split\.csv cannot be read"):
        read_splits(path)
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(UserError, match=r"split\.csv cannot be read"):
        read_splits(path)
    table.drop(columns="group").to_csv(path)
    with pytest.raises(UserError, match=r"split\.csv lacks the column group"):
        read_splits(path)
    table.assign(fold="first").to_csv(path)
    with pytest.raises(UserError, match="no whole number"):
        read_splits(path)


def test_leaks_are_found() -> None:
    table = assign_splits(manifest_of({"a": 10, "b": 10}, copies=4), SPLIT)
    check_splits(table)
    twin = int(np.flatnonzero(table["sha256"].duplicated())[0])
    here = table.loc[twin, "split"]
    torn = table.copy()
    torn.loc[twin, "split"] = "val" if here == "train" else "train"
    with pytest.raises(UserError, match="have the same group but are in different splits"):
        check_splits(torn)
    torn["group"] = [f"g{i}" for i in range(len(torn))]
    with pytest.raises(UserError, match="have the same sha256 but are in different splits"):
        check_splits(torn)
    unique = table.drop_duplicates("sha256")
    with pytest.raises(UserError, match="Class b is in test but not in train"):
        check_splits(unique[(unique["label"] == "a") | (unique["split"] == "test")])
    with pytest.raises(UserError, match="is 'valid': set it to train, val or test"):
        check_splits(unique.assign(split=unique["split"].replace("val", "valid")))
    with pytest.raises(UserError, match="no photograph for val"):
        check_splits(unique[unique["split"] != "val"])
    with pytest.raises(UserError, match="twice"):
        check_splits(pd.concat([unique, unique[:1]]))


# Other ways to divide


def test_so_many_of_each_class() -> None:
    split = Split(0.15, 0.15, 5, seed=0, near_bits=-1, per_class=[65, 15])
    table = assign_splits(manifest_of({"a": 80, "b": 80, "c": 97}), split)
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=["train", "val", "test"]).to_numpy()
    np.testing.assert_array_equal(counts, [[65, 15, 0], [65, 15, 0], [65, 15, 17]])
    check_splits(table)
    torn = assign_splits(manifest_of({"a": 90, "b": 85}, copies=10), split)
    check_splits(torn)
    assert (torn["split"] == "val").sum() == 30


@pytest.mark.parametrize("per_class", [[65], [0, 15], [65, 15, 3], [70, 30]])
def test_numbers_that_cannot_be(per_class: list[int]) -> None:
    with pytest.raises(UserError, match=r"data\.split\.per_class"):
        assign_splits(manifest_of({"a": 80, "b": 97}), Split(0.15, 0.15, 5, seed=0, near_bits=-1, per_class=per_class))


def test_a_published_division_is_kept_without_its_leaks() -> None:
    manifest = manifest_of({"a": 30, "b": 30})
    published = {path: ("train", "val", "test")[i % 3] for i, path in enumerate(manifest["path"])}
    digests = dict(zip(manifest["path"], manifest["sha256"], strict=True))
    train, val, test, another = (f"a/{i}_0.jpg" for i in (0, 1, 2, 3))
    split = Split(0.15, 0.15, 5, seed=0, near_bits=-1, official=1)
    kept = assign_splits(manifest, split, published=published)
    assert dict(zip(kept["path"], kept["split"], strict=True)) == published
    alike = [(digests[train], digests[val]), (digests[val], digests[test])]
    table = assign_splits(manifest, split, alike, published)
    assert set(manifest["path"]) - set(table["path"]) == {train, val}
    assert another in set(table["path"])
    check_splits(table)
    with pytest.raises(UserError, match=r"does not say what a/0_0.jpg is for"):
        assign_splits(manifest, split, published={})


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_part_that_a_published_division_lacks_comes_out_of_its_training(missing: str) -> None:
    manifest = manifest_of({"a": 40, "b": 60, "other": 4}, copies=3)
    there = "test" if missing == "val" else "val"
    published = {path: "train" if i % 4 else there for i, path in enumerate(manifest["path"])}
    published |= dict.fromkeys(manifest.loc[manifest["label"] == "other", "path"], there)
    table = assign_splits(manifest, Split(0.2, 0.1, 5, seed=0, near_bits=-1), published=published)
    check_splits(table)
    assert set(table["label"]) == {"a", "b"}  # what the training lacks can neither be learned nor scored
    kept = table[table["split"] == there]
    assert set(kept["path"]) <= {path for path, place in published.items() if place == there}
    trained = table[table["split"] != there]
    share = (trained["split"] == missing).groupby(trained["label"]).mean()
    assert share.tolist() == pytest.approx([0.2 if missing == "val" else 0.1] * 2, abs=0.03)
    assert (table["fold"] == -1).equals(table["split"] == "test")

    no_test = assign_splits(manifest, Split(0.2, 0.0, 5, seed=0, near_bits=-1), published=published)
    assert set(no_test["split"]) == ({"train", "val", "test"} if missing == "val" else {"train", "val"})
