"""Measure a trained model on the test photographs: ``python -m flowers.evaluate model=artifacts/train/cnn_scratch``.

The only command that reads the test split. Writes ``metrics.json`` (each overall figure with its 95 % interval),
``predictions.csv``, ``confusion.csv`` and figures, and adds them to the MLflow run that the training opened.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.commands import exit_on_user_error, read_arguments
from flowers.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from flowers.trained import TrainedModel


@dataclass
class Arguments:
    """Keys of the command."""

    model: Path
    out_dir: Path | None = None


def evaluate(model_dir: Path, out: Path) -> dict[str, Any]:
    """Score a trained model on the test split that it was trained beside.

    Args:
        model_dir: A folder that ``train`` wrote.
        out: Folder for the results.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: If the model or its photographs cannot be read, or there is no test split.
    """
    from flowers.data.pixels import open_store
    from flowers.data.split_table import read_splits
    from flowers.review.figures import confusion_figure
    from flowers.review.scores import confusion, score
    from flowers.trained import open_model, probabilities

    model = open_model(model_dir)
    data = model.settings.data
    split = read_splits(model_dir / "split.csv")
    test = split[split["split"] == "test"].reset_index(drop=True)
    if test.empty:
        raise UserError(f"{model_dir}/split.csv has no test photographs; train with data.split.test_frac above 0.")
    labels = test["label"].map(model.classes.index).to_numpy()
    root = Path(model.run["photographs"])
    pixels = open_store(root, test, model.net.image_px, Path(data.cache_dir))
    predicted = probabilities(model.net, pixels)

    metrics = score(labels, predicted, model.classes)
    counts = confusion(labels, predicted.argmax(axis=1), len(model.classes))
    figure = confusion_figure(counts, model.classes, f"{model.settings.name}: test, {len(test)} photographs")
    predictions, confusions = _tables(test, predicted, counts, model.classes)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    predictions.to_csv(out / "predictions.csv", index=False, float_format="%.6f")
    confusions.to_csv(out / "confusion.csv", index=False)
    figure.savefig(out / "figures/confusion.png", dpi=150)
    if model.settings.tracking.enabled:
        _record(model, out, metrics, confusions, figure)
    low, high = metrics["interval"]["test/acc"]
    print(f"{out}: test/acc {metrics['test/acc']:.3f} (95 % interval {low:.3f} to {high:.3f})", flush=True)
    return metrics


def _tables(
    test: "pd.DataFrame", predicted: "np.ndarray", counts: "np.ndarray", classes: list[str]
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    import pandas as pd

    names = [classes[i] for i in predicted.argmax(axis=1)]
    predictions = pd.DataFrame({"path": test["path"], "label": test["label"], "prediction": names})
    predictions = predictions.join(pd.DataFrame(predicted, columns=classes))
    confusions = pd.DataFrame(counts, columns=classes)
    confusions.insert(0, "truth", classes)
    return predictions, confusions


def _record(
    model: "TrainedModel", out: Path, metrics: dict[str, Any], confusions: "pd.DataFrame", figure: "Figure"
) -> None:
    """Add the test to the training's MLflow run."""
    from flowers.review import tracking

    settings = model.settings
    flat = {name: value for name, value in metrics.items() if name.startswith("test/")}
    low, high = metrics["interval"]["test/acc"]
    with tracking.tracked_run(
        settings.tracking,
        experiment=settings.data.name,
        name=settings.name,
        run_id=model.run["mlflow_run_id"],
        # A tag, which stands beside the figure in the table of runs; as metrics, bounds would be charts of their own.
        tags={"recipe": settings.name, "test/acc interval": f"{low:.3f} to {high:.3f}"},
        system_metrics=False,
    ):
        tracking.log_metrics(flat)
        tracking.log_figure(figure, "test/confusion.png")
        tracking.log_table(confusions, "test/confusion.json")
        for name in ("metrics.json", "predictions.csv"):
            tracking.log_file(out / name, "test")


def main() -> None:
    """Evaluate the model that the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments, __doc__)
        evaluate(arguments.model, arguments.out_dir or arguments.model / "test")


if __name__ == "__main__":
    main()
