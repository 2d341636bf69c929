"""What is in a data set, counted and shown on one page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from flowers.config.schema import FITS, Fit
from flowers.curation.manifest import MANY_FRAC, is_oblong
from flowers.curation.split_table import SPLITS
from flowers.evaluation.scores import share_interval
from flowers.report.html import noun_of, sentences, write_page
from flowers.report.image_grid import MONTAGE_COLUMNS, side_by_side
from flowers.report.style import DPI, PAPER, RIGHT, WIDTH_IN, open_panel

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


def write_card(
    card: Mapping[str, Any], table: pd.DataFrame, pixels: np.ndarray, origin: Mapping[str, str], licence: str, out: Path
) -> None:
    """Write the page: one HTML file with everything in it.

    Args:
        card: What :func:`flowers.report.data_card.describe` found, and `name`, the data set's.
        table: The photographs: `path`, `label`, `split`, `sha256`, `width_px`, `height_px`.
        pixels: (N,H,H,3) uint8, small; row i is row i of the table.
        origin: Where the photographs are from: what is said, by what it is about.
        licence: Text of the licence that lies beside them, or nothing.
        out: The file to write; its folder is made.
    """
    classes = card["per_class"]
    rows, noun = 2 if len(classes) <= 20 else 1, noun_of(card["name"])
    write_page(
        out,
        "card.html.jinja",
        noun,
        card=card,
        findings=findings(card),
        fits=FITS,
        montages={row["class"]: montage(table, pixels, row["class"], rows) for row in classes if row["train"]},
        sizes=sizes_figure(table, noun) if len(card["sizes"]) > 1 else None,
        cues=CUES,
        thumbnails=dict(zip(table["path"], pixels, strict=True)),
        origin=origin,
        licence=[line for line in licence.splitlines() if line.strip()],
    )


def findings(card: Mapping[str, Any]) -> list[str]:
    """Say in words what a training on these photographs has to reckon with."""
    classes = sorted(card["per_class"], key=lambda row: (row["photographs"], row["class"]))
    ends = {"fewest": classes[0], "most": classes[-1]}
    return sentences("card.txt.jinja", noun_of(card.get("name", "")), card=card, cues=CUES, many=MANY_FRAC, **ends)


def montage(table: pd.DataFrame, pixels: np.ndarray, label: str, rows: int) -> np.ndarray:
    """Set training photographs of a class side by side; which ones, their contents' digests decide.

    Args:
        table: `label`, `group`, `split`, `sha256`.
        pixels: (N,H,H,3) uint8.
        label: The class; it has training photographs.
        rows: How many rows of :data:`MONTAGE_COLUMNS` there are at most.

    Returns:
        One picture, (H,W,4) uint8, with nothing between the photographs.
    """
    mine = table.reset_index(drop=True).query("label == @label and split == 'train'")
    chosen = mine.sort_values("sha256").drop_duplicates("group").index[: rows * MONTAGE_COLUMNS]
    return side_by_side(pixels[chosen])


def sizes_figure(table: pd.DataFrame, noun: str) -> Figure:
    """Draw how wide and how high the photographs are, as two histograms.

    Args:
        table: `width_px`, `height_px`.
        noun: What a photograph is called.
    """
    figure = Figure(figsize=(WIDTH_IN, 2.4), dpi=DPI, facecolor=PAPER)
    largest = float(table[["width_px", "height_px"]].max().max())
    for left, side in ((0.05, "width"), (0.545, "height")):
        axes = open_panel(figure, (left, 0.2, 0.42, 0.62), f"{side} in pixels: {noun}s")
        axes.hist(table[f"{side}_px"], bins=40, range=(0, largest * 1.02), color=RIGHT)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    return figure


def describe(table: pd.DataFrame, refused: pd.DataFrame, fit: Fit = "crop") -> dict[str, Any]:
    """Describe a data set.

    Args:
        table: A row for each usable photograph: `path`, `label`, `group`, `split`, `fold`, `sha256`, `width_px`,
            `height_px`, `bytes`, `brightness` (mean luma in [0, 1]).
        refused: `path` and `reason` of the files that were set aside.
        fit: How oblong photographs become squares.

    Returns:
        What `card.json` holds: `photographs`, `fit`, `oblong_frac` (the share that loses more than a third by
        cropping), `per_class` (counts in all and by split, median size, the quantiles
        :data:`QUANTILES` of brightness), `sizes` (photographs of each width and height, the commonest first), `groups`
        (see :func:`groups_of`), `cues` (see :func:`cue_accuracies`), `refused`.
    """
    by_class = table.groupby("label")
    per_class = pd.DataFrame(
        {
            "photographs": by_class.size(),
            **{name: (table["split"] == name).groupby(table["label"]).sum() for name in SPLITS},
            **{name: by_class[name].median().astype(float) for name in ("width_px", "height_px")},
            "brightness": [each.quantile(list(QUANTILES)).tolist() for _, each in by_class["brightness"]],
        }
    )
    sizes = table.groupby(["width_px", "height_px"]).size().sort_values(ascending=False, kind="stable")
    return {
        "photographs": len(table),
        "fit": fit,
        "oblong_frac": float(is_oblong(table["width_px"], table["height_px"]).mean()),
        "per_class": per_class.rename_axis("class").reset_index().to_dict("records"),
        "sizes": sizes.reset_index(name="photographs").to_dict("records"),
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
        for name, rows in shared.groupby("group")
    ]
    return sorted(groups, key=lambda group: (not group["conflict"], -len(group["photographs"]), group["group"]))


def cue_accuracies(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Guess the class from one number that says nothing of flowers, and count how often that is right.

    Each cue is cut into :data:`BINS` bins, and each bin answers with its commonest class; a photograph's own fold takes
    no part in the bins that answer for it. Test photographs take no part at all, as what is learned here may change
    what is trained.

    Args:
        table: `label`, `group`, `fold`, `split`, `width_px`, `height_px`, `bytes`, `brightness`.

    Returns:
        For each of :data:`CUES`: `cue`, `acc`, `acc_low`, `acc_high` (95 %), `chance` (share of
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
    for cue, value in values.items():
        right = _votes(value.to_numpy(float), codes, folds) == codes
        low, high = share_interval(right, rows["group"])
        cells = {"cue": cue, "acc": float(right.mean()), "acc_low": low, "acc_high": high}
        found.append({**cells, "chance": chance, "leaks": low > chance + LEAK_LEAD})
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
