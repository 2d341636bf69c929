"""The page of one trained network: how good it is, on which flowers, why it errs, and how sure it can be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from flowers.report import confusion as matrix
from flowers.report.calibration import coverage_figure, ood_figure, reliability_figure
from flowers.report.curves import MEMORISING_FRAC, curves_figure, stage_starts
from flowers.report.exhibits import Pictures, Run, class_rows, counts_of, embedded, mistakes, pairs, strangest
from flowers.report.html import percent, picture_address, svg, write_page

THUMBNAIL_QUALITY = 70
"""There may be hundreds."""


def figures_of(run: Run) -> dict[str, Figure]:
    """Draw the page's figures, by the names of their files; those that the run has nothing for are left out."""
    confidence = run.probabilities.max(axis=1)
    right = run.probabilities.argmax(axis=1) == run.labels
    photographs = f"{len(right)} test photographs"
    found = {
        "reliability": reliability_figure(confidence, right, f"How sure, how often right? {photographs}"),
        "coverage": coverage_figure(confidence, right, run.scores["withholding"], "When not to answer"),
    }
    if len(run.history):
        found["curves"] = curves_figure(run.history, stage_starts(run.history), f"Training of {run.name}")
    if run.strangers is not None:
        title = f"Test photographs beside {run.scores['strangers']['data']}"
        found["strangers"] = ood_figure(run.outliers, run.strangers, title)
    return found


def readings(run: Run) -> list[str]:
    """Say in words what the figures show."""
    scores = run.scores
    low, high = scores["interval"]["test/acc"]
    sentences = [
        f"{percent(scores['test/acc'])} of {scores['photographs']} test photographs are right; with other photographs "
        f"of the same kind it might be from {percent(low)} to {percent(high)} (95 % interval)."
    ]
    present = [row for row in scores["per_class"] if row["support"]]
    absent = [str(row["class"]) for row in scores["per_class"] if not row["support"]]
    if len(present) > 1:
        worst, best = (pick(present, key=lambda row: row["recall"]) for pick in (min, max))
        sentences.append(
            f"It knows {best['class']} best ({percent(best['recall'])} of {best['support']}) and {worst['class']} "
            f"worst ({percent(worst['recall'])} of {worst['support']})."
        )
    if absent:
        sentences.append(f"Nothing can be said of {', '.join(absent[:8])}: the test has no photograph of it.")
    answers = run.predictions["prediction"].nunique()
    if answers == 1 and len(run.classes) > 1:
        sentences.append(f"Every answer is {run.predictions['prediction'].iloc[0]}: it has learned nothing else.")
    ece, limit = scores["test/ece"], scores["test/ece_limit"]
    judged = "so nothing is amiss" if ece <= limit else "so they are not to be trusted as they stand"
    sentences.append(
        f"Its probabilities are off by {percent(ece)} on average; with {scores['photographs']} photographs even "
        f"perfectly calibrated ones could seem off by up to {percent(limit)}, {judged}."
    )
    for row in scores["withholding"]:
        if row["wanted"] == 0.95 and row["acc"] is not None:
            sentences.append(
                f"If it answers only where it is {percent(row['threshold'], 0)} sure, it answers "
                f"{percent(row['coverage'], 0)} of the photographs, and {percent(row['acc'])} of these answers are "
                "right (the threshold was chosen for 95 % on validation photographs)."
            )
    final = run.run["final"]
    if final["train/acc"] - final["val/acc"] >= MEMORISING_FRAC:
        lead = 100 * (final["train/acc"] - final["val/acc"])
        sentences.append(f"It memorises: training photographs are {lead:.1f} points more often right than others.")
    return sentences


def write_report(
    run: Run,
    pictures: Pictures | None,
    absence: str,
    figures: Mapping[str, Figure],
    explained: Mapping[str, Any] | None,
    out: Path,
) -> None:
    """Write the page: one HTML file with everything in it, for screen (light and dark) and print.

    Args:
        run: What is known of the network.
        pictures: What is shown of photographs; None where they are not at hand.
        absence: Why there are no pictures, a sentence.
        figures: From :func:`figures_of`.
        explained: From :func:`flowers.report.explanations.describe_reasons`; None where there are no pictures.
        out: The file to write; its folder is made.
    """
    counts = counts_of(run)
    sheet = matrix.ConfusionSheet(counts, run.classes, "Test photographs")
    box = sheet.figure.axes[0].get_position()
    place = {row: number for number, row in enumerate(pictures.rows)} if pictures else {}
    addresses = [picture_address(thumbnail, THUMBNAIL_QUALITY) for thumbnail in pictures.thumbnails] if pictures else []
    write_page(
        out,
        "report.html.jinja",
        run=run,
        scores=run.scores,
        readings=readings(run),
        drawn={name: svg(figure, name) for name, figure in figures.items() if name != "explanations"},
        confusion=svg(sheet.figure, "confusion"),
        wide=len(run.classes) > matrix.COUNTED_CLASSES,
        box={"left": box.x0, "top": 1 - box.y1, "width": box.width, "height": box.height},
        data_json=embedded(run, counts, place, addresses),
        classes=class_rows(run, counts),
        worst=mistakes(run, place, addresses),
        pairs=pairs(run, counts, place, addresses),
        strange=strangest(run, place, addresses),
        strangers=_strangers(run, pictures),
        montages={} if pictures is None else {name: picture_address(each) for name, each in pictures.montages.items()},
        absence=absence,
        explained=explained,
    )


def _strangers(run: Run, pictures: Pictures | None) -> list[dict[str, Any]]:
    """Describe the strangers that are shown, the most ordinary first."""
    if run.strangers is None or pictures is None:
        return []
    rows = run.strangers.set_index("path", drop=False)
    return [
        {**{str(key): value for key, value in rows.loc[path].items()}, "address": picture_address(picture)}
        for path, picture in pictures.strangers.items()
    ]
