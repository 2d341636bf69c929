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
from flowers.review.figures import confusion_figure
from flowers.review.scores import confusion, score
from flowers.trained import TrainedModel, probabilities


def predict_table(model: TrainedModel, root: Path, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Classify the photographs of a table: true classes (N,) and probabilities (N,K)."""
    pixels = open_store(root, table, model.net.image_px, Path(model.settings.data.cache_dir))
    return table["label"].map(model.classes.index).to_numpy(), probabilities(model.net, pixels)


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
        What ``metrics.json`` holds.
    """
    labels, predicted = predict_table(model, root, table)
    metrics = {**score(labels, predicted, model.classes), **notes}
    counts = confusion(labels, predicted.argmax(axis=1), len(model.classes))
    figure = confusion_figure(counts, model.classes, title)
    confusions = write_results(out, metrics, table, predicted, counts, model.classes)
    (out / "figures").mkdir(exist_ok=True)
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
    predictions = predictions.join(pd.DataFrame(predicted, columns=classes))
    confusions = pd.DataFrame(counts, columns=classes)
    confusions.insert(0, "truth", classes)
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    predictions.to_csv(out / "predictions.csv", index=False, float_format="%.6f")
    confusions.to_csv(out / "confusion.csv", index=False)
    return confusions


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
    ):
        yield
