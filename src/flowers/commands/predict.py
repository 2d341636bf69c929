"""Classify photographs: ``flowers predict model=DIR photos=DIR out=predictions.csv``.

Writes a row for each photograph below ``photos``: its path, the predicted class, that class's probability, its
``ood_percentile`` (the share of the model's validation photographs that are more ordinary: above 0.99, say, it may be
no flower of these classes), then the probability of every class.

``accuracy=0.95`` withholds the predictions that are not sure enough: the threshold is the one that made the rest 95 %
right on the validation photographs. ``prediction`` is then empty.

A model may only name classes of this package, torch, torchmetrics, timm and lightning; ``allow=[mypackage]`` allows
more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.errors import UserError
from flowers.evaluation.calibration import threshold_for
from flowers.evaluation.predictions import outlier_scores, predict_folder
from flowers.models.inference import calibrated
from flowers.models.trained import TrainedModel, open_model


@dataclass
class Arguments:
    """Keys of the command."""

    model: Path
    photos: Path
    out: Path = Path("predictions.csv")
    accuracy: float | None = None
    allow: list[str] = field(default_factory=list)


def predict(
    model_dir: Path, photos: Path, accuracy: float | None = None, allow: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Classify every photograph in a folder, class folders or not.

    Args:
        model_dir: A folder that ``train`` wrote.
        photos: A folder, searched through all its sub-folders, or a single photograph.
        allow: Packages beside the usual ones that the model's classes may lie in.
        accuracy: Withhold answers that are less sure than this accuracy asks for, in (0, 1].

    Returns:
        A table with ``path`` (relative to the folder), ``prediction`` (empty where it is withheld), ``probability``,
        ``ood_percentile`` and a column for each class; and why other files could not be read, by path.

    Raises:
        UserError: If the model or the folder cannot be used, no photograph could be read, or there is no threshold for
            this accuracy.
    """
    model = open_model(model_dir, allow)
    least = 0.0 if accuracy is None else _threshold(model, accuracy)
    names, answers, refused = predict_folder(model, photos, key="photos")
    predicted = calibrated(answers.logits, model.temperature)
    sure = predicted.max(axis=1)
    table = pd.DataFrame(
        {
            "path": names,
            "prediction": np.where(sure >= least, np.array(model.classes)[predicted.argmax(axis=1)], ""),
            "probability": sure,
            "ood_percentile": outlier_scores(model, names, answers)["ood_percentile"],
        }
    )
    return table.join(pd.DataFrame(predicted, columns=model.classes)), refused


def _threshold(model: TrainedModel, accuracy: float) -> float:
    """Find how sure an answer must be for an accuracy, on the model's validation photographs."""
    if not 0 < accuracy <= 1:
        raise UserError(f"accuracy={accuracy} must be above 0 and at most 1; 0.95, say.")
    if model.validation is None:
        raise UserError(f"{model.folder} has no validation.npz to find a threshold in; train again, or leave accuracy.")
    val = calibrated(model.validation.logits, model.temperature)
    found = threshold_for(accuracy, val.max(axis=1), val.argmax(axis=1) == model.validation.labels)
    if found is None:
        raise UserError(f"accuracy={accuracy} is beyond {model.folder}, however sure it is; ask for a lower one.")
    return found


def main() -> None:
    """Classify what the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        table, refused = predict(arguments.model, arguments.photos, arguments.accuracy, arguments.allow)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.out, index=False, float_format="%.6f")
        withheld = int((table["prediction"] == "").sum())
        print(f"{arguments.out}: {len(table)} photographs" + (f", {withheld} predictions withheld" if withheld else ""))
        for name, reason in refused.items():
            print(f"not read: {name} ({reason})")
