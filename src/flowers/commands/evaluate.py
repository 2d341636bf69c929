"""Measure a trained model on the test photographs: ``flowers evaluate model=artifacts/train/cnn_scratch``.

Beside ``baselines``, the only command that reads the test split. Writes ``metrics.json`` (each overall figure with its
95 % interval), ``predictions.csv``, ``confusion.csv`` and what the page shows, and ends with ``flowers report``, which
draws the figures and the page and adds all to the MLflow run that the training opened (``report=false``: it does not).
Without ``out_dir`` that is ``test`` in the model's folder, or below ``runs/train`` where DVC made it.

``explanations=false`` leaves out what takes most of the time: why the network predicts what it does.
``outliers=NAME`` or ``outliers=DIR`` asks whether the model notices photographs of what it was never taught.
``corruptions=true`` also corrupts the test photographs in seven ways and writes ``corruptions.csv``.
``photos=DIR`` says where the model's photographs lie now, if they are no longer where they were when it was trained.
``data=NAME`` or ``data=DIR`` tests on another data set instead, as far as its classes are the model's; ``layout=``
says whether its folders are ``classes`` or it is ``divided``, where that is not as it looks.
``device=cpu`` or ``device=gpu`` says where the network runs.

A photograph that is gone, was changed since the split, or cannot be read is named and left out of all figures, unless
the model was trained with ``data.strict=true``.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.atomic import whole_file
from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.config.schema import Fit
from flowers.config.untrusted import announce_trained
from flowers.config.words import quoted
from flowers.curation.prepare import find_folder
from flowers.curation.split_table import write_table
from flowers.data.pixels import UnusableError, open_store, read_square
from flowers.errors import UserError
from flowers.evaluation import predictions
from flowers.evaluation.calibration import WANTED, describe_confidence, threshold_for
from flowers.evaluation.domain_shift import find_photographs
from flowers.evaluation.ood import OutlierScores, separation
from flowers.evaluation.result_files import EXPLANATIONS, PICTURES, TRAINED, write_json, write_record, write_results
from flowers.evaluation.robustness import examples, measure_corruptions
from flowers.evaluation.scores import score
from flowers.evaluation.selection import Pictures, choose_ood, choose_shown
from flowers.explain.explanation_set import explain_test
from flowers.models.inference import PixelLogits, calibrated, keep_freed_memory
from flowers.models.trained import TrainedModel, open_model

THUMBNAIL_PX = 96
EXAMPLES = 12
"""Training photographs of each class that the page shows."""
EXAMPLE_CLASSES = 20
"""Beyond so many classes, it shows none."""


@dataclass
class Arguments:
    """Keys of the command."""

    model: Path
    out_dir: Path | None = None
    data: str | None = None
    layout: str = "auto"
    corruptions: bool = False
    outliers: str | None = None
    explanations: bool = True
    report: bool = True
    device: str | None = None
    allow: list[str] = field(default_factory=list)
    photos: Path | None = None


def evaluate(
    model_dir: Path,
    out: Path,
    corruptions: bool = False,
    outliers: str | None = None,
    explanations: bool = True,
    allow: Sequence[str] = (),
    device: str | None = None,
    photos: Path | None = None,
) -> dict[str, Any]:
    """Score a trained model on the test split that it was trained beside.

    Args:
        model_dir: A folder that ``train`` wrote.
        out: Folder for the results.
        corruptions: Score it also on the same photographs when they are corrupted.
        outliers: Photographs of none of its classes to confront it with: a name of ``conf/data``, or a folder.
        explanations: Whether the page will say why the network predicts what it does.
        allow: Packages beside ours whose classes the model may name.
        device: Where the network runs, see :func:`flowers.models.trained.open_model`.
        photos: Where its photographs lie now; None: where they lay when it was trained.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: If the model or its photographs cannot be read, or there is no test split.
    """
    keep_freed_memory()
    model = open_model(model_dir, allow, device)
    split = model.split()
    test = split[split["split"] == "test"].reset_index(drop=True)
    if test.empty:
        raise UserError(f"{model_dir}/split.csv has no test photographs; train with data.split.test_frac above 0.")
    others = None
    if outliers:  # now, not after the work, is the time to learn that there are none
        name, folder, _ = find_folder(outliers, "outliers")
        others = (name, folder, *predictions.find_files(folder, "outliers"))
    root, cache = model.photographs(test, photos), Path(model.settings.data.cache_dir)
    outlier_scores = predictions.outlier_scores(model)
    test, labels, predicted, metrics = measure(model, outlier_scores, root, test, out, notes={})
    low, high = metrics["interval"]["test/acc"]
    print(f"{out}: test/acc {metrics['test/acc']:.3f} (95 % interval {low:.3f} to {high:.3f})", flush=True)
    pixels = model.pixels(root, test)
    for name in ("corruptions.csv", "outliers/ood.csv", EXPLANATIONS, PICTURES):  # of an earlier evaluation
        (out / name).unlink(missing_ok=True)
    ood: dict[str, Any] = {}
    corrupted: dict[str, Any] = {}
    if corruptions:
        acc, metrics["interval"]["corrupted/acc"] = evaluate_corrupted(model, pixels, test, out)
        metrics["corrupted/acc"] = acc
        write_json(out / "metrics.json", metrics)
        corrupted = examples(pixels[0], test["sha256"][0])
    if others:
        metrics["ood"], ood = evaluate_ood(model, outlier_scores, *others, out)
        write_json(out / "metrics.json", metrics)
    if explanations:
        network = PixelLogits(model.net, model.temperature).eval()
        about = model.settings.name, model.settings.seed, test["group"]
        write_record(out / EXPLANATIONS, explain_test(network, pixels, labels, predicted, *about))
    rows = choose_shown(labels, predicted)
    thumbnails = np.array(open_store(root, test.loc[rows], THUMBNAIL_PX, cache, model.fit))
    shown = Pictures(rows, thumbnails, ood, class_examples(root, cache, split, model.fit), corrupted)
    write_record(out / PICTURES, shown)
    return metrics


def measure(
    model: TrainedModel, scores: OutlierScores, root: Path, table: pd.DataFrame, out: Path, notes: dict[str, Any]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, dict[str, Any]]:
    """Score the photographs of a table, say which cannot be, and write the results.

    Args:
        model: The model.
        scores: Its out-of-distribution scores.
        root: Folder that the table's paths are relative to.
        table: `path`, `label`, `sha256`, `group` of the photographs.
        out: Folder for the files.
        notes: Added to the metrics.

    Returns:
        The N rows that could be scored, true classes (N,), probabilities (N,K), and what ``metrics.json`` holds: see
        :func:`flowers.evaluation.scores.score`, :func:`flowers.evaluation.calibration.describe_confidence`; further
        ``temperature``, ``model``, its folder, and its ``fit``, and ``not_scored``, why others could not be, by path.
    """
    if not (out / "metrics.json").exists() and (out / "predictions.csv").exists():
        raise UserError(f"{out}/predictions.csv was not written by evaluate: name another folder with out_dir=OUT.")
    table, labels, answers, unusable = predictions.predict_table(model, root, table)
    for path, reason in list(unusable.items())[:LISTED]:
        print(f"not scored: {path} {reason}")
    if unusable:
        print(f"{len(unusable)} of {len(table) + len(unusable)} photographs are not scored", flush=True)
    predicted = calibrated(answers.logits, model.temperature)
    known = predictions.known_answers(model)
    thresholds = {wanted: threshold_for(wanted, *known) for wanted in WANTED} if known else {}
    sure = describe_confidence(predicted, labels, thresholds, table["group"])
    about = {"temperature": model.temperature, "model": str(model.folder), "fit": model.fit, "not_scored": unusable}
    metrics = {**score(labels, predicted, model.classes, table["group"]), **sure, **about, **notes}
    write_results(out, metrics, table, predicted, model.classes)
    for name in ("config.yaml", "run.json", "history.csv", "split.csv"):
        with whole_file(out / TRAINED / name) as partial:
            shutil.copyfile(model.folder / name, partial)
    outliers = scores.table(table["path"].tolist(), answers)
    write_table(outliers, out / "outliers/test.csv", "%.6f")
    return table, labels, predicted, metrics


def class_examples(root: Path, cache: Path, split: pd.DataFrame, fit: Fit) -> dict[str, NDArray[np.uint8]]:
    """Make thumbnails of some training photographs of each class; which ones, their contents' digests decide.

    Args:
        root: Folder that the table's paths are relative to.
        cache: Where decoded photographs lie.
        split: `path`, `label`, `group`, `split`, `sha256`.
        fit: The model's.
    """
    if split["label"].nunique() > EXAMPLE_CLASSES:
        return {}
    train = split[split["split"] == "train"].sort_values("sha256").drop_duplicates(["label", "group"])
    chosen = train.groupby("label").head(EXAMPLES).reset_index(drop=True)
    try:
        pixels = open_store(root, chosen, THUMBNAIL_PX, cache, fit)
    except UnusableError as error:
        chosen = chosen[~chosen["path"].isin(error.reasons)].reset_index(drop=True)
        if chosen.empty:
            return {}
        pixels = open_store(root, chosen, THUMBNAIL_PX, cache, fit)
    return {str(name): np.array(pixels[rows.index.to_numpy()]) for name, rows in chosen.groupby("label")}


ALARM = 0.95
"""Percentile above which a photograph counts as noticed: of ordinary ones, one in twenty does."""


def evaluate_ood(
    model: TrainedModel,
    scores: OutlierScores,
    name: str,
    root: Path,
    files: dict[str, Path],
    refused: dict[str, str],
    out: Path,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score photographs that are of none of the classes, beside the test photographs that were just evaluated.

    Args:
        model: The model.
        scores: Its out-of-distribution scores.
        name: Of the data set.
        root: Its folder.
        files: The photographs, by their path in it. All count as out-of-distribution.
        refused: Why other files are left out, by path; told of those that cannot be read.
        out: The evaluation's folder, with `outliers/test.csv`; `outliers/ood.csv` is added.

    Returns:
        What `metrics.json` says under `ood`: `data`, `root`, `photographs`; `separation`, for each score the
        chance that an out-of-distribution photograph's is higher than a test photograph's (0.5: no better than chance);
        `noticed_frac` of these and `alarmed_frac` of the test photographs (`ood_percentile` above :data:`ALARM`; null
        where the model kept no validation features); `refused`, files that could not be read. Beside it the thumbnails
        of some.

    Raises:
        UserError: If none can be read.
    """
    table, logits = predictions.predict_files(model, scores, files, refused, str(root))
    table.insert(1, "prediction", [model.classes[i] for i in logits.argmax(axis=1)])
    ordinary = pd.read_csv(out / "outliers/test.csv")
    known = model.validation is not None
    apart = {}
    for kind in ("outlier", "distance", "residual", "confidence") if known else ("outlier", "confidence"):
        sign = -1.0 if kind == "confidence" else 1.0  # the less sure, the farther
        apart[kind] = separation(sign * ordinary[kind].to_numpy(), sign * table[kind].to_numpy())
    write_table(table, out / "outliers/ood.csv", "%.6f")
    share = apart["outlier"]
    print(f"{out}/outliers/ood.csv: {len(table)} photographs of {name}, told from test ones in {share:.1%} of pairs")
    found = {
        "data": name,
        "root": str(root),
        "photographs": len(table),
        "separation": apart,
        "noticed_frac": float((table["ood_percentile"] > ALARM).mean()) if known else None,
        "alarmed_frac": float((ordinary["ood_percentile"] > ALARM).mean()) if known else None,
        "refused": refused,
    }
    return found, {path: read_square(files[path], THUMBNAIL_PX, model.fit) for path in choose_ood(table)}


