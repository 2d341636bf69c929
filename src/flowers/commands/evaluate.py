"""Measure a trained model on the test photographs: ``flowers evaluate model=artifacts/train/cnn_scratch``.

Beside ``baselines``, the only command that reads the test split. Writes ``metrics.json`` (each overall figure with its
95 % interval), ``predictions.csv``, ``confusion.csv``, figures and ``report.html``, one page with all that is known of
the model, and adds them to the MLflow run that the training opened.

``explanations=false`` leaves out what takes most of the page's time: why the network answers as it does.
``outliers=NAME`` or ``outliers=DIR`` asks whether the model notices photographs of what it was never taught.
``corruptions=true`` also corrupts the test photographs in six ways and writes ``corruptions.csv`` and its figure.
``data=NAME`` or ``data=DIR`` tests on another data set instead, as far as its classes are the model's.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from flowers.models.trained import TrainedModel


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
        corruptions: Score it also on the same photographs when they are corrupted.
        outliers: Photographs of none of its classes to confront it with: a name of ``conf/data``, or a folder.
        explanations: Whether the page says why the network answers as it does.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: If the model or its photographs cannot be read, or there is no test split.
    """
    from flowers.commands.report import report
    from flowers.curation.split_table import read_splits
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
        evaluate_corrupted(model, test, out)
    if outliers:
        metrics["strangers"] = evaluate_strangers(model, outliers, out)
    report(model, out, explanations)
    return metrics


def measure(
    model: "TrainedModel", root: Path, table: "pd.DataFrame", out: Path, title: str, where: str, notes: dict[str, Any]
) -> dict[str, Any]:
    """Score the photographs of a table, and write and record the results.

    Args:
        model: The model.
        root: Folder that the table's paths are relative to.
        table: `path`, `label`, `sha256`.
        out: Folder for the files.
        title: The figure's.
        where: What the figures are called by in MLflow: `where/acc` and so on.
        notes: Added to the metrics.

    Returns:
        What ``metrics.json`` holds: see :func:`flowers.evaluation.scores.score`,
        :func:`flowers.evaluation.calibration.describe_confidence`; and ``temperature``.
    """
    from flowers.evaluation.calibration import describe_confidence
    from flowers.evaluation.predictions import answer_table, outlier_scores, write_results
    from flowers.evaluation.scores import confusion, score
    from flowers.models.inference import calibrated
    from flowers.report.confusion import confusion_figure

    labels, answers = answer_table(model, root, table)
    predicted = calibrated(answers.logits, model.temperature)
    val = model.validation
    val_predicted = None if val is None else calibrated(val.logits, model.temperature)
    sure = describe_confidence(predicted, labels, val_predicted, None if val is None else val.labels)
    metrics = {**score(labels, predicted, model.classes), **sure, "temperature": model.temperature, **notes}
    counts = confusion(labels, predicted.argmax(axis=1), len(model.classes))
    figure = confusion_figure(counts, model.classes, title)
    confusions = write_results(out, metrics, table, predicted, counts, model.classes)
    for folder in ("figures", "outliers"):
        (out / folder).mkdir(exist_ok=True)
    scores = outlier_scores(model, table["path"].tolist(), answers)
    scores.to_csv(out / "outliers/test.csv", index=False, float_format="%.6f")
    figure.savefig(out / "figures/confusion.png", dpi=150)
    if model.settings.tracking.enabled:
        _record(model, out, metrics, confusions, figure, where)
    return metrics


def _record(
    model: "TrainedModel", out: Path, metrics: dict[str, Any], confusions: "pd.DataFrame", figure: Any, where: str
) -> None:
    """Add the results to the training's MLflow run."""
    from flowers.tracking import log as tracking

    flat = {f"{where}/{name.removeprefix('test/')}": metrics[name] for name in metrics if name.startswith("test/")}
    low, high = metrics["interval"]["test/acc"]
    # A tag, which stands beside the figure in the table of runs; as metrics, bounds would be charts of their own.
    with tracking.training_run(model, {f"{where}/acc interval": f"{low:.3f} to {high:.3f}"}):
        tracking.log_metrics(flat)
        tracking.log_figure(figure, f"{where}/confusion.png")
        tracking.log_table(confusions, f"{where}/confusion.json")
        for name in ("metrics.json", "predictions.csv"):
            tracking.log_file(out / name, where)


