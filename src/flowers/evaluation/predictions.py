"""A trained model on photographs: logits, features, scores, and the files of results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.curation.manifest import image_files
from flowers.data.pixels import open_store, read_square
from flowers.errors import UserError
from flowers.evaluation.ood import combined, distances, energy, ood_percentile
from flowers.models.inference import ModelOutputs, calibrated, predict_logits
from flowers.models.trained import TrainedModel
from flowers.sources.photograph import PhotographError


def predict_table(model: TrainedModel, root: Path, table: pd.DataFrame) -> tuple[np.ndarray, ModelOutputs]:
    """Apply a model to the photographs of a table: true classes (N,), and what the network makes of them."""
    pixels = open_store(root, table, model.net.image_px, Path(model.settings.data.cache_dir))
    labels = table["label"].map(model.classes.index).to_numpy(int)
    return labels, predict_logits(model.net, pixels, table["path"].tolist())


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


def outlier_scores(model: TrainedModel, names: list[str], answers: ModelOutputs) -> pd.DataFrame:
    """Tell how little photographs resemble those that the model was chosen on.

    Args:
        model: The model.
        names: What the N photographs are called.
        answers: What the network makes of them.

    Returns:
        Columns `path`; `outlier`, which joins `distance` to the validation photographs and lack of `confidence` (see
        :mod:`flowers.evaluation.ood`), and `ood_percentile`, the share of validation photographs with less of it;
        `distance`; `energy`; `confidence`, the answer's probability. A model that kept no validation features has no
        `distance`, its `outlier` is the energy, and `ood_percentile` is empty.
    """
    unsure = 1 - calibrated(answers.logits, model.temperature).max(axis=1)
    found = {"energy": energy(answers.logits), "confidence": 1 - unsure}
    val = model.validation
    if val is None:
        unknown = np.full(len(names), np.nan)
        return pd.DataFrame(
            {"path": names, "outlier": found["energy"], "ood_percentile": unknown, "distance": unknown, **found}
        )
    far = distances(answers.features, val.features)
    val_far = distances(val.features, val.features, among_themselves=True)
    val_unsure = 1 - calibrated(val.logits, model.temperature).max(axis=1)
    outlier, of_val = (combined(scores, [val_far, val_unsure]) for scores in ([far, unsure], [val_far, val_unsure]))
    percentile = ood_percentile(outlier, of_val)
    return pd.DataFrame({"path": names, "outlier": outlier, "ood_percentile": percentile, "distance": far, **found})


AT_ONCE = 256
"""Photographs held at a time, so that memory does not grow with the folder."""


def predict_folder(model: TrainedModel, photos: Path, key: str) -> tuple[list[str], ModelOutputs, dict[str, str]]:
    """Apply a model to every photograph in a folder.

    Args:
        model: The model.
        photos: The folder, searched through all its sub-folders, or a single photograph.
        key: What the user named it with.

    Returns:
        The photographs' paths, relative to the folder; what the network makes of them; and why other files could not
        be read, by path.

    Raises:
        UserError: If the folder cannot be read, or holds no photograph.
    """
    root = photos.parent if photos.is_file() else photos
    files = [photos.name] if photos.is_file() else image_files(photos)
    names: list[str] = []
    squares: list[np.ndarray] = []
    refused: dict[str, str] = {}
    parts: list[ModelOutputs] = []
    for position, name in enumerate(files, start=1):
        try:
            squares.append(read_square(root / name, model.net.image_px))
            names.append(name)
        except (PhotographError, OSError) as error:
            refused[name] = str(error)
        if squares and (len(squares) == AT_ONCE or position == len(files)):
            parts.append(predict_logits(model.net, np.stack(squares), names[-len(squares) :]))
            squares.clear()
    if not parts:
        raise UserError(f"{photos} holds no photograph that can be read; name a folder of photographs with {key}=DIR.")
    logits, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return names, ModelOutputs(logits, features), refused
