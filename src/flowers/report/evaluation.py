"""The page of one trained network: how good it is, on which flowers, why it errs, and how sure it can be."""

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import OmegaConf

from flowers.config.provenance import remake_command
from flowers.curation.split_table import read_splits
from flowers.errors import UserError
from flowers.evaluation.pictures import OOD_SHOWN, Pictures, choose_shown
from flowers.evaluation.result_files import (
    PICTURES,
    TRAINED,
    check_exists,
    read_answers,
    read_history,
    read_json,
    read_probabilities,
    read_record,
)
from flowers.report import confusion as matrix
from flowers.report.calibration import coverage_figure, ood_figure, reliability_figure
from flowers.report.curves import MEMORISING_FRAC, curves_figure, stage_starts
from flowers.report.data_card import side_by_side
from flowers.report.html import picture_address, sentences, svg, write_page
from flowers.report.robustness import corruptions_figure

_OFF_PAGE = ("confusion", "corruptions", "explanations")
"""Figures that are files only, or that the page draws in its own way."""
LISTED = 3000
"""Photographs that the page names at most."""
WORST = 24
PAIRS = 6
PAIR_EXAMPLES = 8
NEEDED = ("test/ece_limit", "selective_prediction", "per_class", "model")
"""Of ``metrics.json``."""
THUMBNAIL_QUALITY = 70
"""There may be hundreds."""


@dataclass(frozen=True)
class Run:
    """All that is known of a trained and evaluated network."""

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
    ood: pd.DataFrame | None
    """``outliers/ood.csv``, where the network was tested on out-of-distribution photographs."""
    split: pd.DataFrame
    """``split.csv``: `label`, `split`."""
    pictures: Pictures
    corruptions: pd.DataFrame | None
    """``corruptions.csv``, where the network was tested on corrupted photographs."""

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """True classes of the test photographs, (N,)."""
        return self.predictions["label"].map(self.classes.index).to_numpy(np.int64)


def figures_of(run: Run) -> dict[str, Figure]:
    """Draw the page's figures, by the names of their files; those that the run has nothing for are left out."""
    confidence = run.probabilities.max(axis=1)
    right = run.probabilities.argmax(axis=1) == run.labels
    photographs = f"{len(right)} test photographs"
    found = {
        "reliability": reliability_figure(confidence, right, f"Confidence and accuracy: {photographs}"),
        "coverage": coverage_figure(confidence, right, run.scores["selective_prediction"], "Selective prediction"),
    }
    if len(run.history):
        found["curves"] = curves_figure(run.history, stage_starts(run.history), f"Training of {run.name}")
    if run.ood is not None:
        title = f"Test photographs, and those of {run.scores['ood']['data']}"
        found["ood"] = ood_figure(run.outliers, run.ood, title)
    if run.corruptions is not None:
        chance = float(run.predictions["label"].value_counts(normalize=True).iloc[0])
        title = f"{run.name}: {len(right)} test photographs, corrupted"
        found["corruptions"] = corruptions_figure(run.corruptions, run.pictures.corrupted, chance, title)
    return found


def findings(run: Run) -> list[str]:
    """Say in words what the figures show."""
    lead = run.run["final"]["train/acc"] - run.run["final"]["val/acc"]
    return sentences(
        "evaluation.txt.jinja",
        scores=run.scores,
        predicted=run.predictions["prediction"].unique(),
        calibrated=run.scores["test/ece"] <= run.scores["test/ece_limit"],
        lead=lead,
        memorises=lead >= MEMORISING_FRAC,
    )


def write_report(run: Run, figures: Mapping[str, Figure], explained: Mapping[str, Any] | None, out: Path) -> None:
    """Write the page: one HTML file with everything in it, for screen (light and dark) and print.

    Args:
        run: What is known of the network.
        figures: From :func:`figures_of`.
        explained: From :func:`flowers.report.explanations.describe_explanations`; None where there are none.
        out: The file to write; its folder is made.
    """
    counts = counts_of(run)
    sheet = matrix.ConfusionSheet(counts, run.classes, "Test photographs")
    box = sheet.figure.axes[0].get_position()
    place = {row: number for number, row in enumerate(run.pictures.rows)}
    addresses = [picture_address(thumbnail, THUMBNAIL_QUALITY) for thumbnail in run.pictures.thumbnails]
    write_page(
        out,
        "report.html.jinja",
        run=run,
        scores=run.scores,
        findings=findings(run),
        drawn={name: svg(figure, name) for name, figure in figures.items() if name not in _OFF_PAGE},
        confusion=svg(sheet.figure, "confusion"),
        wide=len(run.classes) > matrix.COUNTED_CLASSES,
        box={"left": box.x0, "top": 1 - box.y1, "width": box.width, "height": box.height},
        data_json=embedded(run, counts, place, addresses),
        classes=class_rows(run, counts),
        worst=mistakes(run, place, addresses),
        pairs=pairs(run, counts, place, addresses),
        unlike=least_like(run, place, addresses),
        ood=_describe_ood(run),
        montages={name: picture_address(side_by_side(each)) for name, each in run.pictures.examples.items()},
        explained=explained,
    )


