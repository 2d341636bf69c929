"""A trained model on photographs: logits and features, and how far from what it knows they are."""

import glob
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from flowers.curation.manifest import describe_fit, printable
from flowers.data.pixels import UnusableError, check_unchanged, read_square
from flowers.errors import UserError
from flowers.evaluation.ood import OutlierScores
from flowers.models.inference import ModelOutputs, calibrated, predict_logits
from flowers.models.trained import TrainedModel
from flowers.sources.layouts import files_below
from flowers.sources.photograph import PhotographError

AT_ONCE = 256
"""Photographs of a folder that are held at a time, so that memory does not grow with the folder."""


def predict_table(
    model: TrainedModel, root: Path, table: pd.DataFrame
) -> tuple[pd.DataFrame, np.ndarray, ModelOutputs, dict[str, str]]:
    """Apply a model to the photographs of a table, without those that are gone, changed, or cannot be read.

    Args:
        model: The model.
        root: Folder that the table's paths are relative to.
        table: `path`, `label`, `sha256`.

    Returns:
        The other N rows, their true classes (N,), what the network makes of them, and why each of those that are left
        out cannot be used, by path.

    Raises:
        UserError: If none can be used; or some cannot, and the model was trained with ``data.strict``.
    """
    reasons: dict[str, str] = {}
    for look in (check_unchanged, model.pixels):
        try:
            look(root, table)
        except UnusableError as error:
            if model.settings.data.get("strict") or len(error.reasons) == len(table):
                raise
            reasons |= error.reasons
            table = table[~table["path"].isin(error.reasons)].reset_index(drop=True)
    labels = table["label"].map(model.classes.index).to_numpy(int)
    return table, labels, predict_logits(model.net, model.pixels(root, table), table["path"].tolist()), reasons


def find_files(given: str | Path | Sequence[str | Path], key: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Find what may be photographs, in the order in which a person names them; those of a folder or pattern by path.

    Args:
        given: A folder, which is searched through all its sub-folders, a photograph, or a pattern such as ``a/*.jpg``;
            or several of these, of which some need not be there.
        key: What the user named them with.

    Returns:
        The files by what they are called, as tables can hold it: their path from the folder, or from that of the
        photograph, if one is given, else as it was given. What is named twice is there once. And why others are left
        out, by the same.

    Raises:
        UserError: If what is given alone is not there.
    """
    alone = isinstance(given, str | Path)
    files: dict[str, Path] = {}
    refused: dict[str, str] = {}
    for each in [str(given)] if isinstance(given, str | Path) else map(str, given):
        there = os.path.lexists(each)  # a name may look like a pattern
        matches = [each] if there else sorted(glob.glob(each, recursive=True))  # noqa: PTH207 - as it was typed
        if not matches:
            refused[printable(each)] = problem = "matches nothing" if glob.has_magic(each) else "does not exist"
            if alone:
                raise UserError(f"{printable(each)} {problem}: name photographs, or a folder of them, with {key}=…")
        for match in matches:
            top = Path(match)
            for file, reason in sorted(files_below(top), key=lambda found: found[0].as_posix()):
                name = top.name if alone and there else match
                if file != top:
                    inside = file.relative_to(top).as_posix()
                    name = inside if alone and there else f"{match.rstrip('/')}/{inside}"
                if reason:
                    refused[printable(name)] = reason
                else:
                    files.setdefault(printable(name), file)
    return files, refused


def predict_files(
    model: TrainedModel, scores: OutlierScores, files: Mapping[str, Path], refused: dict[str, str], what: str
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Apply a model to photographs, some at a time.

    Args:
        model: The model.
        scores: Its out-of-distribution scores, see :func:`outlier_scores`.
        files: The photographs, by what they are called.
        refused: Told why some could not be read.
        what: What the user calls all of them.

    Returns:
        What :meth:`flowers.evaluation.ood.OutlierScores.table` says of the N that could, in their order; and their
        logits, (N,K).

    Raises:
        UserError: If none could be read.
    """
    warn_of_fit(model, list(files.values()))
    names: list[str] = []
    squares: list[np.ndarray] = []
    parts: list[tuple[pd.DataFrame, np.ndarray]] = []
    bar = tqdm(files.items(), desc="predicting", unit=" photographs", disable=None, leave=False)
    for position, (name, path) in enumerate(bar, start=1):
        try:
            squares.append(read_square(path, model.net.image_px, model.fit, model.min_side_px))
            names.append(name)
        except (PhotographError, OSError) as error:
            refused[name] = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        if squares and (len(squares) == AT_ONCE or position == len(files)):
            answers = predict_logits(model.net, np.stack(squares), names)
            parts.append((scores.table(names, answers), answers.logits))  # and not the features
            names, squares = [], []
    if not parts:
        first = next((f" ({name}: {reason})" for name, reason in refused.items()), "")
        raise UserError(f"{what} holds no photograph that can be read{first}: name photographs, or a folder of them.")
    tables, logits = zip(*parts, strict=True)
    return pd.concat(tables, ignore_index=True), np.concatenate(logits)


def warn_of_fit(model: TrainedModel, files: Sequence[Path]) -> None:
    """Say on stderr if the model sees many photographs otherwise than a person does."""
    for note in describe_fit(files, model.net.image_px, model.fit):
        print(f"flowers: {note}", file=sys.stderr)


def known_answers(model: TrainedModel) -> tuple[NDArray[np.floating], NDArray[np.bool_], pd.Series | None] | None:
    """Tell how sure a model is of its M validation photographs and whether it is right, (M,) each, and their groups.

    A model that kept no validation features has none; no groups are known without its ``split.csv``.
    """
    if (val := model.validation) is None:
        return None
    predicted = calibrated(val.logits, model.temperature)
    return predicted.max(axis=1), predicted.argmax(axis=1) == val.labels, _validation_groups(model)


def outlier_scores(model: TrainedModel) -> OutlierScores:
    """Fit the out-of-distribution scores of a model to its validation photographs."""
    return OutlierScores(model.validation, model.temperature, _validation_groups(model))


def _validation_groups(model: TrainedModel) -> pd.Series | None:
    """Find the near-duplicates of each validation photograph; None if the model's ``split.csv`` is not known."""
    return model.split().query("split == 'val'")["group"] if (model.folder / "split.csv").is_file() else None
