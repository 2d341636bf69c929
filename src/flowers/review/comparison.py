"""The page that compares experiments: ranked, with their uncertainty, and with the evidence below."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.review import matrix
from flowers.review.figures import confusion_figure, curves_figure
from flowers.review.page import percent, svg, write_page
from flowers.review.scores import largest_error_frac

MEMORISING_FRAC = 0.05
"""From this lead of the training over the validation accuracy on, the page speaks of memorising."""
WORST_LISTED = 6
_FOLDED_CLASSES = 20


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that is known of one finished experiment."""

    name: str
    scores: dict[str, Any]
    """`metrics.json`, see :func:`flowers.review.scores.score`."""
    counts: NDArray[np.int64]
    """Confusion matrix of the test, (K, K): rows truth, columns prediction."""
    classes: list[str]
    run: dict[str, Any]
    """`run.json` of the training."""
    history: pd.DataFrame
    """`history.csv` of the training, one row per epoch; may be empty."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the test accuracy, in [0, 1]."""
        low, high = self.scores["interval"]["test/acc"]
        return float(low), float(high)

    @property
    def acc(self) -> float:
        """Test accuracy, in [0, 1]."""
        return float(self.scores["test/acc"])

    def final(self, name: str) -> float | None:
        """Look up a figure of the last epoch, such as `val/acc`; None if the method has none."""
        value = (self.run.get("final") or {}).get(name)
        return None if value is None else float(value)


def ranked(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Order experiments by test accuracy, the best first, and equally good ones by name."""
    return sorted(experiments, key=lambda experiment: (-experiment.acc, experiment.name))


def readings(experiments: Sequence[Experiment]) -> list[str]:
    """Say in words what the ranking does and does not show.

    Whether two experiments differ is judged by their intervals. That is cautious, because all were tested on
    the same photographs: intervals apart mean a real difference, intervals that overlap mean that this test
    cannot tell.

    Args:
        experiments: Ranked, at least one.

    Returns:
        Sentences.
    """
    best = experiments[0]
    photographs = int(best.counts.sum())
    low, high = best.interval
    sentences = [
        f"{best.name} is right on {percent(best.acc)} of {photographs} test photographs; with other "
        f"photographs of the same kind it might be from {percent(low)} to {percent(high)} (95 % interval)."
    ]
    if best.acc == 1:
        low = 1 - largest_error_frac(photographs)
        sentences[0] = (
            f"{best.name} is right on every one of {photographs} test photographs, so the interval has no "
            f"width; what that proves is an error rate below {percent(1 - low)} (95 % confidence), not zero."
        )
    tied = [other.name for other in experiments[1:] if other.interval[1] >= low]
    if tied:
        sentences.append(
            f"{_listed(tied)} {'are' if len(tied) > 1 else 'is'} not clearly different from {best.name}: "
            f"the intervals overlap, and a test of {photographs} photographs cannot tell them apart."
        )
    elif len(experiments) > 1:
        sentences.append(f"No other experiment's interval reaches that of {best.name}: its lead is clear.")
    for above, below in itertools.pairwise(experiments[1:]):
        # Those level with the best are named already.
        if below.name not in tied and below.interval[1] >= above.interval[0]:
            sentences.append(f"{below.name} and {above.name}, next to each other, are not clearly different either.")
    common = best.counts.sum(axis=1).max() / photographs
    sentences.append(f"Always answering with the most frequent class would be right on {percent(common)}.")
    for experiment in experiments:
        train, val = experiment.final("train/acc"), experiment.final("val/acc")
        if train is not None and val is not None and train - val >= MEMORISING_FRAC:
            sentences.append(
                f"{experiment.name} memorises: on its training photographs it is "
                f"{100 * (train - val):.1f} points more accurate than on validation photographs."
            )
    return sentences


def write_comparison(rows: Sequence[Experiment], out: Path) -> None:
    """Write the page: one HTML file with everything in it, for screen (light and dark) and print.

    Args:
        rows: The experiments, in any order, at least one, all of the same split.
        out: The file to write; its folder is made.
    """
    experiments = ranked(rows)
    low, high, ticks = _axis([bound for experiment in experiments for bound in experiment.interval])
    write_page(
        out,
        "compare.html.jinja",
        experiments=experiments,
        readings=readings(experiments),
        sections=[_section(number, experiment) for number, experiment in enumerate(experiments)],
        commits=sorted({short_commit(experiment.run["git_commit"]) for experiment in experiments}),
        at=lambda value: f"{100 * (value - low) / (high - low):.2f}",
        ticks=ticks,
        folded=len(experiments[0].classes) > _FOLDED_CLASSES,
    )


def short_commit(commit: str | None) -> str:
    """Shorten a commit's name as `git describe` writes it, keeping the mark of uncommitted changes."""
    if commit is None:
        return "unknown"
    name, dash, dirty = commit.partition("-")
    return name[:10] + dash + dirty


def stage_starts(history: pd.DataFrame) -> list[tuple[int, str]]:
    """Find the first epoch and the name of each stage of a history with columns `epoch` and `stage`."""
    begins = history["stage"].ne(history["stage"].shift())
    return [
        (int(epoch), str(name))
        for epoch, name in zip(history.loc[begins, "epoch"], history.loc[begins, "stage"], strict=True)
    ]


def _section(number: int, experiment: Experiment) -> dict[str, Any]:
    """Gather what the page says of one experiment below the table."""
    confusion = confusion_figure(experiment.counts, experiment.classes, "Test photographs")
    curves = curves_figure(experiment.history, stage_starts(experiment.history), "Training")
    return {
        "experiment": experiment,
        "confusion": svg(confusion, f"confusion-{number}"),
        "curves": svg(curves, f"curves-{number}") if len(experiment.history) else None,
        "worst": [
            (experiment.classes[row], experiment.classes[column], count, int(experiment.counts[row].sum()))
            for row, column, count in matrix.worst_confusions(experiment.counts, WORST_LISTED)
        ],
    }


def _axis(values: list[float]) -> tuple[float, float, list[float]]:
    """Choose an axis of accuracies that holds all values: lower end, upper end, ticks in between."""
    spread = max(max(values) - min(values), 0.01)
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if spread / step <= 5 or step == 0.2)
    first, last = int(np.floor(min(values) / step)), int(np.ceil(max(values) / step))
    if first == last:
        first -= 1
    return first * step, last * step, [tick * step for tick in range(first, last + 1)]


def _listed(names: list[str]) -> str:
    """Join names as English does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
