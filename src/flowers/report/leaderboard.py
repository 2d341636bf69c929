"""The leaderboard: a ranking as a table, in words, and as a page with the evidence (templates/compare.html.jinja)."""

import itertools
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from flowers.evaluation.result_files import aligned
from flowers.evaluation.results import Experiment
from flowers.evaluation.significance import Ranking, fewest_photographs, smallest_difference
from flowers.report.confusion import confusion_figure, worst_confusions
from flowers.report.curves import MEMORISING_FRAC, curves_figure, stage_starts
from flowers.report.html import duration, magnitude, noun_of, percent, points, sentences, svg, write_page

NAMED = 3
"""How many things of a kind are named one by one; of more, the page's tables tell."""
WORST_LISTED = 6
_FOLDED_CLASSES = 20
_WIDE_PAIRS = 10
"""From so many experiments on, the table of pairs leaves the intervals out, to stay as wide as a page."""


def write_comparison(ranking: Ranking, out: Path) -> None:
    """Write the page: one HTML file with everything in it, for screen (light and dark) and print.

    Args:
        ranking: What was compared.
        out: The file to write; its folder is made.
    """
    experiments = ranking.experiments
    # Baselines far behind the best one are left off the axis, which they would press the others together on.
    ticks = _ticks([bound for each in (*experiments, *ranking.baselines[:1]) for bound in each.interval])
    write_page(
        out,
        "compare.html.jinja",
        noun_of(ranking.best.run["dataset"]),
        ranking=ranking,
        experiments=experiments,
        anchors={each.name: f"experiment-{number}" for number, each in enumerate(experiments, 1)},
        findings=findings(ranking),
        points=lambda difference: points(difference, bare=True).replace("-", "−"),
        with_ece=all("test/ece" in experiment.scores for experiment in experiments),
        wide=len(experiments) > _WIDE_PAIRS,
        apart=apart_by_class(ranking) if len(experiments) > 1 else [],
        sections=[_section(number, experiment, out.parent) for number, experiment in enumerate(experiments)],
        commits=sorted({short_commit(experiment.run["git_commit"]) for experiment in experiments}),
        at=lambda value: f"{100 * max(value - ticks[0], 0) / (ticks[-1] - ticks[0]):.2f}",
        axis_low=ticks[0],
        ticks=ticks,
        folded=len(experiments[0].classes) > _FOLDED_CLASSES,
    )


def apart_by_class(ranking: Ranking) -> list[tuple[Any, ...]]:
    """Count, class by class, which photographs tell the best two experiments apart.

    Args:
        ranking: Of at least two experiments.

    Returns:
        For each class that has photographs: its name, how many, how many both get right, only the best, only the
        second, neither. Those on which the two differ most come first.
    """
    first, second = (experiment.right for experiment in ranking.experiments[:2])
    classes = ranking.best.classes
    who = 2 * ~first + ~second  # 0: both are right, 1: only the best, 2: only the second, 3: neither
    counts = np.bincount(4 * ranking.truth + who, minlength=4 * len(classes)).reshape(-1, 4).tolist()
    rows = [(name, sum(row), *row) for name, row in zip(classes, counts, strict=True) if any(row)]
    return sorted(rows, key=lambda row: -(row[3] + row[4]))


def short_commit(commit: str | None) -> str:
    """Shorten a commit's name as `git describe` writes it, keeping the mark of uncommitted changes."""
    if commit is None:
        return "unknown"
    name, dash, dirty = commit.partition("-")
    return name[:10] + dash + dirty


