"""Train a recipe several times: ``flowers crossval experiment=cnn_scratch folds=5 seeds=3``.

With folds=N, the training and validation photographs are divided into N folds of whole groups, each class evenly; each
fold validates once what is trained on the others. With seeds=M, each training is done with M seeds, from `seed` on:
other initial weights, another order, other augmentation. Without folds, the split stays as it is. The test photographs
are never read. All trainings are children of one MLflow run; the same command goes on where it was ended. Writes
``crossval.csv`` (a row for each training), ``predictions.csv`` (of photographs that the network had not seen) and
``crossval.json``.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.commands.train import train
from flowers.config.cli import exit_on_user_error, run_command, take_keys
from flowers.config.compose import read_data, with_seed
from flowers.config.provenance import describe
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import write_table
from flowers.curation.splits import fold_split, numbered_folds
from flowers.errors import UserError
from flowers.evaluation.result_files import beside_classes, write_json
from flowers.evaluation.scores import mean_interval
from flowers.report.html import duration, percent
from flowers.tracking.runs import announce_store, series_run
from flowers.training.series import Member, open_series, refuse_unfit, train_members


@dataclass
class Arguments:
    """Keys of the command."""

    folds: int | None = None
    seeds: int = 1


OVER_FOLDS = (
    "other photographs of the same kind: t-interval over the folds, with the variance corrected for the training "
    "photographs that folds share (Nadeau and Bengio 2003); approximate, as no estimate of it is unbiased "
    "(Bengio and Grandvalet 2004)"
)
OVER_SEEDS = "other seeds on the same photographs: t-interval over the seeds; other photographs would vary more"


def crossval(settings: Settings, arguments: Arguments) -> float:
    """Train each fold with each seed, and write and record how well they did.

    Args:
        settings: The recipe; its `out_dir` is where the tables go.
        arguments: How many folds and seeds.

    Returns:
        The mean validation accuracy, in [0, 1].

    Raises:
        UserError: If something that the user gave cannot be used.
        KeyboardInterrupt: If interrupted; the same call goes on from the last whole epoch.
    """
    announce_store(settings)
    folds, seeds = arguments.folds, arguments.seeds
    if seeds < 1 or (folds is None and seeds == 1):
        raise UserError(f"seeds={seeds} repeats nothing; give folds=5, or seeds=3, or both.")
    refuse_unfit("crossval", [settings])
    root, split = photographs_of(settings)
    if folds is None:
        table = split[split["split"] != "test"].reset_index(drop=True)
        identity = table
    else:
        table = numbered_folds(split, read_data(settings).split.seed, folds)
        identity = table.assign(split=table["fold"].astype(str))
    out = Path(settings.out_dir)
    members = plan(settings, table, folds, seeds)
    title = f"{settings.name} crossval {_counted(folds, seeds)}"
    tags = {"kind": "crossval", "recipe": settings.name}
    out.mkdir(parents=True, exist_ok=True)  # now, not after hours, is the time to learn that it cannot be made
    with open_series("crossval", [settings], identity) as work, series_run(work, settings, title, tags) as run:
        done = list(train_members(work, root, members, train))
        rows = pd.DataFrame([{"fold": None, **each.member.tags, **each.outcome()} for each in done])
        classes = done[0].run["classes"]
        probabilities = np.concatenate([each.probabilities() for each in done])
        answers = pd.concat([each.unseen() for each in done], ignore_index=True)
        answers["prediction"] = [classes[number] for number in probabilities.argmax(axis=1)]
        where = describe(table)
        about = {
            "name": settings.name,
            **summarise(rows, answers, folds, seeds),
            "dataset": settings.data.name,
            "seed": settings.seed,
            **{name: where[name] for name in ("git_commit", "data_sha256", "processor", "versions")},
            "mlflow_run_id": None if run is None else run.run_id,
        }
        write_table(rows, out / "crossval.csv", "%.6g")
        write_table(beside_classes(answers, probabilities, classes), out / "predictions.csv", "%.6f")
        write_json(out / "crossval.json", about)
        print(words(about, rows, out), flush=True)
        if run is not None:
            figures = {name: about[name] for name in ("val/acc", "val/loss", "pooled/acc")}
            if interval := about["interval"]["val/acc"]:
                figures["val/acc_low"], figures["val/acc_high"] = interval
            # The mean also by the name that its trainings have it by: MLflow's table sorts them together.
            run.log_metrics(
                {f"crossval/{name}": value for name, value in figures.items()} | {"val/acc": about["val/acc"]}
            )
            for name in ("crossval.csv", "crossval.json", "predictions.csv"):
                run.log_file(out / name, "crossval")
    return float(about["val/acc"])


def plan(settings: Settings, table: pd.DataFrame, folds: int | None, seeds: int) -> list[Member]:
    """List the trainings, those that share a split one after the other.

    Args:
        settings: The recipe, with the first seed.
        table: The photographs, numbered by their folds if there are any.
        folds: How many; None leaves the split as it is.
        seeds: How many.
    """
    members = []
    for fold in [None] if folds is None else range(folds):
        split = table if fold is None else fold_split(table, fold)
        for seed in range(settings.seed, settings.seed + seeds):
            tags = {"seed": str(seed)} if fold is None else {"fold": str(fold + 1), "seed": str(seed)}
            words = [f"{name} {value}" for name, value in tags.items() if name == "fold" or seeds > 1]
            members.append(Member(", ".join(words), with_seed(settings, seed), split, tags))
    return members


def summarise(rows: pd.DataFrame, answers: pd.DataFrame, folds: int | None, seeds: int) -> dict[str, Any]:
    """Compute the means and their intervals.

    With folds and seeds, the seeds of a fold are averaged first: they judge the same photographs, and would count as
    more evidence than they are.

    Args:
        rows: `fold`, `seed`, `val/acc` and `val/loss` of each training.
        answers: `path`, `label` and `prediction` of each photograph that a network had not seen.
        folds: How many; None: none.
        seeds: How many.

    Returns:
        `val/acc` and `val/loss`; `sd` and `interval` of both, the latter None where all are equal, which tells nothing
        of how far others would vary; what the interval covers; `pooled/acc`, the share of right answers to all
        photographs that the networks had not seen.
    """
    of_unit = rows.groupby("seed" if folds is None else "fold", sort=False)[["val/acc", "val/loss"]].mean()
    overlap = 0.0 if folds is None else 1 / (folds - 1)
    judged = int(answers["path"].nunique())
    accuracy, loss = of_unit["val/acc"].tolist(), of_unit["val/loss"].tolist()
    found = {
        "val/acc": mean_interval(accuracy, overlap, judged / (folds or 1)),
        "val/loss": mean_interval(loss, overlap),
    }
    return {
        "folds": folds,
        "seeds": seeds,
        **{name: mean.mean for name, mean in found.items()},
        "sd": {name: mean.sd for name, mean in found.items()},
        # The same seeds in another order may differ in their last bits.
        "interval": {
            name: [mean.low, mean.high] if mean.sd and mean.sd > 1e-9 else None for name, mean in found.items()
        },
        "interval_covers": OVER_SEEDS if folds is None else OVER_FOLDS,
        "pooled/acc": float((answers["label"] == answers["prediction"]).mean()),
        "judged": judged,
    }


def words(about: dict[str, Any], rows: pd.DataFrame, out: Path) -> str:
    """Say what was found, for a terminal."""
    shown = rows[["fold", "seed", "val/acc", "val/loss", "train_s"]].dropna(axis=1, how="all")
    written: dict[str, Callable[..., str]] = {"val/acc": percent, "val/loss": "{:.3f}".format, "train_s": duration}
    spread, covers = f"all {'seeds' if about['folds'] is None else 'folds'} equal; no interval", ""
    if about["interval"]["val/acc"]:
        low, high = map(percent, about["interval"]["val/acc"])
        spread, covers = f"95 % interval {low} to {high}", f"The interval covers {about['interval_covers']}.\n"
    return (
        f"\n{shown.to_string(index=False, formatters=written)}\n\n"
        f"{about['name']}, {_counted(about['folds'], about['seeds'])}: val/acc {percent(about['val/acc'])}, {spread}; "
        f"{percent(about['pooled/acc'])} of all {about['judged']} photographs together.\n{covers}"
        f"The tables: {out}/crossval.csv, predictions.csv and crossval.json"
    )


def _counted(folds: int | None, seeds: int) -> str:
    words = [] if folds is None else [f"{folds} folds"]
    return ", ".join(words + ([f"{seeds} seeds"] if seeds > 1 else []))


def main() -> None:
    """Cross-validate the recipe that the command line names."""
    with exit_on_user_error():
        arguments, sys.argv[1:] = take_keys(Arguments, sys.argv[1:])
    run_command(partial(crossval, arguments=arguments))
