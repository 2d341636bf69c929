"""A trained model on photographs: logits and features, and how far from what it knows they are."""

import glob
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from flowers.curation.manifest import describe_fit, printable
from flowers.data.pixels import UnusableError, check_unchanged, read_square
from flowers.errors import UserError
from flowers.models.inference import ModelOutputs, calibrated, predict_logits
from flowers.models.trained import TrainedModel
from flowers.sources.layouts import files_below
from flowers.sources.photograph import PhotographError

AT_ONCE = 256
"""Photographs of a folder that are held at a time, so that memory does not grow with the folder."""
COMPARED_AT_ONCE = 2048
"""Photographs whose distances to all known ones are held at a time."""
NEIGHBOURS = 10


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
    model: TrainedModel, files: Mapping[str, Path], refused: dict[str, str], what: str
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Apply a model to photographs, some at a time.

    Args:
        model: The model.
        files: The photographs, by what they are called.
        refused: Told why some could not be read.
        what: What the user calls all of them.

    Returns:
        What :func:`outlier_scores` says of the N that could, in their order, and their logits, (N,K).

    Raises:
        UserError: If none could be read.
    """
    warn_of_fit(model, list(files.values()))
    names: list[str] = []
    squares: list[np.ndarray] = []
    parts: list[tuple[pd.DataFrame, np.ndarray]] = []
    ordinary = ordinary_scores(model)
    bar = tqdm(files.items(), desc="predicting", unit=" photographs", disable=None, leave=False)
    for position, (name, path) in enumerate(bar, start=1):
        try:
            squares.append(read_square(path, model.net.image_px, model.fit, model.min_side_px))
            names.append(name)
        except (PhotographError, OSError) as error:
            refused[name] = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        if squares and (len(squares) == AT_ONCE or position == len(files)):
            answers = predict_logits(model.net, np.stack(squares), names)
            parts.append((outlier_scores(model, ordinary, names, answers), answers.logits))  # and not the features
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
    predicted, groups = calibrated(val.logits, model.temperature), None
    if (model.folder / "split.csv").is_file():
        groups = model.split().query("split == 'val'")["group"]
    return predicted.max(axis=1), predicted.argmax(axis=1) == val.labels, groups


def ordinary_scores(model: TrainedModel) -> list[NDArray[np.float64]]:
    """Tell how far each of a model's M validation photographs is from the others, how unsure it is, and both joined.

    (M,) each; a model that kept no validation features has none.
    """
    if (val := model.validation) is None:
        return []
    unsure = 1 - calibrated(val.logits, model.temperature).max(axis=1)
    scores = [distances(val.features, val.features, among_themselves=True), unsure]
    return [*scores, combined(scores, scores, among_themselves=True)]


def outlier_scores(
    model: TrainedModel, ordinary: Sequence[NDArray[np.floating]], names: list[str], answers: ModelOutputs
) -> pd.DataFrame:
    """Tell how little photographs resemble those that the model was chosen on.

    Args:
        model: The model.
        ordinary: What :func:`ordinary_scores` says of it.
        names: What the N photographs are called.
        answers: What the network makes of them.

    Returns:
        Columns `path`; `outlier`, which joins `distance` to the validation photographs and lack of `confidence` (see
        :func:`combined`), and its :func:`ood_percentile` among the validation photographs; `distance`; `energy`;
        `confidence`, the answer's probability. A model that kept no validation features has no `distance`, its
        `outlier` is the energy, and `ood_percentile` is empty.
    """
    unsure = 1 - calibrated(answers.logits, model.temperature).max(axis=1)
    found: dict[str, Any] = {"path": names, "outlier": energy(answers.logits), "ood_percentile": np.nan}
    found |= {"distance": np.nan, "energy": found["outlier"], "confidence": 1 - unsure}
    if (val := model.validation) is not None:
        found["distance"] = distances(answers.features, val.features)
        found["outlier"] = combined([found["distance"], unsure], ordinary[:-1])
        found["ood_percentile"] = ood_percentile(found["outlier"], ordinary[-1])
    return pd.DataFrame(found)


def distances(
    features: NDArray[np.floating], reference: NDArray[np.floating], among_themselves: bool = False
) -> NDArray[np.float64]:
    """Measure how far photographs are from those of a reference (Sun et al. 2022, "Deep nearest neighbors").

    Args:
        features: (N, D), what the network's head is given.
        reference: (M, D), M > 0, of photographs that were not trained on, else the trained ones would seem too near.
        among_themselves: The N are the reference, and none is a neighbour of itself.

    Returns:
        (N,) in [0, 2]: 1 - cosine to the tenth nearest of the reference, or to the farthest if there are fewer.
    """
    ours, theirs = _unit(features), _unit(reference)
    place = min(NEIGHBOURS, len(theirs)) - 1 + among_themselves  # the nearest is then the photograph itself
    place = min(place, len(theirs) - 1)
    parts = []
    for first in range(0, len(ours), COMPARED_AT_ONCE):
        gaps = 1 - ours[first : first + COMPARED_AT_ONCE] @ theirs.T
        parts.append(np.partition(gaps, place, axis=1)[:, place])
    return np.concatenate(parts).clip(min=0) if parts else np.empty(0)


def combined(
    scores: Sequence[NDArray[np.floating]],
    references: Sequence[NDArray[np.floating]],
    among_themselves: bool = False,
) -> NDArray[np.float64]:
    """Join several outlier scores into one that needs none of them to be good (Fisher 1932, combining tests).

    Which score notices what depends on the photographs: a flower of an unknown species may lie among the known ones and
    leave the network unsure, an empty meadow lies far from them and may leave it sure.

    Args:
        scores: (N,) each, the higher the farther from what is known.
        references: (M,) each, M > 0: the same scores of ordinary photographs.
        among_themselves: The N are these, and each is compared with the others.

    Returns:
        (N,): the sum of -ln p over the scores, where p is the share of ordinary photographs that score as high or
        more, counting the photograph itself. In nats.
    """
    total = np.zeros(len(scores[0]))
    for score, reference in zip(scores, references, strict=True):
        higher = len(reference) - np.searchsorted(np.sort(reference), score, side="left")
        once = 0 if among_themselves else 1  # those that score as high have counted the photograph itself
        total -= np.log((higher + once) / (len(reference) + once))
    return total


def ood_percentile(score: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn a score into shares that can be read without knowing the network.

    Args:
        score: (N,), the higher the farther from what is known.
        reference: (M,), M > 0: of ordinary photographs.

    Returns:
        (N,) in [0, 1): of the ordinary photographs and itself, the share that score less. Of ordinary ones, at most one
        in a hundred is above 0.99, which takes 100 of them to be reached (Bates et al. 2023, "Testing for outliers with
        conformal p-values").
    """
    return np.searchsorted(np.sort(reference), score, side="left") / (len(reference) + 1)


def energy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Score outliers by the logits alone (Liu et al. 2020, "Energy-based out-of-distribution detection").

    Args:
        logits: (N, K).

    Returns:
        (N,); the higher, the more of an outlier. In nats, with no fixed zero.
    """
    return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))


def separation(ordinary: NDArray[np.floating], outlying: NDArray[np.floating]) -> float:
    """Compute the chance that an outlier scores higher than an ordinary photograph (area under the ROC curve).

    Args:
        ordinary: Scores (N,), N > 0.
        outlying: Scores (M,), M > 0.

    Returns:
        In [0, 1]; 0.5 is no better than chance.
    """
    truth = np.repeat([0, 1], [len(ordinary), len(outlying)])
    return float(roc_auc_score(truth, np.concatenate([ordinary, outlying])))


def _unit(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale rows to length 1; a row of zeros stays."""
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