ALARM = 0.95
"""Strangeness above which a photograph counts as noticed: of ordinary ones, one in twenty is."""


def evaluate_strangers(model: "TrainedModel", data: str, out: Path) -> dict[str, Any]:
    """Score photographs that are of none of the classes, beside the test photographs that were just evaluated.

    Args:
        model: The model.
        data: A name of ``conf/data``, or a folder with photographs anywhere in it. All of them count as strangers.
        out: The evaluation's folder, with `metrics.json` and `outliers/test.csv`; `outliers/strangers.csv` is added.

    Returns:
        What is added to `metrics.json` under `strangers`: `data`, `root`, `photographs`; `separation`, for each score
        the chance that a stranger's is higher than a test photograph's (0.5: no better than chance); `noticed_frac` of
        the strangers and `alarmed_frac` of the test photographs (strangeness above :data:`ALARM`; null where the model
        kept no validation features); `refused`, files that could not be read.

    Raises:
        UserError: If there are no such photographs.
    """
    import pandas as pd

    from flowers.curation.prepare import find_folder
    from flowers.evaluation.ood import separation
    from flowers.evaluation.predictions import answer_folder, outlier_scores

    name, root, _ = find_folder(data, "outliers")
    names, answers, refused = answer_folder(model, root, key="outliers")
    table = outlier_scores(model, names, answers)
    table.insert(1, "prediction", [model.classes[i] for i in answers.logits.argmax(axis=1)])
    ordinary = pd.read_csv(out / "outliers/test.csv")
    known = model.validation is not None
    scores = {
        "outlier": 1.0 if known else None,
        "distance": 1.0 if known else None,
        "energy": 1.0,
        "confidence": -1.0,  # the less sure, the stranger
    }
    apart = {
        score: separation(sign * ordinary[score].to_numpy(), sign * table[score].to_numpy())
        for score, sign in scores.items()
        if sign is not None
    }
    found = {
        "data": name,
        "root": str(root),
        "photographs": len(table),
        "separation": apart,
        "noticed_frac": _alarmed(table) if known else None,
        "alarmed_frac": _alarmed(ordinary) if known else None,
        "refused": refused,
    }
    table.to_csv(out / "outliers/strangers.csv", index=False, float_format="%.6f")
    metrics_json = out / "metrics.json"
    metrics = json.loads(metrics_json.read_text()) | {"strangers": found}
    metrics_json.write_text(json.dumps(metrics, indent=2) + "\n")
    best = apart.get("outlier", apart["energy"])
    print(
        f"{out}/outliers/strangers.csv: {len(table)} photographs of {name}, told from test ones in {best:.1%} of pairs"
    )
    if model.settings.tracking.enabled:
        from flowers.tracking import log as tracking

        with tracking.training_run(model, {}):
            tracking.log_metrics({f"strangers/{score}": value for score, value in apart.items()})
            tracking.log_file(out / "outliers/strangers.csv", "test")
    return found


def _alarmed(table: "pd.DataFrame") -> float:
    """Count the share of photographs above :data:`ALARM`."""
    import numpy as np

    return float(np.mean(table["strangeness"].to_numpy() > ALARM))


def evaluate_corrupted(model: "TrainedModel", test: "pd.DataFrame", out: Path) -> None:
    """Score a model on corrupted photographs, and write and record the results.

    Args:
        model: The model.
        test: Its test photographs: `path`, `label`, `sha256`.
        out: Folder for `corruptions.csv` and `figures/corruptions.png`; it is there.
    """
    from flowers.data.corruptions import CORRUPTIONS
    from flowers.data.pixels import open_store
    from flowers.evaluation.robustness import examples, measure_corruptions
    from flowers.report.robustness import corruptions_figure

    pixels = open_store(Path(model.run["photographs"]), test, model.net.image_px, Path(model.settings.data.cache_dir))
    table = measure_corruptions(model, pixels, test)
    chance = float(test["label"].value_counts(normalize=True).iloc[0])
    title = f"{model.settings.name}: {len(test)} test photographs, corrupted"
    figure = corruptions_figure(table, examples(pixels[0], test["sha256"][0]), chance, title)
    table.to_csv(out / "corruptions.csv", index=False, float_format="%.6f")
    figure.savefig(out / "figures/corruptions.png", dpi=150)
    corrupted = table[table["strength"] > 0]
    for name, rows in corrupted.groupby("corruption", sort=False):
        print(f"{name}: " + ", ".join(f"{row.acc:.3f} ({row.setting})" for row in rows.itertuples()))
    mean = float(corrupted["acc"].mean())
    print(f"{out}/figures/corruptions.png: mean accuracy {mean:.3f} over all corruptions", flush=True)
    if model.settings.tracking.enabled:
        from flowers.tracking import log as tracking

        with tracking.training_run(model, {}):
            for name, strength, acc in table[["corruption", "strength", "acc"]].itertuples(index=False, name=None):
                # The photographs as they are begin the curve of every corruption.
                names = [name] if strength else list(CORRUPTIONS)
                tracking.log_metrics({f"corrupted/{each}/acc": acc for each in names}, step=strength)
            tracking.log_metrics({"corrupted/acc": mean})
            tracking.log_figure(figure, "test/corruptions.png")
            tracking.log_file(out / "corruptions.csv", "test")


