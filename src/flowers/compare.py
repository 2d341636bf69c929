"""Rank the evaluated experiments: a table, and a page with the evidence. The DVC stage `compare`.

Reads what the stages `train` and `evaluate` wrote, and measures nothing itself.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.commands import exit_on_user_error, read_arguments
from flowers.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flowers.review.comparison import Experiment

COLUMNS = (
    "rank",
    "experiment",
    "test/acc",
    "test/acc_low",
    "test/acc_high",
    "test/macro_f1",
    "test/top2_acc",
    "test/loss",
    "val/acc",
    "train/acc",
    "parameters",
    "train_s",
    "seed",
    "git_commit",
    "mlflow_run_id",
)
"""Of `leaderboard.csv`. Accuracies and F1 in [0, 1], loss in nats, `train_s` in seconds."""

_OF_METRICS = ("test/acc", "test/loss", "test/macro_f1", "test/top2_acc", "interval", "per_class")
_OF_RUN = (
    *("classes", "seed", "parameters", "train_s", "epochs", "versions", "final", "dataset"),
    *("git_commit", "data_sha256", "split_sha256", "mlflow_run_id"),
)


@dataclass
class Arguments:
    """Keys of the command."""

    params: Path = Path("params.yaml")
    artifacts: Path = Path("artifacts")


def main() -> None:
    """Compare the experiments that params.yaml names, and print the ranking."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments, __doc__)
        experiments = compare(experiments_of(arguments.params), arguments.artifacts)
        print(table(experiments))
        print(f"\nThe evidence: {arguments.artifacts / 'compare' / 'index.html'}")


