"""What `train`, `evaluate` and `baselines` left about experiments, opened again and put side by side."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.curation.split_table import read_splits
from flowers.errors import UserError
from flowers.evaluation.result_files import TRAINED, read_answers, read_confusion, read_history, read_json

_OF_SCORES = ("test/acc", "test/loss", "test/macro_f1", "test/top2_acc", "interval", "per_class")
_OF_RUN = (
    *("classes", "seed", "parameters", "train_s", "epochs", "versions", "final", "dataset"),
    *("git_commit", "data_sha256", "split_sha256", "mlflow_run_id"),
)
_OF_BASELINE = (*_OF_SCORES, "train_s", "data_sha256", "split_sha256", "seed", "git_commit")


@dataclass(frozen=True)
class Entry:
    """Whatever was tested."""

    name: str
    scores: dict[str, Any]
    """`metrics.json`, see :func:`flowers.evaluation.scores.score`."""
    right: NDArray[np.bool_]
    """Which of the N test photographs it gets right, (N,); in the same order for all that are compared."""
    run: dict[str, Any]
    """`run.json` of the training; a baseline's `metrics.json` says the same of it."""

    @property
    def acc(self) -> float:
        """Test accuracy, in [0, 1]."""
        return float(self.scores["test/acc"])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the test accuracy, in [0, 1]."""
        low, high = self.scores["interval"]["test/acc"]
        return float(low), float(high)

    def final(self, name: str) -> float | None:
        """Look up a figure of the end of the fit, such as `val/acc`; None if the method has none."""
        value = (self.run.get("final") or self.scores).get(name)
        return None if value is None else float(value)


class Baseline(Entry):
    """What a network has to beat: a method without any training of a network, measured on the same photographs."""


@dataclass(frozen=True)
class Experiment(Entry):
    """All that is known of one finished experiment."""

    counts: NDArray[np.int64]
    """Confusion matrix of the test, (K, K): rows truth, columns prediction."""
    classes: list[str]
    history: pd.DataFrame
    """`history.csv` of the training, one row per epoch; may be empty."""
    command: str
    """What makes it again."""
    page: Path | None = None
    """Its `report.html`, if there is one."""


@dataclass(frozen=True)
class Place:
    """Where one experiment lies, and how it is made whole."""

    name: str
    trained: Path
    """The folder that `train` wrote, or the copies that `evaluate` kept of it."""
    evaluated: Path
    """The folder that `evaluate` wrote."""
    page: Path | None
    """The page about it."""
    command: str
    """What makes it again, or measures it again."""

    own: bool
    """Whether a person trained it, and no stage."""

    @property
    def remedy(self) -> str:
        """How to mend what is wrong with the evaluation."""
        return f"run `{self.command}`"

    @property
    def retrain(self) -> str:
        """How to mend what is wrong with the training."""
        return "train again" if self.own else self.remedy

    def retrain_on(self, split_csv: Path) -> str:
        """How to get it tested on the photographs of a split."""
        return f"train again with data.split_csv={split_csv}, and evaluate" if self.own else self.remedy


def stage_place(name: str, artifacts: Path) -> Place:
    """Say where the stages put an experiment."""
    command = f"dvc repro evaluate@{name}"
    evaluated = artifacts / "evaluate" / name
    # The page is drawn beside the comparison, perhaps later.
    page = artifacts / "report" / name / "report.html"
    return Place(name, evaluated / TRAINED, evaluated, page, command, own=False)


def own_places(folders: Sequence[Path]) -> list[Place]:
    """Say where a person's own trainings and their evaluations lie.

    Args:
        folders: What `train` wrote. The evaluation is in `test`, where `evaluate` puts it, or beside the folder
            `train`, where the stage puts it.

    Returns:
        The places, named by as many last parts of their paths as tell them apart.

    Raises:
        UserError: A folder is no training, is given twice, or is not evaluated.
    """
    whole = [folder.resolve() for folder in folders]
    places = []
    for folder, path in zip(folders, whole, strict=True):
        if whole.count(path) > 1:
            raise UserError(f"{folder} is given twice: name each experiment's folder once.")
        if not (path / "run.json").is_file():
            raise UserError(f"{folder} is no folder that `train` wrote (it has no run.json): name its out_dir.")
        stages = path.parent.parent
        if (folder / "test/metrics.json").is_file():
            test, command = folder / "test", f"flowers evaluate model={folder}"
            place = Place(folder.name, folder, test, test / "report.html", command, own=True)
        elif path.parent.name == "train" and (stages / "evaluate" / path.name).is_dir():
            place = stage_place(path.name, stages)
        else:
            raise UserError(
                f"{folder} is not evaluated ({folder / 'test'} is missing): run `flowers evaluate model={folder}`."
            )
        page = place.page if place.page and place.page.is_file() else None
        places.append(replace(place, name=_short_name(path, whole), trained=folder, page=page))
    return places


def comparable(folder: Path) -> list[Path]:
    """Find the trainings beside one that were tested on the same photographs.

    Args:
        folder: A training that is evaluated, see :func:`own_places`.

    Returns:
        It and those of the folders beside it that have the same `split_sha256` in `run.json` and are evaluated, by
        name.

    Raises:
        UserError: If the training's own `run.json` cannot be read.
    """
    split = read_json(folder / "run.json", ("split_sha256",), "train again")["split_sha256"]
    found = [folder]
    for other in {*folder.resolve().parent.iterdir()} - {folder.resolve()}:
        with contextlib.suppress(UserError, OSError):  # no training, or none that is evaluated
            run = read_json(other / "run.json", ("split_sha256",), "")
            if run["split_sha256"] == split and own_places([other]):
                found.append(folder.parent / other.name)
    return sorted(found)


def _short_name(path: Path, among: Sequence[Path]) -> str:
    """Name a folder by as many last parts of its path as no other ends with."""
    for length in range(1, len(path.parts)):
        tail = path.parts[-length:]
        if sum(other.parts[-length:] == tail for other in among) == 1:
            return "/".join(tail)
    return str(path)


def read_experiments(places: Sequence[Place]) -> tuple[list[Experiment], pd.DataFrame]:
    """Read all that is known of experiments that were tested on the same photographs.

    Args:
        places: Where they lie, at least one.

    Returns:
        The experiments, and their N test photographs in the order of the experiments' answers, by path: `label`;
        `truth`, the number of this class; `group` (of near-duplicates), a number from 0 without a gap.

    Raises:
        UserError: A file is missing or is not what its stage writes, or the photographs differ.
    """
    tables = [_read_answers(place) for place in places]
    first, test = places[0], tables[0]
    if unknown := sorted(test.index[test["sha256"].isna()]):
        raise UserError(
            f"{first.evaluated / 'predictions.csv'} has {unknown[0]}, which is no test photograph in "
            f"{first.trained / 'split.csv'}: {first.remedy}."
        )
    for place, table in zip(places[1:], tables[1:], strict=True):
        _check_same(table, test, place.name, first.name, place.retrain_on(first.trained / "split.csv"))
        # The same path can be another picture in another folder of photographs.
        for path in test.index[table.loc[test.index, "sha256"].ne(test["sha256"])][:1]:
            raise UserError(
                f"{path} is not the same picture for {place.name} and for {first.name}: train both on one folder of "
                "photographs."
            )
    read = [_read_experiment(place, table.loc[test.index]) for place, table in zip(places, tables, strict=True)]
    if odd := [other.name for other in read if other.classes != read[0].classes]:
        raise UserError(f"{odd[0]} and {first.name} know other classes: train both on one split.")
    truth, groups = test["label"].map(read[0].classes.index), pd.factorize(test["group"])[0]
    return read, test[["label"]].assign(truth=truth, group=groups)


def read_baselines(folder: Path, test: pd.DataFrame, same: Mapping[str, str | None]) -> list[Baseline]:
    """Read all baselines in a folder.

    Args:
        folder: What `baselines` wrote: a folder for each.
        test: The photographs that the experiments were tested on, see :func:`read_experiments`.
        same: Digests that those of the baselines must equal: `data_sha256` and `split_sha256`, or none.

    Returns:
        The baselines, by name.

    Raises:
        UserError: A file is missing or is not what `baselines` writes, or the photographs are others.
    """
    remedy = "run `dvc repro`, or `flowers baselines` on the photographs of the experiments"
    read = []
    # `baselines` leaves the folder of one that it no longer measures empty.
    for each in sorted(path for path in folder.iterdir() if path.is_dir() and any(path.iterdir())):
        scores = read_json(each / "metrics.json", _OF_BASELINE, remedy)
        for key in same:
            if scores[key] != same[key]:
                raise UserError(
                    f"{each} was measured on other photographs or another split than the experiments "
                    f"({key} in metrics.json): {remedy}."
                )
        answers = read_answers(each / "predictions.csv", remedy)
        _check_same(answers, test, each.name, "the experiments", remedy)
        read.append(Baseline(each.name, scores, _right(answers.loc[test.index], scores, each, remedy), scores))
    if not read:
        raise UserError(f"{folder} holds no baseline: {remedy}; or remove the folder.")
    return read


def _read_experiment(place: Place, answers: pd.DataFrame) -> Experiment:
    """Read one experiment, whose answers are in the order of the others'."""
    run = read_json(place.trained / "run.json", _OF_RUN, place.retrain)
    scores = read_json(place.evaluated / "metrics.json", _OF_SCORES, place.remedy)
    confusion_csv = place.evaluated / "confusion.csv"
    classes, counts = read_confusion(confusion_csv, place.remedy)
    if classes != run["classes"]:
        raise UserError(f"{confusion_csv} names other classes than {place.trained / 'run.json'}: {place.remedy}.")
    if unknown := sorted(set(answers["label"]) - set(classes)):
        raise UserError(f"{place.evaluated / 'predictions.csv'} has the unknown class {unknown[0]}: {place.remedy}.")
    right = _right(answers, scores, place.evaluated, place.remedy)
    history = read_history(place.trained / "history.csv", place.retrain)
    return Experiment(place.name, scores, right, run, counts, classes, history, place.command, place.page)