LISTED = 20
"""So many names of what was left out are printed; metrics.json has all."""


def evaluate_elsewhere(model_dir: Path, data: str, out: Path | None) -> dict[str, Any]:
    """Score a trained model on another data set, beside its score on its own test photographs of the same classes.

    Args:
        model_dir: A folder that ``train`` wrote.
        data: A name of ``conf/data``, or a folder of class folders.
        out: Folder for the results; None: ``shift-NAME`` in the model's.

    Returns:
        What ``metrics.json`` holds: that of :func:`flowers.evaluation.scores.score`, further ``data``, what was left
        out (``other_classes``, ``unmet_classes``, ``trained_on``, ``refused``), and ``own``: accuracy, its interval and
        the number of the model's own test photographs of these classes (null where there are none, or not here).

    Raises:
        UserError: If the model or the photographs cannot be used, or have no class in common.
    """
    from flowers.curation.split_table import read_splits
    from flowers.evaluation.domain_shift import find_photographs
    from flowers.models.trained import open_model

    model = open_model(model_dir)
    split = read_splits(model_dir / "split.csv")
    found = find_photographs(model, split, data)
    shared = sorted(found.table["label"].unique())
    for what, names in (
        ("classes that the model does not know", found.other_classes),
        ("classes of the model that it lacks", found.unmet_classes),
        ("photographs that the model was trained on", found.trained_on),
        ("files that are no photographs", list(found.refused)),
    ):
        if names:
            print(f"left out of {found.name}, {what}: {', '.join(names[:LISTED])}{' …' if len(names) > LISTED else ''}")
    # The model may have come to a machine without the photographs that made it.
    here = Path(model.run["photographs"]).is_dir()
    own = split[here & (split["split"] == "test") & split["label"].isin(shared)].reset_index(drop=True)
    notes: dict[str, Any] = {
        "data": found.name,
        "classes": shared,
        "other_classes": found.other_classes,
        "unmet_classes": found.unmet_classes,
        "trained_on": found.trained_on,
        "refused": found.refused,
        "own": None if own.empty else _own(model, own),
    }
    out = out or model_dir / f"shift-{found.name}"
    title = f"{model.settings.name}: {found.name}, {len(found.table)} photographs"
    where = "shift/" + re.sub(r"[^\w. -]", "_", found.name)  # MLflow accepts no other characters in a name
    metrics = measure(model, found.root, found.table, out, title, where=where, notes=notes)
    low, high = metrics["interval"]["test/acc"]
    said = f"{out}: acc {metrics['test/acc']:.3f} (95 % interval {low:.3f} to {high:.3f}) on {found.name}"
    if notes["own"]:
        said += f", {notes['own']['acc']:.3f} on its own test photographs of the same {len(shared)} classes"
    print(said, flush=True)
    return metrics


def _own(model: "TrainedModel", table: "pd.DataFrame") -> dict[str, Any]:
    """Score the model on photographs of its own data set."""
    from flowers.evaluation.predictions import answer_table
    from flowers.evaluation.scores import score
    from flowers.models.inference import calibrated

    labels, answers = answer_table(model, Path(model.run["photographs"]), table)
    scores = score(labels, calibrated(answers.logits, model.temperature), model.classes)
    return {"acc": scores["test/acc"], "interval": scores["interval"]["test/acc"], "photographs": len(table)}


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
        evaluate_elsewhere(arguments.model, arguments.data, arguments.out_dir)
