"""Draw what more photographs are worth: ``flowers learning_curve experiments=[cnn_scratch,sample_finetune]``.

Trains each recipe on shares of the training photographs (``sizes=[.1,.2,.5,1]``) and measures it on the validation
photographs, which stay the same; the test photographs are never read. Each share contains the smaller ones, has every
class in proportion, keeps groups whole, and is the same for all recipes. With seeds=M it is done with M seeds, each of
which draws shares of its own.

Every training takes as many optimiser steps as with all photographs: its stages get more epochs. With equal epochs a
tenth of the photographs would be trained on for a tenth of the steps, and the curve would show that it is undertrained,
not that it is small. On the sample, 70 and 140 photographs gave cnn_scratch 48.7 and 62.0 % with equal steps, 42.0 and
58.0 % with equal epochs; sample_finetune 69.3 and 82.0 %, against 57.3 and 75.3 % (one seed each).

Other keys change all recipes alike: ``data=folder data.root=PHOTOS``, ``data.batch_size=16`` …; with a recipe's
name before them that one alone: ``mobilenetv2_finetune.weights=FILE``. All trainings are children of one MLflow run;
the same command goes on where it was ended. Writes ``learning_curve.csv`` (a row for each training),
``learning_curve.json`` and the figure ``learning_curve.png`` and ``.svg``.

The other keys are those of ``flowers train``: ``flowers train --help`` lists them.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from flowers.commands.train import train
from flowers.config.cli import exit_on_user_error, take_keys
from flowers.config.compose import change, compose_config, read_data, read_settings, with_seed
from flowers.config.provenance import describe
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import write_table
from flowers.curation.splits import subset_split
from flowers.errors import UserError
from flowers.evaluation.result_files import write_json
from flowers.evaluation.scores import mean_interval
from flowers.report.curves import Curve, finding, save_figure, sizes_figure
from flowers.report.html import percent
from flowers.tracking.runs import announce_store, series_run
from flowers.training.series import Member, open_series, refuse_unfit, train_members

COVERS = "other seeds, each with shares of its own of the same photographs: t-interval over the seeds"


@dataclass
class Arguments:
    """Keys of the command; without `out_dir`, the series' own folder under ``runs/series``."""

    experiments: list[str]
    sizes: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.5, 1.0])
    seeds: int = 1
    out_dir: str | None = None


def learning_curve(recipes: Sequence[Settings], sizes: Sequence[float], seeds: int, out: Path | None) -> list[Curve]:
    """Train all recipes on all shares with all seeds, and write and record the curves.

    Args:
        recipes: With different names, and the same photographs.
        sizes: Shares of the training photographs, in (0, 1].
        seeds: How many.
        out: Folder for the results; None takes the series' own.

    Returns:
        A curve for each recipe.

    Raises:
        UserError: If something that the user gave cannot be used.
        KeyboardInterrupt: If interrupted; the same call goes on from the last whole epoch.
    """
    _check(recipes, sizes, seeds)
    first = recipes[0]
    announce_store(first)
    root, split = photographs_of(first)
    table = split[split["split"] != "test"].reset_index(drop=True)
    members = plan(recipes, table, sizes, seeds)
    title = f"learning curve of {' and '.join(recipe.name for recipe in recipes)}"
    tags = {"kind": "learning_curve"}
    with open_series("learning_curve", recipes, table) as work, series_run(work, first, title, tags) as run:
        out = out or work
        out.mkdir(parents=True, exist_ok=True)  # now, not after hours, is the time to learn that it cannot be made
        rows = pd.DataFrame(
            [
                {"experiment": each.run["name"], **each.member.tags, "epochs": each.run["epochs"], **each.outcome()}
                for each in train_members(work, root, members, train)
            ]
        )
        curves = _curves_of(rows)
        val = int((table["split"] == "val").sum())
        files = _write(curves, rows, table, first, None if run is None else run.run_id, out)
        print(f"{_words(curves, val)}\nThe figure: {out}/learning_curve.png", flush=True)
        if run is not None:
            for curve in curves:
                for count, mean in zip(curve.counts, curve.means, strict=True):
                    # The number of photographs is the step, so that MLflow's own charts are learning curves.
                    run.log_metrics({f"learning_curve/{curve.name}/val/acc": mean}, step=count)
            for file in files:
                run.log_file(file, "learning_curve")
    return curves


def _curves_of(trained: pd.DataFrame) -> list[Curve]:
    """Arrange what was measured as a curve for each recipe, in the recipes' order.

    Args:
        trained: A row for each training: `experiment`, `train_frac`, `train_count` and `val/acc`.
    """
    curves = []
    for name, of_recipe in trained.astype({"train_count": int}).groupby("experiment", sort=False):
        of_size = of_recipe.groupby("train_frac", sort=False)
        # Groups of copies make shares of different seeds differ by a photograph or two.
        counts = of_size["train_count"].mean().round().astype(int).tolist()
        curves.append(Curve(str(name), counts, of_size["val/acc"].agg(list).tolist()))
    return curves


