"""What a ranking does and does not show, in words."""

import itertools

from flowers.evaluation.ranking import Ranking
from flowers.evaluation.scores import largest_error_frac
from flowers.evaluation.significance import Pair, fewest_photographs, smallest_difference
from flowers.report.curves import MEMORISING_FRAC
from flowers.report.html import percent

NAMED = 3
"""How many things of a kind are named one by one; of more, the page's tables tell."""


def findings(ranking: Ranking) -> list[str]:
    """Say all that the page has to say above its evidence.

    Args:
        ranking: What was compared.

    Returns:
        Sentences.
    """
    best, photographs = ranking.best, ranking.photographs
    low, high = best.interval
    first = (
        f"{best.name} is right on {percent(best.acc)} of {photographs} test photographs; with other "
        f"photographs of the same kind it might be from {percent(low)} to {percent(high)} (95 % interval)."
    )
    if best.acc == 1:
        first = (
            f"{best.name} is right on every one of {photographs} test photographs, so the interval has no "
            f"width; what that proves is an error rate below {percent(largest_error_frac(photographs))} "
            "(95 % confidence), not zero."
        )
    sentences = [first, *order_findings(ranking), *baseline_findings(ranking)]
    if not ranking.baselines:
        common = best.counts.sum(axis=1).max() / photographs
        sentences.append(f"Always answering with the most frequent class would be right on {percent(common)}.")
    for experiment in ranking.experiments:
        train, val = experiment.final("train/acc"), experiment.final("val/acc")
        if train is not None and val is not None and train - val >= MEMORISING_FRAC:
            sentences.append(
                f"{experiment.name} memorises: on its training photographs it is "
                f"{100 * (train - val):.1f} points more accurate than on validation photographs."
            )
    return sentences


def order_findings(ranking: Ranking) -> list[str]:
    """Say which differences between experiments are shown, which are not, and what could have been.

    Args:
        ranking: What was compared.

    Returns:
        Sentences, at least one.
    """
    names = [experiment.name for experiment in ranking.experiments]
    best, sentences = names[0], []
    behind = [pair for pair in ranking.pairs if pair.first == best]
    level = [pair for pair in behind if not pair.shown]
    if len(level) == 1:
        sentences.append(f"{level[0].second} is level with {best}: {_not_shown(level[0])}.")
    elif level:
        furthest = max(pair.difference for pair in level)
        how = (
            f"they are up to {points(furthest)} behind it, which this test does not show to be more than chance"
            if furthest
            else "they are right as often"
        )
        sentences.append(f"{listed([pair.second for pair in level])} are level with {best}: {how}.")
    if shown := [pair.second for pair in behind if pair.shown]:
        all_others = "every other experiment" if not level else f"the other {len(shown)}"
        whom = listed(shown) if len(shown) <= (NAMED if level else 1) else all_others
        sentences.append(f"{best} is shown to be better than {whom}.")
    # Those level with the best are named already.
    beside = [
        f"{below} with {above}"
        for above, below in itertools.pairwise(names[1:])
        if below not in {pair.second for pair in level} and not ranking.pair(above, below).shown
    ]
    if len(beside) > NAMED:
        sentences.append(f"Further down, {len(beside)} are level with the one above them: their ranks say how far.")
    elif beside:
        sentences.append(f"Level with the one above {'them' if len(beside) > 1 else 'it'} too: {listed(beside)}.")
    sentences.append(_sharpness(ranking))
    if len({(each.run["data_sha256"], each.run["split_sha256"]) for each in ranking.experiments}) > 1:
        sentences.append(
            "Not all were trained on the same photographs, so a difference may be due to these instead of a setting."
        )
    return sentences


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
    sentences = [
        f"{mark}{name} is not shown to be better than {listed(baselines)}." for name, baselines in missed.items()
    ]
    if len(sentences) > NAMED:
        sentences = [
            f"{mark}{len(missed)} of {len(networks)} experiments are not shown to be better than every baseline: "
            f"{listed(list(missed))}."
        ]
    if not sentences:
        hardest = ranking.baselines[0]
        who = "Every experiment is" if len(networks) > 1 else f"{ranking.best.name} is"
        what = f"every baseline, of which {hardest.name} is the best" if len(ranking.baselines) > 1 else hardest.name
        sentences = [f"{who} shown to be better than {what}: {percent(hardest.acc)}."]
    return sentences


def points(difference: float, bare: bool = False) -> str:
    """Write a difference of shares in percentage points, with or without the word."""
    number = f"{100 * difference:.1f}".replace("-0.0", "0.0")
    return number if bare else f"{number} points"


def listed(names: list[str]) -> str:
    """Join names as English does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _not_shown(pair: Pair) -> str:
    """Say why two experiments cannot be told apart."""
    apart = pair.only_first + pair.only_second
    if apart == 0:
        return "the two are right on the same photographs"
    lead = "they are right as often" if pair.difference == 0 else f"{pair.first} is {points(pair.difference)} ahead"
    if pair.smallest is None:
        return f"{lead}, and they disagree on {_photographs(apart)}, which is too few to show any difference"
    return (
        f"{lead} ({points(pair.low, bare=True)} to {points(pair.high)}, 95 % interval), and between two that disagree "
        f"on {apart} photographs this test shows no difference below {points(pair.smallest)}"
    )


def _sharpness(ranking: Ranking) -> str:
    """Say what the smallest difference is that this test can show."""
    fewest, photographs = fewest_photographs(), ranking.photographs
    if photographs < fewest:
        return f"A test of {_photographs(photographs)} can show no difference at all: at least {fewest} are needed."
    floor = f"{points(fewest / photographs)} ({fewest} of {photographs} photographs)"
    smallest = [pair.smallest for pair in ranking.pairs if pair.smallest is not None]
    if not smallest:
        tenth = smallest_difference(photographs, photographs // 10)
        more = f"; of two that disagree on a tenth of the photographs, {points(tenth)} would be shown" if tenth else ""
        return f"This test can show no difference below {floor}{more}."
    reach = points(min(smallest), bare=True)
    if (most := points(max(smallest), bare=True)) != reach:
        between = f"from {reach} to {most} points, depending on how many photographs the two disagree on"
    else:
        between = f"{reach} points"
    return (
        f"The smallest difference that this test shows between these experiments is {between}; none below {floor} "
        "can be shown at all."
    )


def _photographs(count: int) -> str:
    """Write a number of photographs."""
    return f"{count} photograph{'' if count == 1 else 's'}"
