"""A split that leaks does not pass."""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flowers.commands.check_split import check, list_similar, main
from flowers.commands.download import download
from flowers.commands.split import split
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.curation.manifest import read_manifest
from flowers.curation.split_table import read_splits, write_splits, write_table
from flowers.errors import UserError

MANIFEST = Path("artifacts/download/manifest.csv")
SPLIT = Path("out/split.csv")


@pytest.fixture
def divided(make_settings: Callable[..., Settings]) -> pd.DataFrame:
    """The manifest of a data set that was downloaded and split; the working folder is where they lie."""
    download(make_settings("out_dir=artifacts/download"))
    split(make_settings())
    return read_manifest(MANIFEST)


def test_a_split_as_made_passes(divided: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    words = check(SPLIT, MANIFEST, 90)
    assert "no group and no file's bytes lie in two splits or folds" in words
    assert "no near-duplicates of up to 90 bits do" in words
    sys.argv = ["check", f"split={SPLIT}"]
    main()
    assert "roses" in capsys.readouterr().out


def test_a_group_over_a_border_is_named(divided: pd.DataFrame) -> None:
    assert check(SPLIT.parent, None, -1) == check(SPLIT, None, -1)
    table = read_splits(SPLIT)
    table.loc[table["split"] == "val", "group"] = table.loc[table["split"] == "train", "group"].iloc[0]
    write_splits(table, SPLIT)
    with pytest.raises(UserError, match=r"have the same group but are in different splits"):
        check(SPLIT, None, -1)


def test_near_duplicates_over_a_border_are_named(divided: pd.DataFrame) -> None:
    table = read_splits(SPLIT)
    one, other = (table.loc[table["split"] == name, "path"].iloc[0] for name in ("train", "test"))
    hashes = divided.set_index("path")["dhash"]
    divided.loc[divided["path"] == one, "dhash"] = f"{int(hashes[other], 16) ^ 0b1011:0128x}"
    write_table(divided, MANIFEST)
    check(SPLIT, MANIFEST, 2)
    with pytest.raises(UserError, match=rf"{min(one, other)} and {max(one, other)} show the same picture \(3 bits"):
        check(SPLIT, MANIFEST, 3)


@pytest.mark.parametrize(("column", "part"), [("sha256", "has other bytes in"), ("path", "is not in")])
def test_a_photograph_that_the_manifest_does_not_know_is_named(column: str, part: str, divided: pd.DataFrame) -> None:
    path = divided["path"].iloc[0]
    divided.loc[0, column] = "0" * 64
    write_table(divided, MANIFEST)
    with pytest.raises(UserError, match=rf"{path} of .* {part} .*manifest\.csv"):
        check(SPLIT, MANIFEST, -1)
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        check(SPLIT, Path("none.csv"), -1)


def test_what_looks_alike_to_a_network_is_listed(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    train(make_settings("model.stages.0.epochs=1"))
    table = read_splits(SPLIT)
    number, *pairs = list_similar(SPLIT, tmp_path / "out", 0.9).splitlines()
    assert number == f"{len(pairs)} pairs in different splits look alike to {tmp_path / 'out'}"
    assert pairs, "photographs of the same colour look alike to any network"
    assert pairs == sorted(pairs, key=lambda line: -float(line.split()[0]))
    place = dict(zip(table["path"], table["split"], strict=True))
    for line in pairs:
        cosine, one, where, _, other, there = line.split()
        assert 0.9 <= float(cosine) <= 1
        assert (where, there) == (f"({place[one]})", f"({place[other]})")
        assert where != there
    with pytest.raises(UserError, match=r"least_cosine=1\.5 must be"):
        list_similar(SPLIT, tmp_path / "out", 1.5)
