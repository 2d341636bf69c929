"""Classify photographs: ``flowers predict model=DIR photos=DIR out=predictions.csv``.

``photos`` is a folder, searched through all its sub-folders, a photograph, a pattern (``photos='garden/*.jpg'``), a
list of these (``photos=[a,b]``), or ``-``: paths on standard input, one a line, or separated by NUL as from ``find
-print0``. What cannot be read is named with its reason, and the others are classified.

Writes a row for each photograph, those of a folder or pattern sorted by path, those of a list in its order: its path
(from the folder, if one is given, else as it was given), the predicted class, that class's probability, its
``ood_percentile`` (the share of the model's validation photographs, and it, that are more ordinary: above 0.99, as at
most one in a hundred like those is, it may be no flower of these classes), then the probability of every class, whose
column has ``(class)`` after its name where the class is called like one of the others. An earlier table of predictions
is replaced; no other file is.

The photographs that the network is least sure of are named, but for those that its own training kept for the test.

``accuracy=0.95`` withholds the predictions that are not sure enough: from the validation photographs it follows with
95 % confidence that of the rest, on photographs of the same kind, 95 % are right. ``prediction`` is then empty. An
accuracy that no threshold can promise is refused.

``device=cpu`` or ``device=gpu`` says where the network runs; by default it is a GPU if there is one, unless the
training was kept to the processor by ``trainer.accelerator=cpu``.

A model may only name classes of this package, torch, torchmetrics, timm and lightning; ``allow=[mypackage]`` allows
more.
"""

import codecs
import math
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.config.provenance import file_digest
from flowers.curation.split_table import read_splits, write_table
from flowers.errors import UserError
from flowers.evaluation.calibration import PROMISED, threshold_for
from flowers.evaluation.predictions import find_files, known_answers, outlier_scores, predict_files
from flowers.evaluation.result_files import aligned, beside_classes
from flowers.models.inference import calibrated
from flowers.models.trained import TrainedModel, open_model

COLUMNS = ["path", "prediction", "probability", "ood_percentile"]
LEAST_SURE = 5
"""So many photographs are named of which the network is the least sure."""


@dataclass
class Arguments:
    """Keys of the command."""

    model: Path
    photos: list[str]
    out: Path = Path("predictions.csv")
    accuracy: float | None = None
    device: str | None = None
    allow: list[str] = field(default_factory=list)


def predict(
    model_dir: Path,
    photos: str | Path | Sequence[str | Path],
    accuracy: float | None = None,
    allow: Sequence[str] = (),
    device: str | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Classify photographs.

    Args:
        model_dir: A folder that ``train`` wrote.
        photos: A folder, class folders or not, searched through all its sub-folders; a single photograph; a pattern;
            or several of these.
        accuracy: Withhold answers that are less sure than this accuracy asks for, in (0, 1); see
            :func:`flowers.evaluation.calibration.threshold_for`.
        allow: Packages beside the usual ones that the model's classes may lie in.
        device: Where the network runs, see :func:`flowers.models.trained.open_model`.

    Returns:
        A table with ``path`` (relative to the folder; as it was given, where there are several), ``prediction`` (empty
        where it is withheld), ``probability``, ``ood_percentile`` and a column for each class; and why other files
        could not be read, by path.

    Raises:
        UserError: If the model or the folder cannot be used, no photograph could be read, or there is no threshold for
            this accuracy.
    """
    files, refused = find_files(photos, key="photos")
    return _classify(open_model(model_dir, allow, device), files, refused, photos, accuracy), refused


def _classify(
    model: TrainedModel,
    files: Mapping[str, Path],
    refused: dict[str, str],
    photos: str | Path | Sequence[str | Path],
    accuracy: float | None,
) -> pd.DataFrame:
    """Make the table of :func:`predict` for files that were found; told in `refused` of those that cannot be read."""
    least = 0.0 if accuracy is None else _threshold(model, accuracy)
    what = str(photos) if isinstance(photos, str | Path) else "photos=…"
    table, logits = predict_files(model, outlier_scores(model), files, refused, what)
    predicted = calibrated(logits, model.temperature)
    sure = predicted.max(axis=1)
    answers = np.where(sure >= least, np.array(model.classes)[predicted.argmax(axis=1)], "")
    table = table.assign(prediction=answers, probability=sure)[COLUMNS]
    return beside_classes(table, predicted, model.classes)


def _threshold(model: TrainedModel, accuracy: float) -> float:
    """Find how sure an answer must be for an accuracy, on the model's validation photographs."""
    if not 0 < accuracy < 1:
        raise UserError(f"accuracy={accuracy} must be above 0 and below 1; 0.95, say.")
    known = known_answers(model)
    if known is None:
        raise UserError(f"{model.folder} has no validation.npz to find a threshold in; train again, or leave accuracy.")
    found = threshold_for(accuracy, *known)
    if found is None:
        fewest = math.ceil(math.log(1 - PROMISED, accuracy))
        raise UserError(
            f"the {len(known[0])} validation photographs of {model.folder} cannot promise accuracy={accuracy} with "
            f"95 % confidence (the {fewest} surest would have to be right, or more with some mistakes): ask for a "
            "lower one, or train with a larger data.split.val_frac."
        )
    return found


def read_paths() -> list[str]:
    """Read paths from standard input: one a line, or separated by NUL.

    Raises:
        UserError: If there is none.
    """
    content = sys.stdin.buffer.read().removeprefix(codecs.BOM_UTF8)  # which PowerShell begins with
    paths = content.split(b"\0") if b"\0" in content else content.replace(b"\r\n", b"\n").split(b"\n")
    if not any(paths):
        raise UserError("photos=-, but standard input names no photograph: give it one path a line.")
    return [os.fsdecode(path) for path in paths if path]


def check_out(out: Path) -> bool:
    """Make sure, before the work, that a table can be written without harm to anything but an earlier one.

    Returns:
        Whether there is an earlier one.

    Raises:
        UserError: If something else lies there, or nothing can be written there.
    """
    if out.suffix.lower() != ".csv":
        raise UserError(f"out={out} must end in .csv, for that is what predict writes.")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out.parent} cannot be written to: name a file elsewhere with out=FILE.csv.")
    there = os.path.lexists(out)
    wanted, found = ",".join([*COLUMNS, ""]).encode(), b""
    if out.is_file():
        with out.open("rb") as stream:
            found = stream.read(len(wanted))
    if there and found != wanted:
        raise UserError(f"{out} is there and no table of predictions: name another file with out=FILE.csv.")
    return there


