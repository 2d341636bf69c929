"""The page of one trained network: how good it is, on which flowers, why it errs, and how sure it can be."""

import contextlib
import functools
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.stats import fisher_exact

from flowers.config.provenance import remake_command
from flowers.config.schema import FITS
from flowers.config.untrusted import callers_own, check_run, read_config
from flowers.curation.split_table import read_splits
from flowers.errors import UserError
from flowers.evaluation import result_files
from flowers.evaluation.scores import share_interval
from flowers.evaluation.selection import OOD_SHOWN, Pictures, choose_shown
from flowers.evaluation.significance import ALPHA
from flowers.explain.explanation_set import ExplanationSet
from flowers.report.confusion import COUNTED_CLASSES, confusion_figure, worst_confusions
from flowers.report.curves import MEMORISING_FRAC, curves_figure, stage_starts
from flowers.report.explanations import describe_explanations, explanation_figures
from flowers.report.html import noun_of, picture_address, sentences, write_page
from flowers.report.image_grid import side_by_side
from flowers.report.reliability import corruptions_figure, coverage_figure, ood_figure, reliability_figure

LISTED = 3000
"""Photographs that the page names at most."""
NAMED = 3
"""Classes of a kind that a sentence names; of more it tells the number."""
WORST = 24
PAIRS = 6
PAIR_EXAMPLES = 8
THUMBNAIL_QUALITY = 70
"""There may be hundreds."""


@dataclass(frozen=True)
class Run:
    """All that is known of a trained and evaluated network."""

    name: str
    classes: list[str]
    run: dict[str, Any]
    """``run.json``."""
    settings: Any
    """`name`, `data` and `tracking` of ``config.yaml``."""
    config: str
    """``config.yaml``, as text."""
    remake: str
    """The command that makes the model again."""
    history: pd.DataFrame
    """``history.csv``."""
    scores: Mapping[str, Any]
    """``metrics.json``."""
    counts: NDArray[np.int64]
    """``confusion.csv``, (K,K): rows truth, columns prediction."""
    predictions: pd.DataFrame
    """`path`, `label` and `prediction` of ``predictions.csv``."""
    probabilities: NDArray[np.float64]
    """Of the same photographs, (N,K)."""
    outliers: pd.DataFrame
    """``outliers/test.csv``, see :func:`flowers.evaluation.ood.OutlierScores.table`."""
    split: pd.DataFrame
    """``split.csv``: `path`, `label`, `group`, `split`."""
    pictures: Pictures
    """Of an evaluation on another data set, which has no page, there are none."""
    ood: pd.DataFrame | None = None
    """``outliers/ood.csv``, where the network was tested on out-of-distribution photographs."""
    corruptions: pd.DataFrame | None = None
    """``corruptions.csv``, where the network was tested on corrupted photographs."""
    explanations: ExplanationSet | None = None

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """True classes of the test photographs, (N,)."""
        return self.predictions["label"].map(self.classes.index).to_numpy(np.int64)

    @functools.cached_property
    def photographs(self) -> pd.DataFrame:
        """The N test photographs: `predictions`, and what is known of each of these.

        `confidence` and `of_truth` are the probabilities of the predicted and of the true class, `top` has the three
        most probable classes with theirs, and `picture` is the number of the thumbnail, -1 if there is none.
        """
        first = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :3]
        top = [[(self.classes[k], self.probabilities[row, k]) for k in best] for row, best in enumerate(first)]
        pictures = {row: number for number, row in enumerate(self.pictures.rows)}
        return self.predictions.assign(
            confidence=self.confidence,
            of_truth=np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)[:, 0],
            top=pd.Series(top),
            picture=[pictures.get(row, -1) for row in range(len(first))],
        )

    @functools.cached_property
    def noun(self) -> str:
        """What a test photograph is called."""
        return noun_of(self.scores.get("data") or self.run["dataset"])

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of each predicted class, (N,)."""
        return self.probabilities.max(axis=1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which predictions are right, (N,)."""
        return (self.predictions["label"] == self.predictions["prediction"]).to_numpy(bool)

    @property
    def groups(self) -> NDArray[np.object_]:
        """Groups of near-duplicates that the test photographs are in, (N,)."""
        return self.split.set_index("path")["group"].loc[self.predictions["path"]].to_numpy()


def figures_of(run: Run) -> dict[str, Figure]:
    """Draw the figures, by the names of their files; those that the run has nothing for are left out.

    Of an evaluation on another data set the confusion matrix is drawn, and no more.
    """
    elsewhere, count = run.scores.get("data"), len(run.predictions)
    title = f"{run.name}: {elsewhere or 'test'}, {count} {run.noun}s"
    found = {"confusion": confusion_figure(run.counts, run.classes, title)}
    if elsewhere is not None:
        return found
    title, answers = f"Confidence and accuracy: {count} test {run.noun}s", (run.confidence, run.right)
    found["reliability"] = reliability_figure(*answers, title, run.noun, run.groups)
    found["coverage"] = coverage_figure(*answers, run.scores["selective_prediction"], "Selective prediction", run.noun)
    if len(run.history):
        found["curves"] = curves_figure(run.history, stage_starts(run.history), f"Training of {run.name}")
    if run.ood is not None:
        title = f"Test {run.noun}s, and those of {run.scores['ood']['data']}"
        found["ood"] = ood_figure(run.outliers, run.ood, title, run.noun)
    if run.corruptions is not None:
        chance = float(run.predictions["label"].value_counts(normalize=True).iloc[0])
        title = f"{run.name}: {count} test {run.noun}s, corrupted"
        found["corruptions"] = corruptions_figure(run.corruptions, run.pictures.corrupted, chance, title)
    if run.explanations is not None:
        found |= explanation_figures(run.explanations, run.classes, run.name, run.noun)
    return found


