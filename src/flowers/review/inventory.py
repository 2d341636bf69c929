"""What a data set consists of, in numbers. Pure functions of tables."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 12
"""A cue is cut into this many bins with as many photographs each."""
LEAK_LEAD = 0.1
"""From this lead over chance on, a cue that has nothing to do with flowers is called a leak."""
CUES = {
    "bytes": "size of the file",
    "pixels": "number of pixels",
    "aspect": "width divided by height",
    "brightness": "mean brightness",
}


def describe(table: pd.DataFrame, refused: pd.DataFrame) -> dict[str, Any]:
    """Describe a data set.

    Args:
        table: A row for each usable photograph: `path`, `label`, `group`, `split`, `fold`, `sha256`, `width_px`,
            `height_px`, `bytes`, `brightness` (mean luma in [0, 1]).
        refused: `path` and `reason` of the files that were set aside.

    Returns:
        What `card.json` holds: `photographs`, `per_class` (counts in all and by split, median size, the quantiles
        :data:`QUANTILES` of brightness), `sizes` (photographs of each width and height, the commonest first), `groups`
        (see :func:`groups_of`), `cues` (see :func:`cue_accuracies`), `refused`.
    """
    per_class = []
    for label, rows in table.groupby("label", sort=True):
        splits = rows["split"].value_counts()
        per_class.append(
            {
                "class": str(label),
                "photographs": len(rows),
                **{name: int(splits.get(name, 0)) for name in SPLITS},
                "width_px": float(rows["width_px"].median()),
                "height_px": float(rows["height_px"].median()),
                "brightness": [float(value) for value in rows["brightness"].quantile(list(QUANTILES))],
            }
        )
    sizes = Counter(zip(table["width_px"].tolist(), table["height_px"].tolist(), strict=True))
    return {
        "photographs": len(table),
        "per_class": per_class,
        "sizes": [
            {"width_px": width, "height_px": height, "photographs": count}
            for (width, height), count in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
        ],
        "groups": groups_of(table),
        "cues": cue_accuracies(table),
        "refused": refused[["path", "reason"]].to_dict("records"),
    }


def groups_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """List the groups of more than one photograph, those with conflicting labels first, then the largest.

    Args:
        table: `path`, `label`, `group`, `split`, `sha256`.

    Returns:
        A mapping for each: `group`, `split`, `same_bytes` (all are copies of one file), `conflict` (their labels
        differ), `photographs` (`path`, `label` of each).
    """
    shared = table[table.duplicated("group", keep=False)].sort_values(["group", "path"])
    groups = [
        {
            "group": str(name),
            "split": str(rows["split"].iloc[0]),
            "same_bytes": len(set(rows["sha256"])) == 1,
            "conflict": len(set(rows["label"])) > 1,
            "photographs": rows[["path", "label"]].to_dict("records"),
        }
        for name, rows in shared.groupby("group", sort=True)
    ]
    return sorted(groups, key=lambda group: (not group["conflict"], -len(group["photographs"]), group["group"]))


def cue_accuracies(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Guess the class from one number that says nothing of flowers, and count how often that is right.

    Each cue is cut into :data:`BINS` bins, and each bin answers with its commonest class; a photograph's own fold takes
    no part in the bins that answer for it. Test photographs take no part at all, as what is learned here may change
    what is trained.

    Args:
        table: `label`, `fold`, `split`, `width_px`, `height_px`, `bytes`, `brightness`.

    Returns:
        For each of :data:`CUES`: `cue`, `acc`, `acc_low`, `acc_high` (95 %, normal approximation), `chance` (share of
        the commonest class), `leaks` (the interval lies more than :data:`LEAK_LEAD` above chance).
    """
    rows = table[table["split"] != "test"]
    values = {
        "bytes": rows["bytes"],
        "pixels": rows["width_px"] * rows["height_px"],
        "aspect": rows["width_px"] / rows["height_px"],
        "brightness": rows["brightness"],
    }
    codes, _ = pd.factorize(rows["label"], sort=True)
    folds = rows["fold"].to_numpy()
    chance = float(np.bincount(codes).max() / len(codes))
    found = []
    for cue in CUES:
        right = _votes(values[cue].to_numpy(float), codes, folds) == codes
        acc = float(right.mean())
        margin = 1.96 * float(np.sqrt(acc * (1 - acc) / len(right)))
        found.append(
            {
                "cue": cue,
                "acc": acc,
                "acc_low": max(acc - margin, 0.0),
                "acc_high": min(acc + margin, 1.0),
                "chance": chance,
                "leaks": acc - margin > chance + LEAK_LEAD,
            }
        )
    return found


def _votes(values: NDArray[np.float64], codes: NDArray[np.intp], folds: NDArray[np.int64]) -> NDArray[np.intp]:
    """Predict each row's class by the commonest of its bin in the other folds, (N,)."""
    num_classes = int(codes.max()) + 1
    votes = np.zeros(len(codes), np.intp)
    for fold in np.unique(folds):
        mine = folds == fold
        others = ~mine if (~mine).any() else mine  # a single fold has no others
        edges = np.unique(np.quantile(values[others], np.linspace(0, 1, BINS + 1)[1:-1]))
        cells = np.digitize(values, edges) * num_classes + codes
        counts = np.bincount(cells[others], minlength=(len(edges) + 1) * num_classes).reshape(-1, num_classes)
        # A bin that nobody else is in answers with the commonest class of all.
        counts[counts.sum(axis=1) == 0] = counts.sum(axis=0)
        votes[mine] = counts.argmax(axis=1)[np.digitize(values[mine], edges)]
    return votes