def own_test(model_dir: Path, files: Mapping[str, Path]) -> set[str]:
    """Name the files that a model's training kept for its test, by their bytes."""
    if not (model_dir / "split.csv").is_file():
        return set()
    split = read_splits(model_dir / "split.csv", "train again")
    kept = set(split.loc[split["split"] == "test", "sha256"])
    return {name for name, path in files.items() if kept and file_digest(path) in kept}


def describe(table: pd.DataFrame, unnamed: Collection[str] = ()) -> str:
    """Lay out for a terminal how many photographs are of which class, and of which the network is least sure.

    Args:
        table: What :func:`predict` returns.
        unnamed: Paths in it that are not named.
    """
    named = table["prediction"].replace("", "(withheld)")
    counts = named.groupby(named).size()
    unsure = table[~table["path"].isin(unnamed)].sort_values("probability", kind="stable").head(LEAST_SURE)
    lines = [("prediction", "photographs"), *((str(name), str(count)) for name, count in counts.items())]
    rows = [("least sure", "prediction", "probability")]
    for path, name, probability in zip(unsure["path"], named[unsure.index], unsure["probability"], strict=True):
        rows.append((" ".join(path.splitlines()), name, f"{probability:.1%}"))
    return "\n\n".join([aligned(lines, left=1), *([aligned(rows, left=2)] if rows[1:] else [])])


def main() -> None:
    """Classify what the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        replaced = check_out(arguments.out)
        photos = [path for each in arguments.photos for path in (read_paths() if each == "-" else [each])]
        alone = len(arguments.photos) == 1 and arguments.photos != ["-"]
        given = photos[0] if alone else photos
        files, refused = find_files(given, key="photos")
        model = open_model(arguments.model, arguments.allow, arguments.device)
        table = _classify(model, files, refused, given, arguments.accuracy)
        write_table(table, arguments.out, "%.6f")
        withheld = int((table["prediction"] == "").sum())
        kept = own_test(arguments.model, {name: files[name] for name in table["path"]})
        print(
            f"{arguments.out}: {len(table)} photographs"
            + (f", {withheld} predictions withheld" if withheld else "")
            + (f", {len(refused)} not read" if refused else "")
            + (", in place of the earlier ones there" if replaced else "")
        )
        if arguments.accuracy is not None:
            print(f"with 95 % confidence, {100 * arguments.accuracy:g} % of those that are not withheld are right")
        print(describe(table, kept))
        if kept:
            print(f"{len(kept)} are test photographs of {arguments.model}, which are not named among the least sure.")
        for name, reason in refused.items():
            print(f"not read: {' '.join(name.splitlines())} ({reason})")
