"""A trained model on photographs: logits, features, scores, and the files of results."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from flowers.curation.manifest import image_files
from flowers.curation.prepare import find_folder
from flowers.data.pixels import open_store, read_square
from flowers.errors import UserError
from flowers.evaluation.calibration import describe_confidence
from flowers.evaluation.ood import combined, distances, energy, separation, strangeness
from flowers.evaluation.scores import confusion, score
from flowers.models.inference import Answers, answer, calibrated
from flowers.models.trained import TrainedModel
from flowers.report.confusion import confusion_figure
from flowers.sources.photograph import PhotographError


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
        What ``metrics.json`` holds: see :func:`flowers.evaluation.scores.score`,
        :func:`flowers.evaluation.calibration.describe_confidence`; and ``temperature``.
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
        :mod:`flowers.evaluation.ood`), and `strangeness`, the share of validation photographs with less of it;
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
    from flowers.tracking import log as tracking

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
    from flowers.tracking import log as tracking

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


AT_ONCE = 256
"""Photographs held at a time, so that memory does not grow with the folder."""


def answer_folder(model: TrainedModel, photos: Path, key: str) -> tuple[list[str], Answers, dict[str, str]]:
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
    parts: list[Answers] = []
    for position, name in enumerate(files, start=1):
        try:
            squares.append(read_square(root / name, model.net.image_px))
            names.append(name)
        except (PhotographError, OSError) as error:
            refused[name] = str(error)
        if squares and (len(squares) == AT_ONCE or position == len(files)):
            parts.append(answer(model.net, np.stack(squares), names[-len(squares) :]))
            squares.clear()
    if not parts:
        raise UserError(f"{photos} holds no photograph that can be read; name a folder of photographs with {key}=DIR.")
    logits, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return names, Answers(logits, features), refused


ALARM = 0.95
"""Strangeness above which a photograph counts as noticed: of ordinary ones, one in twenty is."""


def evaluate_strangers(model: TrainedModel, data: str, out: Path) -> dict[str, Any]:
    """Score photographs that are of none of the classes, beside the test photographs that were just evaluated.

    Args:
        model: The model.
        data: A name of ``conf/data``, or a folder with photographs anywhere in it. All of them count as strangers.
        out: The evaluation's folder, with `metrics.json` and `outliers/test.csv`; `outliers/strangers.csv` is added.

    Returns:
        What is added to `metrics.json` under `strangers`: `data`, `root`, `photographs`; `separation`, for each score
        the chance that a stranger's is higher than a test photograph's (0.5: no better than a lot); `noticed_frac` of
        the strangers and `alarmed_frac` of the test photographs (strangeness above :data:`ALARM`; null where the model
        kept no validation features); `refused`, files that could not be read.

    Raises:
        UserError: If there are no such photographs.
    """
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

        with training_run(model, {}):
            tracking.log_metrics({f"strangers/{score}": value for score, value in apart.items()})
            tracking.log_file(out / "outliers/strangers.csv", "test")
    return found


def _alarmed(table: pd.DataFrame) -> float:
    """Count the share of photographs above :data:`ALARM`."""
    return float(np.mean(table["strangeness"].to_numpy() > ALARM))
