"""What of a trained network's test is put on its page: which photographs, and what is said of each."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from flowers.report import confusion as matrix

SHOWN = 600
"""Photographs that have a thumbnail in the page at most, which bounds its size."""
LISTED = 3000
"""Photographs that the page names at most."""
WORST = 24
PAIRS = 6
PAIR_EXAMPLES = 8
STRANGERS = 12


@dataclass(frozen=True)
class Run:
    """All that is known of a trained and evaluated network, but for pictures."""

    name: str
    classes: list[str]
    run: Mapping[str, Any]
    """``run.json``."""
    config: str
    """``config.yaml``, as text."""
    remake: str
    """The command that makes the model again."""
    history: pd.DataFrame
    """``history.csv``."""
    scores: Mapping[str, Any]
    """``metrics.json``."""
    predictions: pd.DataFrame
    """`path`, `label` and `prediction` of ``predictions.csv``, and `sha256`."""
    probabilities: NDArray[np.float64]
    """Of the same photographs, (N,K)."""
    outliers: pd.DataFrame
    """``outliers/test.csv``, see :func:`flowers.evaluation.predictions.outlier_scores`."""
    strangers: pd.DataFrame | None
    """``outliers/strangers.csv``, where the network was confronted with strangers."""
    split: pd.DataFrame
    """``split.csv``: `label`, `split`."""

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """True classes of the test photographs, (N,)."""
        return self.predictions["label"].map(self.classes.index).to_numpy(np.int64)


@dataclass(frozen=True)
class Pictures:
    """What can only be shown where the photographs are."""

    rows: list[int]
    """Which test photographs have a thumbnail, see :func:`choose_shown`."""
    thumbnails: NDArray[np.uint8]
    """(R,H,H,3), one for each of the rows."""
    strangers: Mapping[str, NDArray[np.uint8]]
    """Thumbnails of strangers by path, see :func:`choose_strangers`."""
    montages: Mapping[str, NDArray[np.uint8]]
    """Training photographs of each class side by side, (H,W,4)."""


def choose_shown(labels: NDArray[np.integer], probabilities: NDArray[np.floating], most: int = SHOWN) -> list[int]:
    """Choose the test photographs that get a thumbnail.

    Two thirds of the places are for mistakes, the costliest first; the others are shared out among the classes, the
    least sure right answers first.

    Args:
        labels: True classes, (N,).
        probabilities: (N,K).
        most: How many are chosen at most.

    Returns:
        Row numbers, mistakes first.
    """
    winners = probabilities.argmax(axis=1)
    order = np.argsort(np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0], kind="stable")
    wrong = order[winners[order] != labels[order]]
    right = order[winners[order] == labels[order]]
    mistakes = wrong[: max(most * 2 // 3, most - len(right))]
    # One of each class in turn.
    turn = pd.Series(labels[right]).groupby(labels[right]).cumcount().to_numpy()
    fair = right[np.argsort(turn, kind="stable")]
    return [*mistakes.tolist(), *fair[: most - len(mistakes)].tolist()]


def choose_strangers(table: pd.DataFrame) -> list[str]:
    """Choose strangers to show: half of them those that seem the most ordinary, half the strangest.

    Args:
        table: ``outliers/strangers.csv``.

    Returns:
        Paths, the most ordinary first.
    """
    paths = table.sort_values(["outlier", "path"])["path"].tolist()
    return paths if len(paths) <= STRANGERS else [*paths[: STRANGERS // 2], *paths[-STRANGERS // 2 :]]


def counts_of(run: Run) -> NDArray[np.int64]:
    """Count which class was taken for which, (K,K)."""
    num_classes = len(run.classes)
    cells = run.labels * num_classes + run.probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def describe_photograph(run: Run, row: int, place: Mapping[int, int], addresses: Sequence[str]) -> dict[str, Any]:
    """Describe a test photograph with its three most probable classes."""
    probabilities = run.probabilities[row]
    first = np.argsort(-probabilities, kind="stable")[:3]
    return {
        "path": run.predictions.loc[row, "path"],
        "label": run.predictions.loc[row, "label"],
        "prediction": run.predictions.loc[row, "prediction"],
        "of_truth": float(probabilities[run.labels[row]]),
        "top": [(run.classes[k], float(probabilities[k])) for k in first],
        "address": addresses[place[row]] if row in place else None,
    }


def mistakes(run: Run, place: Mapping[int, int], addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Describe the mistakes of the highest loss."""
    wrong = run.predictions["label"] != run.predictions["prediction"]
    of_truth = np.take_along_axis(run.probabilities, run.labels[:, None], axis=1)[:, 0]
    rows = np.argsort(np.where(wrong, of_truth, 2), kind="stable")[: min(WORST, int(wrong.sum()))]
    return [describe_photograph(run, row, place, addresses) for row in rows.tolist()]