def _describe_ood(run: Run) -> list[dict[str, Any]]:
    """Describe the out-of-distribution photographs that are shown, the most ordinary first."""
    if run.ood is None:
        return []
    rows = run.ood.set_index("path", drop=False)
    return [
        {**{str(key): value for key, value in rows.loc[path].items()}, "address": picture_address(picture)}
        for path, picture in run.pictures.ood.items()
    ]


def read_run(evaluation: Path) -> Run:
    """Gather what was left of a training and its evaluation.

    Raises:
        UserError: If a file is missing or is not what its stage writes.
    """
    remedy, trained = remedy_of(evaluation), evaluation / TRAINED
    scores = read_json(evaluation / "metrics.json", NEEDED, remedy)
    run = read_json(trained / "run.json", ("classes", "final"), remedy)
    predictions = read_answers(evaluation / "predictions.csv", remedy).reset_index()
    probabilities = read_probabilities(evaluation / "predictions.csv", len(run["classes"]), remedy)
    names = {"path": str, "prediction": str}
    # A class may be called NA, which is no gap.
    gaps: dict[str, Any] = {"keep_default_na": False, "na_values": dict.fromkeys(("distance", "ood_percentile"), "")}
    ood = corruptions = None
    try:
        outliers = pd.read_csv(evaluation / "outliers/test.csv", dtype=names, **gaps)
        if "ood" in scores:
            ood = pd.read_csv(evaluation / "outliers/ood.csv", dtype=names, **gaps)
        if (evaluation / "corruptions.csv").is_file():
            corruptions = pd.read_csv(evaluation / "corruptions.csv")
        if set(predictions["label"]) - set(run["classes"]) or list(outliers["path"]) != list(predictions["path"]):
            raise ValueError("they are of another model")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; {remedy}.") from error
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{evaluation} is not what this version's evaluate writes ({error}); {remedy}.") from error
    split = read_splits(trained / "split.csv")
    return Run(
        name=read_config(trained / "config.yaml", remedy).name,
        classes=run["classes"],
        run=run,
        config=(trained / "config.yaml").read_text(encoding="utf-8"),
        remake=remake_command(Path(scores["model"])),
        history=read_history(trained / "history.csv", remedy),
        scores=scores,
        predictions=predictions.assign(sha256=predictions["path"].map(split.set_index("path")["sha256"])),
        probabilities=probabilities,
        outliers=outliers,
        ood=ood,
        split=split,
        pictures=read_record(evaluation / PICTURES, Pictures, remedy),
        corruptions=corruptions,
    )


def remedy_of(evaluation: Path) -> str:
    """Say how a folder becomes what ``evaluate`` writes."""
    model = str(evaluation.parent) if (evaluation.parent / "run.json").is_file() else "DIR"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        model = json.loads((evaluation / "metrics.json").read_text())["model"]
    return f"run flowers evaluate model={model} again"


def read_config(path: Path, remedy: str) -> Any:
    """Read the configuration of the training."""
    check_exists(path, remedy)
    try:
        config = OmegaConf.load(path)
        return OmegaConf.masked_copy(config, ["name", "data", "tracking"])  # type: ignore[arg-type]
    except Exception as error:  # whatever the YAML reader finds wrong
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}): {remedy}.") from error


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


def least_like(run: Run, place: Mapping[int, int], addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Describe the test photographs that are least like the known ones, if they have a thumbnail."""
    rows = run.outliers["outlier"].sort_values(ascending=False, kind="stable").index
    return [describe_photograph(run, row, place, addresses) for row in rows[:OOD_SHOWN].tolist() if row in place]


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