def _section(number: int, experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Gather what the page, which will lie in a folder, says of one experiment below the table."""
    title = f"Test {noun_of(experiment.run['dataset'])}s"
    confusion = confusion_figure(experiment.counts, experiment.classes, title)
    curves = curves_figure(experiment.history, stage_starts(experiment.history), "Training")
    return {
        "experiment": experiment,
        "page": None if experiment.page is None else quote(os.path.relpath(experiment.page, folder)),
        "confusion": svg(confusion, f"confusion-{number}"),
        "curves": svg(curves, f"curves-{number}") if len(experiment.history) else None,
        "worst": [
            (experiment.classes[row], experiment.classes[column], count, int(experiment.counts[row].sum()))
            for row, column, count in worst_confusions(experiment.counts, WORST_LISTED)
        ],
    }


def _ticks(values: Sequence[float]) -> list[float]:
    """Choose the ticks of an axis of accuracies that holds all values; it reaches from the first to the last one."""
    spread = max(max(values) - min(values), 0.01)
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if spread / step <= 5 or step == 0.2)
    first, last = int(np.floor(min(values) / step)), int(np.ceil(max(values) / step))
    if first == last:
        first -= 1
    return [round(tick * step, 6) for tick in range(first, last + 1)]  # 12 * 0.05 would lie above 0.6


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
"""Of `pairs.csv`, see :class:`flowers.evaluation.significance.Pair`; differences in [-1, 1]."""

_WITHOUT_BASELINES = (
    "No baseline stands beside: `dvc repro` measures those of the pipeline; for trainings of your own "
    "`flowers baselines` does, and baselines=DIR shows them here."
)
_WIDTH = 100


def findings(ranking: Ranking) -> list[str]:
    """Say all that the page has to say above its evidence.

    Args:
        ranking: What was compared.

    Returns:
        Sentences.
    """
    finals = {each.name: (each.final("train/acc"), each.final("val/acc")) for each in ranking.experiments}
    leads = {name: train - val for name, (train, val) in finals.items() if train is not None and val is not None}
    return _say(
        "ranking.txt.jinja",
        ranking,
        said=[*order_findings(ranking), *baseline_findings(ranking)],
        commonest=ranking.best.counts.sum(axis=1).max() / ranking.photographs,
        leads={name: lead for name, lead in leads.items() if lead >= MEMORISING_FRAC},
    )


def order_findings(ranking: Ranking) -> list[str]:
    """Say which differences between experiments are shown, which are not, and what could have been.

    Args:
        ranking: What was compared.

    Returns:
        Sentences, at least one.
    """
    names = [experiment.name for experiment in ranking.experiments]
    behind = [pair for pair in ranking.pairs if pair.first == names[0]]
    not_shown = [pair for pair in behind if not pair.shown]
    # Those not shown to differ from the best are named already.
    named = {pair.second for pair in not_shown}
    beside = [
        f"between {above} and {below}"
        for above, below in itertools.pairwise(names[1:])
        if below not in named and not ranking.pair(above, below).shown
    ]
    trained_on = {(each.run["data_sha256"], each.run["split_sha256"]) for each in ranking.experiments}
    return _say(
        "order.txt.jinja",
        ranking,
        not_shown=not_shown,
        shown=[pair.second for pair in behind if pair.shown],
        beside=beside,
        fewest=fewest_photographs(),
        smallest=[pair.smallest for pair in ranking.pairs if pair.smallest is not None],
        tenth=smallest_difference(ranking.photographs, ranking.photographs // 10),
        trained_apart=len(trained_on) > 1,
    )


def baseline_findings(ranking: Ranking, mark: str = "") -> list[str]:
    """Say which experiments are not shown to be better than the baselines.

    Args:
        ranking: What was compared.
        mark: Put before the sentence about an experiment that is not.

    Returns:
        Sentences; none if there are no baselines.
    """
    if not ranking.baselines:
        return []
    baselines = {each.name: ranking.not_better_than(each.name) for each in ranking.experiments}
    missed = {name: which for name, which in baselines.items() if which}
    return _say("baselines.txt.jinja", ranking, missed=missed, mark=mark)


def _say(template: str, ranking: Ranking, **values: Any) -> list[str]:
    noun, photographs = noun_of(ranking.best.run["dataset"]), ranking.photographs
    return sentences(template, noun, ranking=ranking, best=ranking.best, photographs=photographs, named=NAMED, **values)


def leaderboard(ranking: Ranking) -> list[list[Any]]:
    """Gather the rows of `leaderboard.csv`: for each experiment and baseline the cells of :data:`COLUMNS`, or None."""
    places = {experiment.name: place for place, experiment in enumerate(ranking.experiments, 1)}
    rows = []
    for each in ranking.entries:
        network = each.name in places
        behind = ranking.pair(ranking.best.name, each.name) if each is not ranking.best else None
        cells = [
            places.get(each.name),
            *(ranking.ranks[each.name] if network else (None, None)),
            each.name,
            "network" if network else "baseline",
            each.acc,
            *each.interval,
            *((behind.difference, behind.low, behind.high, behind.p_holm) if behind else (0.0, 0.0, 0.0, None)),
            " ".join(ranking.not_better_than(each.name)),
            *(each.scores.get(key) for key in ("test/macro_f1", "test/top2_acc", "test/loss", "test/ece")),
            *(each.final(key) for key in ("val/acc", "train/acc")),
            *(each.run.get(key) for key in ("parameters", "train_s", "seed", "git_commit", "mlflow_run_id")),
        ]
        rows.append(cells)
    return rows


def table(ranking: Ranking) -> str:
    """Lay out the ranking for a terminal.

    Args:
        ranking: What was compared.

    Returns:
        Aligned lines without a last line end; plain ASCII, which every terminal shows.
    """
    titles = ("test acc", "95 % interval", "macro F1", "val acc", "train acc", "parameters", "training")
    lines = [("", "experiment", *titles)]
    for each in ranking.entries:
        low, high = each.interval
        network = isinstance(each, Experiment)
        mark = " !" if ranking.not_better_than(each.name) else ""
        lines.append(
            (
                ranking.rank(each.name) if network else "",
                each.name + mark if network else f"({each.name})",
                percent(each.acc),
                f"{100 * low:.1f} to {percent(high)}",
                percent(each.scores["test/macro_f1"]),
                percent(each.final("val/acc")),
                percent(each.final("train/acc")),
                magnitude(each.run["parameters"]) if network else "–",
                duration(each.run["train_s"]),
            )
        )
    return aligned(lines, left=2).replace("–", "-")


def notes(ranking: Ranking) -> str:
    """Say what the table does not show by itself, for a terminal.

    Args:
        ranking: What was compared.

    Returns:
        Lines without a last line end, the first one empty.
    """
    lines = [*order_findings(ranking), *baseline_findings(ranking, mark="! ")]
    lines.append(
        "In brackets: the baselines, for which no network is trained." if ranking.baselines else _WITHOUT_BASELINES
    )
    return "\n".join(["", *(textwrap.fill(line, _WIDTH, break_on_hyphens=False) for line in lines)])
