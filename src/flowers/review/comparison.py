"""The page that compares experiments: ranked, with what the order is worth, and with the evidence below."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from flowers.review import matrix
from flowers.review.curves import stage_starts
from flowers.review.figures import confusion_figure, curves_figure
from flowers.review.page import svg, write_page
from flowers.review.ranking import Experiment, Ranking
from flowers.review.readings import points, readings

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
    low, high, ticks = _axis([bound for each in (*experiments, *ranking.baselines[:1]) for bound in each.interval])
    write_page(
        out,
        "compare.html.jinja",
        ranking=ranking,
        experiments=experiments,
        anchors={each.name: f"experiment-{number}" for number, each in enumerate(experiments, 1)},
        readings=readings(ranking),
        points=lambda difference: points(difference, bare=True).replace("-", "−"),
        with_ece=all("test/ece" in experiment.scores for experiment in experiments),
        wide=len(experiments) > _WIDE_PAIRS,
        apart=apart_by_class(ranking) if len(experiments) > 1 else [],
        sections=[_section(number, experiment, out.parent) for number, experiment in enumerate(experiments)],
        commits=sorted({short_commit(experiment.run["git_commit"]) for experiment in experiments}),
        at=lambda value: f"{100 * max(value - low, 0) / (high - low):.2f}",
        axis_low=low,
        ticks=ticks,
        folded=len(experiments[0].classes) > _FOLDED_CLASSES,
    )


def apart_by_class(ranking: Ranking) -> list[tuple[str, int, int, int, int, int]]:
    """Count, class by class, which photographs tell the best two experiments apart.

    Args:
        ranking: Of at least two experiments.

    Returns:
        For each class that has photographs: its name, how many, how many both get right, only the best, only the
        second, neither. Those on which the two differ most come first.
    """
    first, second = (experiment.right for experiment in ranking.experiments[:2])
    rows = []
    for number, name in enumerate(ranking.best.classes):
        here = ranking.truth == number
        if here.any():
            split = (first & second, first & ~second, second & ~first, ~first & ~second)
            both, only_first, only_second, neither = (int((here & part).sum()) for part in split)
            rows.append((name, int(here.sum()), both, only_first, only_second, neither))
    return sorted(rows, key=lambda row: -(row[3] + row[4]))


def short_commit(commit: str | None) -> str:
    """Shorten a commit's name as `git describe` writes it, keeping the mark of uncommitted changes."""
    if commit is None:
        return "unknown"
    name, dash, dirty = commit.partition("-")
    return name[:10] + dash + dirty


def _section(number: int, experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Gather what the page, which will lie in a folder, says of one experiment below the table."""
    confusion = confusion_figure(experiment.counts, experiment.classes, "Test photographs")
    curves = curves_figure(experiment.history, stage_starts(experiment.history), "Training")
    return {
        "experiment": experiment,
        "page": None if experiment.page is None else quote(os.path.relpath(experiment.page, folder)),
        "confusion": svg(confusion, f"confusion-{number}"),
        "curves": svg(curves, f"curves-{number}") if len(experiment.history) else None,
        "worst": [
            (experiment.classes[row], experiment.classes[column], count, int(experiment.counts[row].sum()))
            for row, column, count in matrix.worst_confusions(experiment.counts, WORST_LISTED)
        ],
    }


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Choose an axis of accuracies that holds all values: lower end, upper end, ticks in between."""
    spread = max(max(values) - min(values), 0.01)
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if spread / step <= 5 or step == 0.2)
    first, last = int(np.floor(min(values) / step)), int(np.ceil(max(values) / step))
    if first == last:
        first -= 1
    ticks = [round(tick * step, 6) for tick in range(first, last + 1)]  # 12 * 0.05 would lie above 0.6
    return ticks[0], ticks[-1], ticks