def findings(run: Run) -> list[str]:
    """Say in words what the figures show."""
    acc = {split: run.run["final"][f"{split}/acc"] for split in ("train", "val")}
    validation = int((run.split["split"] == "val").sum())
    # That another draw of validation photographs might close the gap must be ruled out, too.
    right = np.arange(validation) < round(acc["val"] * validation)
    highest = share_interval(right)[1] if validation else 1.0
    return sentences(
        "evaluation.txt.jinja",
        run.noun,
        scores=run.scores,
        recall=recall_extremes(run.scores["per_class"]),
        named=NAMED,
        predicted=run.predictions["prediction"].unique(),
        miscalibrated=run.scores["test/ece"] > run.scores["test/ece_limit"],
        acc=acc,
        memorises=acc["train"] - acc["val"] >= MEMORISING_FRAC and acc["train"] > highest,
    )


def recall_extremes(per_class: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Find the classes that are found most and least often, and whether the test shows that they differ.

    Args:
        per_class: Of ``metrics.json``.

    Returns:
        `highest` and `lowest`: the rows of all classes with that recall, where there are two recalls, else no rows;
        `differ`: what Fisher's exact test says of a class of each, corrected for the number of pairs that they could
        have been (Bonferroni); `imprecise`: those of `highest` whose predictions are the least often right.
    """
    tested = [row for row in per_class if row["support"]]
    recalls = [row["recall"] for row in tested]
    if len(set(recalls)) < 2:
        return {"highest": [], "lowest": [], "differ": False, "imprecise": []}
    highest, lowest = ([row for row in tested if row["recall"] == bound(recalls)] for bound in (max, min))
    support, recall = np.array([[rows[0]["support"], rows[0]["recall"]] for rows in (highest, lowest)]).T
    p = fisher_exact(np.rint([support * recall, support * (1 - recall)])).pvalue * math.comb(len(tested), 2)
    least = min(row["precision"] for row in tested if row["recall"])
    imprecise = [row for row in highest if row["precision"] == least < row["recall"]]
    return {"highest": highest, "lowest": lowest, "differ": p <= ALPHA, "imprecise": imprecise}


def write_report(run: Run, figures: Mapping[str, Figure], out: Path) -> None:
    """Write the page: one HTML file with everything in it, for screen (light and dark) and print.

    Args:
        run: What is known of the network, of its own test.
        figures: From :func:`figures_of`.
        out: The file to write; its folder is made.
    """
    confusion = confusion_figure(run.counts, run.classes, f"Test {run.noun}s")
    # Row numbers, those that are least like the known photographs first.
    unlike = run.outliers["outlier"].sort_values(ascending=False, kind="stable").index[:OOD_SHOWN]
    thumbnails = [picture_address(thumbnail, THUMBNAIL_QUALITY) for thumbnail in run.pictures.thumbnails]
    write_page(
        out,
        "report.html.jinja",
        run.noun,
        run=run,
        scores=run.scores,
        fits=FITS,
        findings=findings(run),
        figures=figures,
        confusion=confusion,
        box=confusion.axes[0].get_position(),
        wide=len(run.classes) > COUNTED_CLASSES,
        thumbnails=thumbnails,
        embedded=embedded(run, thumbnails),
        classes=class_rows(run).to_dict("records"),
        worst=run.photographs[~run.right].sort_values("of_truth", kind="stable").head(WORST),
        pairs=pairs(run),
        unlike=run.photographs.loc[unlike].query("picture >= 0"),
        ood=None if run.ood is None else run.ood.set_index("path", drop=False).loc[list(run.pictures.ood)],
        montages={name: side_by_side(each) for name, each in run.pictures.examples.items()},
        explained=None if run.explanations is None else describe_explanations(run.explanations, run.classes),
    )


def read_run(evaluation: Path) -> Run:
    """Gather what was left of a training and its evaluation.

    Raises:
        UserError: If a file is missing or is not what its stage writes.
    """
    remedy, trained = remedy_of(evaluation), evaluation / result_files.TRAINED
    needed = ("test/ece_limit", "selective_prediction", "per_class", "model")
    scores = result_files.read_json(evaluation / "metrics.json", needed, remedy)
    run = result_files.read_json(trained / "run.json", ("classes", "final"), remedy)
    try:
        check_run(run)
    except ValueError as error:
        raise UserError(f"{trained / 'run.json'} is not what training writes ({error}): {remedy}.") from error
    config, settings = _read_config(trained / "config.yaml", remedy)
    classes, counts = result_files.read_confusion(evaluation / "confusion.csv", remedy)
    predictions = result_files.read_answers(evaluation / "predictions.csv", remedy).reset_index()
    # A class may be called NA, which is no gap.
    as_text: dict[str, Any] = {
        "dtype": {"path": str, "prediction": str},
        "keep_default_na": False,
        "na_values": {"distance": "", "residual": "", "ood_percentile": ""},
    }
    corrupted, explained = evaluation / "corruptions.csv", evaluation / result_files.EXPLANATIONS
    outliers = result_files.read_csv(evaluation / "outliers/test.csv", remedy, **as_text)
    ood = result_files.read_csv(evaluation / "outliers/ood.csv", remedy, **as_text) if "ood" in scores else None
    corruptions = result_files.read_csv(corrupted, remedy) if corrupted.is_file() else None
    named = {*predictions["label"], *predictions["prediction"]}
    same = list(outliers.get("path", [])) == list(predictions["path"])
    complete = corrupted.is_file() == ("corrupted/acc" in scores)
    if classes != run["classes"] or named - set(classes) or not same or not complete:
        raise UserError(f"{evaluation} has files of different models or versions: {remedy}.")
    pictures = Pictures([], np.empty((0, 0, 0, 3), np.uint8))
    if "data" not in scores:
        pictures = result_files.read_record(evaluation / result_files.PICTURES, Pictures, remedy)
    return Run(
        name=settings.name,
        classes=classes,
        run=run,
        settings=settings,
        config=config,
        remake=remake_command(Path(str(scores["model"]))),
        history=result_files.read_history(trained / "history.csv", remedy),
        scores=scores,
        counts=counts,
        predictions=predictions,
        probabilities=result_files.read_probabilities(evaluation / "predictions.csv", len(classes), remedy),
        outliers=outliers,
        split=read_splits(trained / "split.csv", remedy),
        pictures=pictures,
        ood=ood,
        corruptions=corruptions,
        explanations=result_files.read_record(explained, ExplanationSet, remedy) if explained.is_file() else None,
    )


def remedy_of(evaluation: Path) -> str:
    """Say how a folder becomes what ``evaluate`` writes."""
    model = str(evaluation.parent) if (evaluation.parent / "run.json").is_file() else "DIR"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        model = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))["model"]
    return f"run flowers evaluate model={shlex.quote(str(model))} again"


def _read_config(path: Path, remedy: str) -> tuple[str, Any]:
    """Read the configuration of the training, as text and as `name`, `data` and `tracking`, in the caller's store."""
    result_files.check_exists(path, remedy)
    try:
        text = path.read_text(encoding="utf-8")
        config = read_config(path)
        kept = {"name": str(config.name), "data": {"name": config.data.get("name")}}
        return text, callers_own(OmegaConf.create({**kept, "tracking": {"enabled": bool(config.tracking.enabled)}}))
    except Exception as error:  # whatever the YAML reader finds wrong, or a key that is missing
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}): {remedy}.") from error


