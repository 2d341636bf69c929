"""Train a recipe several times: ``flowers crossval experiment=cnn_scratch folds=5 seeds=3``.

With folds=N, the training and validation photographs are divided into N folds of whole groups, each class evenly; each
fold validates once what is trained on the others. With seeds=M, each training is done with M seeds, from `seed` on:
other initial weights, another order, other augmentation. Without folds, the split stays as it is. The test photographs
are never read. All trainings are children of one MLflow run; the same command goes on where it was ended. Writes
``crossval.csv`` (a row for each training), ``predictions.csv`` (of photographs that the network had not seen) and
``crossval.json``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from flowers.commands.train import train
from flowers.config.cli import exit_on_user_error, run_command, take_command_line
from flowers.config.compose import read_data, with_seed
from flowers.config.provenance import describe
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.splits import fold_split, numbered_folds
from flowers.errors import UserError
from flowers.evaluation.scores import clipped, mean_interval
from flowers.models.inference import calibrated
from flowers.models.trained import open_model
from flowers.report.html import duration, percent
from flowers.training.series import Done, Member, opened, series_folder, train_members


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
    from flowers.tracking.parents import label_children, series_run

    folds, seeds = arguments.folds, arguments.seeds
    if seeds < 1 or (folds is None and seeds == 1):
        raise UserError(f"seeds={seeds} repeats nothing; give folds=5, or seeds=3, or both.")
    if settings.from_stage != 1:
        raise UserError("crossval trains each time from the start; leave out from_stage.")
    root, split = photographs_of(settings)
    if folds is None:
        table = split[split["split"] != "test"].reset_index(drop=True)
        identity = table
    else:
        table = numbered_folds(split, read_data(settings).split.seed, folds)
        identity = table.assign(split=table["fold"].astype(str))
    out = Path(settings.out_dir)
    out.mkdir(parents=True, exist_ok=True)  # now, not after hours, is the time to learn that it cannot be made
    work = series_folder("crossval", [settings], identity)
    members = plan(settings, table, folds, seeds)
    title = f"{settings.name} crossval {_counted(folds, seeds)}"
    tracking = settings.tracking
    with (
        opened(work, "crossval"),
        series_run(
            work, tracking, experiment=settings.data.name, kind="crossval", name=title, recipe=settings.name
        ) as parent,
    ):
        done = []
        for each in label_children(train_members(work, root, members, train), tracking, parent):
            _judge(each)
            done.append(each)
        about = {"name": settings.name, **summarise(done, folds, seeds), **_provenance(settings, table, parent)}
        rows = _rows(done)
        _write(out, about, rows, done)
        print(_words(about, rows, out), flush=True)
        if parent is not None:
            _record(about, out)
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


def summarise(done: Sequence[Done], folds: int | None, seeds: int) -> dict[str, Any]:
    """Compute the means and their intervals.

    With folds and seeds, the seeds of a fold are averaged first: they judge the same photographs, and would count as
    more evidence than they are.

    Returns:
        `val/acc` and `val/loss`; `sd` and `interval` of both; what the interval covers; `pooled/acc`, the share of
        right answers to all photographs that the networks had not seen.
    """
    figures = pd.DataFrame(
        [{"unit": each.member.tags["seed" if folds is None else "fold"], **each.run["final"]} for each in done]
    )
    names = ["val/acc", "val/loss"]
    of_unit = figures.groupby("unit", sort=False)[names].mean()
    overlap = 0.0 if folds is None else 1 / (folds - 1)
    found = {name: mean_interval(of_unit[name].tolist(), overlap) for name in names}
    found["val/acc"] = clipped(found["val/acc"])
    answers = pd.concat([pd.read_csv(each.folder / PREDICTIONS, **AS_TEXT) for each in done])
    return {
        "folds": folds,
        "seeds": seeds,
        **{name: mean.mean for name, mean in found.items()},
        "sd": {name: mean.sd for name, mean in found.items()},
        "interval": {name: [mean.low, mean.high] for name, mean in found.items()},
        "interval_covers": OVER_SEEDS if folds is None else OVER_FOLDS,
        "pooled/acc": float((answers["label"] == answers["prediction"]).mean()),
        "judged": int(answers["path"].nunique()),
    }


PREDICTIONS = "predictions-of-val.csv"
AS_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False}  # a class may be called 007 or NA


def _judge(done: Done) -> None:
    """Write what a network says to the photographs that it was validated on, unless that was done before."""
    file = done.folder / PREDICTIONS
    if file.exists():
        return
    model = open_model(done.folder)
    assert model.validation is not None  # this version trained it
    split = done.member.split
    unseen = split[split["split"] == "val"].reset_index(drop=True)
    # Not calibrated, for the temperature was fitted on these very photographs.
    probabilities = calibrated(model.validation.logits, temperature=1.0)
    table = unseen[["path", "label"]].assign(**done.member.tags)
    table["prediction"] = [model.classes[number] for number in probabilities.argmax(axis=1)]
    table = pd.concat([table, pd.DataFrame(probabilities, columns=model.classes)], axis=1)
    partial_file = file.with_suffix(".part")
    table.to_csv(partial_file, index=False, float_format="%.6f")
    partial_file.replace(file)


def _rows(done: Sequence[Done]) -> pd.DataFrame:

    return pd.DataFrame(
        [{"fold": each.member.tags.get("fold"), "seed": each.member.tags["seed"], **each.outcome()} for each in done]
    )


def _provenance(settings: Settings, table: pd.DataFrame, parent: str | None) -> dict[str, Any]:

    where = describe(table)
    kept = {name: where[name] for name in ("git_commit", "data_sha256", "processor", "versions")}
    return {"dataset": settings.data.name, "seed": settings.seed, **kept, "mlflow_run_id": parent}


def _write(out: Path, about: dict[str, Any], rows: pd.DataFrame, done: Sequence[Done]) -> None:

    rows.to_csv(out / "crossval.csv", index=False, float_format="%.6g")
    answers = pd.concat([pd.read_csv(each.folder / PREDICTIONS, **AS_TEXT) for each in done])
    answers.to_csv(out / "predictions.csv", index=False)
    (out / "crossval.json").write_text(json.dumps(about, indent=2) + "\n")


def _record(about: dict[str, Any], out: Path) -> None:
    """Tell the series' MLflow run, which is open, what was found."""
    from flowers.tracking import log as tracking

    low, high = about["interval"]["val/acc"]
    figures = {"val/acc": about["val/acc"], "val/acc_low": low, "val/acc_high": high, "val/loss": about["val/loss"]}
    tracking.log_metrics({f"crossval/{name}": value for name, value in figures.items()})
    tracking.log_metrics({"crossval/pooled/acc": about["pooled/acc"]})
    for name in ("crossval.csv", "crossval.json", "predictions.csv"):
        tracking.log_file(out / name, "crossval")


