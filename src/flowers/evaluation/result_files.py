"""The files of results, written and read: what cannot be read is named in a sentence that ends with its remedy."""

import dataclasses
import json
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from flowers.atomic import whole_file
from flowers.curation.split_table import write_table
from flowers.errors import UserError

T = TypeVar("T")

TRAINED = "trained"
"""Folder in an evaluation with copies of those files of the training that tables and pages are made of."""
PICTURES, EXPLANATIONS = "pictures.npz", "explanations.npz"
"""Records: :class:`flowers.evaluation.selection.Pictures` and
:class:`flowers.explain.explanation_set.ExplanationSet`."""


def write_results(
    out: Path, metrics: dict[str, Any], table: pd.DataFrame, predicted: np.ndarray, classes: list[str]
) -> None:
    """Write ``metrics.json``, ``predictions.csv`` and ``confusion.csv``.

    Args:
        out: Folder for them; it is made if it is not there.
        metrics: Content of the first.
        table: `path` and `label` of N photographs.
        predicted: Probabilities (N,K).
        classes: The K class names.
    """
    predictions = table[["path", "label"]].assign(prediction=np.array(classes)[predicted.argmax(axis=1)])
    counts = confusion_matrix(predictions["label"], predictions["prediction"], labels=classes)
    predictions = beside_classes(predictions, predicted, classes)
    write_json(out / "metrics.json", metrics)
    write_table(predictions, out / "predictions.csv", "%.6f")
    write_table(beside_classes(pd.DataFrame({"truth": classes}), counts, classes), out / "confusion.csv")


def beside_classes(table: pd.DataFrame, values: NDArray[Any], classes: Sequence[str]) -> pd.DataFrame:
    """Add a column for each class to a table.

    Args:
        table: N rows, numbered from 0.
        values: (N,K).
        classes: Names of the K columns, see :func:`class_columns`.
    """
    return pd.concat([table, pd.DataFrame(values, columns=class_columns(classes, table.columns))], axis=1)


def class_columns(classes: Sequence[str], others: Collection[str]) -> list[str]:
    """Name a column for each class after it, with ``(class)`` where it is called like one of the others, label say."""
    taken, names = {*classes, *others}, list(classes)
    for place in [place for place, name in enumerate(classes) if name in others]:
        while names[place] in taken:
            names[place] += " (class)"
    return names


def aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """Lay out a table for a terminal: the first so many columns are flush left, the others flush right."""
    table = pd.DataFrame(lines)
    for column in range(table.shape[1]):
        table[column] = table[column].str.pad(table[column].str.len().max(), "right" if column < left else "left")
    return "\n".join(table.agg("  ".join, axis=1))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, keys: Sequence[str], remedy: str) -> dict[str, Any]:
    """Read a JSON object that has at least these keys."""
    check_exists(path, remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no valid JSON ({error}): {remedy}.") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: {remedy}.")
    return dict(content)


def read_answers(path: Path, remedy: str) -> pd.DataFrame:
    """Read `label` and `prediction` of each tested photograph, by its path."""
    # By position, as a class may be called label.
    table = read_csv(path, remedy, usecols=[0, 1, 2], **_AS_TEXT)
    if list(table.columns) != ["path", "label", "prediction"] or table.empty or table["path"].duplicated().any():
        raise UserError(f"{path} is no table of one prediction for each photograph: {remedy}.")
    return table.set_index("path")


def read_probabilities(path: Path, num_classes: int, remedy: str) -> NDArray[np.float64]:
    """Read what :func:`read_answers` leaves out: the probability of each class, (N, K)."""
    return read_csv(path, remedy, usecols=range(3, 3 + num_classes), dtype=float).to_numpy()


def read_confusion(path: Path, remedy: str) -> tuple[list[str], NDArray[np.int64]]:
    """Read class names and counts, (K, K), from a CSV with a column `truth` and one per predicted class."""
    # Without a header, as a class may be called truth, which pandas would rename.
    cells = read_csv(path, remedy, header=None, **_AS_TEXT).to_numpy(dtype=object)
    classes = cells[1:, 0].tolist()
    try:
        counts = cells[1:, 1:].astype(np.int64)
    except ValueError:  # ragged rows, or cells that are no whole numbers
        counts = np.empty(0, np.int64)
    # An earlier version had a class called truth as a second column of that name.
    named = [["truth", *columns] for columns in (classes, class_columns(classes, ["truth"]))]
    if not classes or counts.shape != (len(classes),) * 2 or cells[0].tolist() not in named:
        raise UserError(f"{path} is no confusion matrix: {remedy}.")
    return classes, counts


def read_history(path: Path, remedy: str) -> pd.DataFrame:
    """Read the learning curves."""
    history = read_csv(path, remedy, dtype={"stage": str})
    try:
        history[["epoch", "train/loss", "train/acc", "val/loss", "val/acc"]].astype(float)
        return history.astype({"stage": str})
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is not what training writes ({error}): {remedy}.") from error


_AS_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False}
"""A class may be called 007 or NA."""


def read_csv(path: Path, remedy: str, **options: Any) -> pd.DataFrame:
    """Read a table, with pandas' options."""
    check_exists(path, remedy)
    try:
        return pd.read_csv(path, **options)
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}): {remedy}.") from error


def check_exists(path: Path, remedy: str) -> None:
    """Refuse what is not finished."""
    if not path.is_file():
        raise UserError(f"{path} is missing: {remedy}.")


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass whose fields are arrays, tables, plain values, and lists, dicts and dataclasses of these.

    The file is a compressed `.npz` with an array for each of the record's, and the rest as JSON under `record`.
    """
    arrays: list[NDArray[Any]] = []

    def store(value: Any) -> Any:
        """Encode what JSON has no word for."""
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return len(arrays) - 1
        return value.to_dict("list") if isinstance(value, pd.DataFrame) else value.item()

    words = json.dumps(dataclasses.asdict(record), default=store)
    named: dict[str, Any] = {str(number): each for number, each in enumerate(arrays)}
    with whole_file(path) as partial:
        np.savez_compressed(partial, record=np.array(words), **named)


def read_record(path: Path, kind: type[T], remedy: str) -> T:
    """Read what :func:`write_record` wrote of a class."""
    check_exists(path, remedy)
    try:
        with np.load(path, allow_pickle=False) as file:
            record: T = _unpack(kind, json.loads(str(file["record"])), file)
    except Exception as error:  # whatever numpy's readers find wrong
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not what this version's evaluate writes ({reason}): {remedy}.") from error
    return record


def _unpack(kind: Any, node: Any, arrays: Any) -> Any:
    """Make a value of an annotated type of what was packed."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # X | None
        return None if node is None else _unpack(arguments[0], node, arrays)
    if origin is np.ndarray:
        return arrays[str(node)]
    if origin is list:
        return [_unpack(arguments[0], each, arrays) for each in node]
    if origin is dict:
        return {key: _unpack(arguments[1], each, arrays) for key, each in node.items()}
    if kind is pd.DataFrame:
        return pd.DataFrame(node)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _unpack(hints[name], each, arrays) for name, each in node.items()})
    return node