def _write(
    curves: Sequence[Curve], trained: pd.DataFrame, split: pd.DataFrame, recipe: Settings, parent: str | None, out: Path
) -> list[Path]:
    """Write ``.csv``, a row for each training, ``.json``, and the figure as ``.png`` and ``.svg``; list the files."""
    stem, where, val = out / "learning_curve", describe(split), int((split["split"] == "val").sum())
    seeds = len(curves[0].values[0])
    points = {
        curve.name: [
            {"train_count": count, "seeds": len(values), **mean_interval(values, photographs=val)._asdict()}
            for count, values in zip(curve.counts, curve.values, strict=True)
        ]
        for curve in curves
    }
    about = {
        "dataset": recipe.data.name,
        "seed": recipe.seed,
        "measured": "val/acc",
        "val_count": val,
        "interval_covers": COVERS if seeds > 1 else None,
        "finding": finding(curves),
        "curves": points,
        **{name: where[name] for name in ("git_commit", "data_sha256", "split_sha256", "processor", "versions")},
        "mlflow_run_id": parent,
    }
    write_table(trained, stem.with_suffix(".csv"), "%.6g")
    write_json(stem.with_suffix(".json"), about)
    own = f"mean and span of {seeds} seeds.\nEach seed draws its own smaller sets. "
    spread = own if seeds > 1 else "one training each.\n"
    caption = (
        f"Accuracy on the same {val:,} validation photographs, not on the test; {spread}"
        "All trainings take equally many optimiser steps."
    )
    figure = sizes_figure(curves, f"{recipe.data.name}: what more photographs are worth", caption)
    drawn = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in drawn:
        save_figure(figure, path)
    return [stem.with_suffix(".csv"), stem.with_suffix(".json"), *drawn]


def _words(curves: Sequence[Curve], val: int) -> str:
    """Lay the curves out for a terminal: a row for each size."""
    seeds = len(curves[0].values[0])
    columns = {curve.name: list(map(percent, curve.means)) for curve in curves}
    table = pd.DataFrame({"photographs": curves[0].counts, **columns}).to_string(index=False)
    spread = f"mean of {seeds} seeds" if seeds > 1 else "one training each"
    said = finding(curves)
    return f"\n{table}\n\nAccuracy on {val} validation photographs, {spread}." + (f"\n{said}." if said else "")


def _check(recipes: Sequence[Settings], sizes: Sequence[float], seeds: int) -> None:
    refuse_unfit("learning_curve", recipes)
    if seeds < 1:
        raise UserError(f"seeds={seeds}; give seeds=1 or more.")
    if not sizes:
        raise UserError("sizes=[] names no size; give shares of the training photographs, like sizes=[.1,.2,.5,1].")
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise UserError("experiments names the same recipe twice; name each once.")
    for recipe in recipes:
        if read_data(recipe) != read_data(recipes[0]):
            raise UserError(
                f"{recipe.name} and {recipes[0].name} use different photographs, so that their curves could not be "
                "compared; add data=… to the command, or leave one out."
            )


def plan(recipes: Sequence[Settings], table: pd.DataFrame, sizes: Sequence[float], seeds: int) -> list[Member]:
    """List the trainings, from the smallest share, those that share a split one after the other.

    Args:
        recipes: With the first seed.
        table: The training and validation photographs.
        sizes: Shares of the training photographs.
        seeds: How many.

    Raises:
        UserError: A share is out of range, or too small for a class.
    """
    full = int((table["split"] == "train").sum())
    members = []
    for frac in sorted(set(sizes)):
        for number in range(seeds):
            split = subset_split(table, frac, recipes[0].seed + number)
            count = int((split["split"] == "train").sum())
            for recipe in recipes:
                seed = recipe.seed + number
                tags = {"train_count": str(count), "train_frac": f"{frac:g}", "seed": str(seed)}
                words = [recipe.name, f"{100 * frac:g} percent"]
                words += [f"seed {seed}"] if seeds > 1 else []
                epochs = equal_steps(recipe, full, count)
                longer = {f"model.stages.{number}.epochs": each for number, each in enumerate(epochs)}
                settings = change(with_seed(recipe, seed), longer)
                members.append(Member(", ".join(words), settings, split, tags))
    return members


def equal_steps(recipe: Settings, full: int, count: int) -> list[int]:
    """Lengthen the stages, so that fewer photographs are trained on for as many steps.

    Args:
        recipe: Its epochs are meant for all photographs.
        full: Number of all training photographs.
        count: Number of those to be trained on.

    Returns:
        The epochs of each stage, to the nearest whole number, one at least where there was one.
    """

    def steps(photographs: int) -> int:
        """Count the batches of an epoch, as :class:`flowers.data.datamodule.ShuffledBatches` makes them."""
        batches = photographs // min(recipe.data.batch_size, photographs)
        limit = recipe.trainer.limit_train_batches
        return batches if limit is None else min(batches, limit)

    longer = steps(full) / steps(count)
    return [max(1, round(stage.epochs * longer)) if stage.epochs else 0 for stage in recipe.model.stages]


def compose_recipes(experiments: Sequence[str], overrides: Sequence[str]) -> list[Settings]:
    """Compose the recipes, all with the same overrides but for those that begin with a recipe's name and a dot.

    Raises:
        UserError: If a recipe or a key does not exist.
    """
    prefixes = tuple(f"{name}." for name in experiments)
    common = [word for word in overrides if not word.startswith(prefixes)]
    recipes = []
    for name, prefix in zip(experiments, prefixes, strict=True):
        own = [word.removeprefix(prefix) for word in overrides if word.startswith(prefix)]
        # The default of out_dir is Hydra's own folder, which there is none of here; it is said later.
        recipes.append(read_settings(compose_config([f"experiment={name}", "out_dir=runs", *common, *own])))
    return recipes


def main() -> None:
    """Draw the learning curves of the recipes that the command line names."""
    with exit_on_user_error():
        arguments, overrides = take_keys(Arguments, sys.argv[1:])
        if not arguments.experiments:
            raise UserError(
                "experiments=[] names no recipe; give some, like experiments=[cnn_scratch,sample_finetune]."
            )
        recipes = compose_recipes(arguments.experiments, overrides)
        out = None if arguments.out_dir is None else Path(arguments.out_dir)
        learning_curve(recipes, arguments.sizes, arguments.seeds, out)
