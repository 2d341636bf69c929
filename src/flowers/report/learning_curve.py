"""What a learning curve leaves: tables, the figure, and words for a terminal."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from flowers.config.provenance import describe
from flowers.evaluation.scores import clipped, mean_interval
from flowers.report.curves import Curve, finding, save_figure, sizes_figure
from flowers.report.html import percent
from flowers.training.series import Done

COVERS = "other seeds, each with shares of its own of the same photographs: t-interval over the seeds"


def curves_of(done: Sequence[Done]) -> list[Curve]:
    """Arrange what was measured as a curve for each recipe, in the recipes' order."""
    names = dict.fromkeys(each.member.settings.name for each in done)
    curves = []
    for name in names:
        of_size: dict[str, list[tuple[int, float]]] = {}
        for each in done:
            if each.member.settings.name == name:
                tags = each.member.tags
                of_size.setdefault(tags["train_frac"], []).append((int(tags["train_count"]), each.final("val/acc")))
        # Groups of copies make shares of different seeds differ by a photograph or two.
        counts = [round(sum(count for count, _ in each) / len(each)) for each in of_size.values()]
        curves.append(Curve(name, counts, [[value for _, value in each] for each in of_size.values()]))
    return curves


def write_curves(
    curves: Sequence[Curve], done: Sequence[Done], table: pd.DataFrame, out: Path, parent: str | None
) -> list[Path]:
    """Write ``learning_curve.csv``, a row for each training, and ``learning_curve.json``.

    Args:
        curves: From :func:`curves_of`.
        done: The trainings.
        table: The training and validation photographs.
        out: Folder for the files.
        parent: The series' MLflow run.

    Returns:
        The files.
    """
    rows = [
        {
            "experiment": each.member.settings.name,
            **each.member.tags,
            "epochs": each.run["epochs"],
            **each.outcome(),
        }
        for each in done
    ]
    points = {
        curve.name: [
            {"train_count": count, "seeds": len(values), **clipped(mean_interval(values))._asdict()}
            for count, values in zip(curve.counts, curve.values, strict=True)
        ]
        for curve in curves
    }
    where = describe(table)
    about = {
        "dataset": done[0].run["dataset"],
        "seed": done[0].member.settings.seed,
        "measured": "val/acc",
        "val_count": int((table["split"] == "val").sum()),
        "interval_covers": COVERS if len(curves[0].values[0]) > 1 else None,
        "finding": finding(curves),
        "curves": points,
        **{name: where[name] for name in ("git_commit", "data_sha256", "split_sha256", "processor", "versions")},
        "mlflow_run_id": parent,
    }
    pd.DataFrame(rows).to_csv(out / "learning_curve.csv", index=False, float_format="%.6g")
    (out / "learning_curve.json").write_text(json.dumps(about, indent=2) + "\n")
    return [out / "learning_curve.csv", out / "learning_curve.json"]


def draw_curves(curves: Sequence[Curve], dataset: str, val: int, out: Path) -> list[Path]:
    """Draw the figure.

    Args:
        curves: From :func:`curves_of`.
        dataset: The data set's name.
        val: Number of validation photographs.
        out: Folder for the files.

    Returns:
        ``learning_curve.png`` and ``learning_curve.svg``.
    """
    seeds = len(curves[0].values[0])
    spread = "one training each." if seeds == 1 else f"mean and span of {seeds} seeds."
    caption = (
        f"Accuracy on the same {val:,} validation photographs, not on the test; {spread}\n"
        f"{'' if seeds == 1 else 'Each seed draws its own smaller sets. '}"
        "All trainings take equally many optimiser steps."
    )
    figure = sizes_figure(curves, f"{dataset}: what more photographs are worth", caption)
    return save_figure(figure, out / "learning_curve")


def describe_curves(curves: Sequence[Curve], val: int) -> str:
    """Lay the curves out for a terminal: a row for each size."""
    seeds = len(curves[0].values[0])
    columns = {curve.name: [percent(mean) for mean in curve.means] for curve in curves}
    table = pd.DataFrame({"photographs": curves[0].counts, **columns})
    said = finding(curves)
    return (
        f"\n{table.to_string(index=False)}\n\nAccuracy on {val} validation photographs"
        + (f", mean of {seeds} seeds." if seeds > 1 else ", one training each.")
        + (f"\n{said}." if said else "")
    )