def pairs(
    run: Run, counts: NDArray[np.int64], place: Mapping[int, int], addresses: Sequence[str]
) -> list[dict[str, Any]]:
    """Describe the most frequent confusions, each with the photographs that it happened to, the surest first."""
    found = []
    for truth, prediction, count in matrix.worst_confusions(counts, PAIRS):
        mine = (run.labels == truth) & (run.probabilities.argmax(axis=1) == prediction)
        rows = np.flatnonzero(mine)
        rows = rows[np.argsort(-run.probabilities[rows, prediction], kind="stable")][:PAIR_EXAMPLES]
        found.append(
            {
                "truth": run.classes[truth],
                "prediction": run.classes[prediction],
                "count": count,
                "support": int(counts[truth].sum()),
                "photographs": [describe_photograph(run, row, place, addresses) for row in rows.tolist()],
            }
        )
    return found


def strangest(run: Run, place: Mapping[int, int], addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Describe the test photographs that are least like the known ones, if they have a thumbnail."""
    rows = run.outliers["outlier"].sort_values(ascending=False, kind="stable").index
    return [describe_photograph(run, row, place, addresses) for row in rows[:STRANGERS].tolist() if row in place]


def class_rows(run: Run, counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Join each class's figures with what it is taken for most often and its numbers in the splits."""
    splits = pd.crosstab(run.split["label"], run.split["split"])
    rows = []
    for k, row in enumerate(run.scores["per_class"]):
        errors = np.where(np.arange(len(run.classes)) == k, 0, counts[k])
        taken = int(errors.argmax())
        numbers = {
            name: int(splits[name].get(row["class"], 0)) if name in splits else 0 for name in ("train", "val", "test")
        }
        rows.append({**row, **numbers, "taken_for": (run.classes[taken], int(errors[taken])) if errors.any() else None})
    return rows


def embedded(run: Run, counts: NDArray[np.int64], place: Mapping[int, int], addresses: Sequence[str]) -> Markup:
    """Write what the page's script needs: classes, counts, photographs and thumbnails."""
    winners = run.probabilities.argmax(axis=1)
    order = choose_shown(run.labels, run.probabilities, LISTED)
    paths, sure = run.predictions["path"].tolist(), run.probabilities.max(axis=1)
    of_truth = np.take_along_axis(run.probabilities, run.labels[:, None], axis=1)[:, 0]
    photographs = [
        [
            paths[row],
            int(run.labels[row]),
            int(winners[row]),
            round(float(sure[row]), 3),
            round(float(of_truth[row]), 3),
            place.get(row, -1),
        ]
        for row in order
    ]
    cells = [[int(row), int(column), int(counts[row, column])] for row, column in np.argwhere(counts > 0)]
    content = {"classes": run.classes, "cells": cells, "photographs": photographs, "thumbnails": addresses}
    # A class named "</script>" must not end the script.
    return Markup(json.dumps(content, ensure_ascii=False).replace("<", "\\u003c"))