def evaluate_corrupted(
    model: TrainedModel, pixels: np.ndarray, test: pd.DataFrame, out: Path
) -> tuple[float, list[float]]:
    """Score a model on corrupted photographs, and write the results.

    Args:
        model: The model.
        pixels: Its N test photographs, (N,H,H,3) uint8.
        test: `path`, `label`, `sha256`, `group` of the same.
        out: Folder for `corruptions.csv`; it is there.

    Returns:
        The mean accuracy over all corruptions and strengths, and its 95 % interval.
    """
    table = measure_corruptions(model, pixels, test)
    write_table(table, out / "corruptions.csv", "%.6f")
    for name, rows in table[table["strength"] > 0].groupby("corruption", sort=False):
        print(f"{name}: " + ", ".join(f"{row.acc:.3f} ({row.setting})" for row in rows.itertuples()))
    acc, low, high = map(float, table.loc[table["corruption"] == "mean", ["acc", "acc_low", "acc_high"]].iloc[0])
    print(
        f"{out}/corruptions.csv: mean accuracy {acc:.3f} over all corruptions (95 % interval {low:.3f} to {high:.3f})",
        flush=True,
    )
    return acc, [low, high]


LISTED = 20
"""So many names of what was left out are printed; metrics.json has all."""


def evaluate_elsewhere(
    model_dir: Path,
    data: str,
    out: Path | None,
    allow: Sequence[str] = (),
    device: str | None = None,
    layout: str = "auto",
) -> dict[str, Any]:
    """Score a trained model on another data set, beside its score on its own test photographs of the same classes.

    Args:
        model_dir: A folder that ``train`` wrote.
        data: A name of ``conf/data``, or a folder of class folders.
        out: Folder for the results; None: ``shift-NAME`` in the model's, or as :func:`place_of` says.
        allow: Packages beside ours whose classes the model may name.
        device: Where the network runs, see :func:`flowers.models.trained.open_model`.
        layout: See :func:`flowers.evaluation.domain_shift.find_photographs`.

    Returns:
        What ``metrics.json`` holds: that of :func:`flowers.evaluation.scores.score`, further ``data``, what was left
        out (``other_classes``, ``unmet_classes``, ``trained_on``, ``refused``), and ``own``: accuracy, its interval and
        the number of the model's own test photographs of these classes (null where there are none, or not here).

    Raises:
        UserError: If the model or the photographs cannot be used, or have no class in common.
    """
    model = open_model(model_dir, allow, device)
    split = model.split()
    root, table, notes = find_photographs(model, split, data, layout)
    name, shared = notes["data"], notes["classes"]
    for what, key in (
        ("classes that the model does not know", "other_classes"),
        ("classes of the model that it lacks", "unmet_classes"),
        ("photographs that the model was trained on", "trained_on"),
        ("files that are no photographs", "refused"),
    ):
        if names := list(notes[key]):
            print(f"left out of {name}, {what}: {', '.join(names[:LISTED])}{' …' if len(names) > LISTED else ''}")
    predictions.warn_of_fit(model, [root / path for path in table["path"]])
    own = split[(split["split"] == "test") & split["label"].isin(shared)].reset_index(drop=True)
    notes["own"] = None if own.empty else _own(model, own)
    out = out or place_of(model_dir, f"shift-{name}")
    *_, metrics = measure(model, predictions.outlier_scores(model), root, table, out, notes)
    low, high = metrics["interval"]["test/acc"]
    said = f"{out}: acc {metrics['test/acc']:.3f} (95 % interval {low:.3f} to {high:.3f}) on {name}"
    if notes["own"]:
        said += f", {notes['own']['acc']:.3f} on its own test photographs of the same {len(shared)} classes"
    print(said, flush=True)
    return metrics


