"""The leaderboard: as rows of a table, and for a terminal."""

import textwrap
from typing import Any

from flowers.review.page import duration, magnitude, percent
from flowers.review.ranking import Baseline, Experiment, Ranking
from flowers.review.readings import baseline_readings, order_readings

COLUMNS = (
    *("rank", "rank_low", "rank_high", "experiment", "kind"),
    *("test/acc", "test/acc_low", "test/acc_high"),
    *("behind_best", "behind_best_low", "behind_best_high", "p_behind_best", "not_better_than"),
    *("test/macro_f1", "test/top2_acc", "test/loss", "test/ece", "val/acc", "train/acc"),
    *("parameters", "train_s", "seed", "git_commit", "mlflow_run_id"),
)
"""Of `leaderboard.csv`. Accuracies, their differences, F1 and ECE in [0, 1], loss in nats, `train_s` in seconds. `rank`
is the place in order of accuracy; which places are shown, `rank_low` to `rank_high` say. `p_behind_best` is corrected
for the number of comparisons. `not_better_than`: the baselines that a network is not shown to beat."""

PAIR_COLUMNS = (
    *("experiment_a", "experiment_b", "difference", "low", "high"),
    *("only_a_right", "only_b_right", "p", "p_holm", "smallest_difference"),
)
"""Of `pairs.csv`, see :class:`flowers.review.significance.Pair`; differences in [-1, 1]."""

_WITHOUT_BASELINES = (
    "No baseline stands beside: `dvc repro` measures those of the pipeline; for trainings of your own "
    "`python -m flowers.baselines` does, and baselines=DIR shows them here."
)
_WIDTH = 100


def leaderboard(ranking: Ranking) -> list[list[Any]]:
    """Gather the rows of `leaderboard.csv`: for each experiment and baseline the cells of :data:`COLUMNS`, or None."""
    places = {experiment.name: place for place, experiment in enumerate(ranking.experiments, 1)}
    return [_row(ranking, each, places.get(each.name)) for each in ranking.contestants]


def table(ranking: Ranking) -> str:
    """Lay out the ranking for a terminal.

    Args:
        ranking: What was compared.

    Returns:
        Aligned lines without a last line end; plain ASCII, which every terminal shows.
    """
    titles = ("test acc", "95 % interval", "macro F1", "val acc", "train acc", "parameters", "training")
    lines = [("", "experiment", *titles)]
    for each in ranking.contestants:
        low, high = each.interval
        network = isinstance(each, Experiment)
        mark = " !" if ranking.not_better_than(each.name) else ""
        run = each.run if isinstance(each, Experiment) else each.scores
        lines.append(
            (
                ranking.rank(each.name) if network else "",
                each.name + mark if network else f"({each.name})",
                percent(each.acc),
                f"{100 * low:.1f} to {percent(high)}",
                percent(each.scores["test/macro_f1"]),
                percent(each.final("val/acc")),
                percent(each.final("train/acc")),
                magnitude(run["parameters"]) if network else "–",
                duration(run["train_s"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ).replace("–", "-")


def notes(ranking: Ranking) -> str:
    """Say what the table does not show by itself, for a terminal.

    Args:
        ranking: What was compared.

    Returns:
        Lines without a last line end, the first one empty.
    """
    lines = [*order_readings(ranking), *baseline_readings(ranking, mark="! ")]
    lines.append(
        "In brackets: the baselines, for which no network is trained." if ranking.baselines else _WITHOUT_BASELINES
    )
    return "\n".join(["", *(textwrap.fill(line, _WIDTH, break_on_hyphens=False) for line in lines)])


def _row(ranking: Ranking, each: Experiment | Baseline, place: int | None) -> list[Any]:
    """Gather the cells of :data:`COLUMNS`."""
    scores = each.scores
    network = isinstance(each, Experiment)
    run = each.run if isinstance(each, Experiment) else scores
    behind = ranking.pair(ranking.best.name, each.name) if each is not ranking.best else None
    return [
        place,
        *(ranking.ranks[each.name] if network else (None, None)),
        each.name,
        "network" if network else "baseline",
        each.acc,
        *each.interval,
        *((behind.difference, behind.low, behind.high, behind.p_holm) if behind else (0.0, 0.0, 0.0, None)),
        " ".join(ranking.not_better_than(each.name)),
        *(scores.get(key) for key in ("test/macro_f1", "test/top2_acc", "test/loss", "test/ece")),
        *(each.final(key) for key in ("val/acc", "train/acc")),
        *(run.get(key) for key in ("parameters", "train_s", "seed", "git_commit", "mlflow_run_id")),
    ]
