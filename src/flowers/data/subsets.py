"""Smaller training sets, each of which holds those smaller than itself."""

import hashlib
import math

import pandas as pd

from flowers.errors import UserError


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
    # A group of several labels counts for its commonest; of equally common ones the first by name.
    label_of = train.groupby("group")["label"].agg(lambda labels: labels.mode().iloc[0])
    sizes = train.groupby("group").size()
    kept: set[str] = set()
    for _, groups in label_of.groupby(label_of):
        before, total = 0, int(sizes[groups.index].sum())
        for number, group in enumerate(sorted(groups.index, key=lambda name: _rank(name, seed))):
            # Rounded to whole groups: one counts as reached where its middle is. The middles only rise.
            if number and before + sizes[group] / 2 > frac * total:
                break
            kept.add(group)
            before += int(sizes[group])
    chosen = train["group"].isin(kept)
    missing = set(train["label"]) - set(train.loc[chosen, "label"])
    if missing:
        raise UserError(f"sizes has {frac:g}, at which class {min(missing)} has no photograph; give a larger one.")
    return table[(table["split"] == "val") | chosen.reindex(table.index, fill_value=False)].reset_index(drop=True)


def _rank(group: str, seed: int) -> bytes:
    return hashlib.sha256(repr(("subset", seed, group)).encode()).digest()
