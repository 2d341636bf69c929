"""Rank the evaluated experiments: a table, and a page with the evidence. The DVC stage `compare`.

Each pair is tested on the photographs that only one of the two gets right, and a lead that chance could give as well is
called none. Reads what the stages `evaluate` and `baselines` wrote, and measures nothing itself.

``flowers compare experiments=[BEFORE,AFTER] out_dir=OUT`` compares two or more trainings of your own, each
given by the folder that `train` wrote and `evaluate` measured; `baselines=DIR` adds baselines.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.config.compose import read_params
from flowers.curation.split_table import write_table
from flowers.errors import UserError
from flowers.evaluation.result_files import write_json
from flowers.evaluation.results import Experiment, Place, own_places, read_baselines, read_experiments, stage_place
from flowers.evaluation.significance import Ranking, rank
from flowers.report.leaderboard import COLUMNS, PAIR_COLUMNS, leaderboard, notes, table, write_comparison


@dataclass
class Arguments:
    """Keys of the command."""

    params: Path = Path("params.yaml")
    artifacts: Path = Path("artifacts")
    experiments: list[Path] | None = None
    baselines: Path | None = None
    out_dir: Path | None = None


def main() -> None:
    """Compare the experiments that params.yaml or the command line names, and print the ranking."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)

        if arguments.experiments is None:
            for key in ("baselines", "out_dir"):
                if getattr(arguments, key) is not None:
                    raise UserError(f"{key}=… goes with experiments=[DIR,DIR]: give both, or neither.")
            out = arguments.artifacts / "compare"
            ranking = compare(experiments_of(arguments.params), arguments.artifacts)
        else:
            out = _own_out_dir(arguments)
            ranking = _rank(own_places(arguments.experiments), arguments.baselines, same_training=False)
            write(ranking, out)
        print(table(ranking), notes(ranking), f"\nThe evidence: {out / 'index.html'}", sep="\n")


def compare(names: Sequence[str], artifacts: Path) -> Ranking:
    """Rank experiments of the pipeline, and write tables, the page, `plots` and `metrics` into `compare`.

    Args:
        names: The experiments.
        artifacts: The folder that holds `evaluate/NAME` of each, and perhaps `baselines`.

    Returns:
        The ranking.

    Raises:
        UserError: One is unfinished, or they were not trained and tested on the same photographs.
    """
    places = [stage_place(name, artifacts) for name in dict.fromkeys(names)]
    baselines = artifacts / "baselines"
    ranking = _rank(places, baselines if baselines.is_dir() else None, same_training=True)
    write(ranking, artifacts / "compare")
    for experiment in ranking.experiments:
        _write_plots(experiment, artifacts / "compare" / "plots")
        # For `dvc metrics`, which shows a row for each file.
        overall = {key: value for key, value in experiment.scores.items() if "/" in key}
        write_json(artifacts / "compare/metrics" / f"{experiment.name}.json", overall)
    return ranking


def _own_out_dir(arguments: Arguments) -> Path:
    """Check what a person gives to compare trainings of their own, and tell where the comparison lands."""
    out, baselines = arguments.out_dir, arguments.baselines
    if arguments.experiments == []:
        raise UserError("experiments=[] names no folder: give those that `train` wrote, as experiments=[DIR,DIR].")
    if out is None:
        raise UserError("experiments=… needs a folder for the comparison: give out_dir=OUT.")
    if (out / "index.html").exists() and not (out / "leaderboard.csv").exists():
        raise UserError(f"{out} holds an index.html that is no comparison: name another out_dir.")
    if baselines is not None and not baselines.is_dir():
        raise UserError(f"{baselines} is no folder: name one that `flowers baselines` wrote.")
    return out


def _rank(places: Sequence[Place], baselines: Path | None, same_training: bool) -> Ranking:
    """Read and rank; a person may compare trainings on different photographs, as long as the test is the same."""
    experiments, test = read_experiments(places)
    first = experiments[0]
    digests = {key: first.run[key] for key in ("data_sha256", "split_sha256")} if same_training else {}
    for key, digest in digests.items():
        if others := [other.name for other in experiments if other.run[key] != digest]:
            what = "photographs" if key == "data_sha256" else "splits"
            raise UserError(
                f"{', '.join(others)} and {first.name} are not comparable, because their {what} differ "
                f"({key} in run.json): run `dvc repro`, which makes again what is out of date."
            )
    found = read_baselines(baselines, test, digests) if baselines else []
    if twice := {each.name for each in found} & {each.name for each in experiments}:
        raise UserError(f"{min(twice)} is the name of an experiment and of a baseline: rename the experiment.")
    return rank(experiments, found, test["truth"].to_numpy(), test["group"].to_numpy())


def write(ranking: Ranking, out: Path) -> None:
    """Write a ranking as two tables and a page.

    Args:
        ranking: What was compared.
        out: The folder; it is made.
    """
    pairs = map(astuple, (*ranking.pairs, *ranking.baseline_pairs))
    for name, rows, columns in (("leaderboard", leaderboard(ranking), COLUMNS), ("pairs", pairs, PAIR_COLUMNS)):
        # As objects, whole numbers stay whole beside empty cells.
        write_table(pd.DataFrame(rows, columns=columns, dtype=object), out / f"{name}.csv")
    write_comparison(ranking, out / "index.html")


def _write_plots(experiment: Experiment, folder: Path) -> None:
    """Write what `dvc plots` draws: it takes a folder of tables for each kind of plot."""
    cells = np.indices(experiment.counts.shape).reshape(2, -1)
    truth, prediction = np.array(experiment.classes, dtype=object)[cells.repeat(experiment.counts.ravel(), axis=1)]
    tables = {
        "loss": experiment.history[["epoch", "train/loss", "val/loss"]],
        "accuracy": experiment.history[["epoch", "train/acc", "val/acc"]],
        "confusion": pd.DataFrame({"truth": truth, "prediction": prediction}),
    }
    for kind, rows in tables.items():
        write_table(rows, folder / kind / f"{experiment.name}.csv")


def experiments_of(params: Path) -> list[str]:
    """Read the list of experiments.

    Args:
        params: `params.yaml`.

    Returns:
        Their names, at least one.

    Raises:
        UserError: There is no such file, or no such list in it.
    """
    names = read_params(params).get("experiments")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{params} must have a key `experiments` with a list of at least one name.")
    return names
