"""The files of results: each is read whole, or refused with a sentence that names it and ends with its remedy."""

import csv
import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.errors import UserError

T = TypeVar("T")

TRAINED = "trained"
"""Folder in an evaluation with copies of those files of the training that tables and pages are made of."""
PICTURES, EXPLANATIONS = "pictures.npz", "explanations.npz"
"""Records: :class:`flowers.evaluation.pictures.Pictures` and
:class:`flowers.explain.explanation_set.ExplanationSet`."""


def read_json(path: Path, keys: Sequence[str], remedy: str) -> dict[str, Any]:
    """Read a JSON object that has at least these keys."""
    check_exists(path, remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no valid JSON ({error}): {remedy}.") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: {remedy}.")
    return dict(content)


def read_answers(path: Path, remedy: str) -> pd.DataFrame:
    """Read `label` and `prediction` of each tested photograph, by its path."""
    check_exists(path, remedy)
    try:
        # By position, as a class may be called label; as text, as one may be called NA.
        table = pd.read_csv(path, usecols=[0, 1, 2], dtype=str, keep_default_na=False, encoding="utf-8")
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}): {remedy}.") from error
    if list(table.columns) != ["path", "label", "prediction"] or table.empty or table["path"].duplicated().any():
        raise UserError(f"{path} is no table of one prediction for each photograph: {remedy}.")
    return table.set_index("path")


def read_probabilities(path: Path, num_classes: int, remedy: str) -> NDArray[np.float64]:
    """Read what :func:`read_answers` leaves out: the probability of each class, (N, K)."""
    check_exists(path, remedy)
    try:
        # By position, as a class may be called label.
        return pd.read_csv(path, usecols=range(3, 3 + num_classes), dtype=float).to_numpy()
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}): {remedy}.") from error


def read_confusion(path: Path, remedy: str) -> tuple[list[str], NDArray[np.int64]]:
    """Read class names and counts, (K, K), from a CSV with a column `truth` and one per predicted class."""
    check_exists(path, remedy)
    # Not with pandas, which takes a class called NA for a gap and renames a class called truth.
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    classes = header[1:]
    try:
        counts = np.array([row[1:] for row in rows]).astype(np.int64)
    except ValueError:  # ragged rows, or cells that are no whole numbers
        counts = np.empty(0, np.int64)
    square = bool(classes) and counts.shape == (len(classes), len(classes))
    if not square or header[0] != "truth" or [row[0] for row in rows] != classes:
        raise UserError(f"{path} is no confusion matrix: {remedy}.")
    return classes, counts


def read_history(path: Path, remedy: str) -> pd.DataFrame:
    """Read the learning curves."""
    check_exists(path, remedy)
    try:
        history = pd.read_csv(path)
        history = history.astype({"stage": str})
        history[["epoch", "train/loss", "train/acc", "val/loss", "val/acc"]].astype(float)
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} is not what training writes ({error}): {remedy}.") from error
    return history


def check_exists(path: Path, remedy: str) -> None:
    """Refuse what is not finished."""
    if not path.is_file():
        raise UserError(f"{path} is missing: {remedy}.")


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass whose fields are arrays, tables, plain values, and lists, dicts and dataclasses of these.

    The file is a compressed `.npz` with an array for each of the record's, and the rest as JSON under `record`.
    """
    arrays: list[NDArray[Any]] = []

    def pack(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return len(arrays) - 1
        if isinstance(value, pd.DataFrame):
            return value.to_dict("list")
        if dataclasses.is_dataclass(value):
            return {field.name: pack(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, dict):
            return {key: pack(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [pack(each) for each in value]
        return value.item() if isinstance(value, np.generic) else value

    words = json.dumps(pack(record))
    named: dict[str, Any] = {str(number): each for number, each in enumerate(arrays)}
    np.savez_compressed(path, record=np.array(words), **named)


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
