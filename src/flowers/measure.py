"""Score a trained model on a table of photographs; write what was found, and add it to the training's MLflow run."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from flowers.data.pixels import open_store
from flowers.review.confidence import describe_confidence
from flowers.review.figures import confusion_figure
from flowers.review.outliers import combined, distances, energy, strangeness
from flowers.review.scores import confusion, score
from flowers.review.temperature import calibrated
from flowers.trained import Answers, TrainedModel, answer


def answer_table(model: TrainedModel, root: Path, table: pd.DataFrame) -> tuple[np.ndarray, Answers]:
    """Apply a model to the photographs of a table: true classes (N,), and what the network makes of them."""
    pixels = open_store(root, table, model.net.image_px, Path(model.settings.data.cache_dir))
    labels = table["label"].map(model.classes.index).to_numpy(int)
    return labels, answer(model.net, pixels, table["path"].tolist())


def measure(
    model: TrainedModel, root: Path, table: pd.DataFrame, out: Path, title: str, where: str, notes: dict[str, Any]
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
        What ``metrics.json`` holds: see :func:`flowers.review.scores.score`,
        :func:`flowers.review.confidence.describe_confidence`; and ``temperature``.
    """
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


def write_results(
    out: Path,
    metrics: dict[str, Any],
    table: pd.DataFrame,
    predicted: np.ndarray,
    counts: np.ndarray,
    classes: list[str],
) -> pd.DataFrame:
    """Write ``metrics.json``, ``predictions.csv`` and ``confusion.csv``.

    Args:
        out: Folder for them; it is made if it is not there.
        metrics: Content of the first.
        table: `path` and `label` of N photographs.
        predicted: Probabilities (N,K).
        counts: (K,K), rows truth, columns prediction.
        classes: The K class names.

    Returns:
        What ``confusion.csv`` holds.
    """
    names = [classes[i] for i in predicted.argmax(axis=1)]
    predictions = pd.DataFrame({"path": table["path"], "label": table["label"], "prediction": names})
    # Not joined, for a class may be called label.
    predictions = pd.concat([predictions, pd.DataFrame(predicted, columns=classes)], axis=1)
    confusions = pd.concat([pd.Series(classes, name="truth"), pd.DataFrame(counts, columns=classes)], axis=1)
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    predictions.to_csv(out / "predictions.csv", index=False, float_format="%.6f")
    confusions.to_csv(out / "confusion.csv", index=False)
    return confusions


def outlier_scores(model: TrainedModel, names: list[str], answers: Answers) -> pd.DataFrame:
    """Tell how little photographs resemble those that the model was chosen on.

    Args:
        model: The model.
        names: What the N photographs are called.
        answers: What the network makes of them.

    Returns:
        Columns `path`; `outlier`, which joins `distance` to the validation photographs and lack of `confidence` (see
        :mod:`flowers.review.outliers`), and `strangeness`, the share of validation photographs with less of it;
        `distance`; `energy`; `confidence`, the answer's probability. A model that kept no validation features has no
        `distance`, its `outlier` is the energy, and `strangeness` is empty.
    """
    unsure = 1 - calibrated(answers.logits, model.temperature).max(axis=1)
    found = {"energy": energy(answers.logits), "confidence": 1 - unsure}
    val = model.validation
    if val is None:
        unknown = np.full(len(names), np.nan)
        return pd.DataFrame(
            {"path": names, "outlier": found["energy"], "strangeness": unknown, "distance": unknown, **found}
        )
    far = distances(answers.features, val.features)
    val_far = distances(val.features, val.features, among_themselves=True)
    val_unsure = 1 - calibrated(val.logits, model.temperature).max(axis=1)
    outlier, of_val = (combined(scores, [val_far, val_unsure]) for scores in ([far, unsure], [val_far, val_unsure]))
    strange = strangeness(outlier, of_val)
    return pd.DataFrame({"path": names, "outlier": outlier, "strangeness": strange, "distance": far, **found})


def _record(
    model: TrainedModel, out: Path, metrics: dict[str, Any], confusions: pd.DataFrame, figure: Figure, where: str
) -> None:
    """Add the results to the training's MLflow run."""
    from flowers.review import tracking

    flat = {f"{where}/{name.removeprefix('test/')}": metrics[name] for name in metrics if name.startswith("test/")}
    low, high = metrics["interval"]["test/acc"]
    # A tag, which stands beside the figure in the table of runs; as metrics, bounds would be charts of their own.
    with training_run(model, {f"{where}/acc interval": f"{low:.3f} to {high:.3f}"}):
        tracking.log_metrics(flat)
        tracking.log_figure(figure, f"{where}/confusion.png")
        tracking.log_table(confusions, f"{where}/confusion.json")
        for name in ("metrics.json", "predictions.csv"):
            tracking.log_file(out / name, where)


@contextlib.contextmanager
def training_run(model: TrainedModel, tags: Mapping[str, str]) -> Iterator[None]:
    """Continue the MLflow run that the training opened."""
    from flowers.review import tracking

    settings = model.settings
    with tracking.tracked_run(
        settings.tracking,
        experiment=settings.data.name,
        name=settings.name,
        run_id=model.run["mlflow_run_id"],
        tags={"recipe": settings.name, **tags},
        system_metrics=False,
    ) as run_id:
        model.run["mlflow_run_id"] = run_id  # another one where the store has lost it; all that follows goes there
        yield
