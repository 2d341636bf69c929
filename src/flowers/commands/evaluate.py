"""Measure a trained model on the test photographs: ``flowers evaluate model=artifacts/train/cnn_scratch``.

Beside ``baselines``, the only command that reads the test split. Writes ``metrics.json`` (each overall figure with its
95 % interval), ``predictions.csv``, ``confusion.csv``, figures and ``report.html``, one page with all that is known of
the model, and adds them to the MLflow run that the training opened.

``explanations=false`` leaves out what takes most of the page's time: why the network answers as it does.
``outliers=NAME`` or ``outliers=DIR`` asks whether the model notices photographs of what it was never taught.
``corruptions=true`` also spoils the test photographs in six ways and writes ``corruptions.csv`` and its figure.
``data=NAME`` or ``data=DIR`` tests on another data set instead, as far as its classes are the model's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.errors import UserError


@dataclass
class Arguments:
    """Keys of the command."""

    model: Path
    out_dir: Path | None = None
    data: str | None = None
    corruptions: bool = False
    outliers: str | None = None
    explanations: bool = True


def evaluate(
    model_dir: Path, out: Path, corruptions: bool = False, outliers: str | None = None, explanations: bool = True
) -> dict[str, Any]:
    """Score a trained model on the test split that it was trained beside.

    Args:
        model_dir: A folder that ``train`` wrote.
        out: Folder for the results.
        corruptions: Score it also on the same photographs when they are spoilt.
        outliers: Photographs of none of its classes to confront it with: a name of ``conf/data``, or a folder.
        explanations: Whether the page says why the network answers as it does.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: If the model or its photographs cannot be read, or there is no test split.
    """
    from flowers.commands.report import report
    from flowers.curation.split_table import read_splits
    from flowers.evaluation.predictions import measure
    from flowers.models.trained import open_model
    from flowers.training.trainer import keep_freed_memory

    keep_freed_memory()
    model = open_model(model_dir)
    split = read_splits(model_dir / "split.csv")
    test = split[split["split"] == "test"].reset_index(drop=True)
    if test.empty:
        raise UserError(f"{model_dir}/split.csv has no test photographs; train with data.split.test_frac above 0.")
    title = f"{model.settings.name}: test, {len(test)} photographs"
    metrics = measure(model, Path(model.run["photographs"]), test, out, title, where="test", notes={})
    low, high = metrics["interval"]["test/acc"]
    print(f"{out}: test/acc {metrics['test/acc']:.3f} (95 % interval {low:.3f} to {high:.3f})", flush=True)
    if corruptions:
        from flowers.evaluation.robustness import evaluate_spoilt

        evaluate_spoilt(model, test, out)
    if outliers:
        from flowers.evaluation.predictions import evaluate_strangers

        metrics["strangers"] = evaluate_strangers(model, outliers, out)
    report(model, out, explanations)
    return metrics


def main() -> None:
    """Evaluate the model that the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments, __doc__)
        if arguments.data is None:
            out = arguments.out_dir or arguments.model / "test"
            evaluate(arguments.model, out, arguments.corruptions, arguments.outliers, arguments.explanations)
            return
        for key in ("corruptions", "outliers"):
            if getattr(arguments, key):
                raise UserError(f"{key}=… belongs to the model's own test photographs; leave it or data=… out.")
        from flowers.evaluation.domain_shift import evaluate_elsewhere

        evaluate_elsewhere(arguments.model, arguments.data, arguments.out_dir)
