"""Look for wrong labels: ``flowers find_label_errors experiment=linear_probe data=folder data.root=PHOTOGRAPHS``.

Trains the recipe once for each fold without that fold's photographs, and lists those that the networks which had not
seen them are sure to be of another class. Test photographs are neither trained on nor judged. Writes ``suspects.csv``,
``suspects.json`` and ``out_of_fold.csv``, and changes nothing: ``flowers review_labels`` shows the list to a person,
who decides.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.commands.train import train
from flowers.config.cli import run_command
from flowers.config.compose import change
from flowers.config.provenance import data_digest
from flowers.config.schema import Settings
from flowers.curation.labels import confident_joint, rank_suspects
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import write_table
from flowers.curation.splits import fold_split
from flowers.errors import UserError
from flowers.evaluation.result_files import beside_classes, write_json
from flowers.tracking.runs import announce_store, tracked_run
from flowers.training.series import Member, open_series, refuse_unfit, train_members


def find_label_errors(settings: Settings) -> int:
    """Rank the labels of the training and validation photographs by how surely they are wrong.

    An interrupted search goes on with the fold that it was in: until all folds are judged, their networks are kept.

    Returns:
        The number of suspects.

    Raises:
        UserError: If something that the user gave cannot be used, or the folds cannot be trained on.
    """
    announce_store(settings)
    refuse_unfit("find_label_errors", [settings])
    root, split = photographs_of(settings)
    table = split[split["split"] != "test"].reset_index(drop=True)
    _check_folds(table)
    out = Path(settings.out_dir)
    classes = sorted(table["label"].unique())
    judged = table[table["fold"] >= 0].reset_index(drop=True)
    folds = sorted(judged["fold"].unique())
    values = np.empty((len(judged), len(classes)), dtype=np.float32)
    untracked = change(settings, {"tracking.enabled": False})
    members = [Member(f"fold {fold + 1}", untracked, fold_split(table, fold), {}) for fold in folds]
    identity = table.assign(split=table["fold"].astype(str))
    with open_series("find_label_errors", [untracked], identity) as work:
        out.mkdir(parents=True, exist_ok=True)
        for fold, done in zip(folds, train_members(work, root, members, train), strict=True):
            values[judged["fold"] == fold] = done.probabilities()
    labels = judged["label"].map(classes.index).to_numpy()
    joint = confident_joint(labels, values)
    found = rank_suspects(judged, values, classes)
    decisions = settings.data.decisions
    about = {
        "name": settings.name,
        "dataset": settings.data.name,
        "photographs": str(root.resolve()),
        "classes": classes,
        "decisions": None if decisions is None else str(Path(decisions).resolve()),
        "judged": len(judged),
        "folds": len(folds),
        "suspects/acc": float((values.argmax(axis=1) == labels).mean()),
        "suspects/wrong_frac": float(1 - joint.trace() / len(judged)),
        "data_sha256": data_digest(table),
        "confident_joint": joint.round(2).tolist(),
    }
    write_table(beside_classes(judged[["path", "label", "fold"]], values, classes), out / "out_of_fold.csv", "%.6f")
    write_table(found, out / "suspects.csv", "%.6f")
    write_json(out / "suspects.json", about)
    shutil.rmtree(work, ignore_errors=True)
    if settings.tracking.enabled:
        with tracked_run(settings, f"{settings.name} suspects", {"kind": "suspects", "recipe": settings.name}) as run:
            figures = {name: about[name] for name in ("suspects/acc", "suspects/wrong_frac")}
            run.log_metrics({**figures, "suspects/count": len(found)})
            run.log_table(found, "suspects.json")
            for name in ("suspects.csv", "out_of_fold.csv"):
                run.log_file(out / name)
    print(
        f"{out}/suspects.csv: {len(found)} of {len(judged)} photographs to look at; about "
        f"{about['suspects/wrong_frac']:.1%} of the labels seem wrong. The {len(split) - len(table)} test photographs "
        f"were not judged.\nLook at them: flowers review_labels suspects={out}",
        flush=True,
    )
    return len(found)


def _check_folds(table: pd.DataFrame) -> None:
    """Find before the first training what would end a later one."""
    for label, folds in table.groupby("label")["fold"]:
        if folds.min() == folds.max() >= 0:  # what has fold -1 always trains
            raise UserError(
                f"class {label} has photographs in one fold only, so that nothing could be learned of it without that "
                "fold; add photographs of it."
            )
    if (table["fold"] < 0).all():
        raise UserError("no photograph has a fold; leave data.split_csv out, or fill in its column fold.")


def main() -> None:
    """Search the photographs that the command line names."""
    run_command(find_label_errors)
