"""One page with all that is known of a trained model: ``flowers report model=DIR``.

``evaluate`` writes it; this makes it anew from what ``train`` and ``evaluate`` left (``evaluation=DIR`` where that is
not ``DIR/test``), also where the photographs are not at hand, and scores nothing anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.errors import UserError

if TYPE_CHECKING:
    from flowers.models.trained import TrainedModel
    from flowers.report.exhibits import Pictures, Run
    from flowers.report.explanations import Reasons

THUMBNAIL_PX = 96
MONTAGE_CLASSES = 20
"""Beyond so many classes, the page shows no training photographs of each."""


@dataclass
class Arguments:
    """Keys of the command."""

    model: Path
    evaluation: Path | None = None
    explanations: bool = True


def report(model: "TrainedModel", evaluation: Path, explanations: bool = True) -> Path:
    """Write the page and its figures, and add them to the training's MLflow run.

    Args:
        model: The model.
        evaluation: The folder that ``evaluate`` wrote; ``report.html`` and ``figures`` land there.
        explanations: Whether the page says why the network answers as it does, which takes most of the time.

    Returns:
        The page.

    Raises:
        UserError: If the folder lacks something, or belongs to another model.
    """
    from flowers.report.evaluation import figures_of, write_report
    from flowers.report.explanations import describe_reasons, reason_figures

    run = read_run(model, evaluation)
    pictures, absence = _pictures(model, run)
    figures = figures_of(run)
    explained = None
    if explanations and pictures is not None:
        reasons = _reasons(model, run)
        figures |= reason_figures(reasons, run.classes, run.name)
        explained = describe_reasons(reasons, run.classes, run.predictions["path"].tolist())
    (evaluation / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(evaluation / "figures" / f"{name}.png", dpi=150)
    page = evaluation / "report.html"
    write_report(run, pictures, absence, figures, explained, page)
    if model.settings.tracking.enabled:
        _record(model, evaluation, list(figures))
    print(f"the page: {page}", flush=True)
    return page


def read_run(model: "TrainedModel", evaluation: Path) -> "Run":
    """Gather what was left of a training and its evaluation.

    Raises:
        UserError: If a file is missing or is not what its stage writes.
    """
    import pandas as pd

    from flowers.curation.split_table import read_splits
    from flowers.evaluation.result_files import read_answers, read_history, read_json, read_probabilities
    from flowers.report.exhibits import Run
    from flowers.tracking.naming import remake_command

    remedy = f"run flowers evaluate model={model.folder} again"
    scores = read_json(evaluation / "metrics.json", ("test/ece_limit", "withholding", "per_class"), remedy)
    predictions = read_answers(evaluation / "predictions.csv", remedy).reset_index()
    probabilities = read_probabilities(evaluation / "predictions.csv", len(model.classes), remedy)
    names = {"path": str, "prediction": str}
    # A class may be called NA, which is no gap.
    gaps: dict[str, Any] = {"keep_default_na": False, "na_values": dict.fromkeys(("distance", "strangeness"), "")}
    strangers = None
    try:
        outliers = pd.read_csv(evaluation / "outliers/test.csv", dtype=names, **gaps)
        if "strangers" in scores:
            strangers = pd.read_csv(evaluation / "outliers/strangers.csv", dtype=names, **gaps)
        if set(predictions["label"]) - set(model.classes) or list(outliers["path"]) != list(predictions["path"]):
            raise ValueError("they are of another model")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; {remedy}.") from error
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{evaluation} is not what this version's evaluate writes ({error}); {remedy}.") from error
    split = read_splits(model.folder / "split.csv")
    return Run(
        name=model.settings.name,
        classes=model.classes,
        run=model.run,
        config=(model.folder / "config.yaml").read_text(encoding="utf-8"),
        remake=remake_command(model.folder),
        history=read_history(model.folder / "history.csv", "train again"),
        scores=scores,
        predictions=predictions.assign(sha256=predictions["path"].map(split.set_index("path")["sha256"])),
        probabilities=probabilities,
        outliers=outliers,
        strangers=strangers,
        split=split,
    )


def _pictures(model: "TrainedModel", run: "Run") -> "tuple[Pictures | None, str]":
    """Decode what the page shows; None, and why, where the photographs are not at hand."""
    import numpy as np

    from flowers.data.pixels import open_store, read_square
    from flowers.report.data_card import MONTAGE_COLUMNS, montage
    from flowers.report.exhibits import Pictures, choose_shown, choose_strangers

    root, cache = Path(model.run["photographs"]), Path(model.settings.data.cache_dir)
    if not root.is_dir():
        return None, f"The photographs are not at hand ({root} is not here), so the page shows none of them."
    try:
        rows = choose_shown(run.labels, run.probabilities)
        thumbnails = np.array(open_store(root, run.predictions.loc[rows], THUMBNAIL_PX, cache))
        montages: dict[str, Any] = {}
        if len(model.classes) <= MONTAGE_CLASSES:
            train = run.split[run.split["split"] == "train"]
            few = train.sort_values("sha256").groupby("label").head(4 * MONTAGE_COLUMNS).reset_index(drop=True)
            pixels = open_store(root, few, THUMBNAIL_PX, cache)
            montages = {name: montage(few, pixels, name, 1) for name in model.classes if (few["label"] == name).any()}
    except (UserError, OSError) as error:
        return None, f"The photographs are not at hand ({error}), so the page shows none of them."
    strangers: dict[str, Any] = {}
    if run.strangers is not None:
        folder = Path(run.scores["strangers"]["root"])
        folder = folder.parent if folder.is_file() else folder
        paths = choose_strangers(run.strangers)
        strangers = {path: read_square(folder / path, THUMBNAIL_PX) for path in paths if (folder / path).is_file()}
    return Pictures(rows, thumbnails, strangers, montages), ""


def _reasons(model: "TrainedModel", run: "Run") -> "Reasons":
    """Explain some of the test photographs, at the size that the network sees."""
    from flowers.data.pixels import open_store
    from flowers.models.inference import PixelLogits
    from flowers.report.explanations import find_reasons

    cache = Path(model.settings.data.cache_dir)
    pixels = open_store(Path(model.run["photographs"]), run.predictions, model.net.image_px, cache)
    network = PixelLogits(model.net, model.temperature).eval()
    return find_reasons(network, pixels, run.labels, run.probabilities, run.name, model.settings.seed)


def _record(model: "TrainedModel", evaluation: Path, figures: list[str]) -> None:
    """Add the page and its figures to the training's MLflow run."""
    from flowers.tracking import log as tracking

    with tracking.training_run(model, {}):
        tracking.log_file(evaluation / "report.html", "test")
        for name in figures:
            tracking.log_file(evaluation / "figures" / f"{name}.png", "test")


def main() -> None:
    """Write the page of the model that the command line names."""
    from flowers.models.trained import open_model
    from flowers.training.trainer import keep_freed_memory

    with exit_on_user_error():
        keep_freed_memory()
        arguments = read_arguments(Arguments, __doc__)
        evaluation = arguments.evaluation or arguments.model / "test"
        report(open_model(arguments.model), evaluation, arguments.explanations)