def _read_answers(place: Place) -> pd.DataFrame:
    """Read what is predicted, beside `group` and `sha256` of those photographs that the training left for the test."""
    answers = read_answers(place.evaluated / "predictions.csv", place.remedy)
    split = read_splits(place.trained / "split.csv", place.retrain)
    return answers.join(split[split["split"] == "test"].set_index("path")[["group", "sha256"]])


def _check_same(table: pd.DataFrame, reference: pd.DataFrame, name: str, other: str, remedy: str) -> None:
    """Refuse to pair answers about different photographs, or ones with different labels."""
    for here, there, only in ((table, reference, name), (reference, table, other)):
        if missing := sorted(set(here.index) - set(there.index)):
            raise UserError(
                f"{name} and {other} were not tested on the same photographs ({len(missing)} only for {only}, such "
                f"as {missing[0]}): {remedy}."
            )
    labels = table.loc[reference.index, "label"]
    for path in reference.index[labels.ne(reference["label"])][:1]:
        raise UserError(f"{path} is {labels[path]} for {name} but not for {other}: {remedy}.")


def _right(answers: pd.DataFrame, scores: Mapping[str, Any], folder: Path, remedy: str) -> NDArray[np.bool_]:
    """Mark what is right, (N,), and make sure that the predictions are those that were scored."""
    right = (answers["label"] == answers["prediction"]).to_numpy(bool)
    if abs(right.mean() - scores["test/acc"]) > 0.5 / len(right):
        raise UserError(
            f"{folder / 'predictions.csv'} is right on {right.mean():.4f} of its photographs, but metrics.json says "
            f"{scores['test/acc']:.4f}: {remedy}."
        )
    return right