def pairs(run: Run) -> list[tuple[str, str, int, int, pd.DataFrame]]:
    """Find the most frequent confusions.

    Returns:
        For each the true and the predicted class, how often it happened and among how many photographs, and the rows
        of :attr:`Run.photographs` that it happened to, the surest first.
    """
    found = []
    for row, column, count in worst_confusions(run.counts, PAIRS):
        truth, prediction = run.classes[row], run.classes[column]
        mine = (run.photographs["label"] == truth) & (run.photographs["prediction"] == prediction)
        surest = run.photographs[mine].sort_values("confidence", ascending=False, kind="stable").head(PAIR_EXAMPLES)
        found.append((truth, prediction, count, int(run.counts[row].sum()), surest))
    return found


def class_rows(run: Run) -> pd.DataFrame:
    """Join each class's figures with its numbers in the splits and what it is taken for most often, and how often."""
    splits = pd.crosstab(run.split["label"], run.split["split"])
    errors = np.where(np.eye(len(run.classes), dtype=bool), 0, run.counts)
    taken = [(run.classes[row.argmax()], int(row.max())) if row.any() else None for row in errors]
    rows = pd.DataFrame(run.scores["per_class"]).assign(taken_for=pd.Series(taken, dtype=object))
    sizes = splits.reindex(index=run.classes, columns=["train", "val", "test"], fill_value=0)
    return rows.join(sizes, on="class")


def embedded(run: Run, thumbnails: Sequence[str]) -> dict[str, Any]:
    """Gather what the page's script needs: classes, counts, photographs and thumbnails."""
    code = run.classes.index
    listed: Any = run.photographs.loc[choose_shown(run.labels, run.probabilities, LISTED)]
    photographs = [
        (one.path, code(one.label), code(one.prediction), round(one.confidence, 3), round(one.of_truth, 3), one.picture)
        for one in listed.itertuples()
    ]
    cells = np.column_stack([*np.nonzero(run.counts), run.counts[run.counts > 0]])
    return {"classes": run.classes, "cells": cells.tolist(), "photographs": photographs, "thumbnails": thumbnails}
