"""Draw a trained network's page: ``flowers report evaluation=artifacts/evaluate/cnn_scratch``.

Reads what ``evaluate`` left, no photograph, and runs no network. Writes ``report.html``, one page with all that is
known of the model, and its figures as PNGs, into ``out_dir`` (the evaluation's folder by default), and adds the results
to the MLflow run that the training opened.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.config.untrusted import announce_trained
from flowers.evaluation.result_files import TRAINED, beside_classes
from flowers.report.curves import save_figure
from flowers.report.evaluation import Run, figures_of, read_run, write_report
from flowers.tracking.runs import tracked_run
from flowers.tracking.summary import data_set

RESULTS = ("metrics.json", "predictions.csv", "corruptions.csv", "outliers/ood.csv")


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
    run = read_run(evaluation)
    figures = figures_of(run)
    pages = [] if "data" in run.scores else [out / "report.html"]
    for page in pages:
        write_report(run, figures, page)
    drawn = {out / "figures" / f"{name}.png": figure for name, figure in figures.items()}
    for path, figure in drawn.items():
        save_figure(figure, path)
    if run.settings.tracking.enabled:
        _record(run, [*(evaluation / name for name in RESULTS), *drawn, *pages])
    for page in pages:
        print(f"the page: {page}", flush=True)


def _record(run: Run, files: Sequence[Path]) -> None:
    """Add the results, and those of the files that are there, to the training's MLflow run."""
    scores = run.scores
    # MLflow accepts no other characters in a name.
    where = "shift/" + re.sub(r"[^\w. -]", "_", scores["data"]) if "data" in scores else "test"
    low, high = scores["interval"]["test/acc"]
    # A tag, which stands beside the figure in the table of runs; as metrics, bounds would be charts of their own.
    tags = {"recipe": run.settings.name, f"{where}/acc interval": f"{low:.3f} to {high:.3f}"}
    data = data_set(run.run["dataset"], "test", run.run["split_sha256"]) if where == "test" else (scores["data"], "")
    with tracked_run(run.settings, run.settings.name, tags, run.run["mlflow_run_id"]) as record:
        figures = {f"{where}/{name.removeprefix('test/')}": scores[name] for name in scores if name.startswith("test/")}
        record.log_metrics(figures, measured_on=data)
        confusions = beside_classes(pd.DataFrame({"truth": run.classes}), run.counts, run.classes)
        record.log_table(confusions, f"{where}/confusion.json")
        for path in files:
            if path.is_file():
                record.log_file(path, where)
        if "ood" in scores:
            separation = scores["ood"]["separation"]
            record.log_metrics({f"ood/{score}": value for score, value in separation.items()})
        if run.corruptions is not None:
            names = list(run.corruptions.loc[run.corruptions["strength"] > 0, "corruption"].unique())
            points = run.corruptions.loc[run.corruptions["corruption"] != "mean", ["corruption", "strength", "acc"]]
            for name, strength, acc in points.itertuples(index=False, name=None):
                # The photographs as they are begin the curve of every corruption.
                curves = [name] if strength else names
                record.log_metrics({f"corrupted/{curve}/acc": acc for curve in curves}, step=strength)
            record.log_metrics({"corrupted/acc": scores["corrupted/acc"]})


def main() -> None:
    """Write the page of the evaluation that the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        announce_trained(arguments.evaluation / TRAINED)
        report(arguments.evaluation, arguments.out_dir or arguments.evaluation)