def _words(about: dict[str, Any], rows: pd.DataFrame, out: Path) -> str:
    """Say what was found, for a terminal."""
    shown = rows[["fold", "seed", "val/acc", "val/loss", "train_s"]].dropna(axis=1, how="all")
    written: dict[str, Callable[..., str]] = {"val/acc": percent, "val/loss": "{:.3f}".format, "train_s": duration}
    low, high = about["interval"]["val/acc"]
    return (
        f"\n{shown.to_string(index=False, formatters=written)}\n\n"
        f"{about['name']}, {_counted(about['folds'], about['seeds'])}: val/acc {percent(about['val/acc'])}, "
        f"95 % interval {percent(low)} to {percent(high)}; {percent(about['pooled/acc'])} of all "
        f"{about['judged']} photographs together.\nThe interval covers {about['interval_covers']}.\n"
        f"The tables: {out}/crossval.csv, predictions.csv and crossval.json"
    )


def _counted(folds: int | None, seeds: int) -> str:
    words = [] if folds is None else [f"{folds} folds"]
    return ", ".join(words + ([f"{seeds} seeds"] if seeds > 1 else []))


def main() -> None:
    """Cross-validate the recipe that the command line names."""
    with exit_on_user_error():
        arguments = take_command_line(Arguments)
    run_command(partial(crossval, arguments=arguments))