def _own(model: TrainedModel, table: pd.DataFrame) -> dict[str, Any] | None:
    """Score the model on photographs of its own data set; None where it came to a machine without them."""
    try:
        table, labels, answers, _ = predictions.predict_table(model, model.photographs(table), table)
    except UserError:
        return None
    scores = score(labels, calibrated(answers.logits, model.temperature), model.classes, table["group"])
    return {"acc": scores["test/acc"], "interval": scores["interval"]["test/acc"], "photographs": len(table)}


def place_of(model_dir: Path, name: str) -> Path:
    """Put results into the model's folder; those of a stage's model below ``runs``, as DVC empties a stage's folder."""
    model, stages = model_dir.resolve(), Path("artifacts").resolve()
    return (Path("runs") / model.relative_to(stages) if model.is_relative_to(stages) else model_dir) / name


def main() -> list[str] | None:
    """Evaluate the model that the command line names; what is returned is the command that follows."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        if arguments.report:
            announce_trained(arguments.model)
        if arguments.data is None:
            if arguments.layout != "auto":
                raise UserError("layout=… belongs to data=…: give both, or neither.")
            out = arguments.out_dir or place_of(arguments.model, "test")
            asked = (arguments.corruptions, arguments.outliers, arguments.explanations)
            evaluate(arguments.model, out, *asked, arguments.allow, arguments.device, arguments.photos)
        else:
            for key in ("corruptions", "outliers", "photos"):
                if getattr(arguments, key):
                    raise UserError(f"{key}=… belongs to the model's own test photographs; leave it or data=… out.")
            how = (arguments.allow, arguments.device, arguments.layout)
            metrics = evaluate_elsewhere(arguments.model, arguments.data, arguments.out_dir, *how)
            out = arguments.out_dir or place_of(arguments.model, f"shift-{metrics['data']}")
        return ["report", f"evaluation={quoted(str(out))}"] if arguments.report else None
