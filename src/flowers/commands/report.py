"""Draw a trained network's page: ``flowers report evaluation=artifacts/evaluate/cnn_scratch``.

Reads what ``evaluate`` left, no photograph, and runs no network. Writes ``report.html``, one page with all that is
known of the model, and its figures as PNGs, into ``out_dir`` (the evaluation's folder by default), and adds the results
to the MLflow run that the training opened.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.evaluation.result_files import (
    EXPLANATIONS,
    TRAINED,
    read_confusion,
    read_json,
    read_record,
)
from flowers.explain.explanation_set import ExplanationSet
from flowers.report.confusion import confusion_figure
from flowers.report.evaluation import NEEDED, figures_of, read_config, read_run, remedy_of, write_report
from flowers.report.explanations import describe_explanations, explanation_figures
from flowers.tracking import log as tracking


@dataclass
class Arguments:
    """Keys of the command."""

    evaluation: Path
    out_dir: Path | None = None


def report(evaluation: Path, out: Path) -> None:
    """Write a page and its figures, and add the results to the training's MLflow run.

    An evaluation on another data set (``evaluate data=NAME``) has a confusion matrix and no page.

    Args:
        evaluation: A folder that ``evaluate`` wrote.
        out: Where ``report.html`` and ``figures`` land.

    Raises:
        UserError: If the evaluation lacks something.
    """
    remedy = remedy_of(evaluation)
    scores = read_json(evaluation / "metrics.json", NEEDED, remedy)
    classes, counts = read_confusion(evaluation / "confusion.csv", remedy)
    settings = read_config(evaluation / TRAINED / "config.yaml", remedy)
    elsewhere = scores.get("data")
    title = f"{settings.name}: {elsewhere or 'test'}, {scores['photographs']} photographs"
    figures: dict[str, Any] = {"confusion": confusion_figure(counts, classes, title)}
    page = None
    if elsewhere is None:
        run = read_run(evaluation)
        figures |= figures_of(run)
        explained = None
        if (evaluation / EXPLANATIONS).is_file():
            found = read_record(evaluation / EXPLANATIONS, ExplanationSet, remedy)
            figures |= explanation_figures(found, classes, run.name)
            explained = describe_explanations(found, classes, run.predictions["path"].tolist())
        page = out / "report.html"
        write_report(run, figures, explained, page)
    drawn = [out / "figures" / f"{name}.png" for name in figures]
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for path, figure in zip(drawn, figures.values(), strict=True):
        figure.savefig(path, dpi=150)
    if settings.tracking.enabled:
        # MLflow accepts no other characters in a name.
        where = "test" if elsewhere is None else "shift/" + re.sub(r"[^\w. -]", "_", elsewhere)
        confusions = pd.concat([pd.Series(classes, name="truth"), pd.DataFrame(counts, columns=classes)], axis=1)
        _record(evaluation, settings, scores, confusions, where, [*drawn, *([page] if page else [])])
    if page is not None:
        print(f"the page: {page}", flush=True)


def _record(
    evaluation: Path,
    settings: Any,
    scores: dict[str, Any],
    confusions: pd.DataFrame,
    where: str,
    drawn: Sequence[Path],
) -> None:
    """Add the results, and what was drawn of them, to the training's MLflow run."""
    run = json.loads((evaluation / TRAINED / "run.json").read_text())
    low, high = scores["interval"]["test/acc"]
    # A tag, which stands beside the figure in the table of runs; as metrics, bounds would be charts of their own.
    with tracking.training_run(settings, run, {f"{where}/acc interval": f"{low:.3f} to {high:.3f}"}):
        tracking.log_metrics(
            {f"{where}/{name.removeprefix('test/')}": scores[name] for name in scores if name.startswith("test/")}
        )
        tracking.log_table(confusions, f"{where}/confusion.json")
        files = [
            evaluation / name for name in ("metrics.json", "predictions.csv", "corruptions.csv", "outliers/ood.csv")
        ]
        for path in [*files, *drawn]:
            if path.is_file():
                tracking.log_file(path, where)
        if "ood" in scores:
            separation = scores["ood"]["separation"]
            tracking.log_metrics({f"ood/{score}": value for score, value in separation.items()})
        if (evaluation / "corruptions.csv").is_file():
            table = pd.read_csv(evaluation / "corruptions.csv")
            corrupted = table[table["strength"] > 0]
            for name, strength, acc in table[["corruption", "strength", "acc"]].itertuples(index=False, name=None):
                # The photographs as they are begin the curve of every corruption.
                names = [name] if strength else corrupted["corruption"].unique()
                tracking.log_metrics({f"corrupted/{each}/acc": acc for each in names}, step=strength)
            tracking.log_metrics({"corrupted/acc": float(corrupted["acc"].mean())})


def main() -> None:
    """Write the page of the evaluation that the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        report(arguments.evaluation, arguments.out_dir or arguments.evaluation)
