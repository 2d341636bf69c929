"""What a ranking does and does not show: what the sentences of its page and of the terminal are filled with."""

import itertools

from flowers.evaluation.scores import largest_error_frac
from flowers.evaluation.significance import Ranking, fewest_photographs, smallest_difference
from flowers.report.curves import MEMORISING_FRAC
from flowers.report.html import sentences

NAMED = 3
"""How many things of a kind are named one by one; of more, the page's tables tell."""


def findings(ranking: Ranking) -> list[str]:
    """Say all that the page has to say above its evidence.

    Args:
        ranking: What was compared.

    Returns:
        Sentences.
    """
    finals = {each.name: (each.final("train/acc"), each.final("val/acc")) for each in ranking.experiments}
    leads = {name: train - val for name, (train, val) in finals.items() if train is not None and val is not None}
    return sentences(
        "ranking.txt.jinja",
        ranking=ranking,
        best=ranking.best,
        largest_error=largest_error_frac(ranking.photographs),
        said=[*order_findings(ranking), *baseline_findings(ranking)],
        commonest=ranking.best.counts.sum(axis=1).max() / ranking.photographs,
        memorising={name: lead for name, lead in leads.items() if lead >= MEMORISING_FRAC},
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
    level = [pair for pair in behind if not pair.shown]
    # Those level with the best are named already.
    named = {pair.second for pair in level}
    beside = [
        f"{below} with {above}"
        for above, below in itertools.pairwise(names[1:])
        if below not in named and not ranking.pair(above, below).shown
    ]
    trained_on = {(each.run["data_sha256"], each.run["split_sha256"]) for each in ranking.experiments}
    return sentences(
        "order.txt.jinja",
        best=names[0],
        level=level,
        shown=[pair.second for pair in behind if pair.shown],
        beside=beside,
        named=NAMED,
        photographs=ranking.photographs,
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
    networks = [each.name for each in ranking.experiments]
    missed = {name: baselines for name in networks if (baselines := ranking.not_better_than(name))}
    return sentences(
        "baselines.txt.jinja", missed=missed, networks=networks, baselines=ranking.baselines, named=NAMED, mark=mark
    )
