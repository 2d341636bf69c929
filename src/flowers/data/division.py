"""From a manifest to a split, with all that has a say in it: near-duplicates, published divisions, decisions."""

from pathlib import Path

import pandas as pd

from flowers.data.decisions import decided
from flowers.data.duplicates import conflicts, near_duplicates
from flowers.data.intake import summarise
from flowers.data.split_table import PUBLISHED, check_splits
from flowers.data.splits import assign_splits
from flowers.errors import UserError
from flowers.settings import Data


def divide(manifest: pd.DataFrame, data: Data, root: Path) -> tuple[pd.DataFrame, str]:
    """Assign every usable photograph to a split, each picture with its near-duplicates, and carry decisions out.

    A decision changes or removes its own row alone: photographs are divided by the labels that they came with, so that
    cleaning moves nothing between the training and the test.

    Args:
        manifest: What :func:`flowers.data.intake.scan` returned.
        data: How to divide, and where the decisions are.
        root: Folder that paths are relative to.

    Returns:
        The table of :func:`flowers.data.splits.assign_splits`; and what was found, in words.

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
    after = decided(manifest, data.decisions).set_index("path")
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
    file, column = root / PUBLISHED, f"official_{number}"
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
        table: What :func:`flowers.data.splits.assign_splits` returned.
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
