"""The page that shows a data set: what is in it, how it is divided, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flowers.review.inventory import CUES
from flowers.review.matrix import DPI, PAPER, RIGHT
from flowers.review.page import percent, picture_address, svg, write_page
from flowers.review.panels import open_panel

MONTAGE_COLUMNS = 12
SHOWN_GROUPS = 40
SHOWN_REFUSALS = 200
_GAP_PX = 4


def write_card(
    card: Mapping[str, Any], table: pd.DataFrame, pixels: np.ndarray, origin: Mapping[str, str], licence: str, out: Path
) -> None:
    """Write the page: one HTML file with everything in it.

    Args:
        card: What :func:`flowers.review.inventory.describe` found, and `name`, the data set's.
        table: The photographs: `path`, `label`, `split`, `sha256`, `width_px`, `height_px`.
        pixels: (N,H,H,3) uint8, small; row i is row i of the table.
        origin: Where the photographs are from: what is said, by what it is about.
        licence: Text of the licence that lies beside them, or nothing.
        out: The file to write; its folder is made.
    """
    place = {path: row for row, path in enumerate(table["path"])}
    groups = [
        {
            **group,
            "photographs": [
                {**photograph, "address": picture_address(pixels[place[photograph["path"]]])}
                for photograph in group["photographs"][:8]
            ],
            "more": max(len(group["photographs"]) - 8, 0),
        }
        for group in card["groups"][:SHOWN_GROUPS]
    ]
    lines = [line for line in licence.splitlines() if line.strip()]
    write_page(
        out,
        "card.html.jinja",
        card=card,
        classes=card["per_class"],
        most=max(row["photographs"] for row in card["per_class"]),
        readings=readings(card),
        montages={
            row["class"]: picture_address(
                montage(table, pixels, row["class"], 2 if len(card["per_class"]) <= 20 else 1)
            )
            for row in card["per_class"]
            if row["train"]
        },
        sizes=svg(sizes_figure(table), "sizes") if len(card["sizes"]) > 1 else None,
        cues=CUES,
        groups=groups,
        refusals=card["refused"][:SHOWN_REFUSALS],
        origin=origin,
        licence=lines[:8],
        licence_more=max(len(lines) - 8, 0),
    )


def readings(card: Mapping[str, Any]) -> list[str]:
    """Say in words what a training on these photographs has to reckon with."""
    classes = sorted(card["per_class"], key=lambda row: (row["photographs"], row["class"]))
    fewest, most = classes[0], classes[-1]
    sentences = [f"All {len(classes)} classes have {most['photographs']} photographs each."]
    if fewest["photographs"] < most["photographs"]:
        ratio = most["photographs"] / fewest["photographs"]
        sentences = [
            f"{most['class']} has the most photographs ({most['photographs']}), {fewest['class']} the fewest "
            f"({fewest['photographs']}): {ratio:.1f} times as many."
        ]
    groups = card["groups"]
    copies = sum(group["same_bytes"] for group in groups)
    conflicts = sum(group["conflict"] for group in groups)
    if groups:
        sentences.append(
            f"{_count(len(groups), 'group')} of photographs ({copies} of them copies of the same bytes) "
            f"{'is' if len(groups) == 1 else 'are'} kept together on one side of the split."
        )
    else:
        sentences.append("No photograph is there twice.")
    if conflicts:
        alike = "photographs that are alike but have different labels: look at them below."
        sentences.append(f"{_count(conflicts, 'group')} {'holds' if conflicts == 1 else 'hold'} {alike}")
    if card["refused"]:
        sentences.append(f"{_count(len(card['refused']), 'file')} cannot be used; the reasons are below.")
    return [*sentences, *_cue_readings(card["cues"])]


def _cue_readings(cues: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which numbers give the class away."""
    sentences = []
    for cue in cues:
        against = f"alone tells the class of {percent(cue['acc'])}, where chance is {percent(cue['chance'])}"
        if cue["leaks"]:
            sentences.append(f"The {CUES[cue['cue']]} {against}: a network may learn that instead of flowers.")
        elif cue["acc_low"] > cue["chance"]:
            sentences.append(f"The {CUES[cue['cue']]} {against}: a hint, no more.")
    if not sentences:
        sentences.append("Neither size nor brightness alone tells the class better than chance.")
    return sentences


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
    mine = (table["label"] == label) & (table["split"] == "train")
    chosen = table.reset_index(drop=True)[mine.to_numpy()].sort_values("sha256").drop_duplicates("group")
    numbers = chosen.index[: rows * MONTAGE_COLUMNS].tolist()
    side = pixels.shape[1] + _GAP_PX
    height = -(-len(numbers) // MONTAGE_COLUMNS) * side - _GAP_PX
    sheet = np.zeros((height, min(len(numbers), MONTAGE_COLUMNS) * side - _GAP_PX, 4), np.uint8)
    for place, number in enumerate(numbers):
        row, column = divmod(place, MONTAGE_COLUMNS)
        top, left = row * side, column * side
        cell = sheet[top : top + pixels.shape[1], left : left + pixels.shape[1]]
        cell[..., :3], cell[..., 3] = pixels[number], 255
    return sheet


def sizes_figure(table: pd.DataFrame) -> Figure:
    """Draw how wide and how high the photographs are, as two histograms.

    Args:
        table: `width_px`, `height_px`.
    """
    figure = Figure(figsize=(9.6, 2.4), dpi=DPI, facecolor=PAPER)
    largest = float(table[["width_px", "height_px"]].max().max())
    for left, column in ((0.05, "width_px"), (0.545, "height_px")):
        heading = f"{column.removesuffix('_px')} in pixels: photographs"
        axes = open_panel(figure, (left, 0.2, 0.42, 0.62), heading)
        axes.hist(table[column], bins=40, range=(0, largest * 1.02), color=RIGHT)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    return figure


def _count(number: int, noun: str) -> str:
    """Count things as English does."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