def compare(names: Sequence[str], artifacts: Path) -> "list[Experiment]":
    """Rank experiments and write `compare/leaderboard.csv`, `compare/index.html` and `compare/plots`.

    Args:
        names: The experiments.
        artifacts: The folder that holds `train/NAME` and `evaluate/NAME` of each.

    Returns:
        The experiments, the best first.

    Raises:
        UserError: One is unfinished, or they were not trained and tested on the same photographs.
    """
    from flowers.review.comparison import ranked, write_comparison

    experiments = ranked([read_experiment(name, artifacts) for name in dict.fromkeys(names)])
    _check_comparable(experiments)
    out = artifacts / "compare"
    out.mkdir(parents=True, exist_ok=True)
    with (out / "leaderboard.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_row(rank, experiment) for rank, experiment in enumerate(experiments, 1))
    write_comparison(experiments, out / "index.html")
    for experiment in experiments:
        _write_plots(experiment, out / "plots")
    return experiments


def _write_plots(experiment: "Experiment", folder: Path) -> None:
    """Write what `dvc plots` draws: it takes a folder of tables for each kind of plot."""
    import numpy as np
    import pandas as pd

    truth, prediction = (
        np.repeat(labels.ravel(), experiment.counts.ravel()) for labels in np.indices(experiment.counts.shape)
    )
    classes = np.array(experiment.classes, dtype=object)
    tables = {
        "loss": experiment.history[["epoch", "train/loss", "val/loss"]],
        "accuracy": experiment.history[["epoch", "train/acc", "val/acc"]],
        "confusion": pd.DataFrame({"truth": classes[truth], "prediction": classes[prediction]}),
    }
    for kind, rows in tables.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        rows.to_csv(folder / kind / f"{experiment.name}.csv", index=False)


def experiments_of(params: Path) -> list[str]:
    """Read the list of experiments.

    Args:
        params: `params.yaml`.

    Returns:
        Their names, at least one.

    Raises:
        UserError: There is no such file, or no such list in it.
    """
    import yaml

    if not params.is_file():
        raise UserError(
            f"{params} is not in this folder: call this in the project's folder, or name it with params=FILE."
        )
    try:
        content = yaml.safe_load(params.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{params} is no valid YAML: {' '.join(str(error).split())}.") from error
    names = content.get("experiments") if isinstance(content, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{params} must have a key `experiments` with a list of at least one name.")
    return names


def read_experiment(name: str, artifacts: Path) -> "Experiment":
    """Read all that the stages wrote about one experiment.

    Args:
        name: The experiment.
        artifacts: The folder that holds `train/NAME` and `evaluate/NAME`.

    Returns:
        The experiment.

    Raises:
        UserError: A file is missing or is not what its stage writes.
    """
    import pandas as pd

    from flowers.review.comparison import Experiment

    trained, evaluated = artifacts / "train" / name, artifacts / "evaluate" / name
    run = _read_json(trained / "run.json", _OF_RUN, name)
    scores = _read_json(evaluated / "metrics.json", _OF_METRICS, name)
    classes, counts = _read_confusion(evaluated / "confusion.csv", name)
    if classes != run["classes"]:
        raise UserError(
            f"{evaluated / 'confusion.csv'} names other classes than {trained / 'run.json'}: {_remedy(name)}."
        )
    history_csv = trained / "history.csv"
    if not history_csv.is_file():
        raise UserError(f"{history_csv} is missing: {_remedy(name)}.")
    try:
        history = pd.read_csv(history_csv)
        history = history.astype({"stage": str})
        history[["epoch", "train/loss", "train/acc", "val/loss", "val/acc"]].astype(float)
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{history_csv} is not what training writes ({error}): {_remedy(name)}.") from error
    return Experiment(name, scores, counts, classes, run, history)


def table(experiments: "Sequence[Experiment]") -> str:
    """Lay out the ranking for a terminal.

    Args:
        experiments: Ranked.

    Returns:
        Aligned lines without a last line end; plain ASCII, which every terminal shows.
    """
    from flowers.review.page import duration, magnitude, percent

    titles = ("test acc", "95 % interval", "macro F1", "val acc", "train acc", "parameters", "training")
    lines = [("", "experiment", *titles)]
    for rank, experiment in enumerate(experiments, 1):
        low, high = experiment.interval
        lines.append(
            (
                f"{rank}",
                experiment.name,
                percent(experiment.acc),
                f"{100 * low:.1f} to {percent(high)}",
                percent(experiment.scores["test/macro_f1"]),
                percent(experiment.final("val/acc")),
                percent(experiment.final("train/acc")),
                magnitude(experiment.run["parameters"]),
                duration(experiment.run["train_s"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 1 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ).replace("–", "-")


def _row(rank: int, experiment: "Experiment") -> list[Any]:
    """Gather the cells of :data:`COLUMNS`; None becomes an empty cell."""
    scores, run = experiment.scores, experiment.run
    return [
        rank,
        experiment.name,
        experiment.acc,
        *experiment.interval,
        scores["test/macro_f1"],
        scores["test/top2_acc"],
        scores["test/loss"],
        experiment.final("val/acc"),
        experiment.final("train/acc"),
        run["parameters"],
        run["train_s"],
        run["seed"],
        run["git_commit"],
        run["mlflow_run_id"],
    ]


def _check_comparable(experiments: "Sequence[Experiment]") -> None:
    """Refuse to rank what was measured on different photographs."""
    first = experiments[0]
    for key, what in (("data_sha256", "photographs"), ("split_sha256", "splits")):
        others = [other.name for other in experiments if other.run[key] != first.run[key]]
        if others:
            raise UserError(
                f"{', '.join(others)} and {first.name} are not comparable, because their {what} differ "
                f"({key} in run.json): run `dvc repro`, which makes again what is out of date."
            )


def _read_json(path: Path, keys: Sequence[str], name: str) -> dict[str, Any]:
    """Read a JSON object that has at least these keys."""
    if not path.is_file():
        raise UserError(f"{path} is missing, so {name} is not finished: {_remedy(name)}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no valid JSON ({error}): {_remedy(name)}.") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: {_remedy(name)}.")
    return dict(content)


def _read_confusion(path: Path, name: str) -> "tuple[list[str], NDArray[np.int64]]":
    """Read class names and counts, (K, K), from a CSV with a column `truth` and one per predicted class."""
    import numpy as np

    if not path.is_file():
        raise UserError(f"{path} is missing, so {name} is not finished: {_remedy(name)}.")
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
        raise UserError(f"{path} is no confusion matrix: {_remedy(name)}.")
    return classes, counts


def _remedy(name: str) -> str:
    """Say how an experiment is made whole."""
    return f"run `dvc repro evaluate@{name}`"


if __name__ == "__main__":
    main()
