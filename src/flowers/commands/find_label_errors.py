"""Look for wrong labels: ``flowers find_label_errors experiment=linear_probe data=folder data.root=PHOTOGRAPHS``.

Trains the recipe once for each fold without that fold's photographs, and lists those that the networks which had not
seen them are sure to be of another class. Test photographs are neither trained on nor judged. Writes ``suspects.csv``,
``suspects.json`` and ``out_of_fold.csv``, and changes nothing: ``flowers review_labels`` shows the list to a person,
who decides.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.commands.train import train
from flowers.config.cli import run_command
from flowers.config.compose import change
from flowers.config.provenance import data_digest, split_digest
from flowers.config.schema import Settings
from flowers.curation.label_errors import confident_joint, rank_suspects
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import write_splits
from flowers.errors import UserError
from flowers.models.inference import calibrated
from flowers.models.trained import open_model
from flowers.training.checkpoints import resume_key
from flowers.training.series import placed


def find_label_errors(settings: Settings) -> int:
    """Rank the labels of the training and validation photographs by how surely they are wrong.

    An interrupted search goes on with the fold that it was in.

    Returns:
        The number of suspects.

    Raises:
        UserError: If something that the user gave cannot be used, or the folds cannot be trained on.
    """
    if settings.from_stage != 1:
        raise UserError("suspects trains each fold from the start; leave out from_stage.")
    root, split = photographs_of(settings)
    table = split[split["split"] != "test"].reset_index(drop=True)
    _check_folds(table)
    out = Path(settings.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    digest = split_digest(table.assign(split=table["fold"].astype(str)))
    work = Path("runs/suspects") / resume_key(settings, digest)
    classes = sorted(table["label"].unique())
    judged = table[table["fold"] >= 0].reset_index(drop=True)
    values = _out_of_fold(settings, root, table, work)
    labels = judged["label"].map(classes.index).to_numpy()
    joint = confident_joint(labels, values)
    found = rank_suspects(judged, values, classes)
    decisions = settings.data.decisions
    about = {
        "name": settings.name,
        "photographs": str(root.resolve()),
        "classes": classes,
        "decisions": None if decisions is None else str(Path(decisions).resolve()),
        "judged": len(judged),
        "folds": int(judged["fold"].nunique()),
        "suspects/acc": float((values.argmax(axis=1) == labels).mean()),
        "suspects/wrong_frac": float(1 - joint.trace() / len(judged)),
        "data_sha256": data_digest(table),
        "confident_joint": joint.round(2).tolist(),
    }
    every = pd.concat([judged[["path", "label", "fold"]], pd.DataFrame(values, columns=classes)], axis=1)
    every.to_csv(out / "out_of_fold.csv", index=False, float_format="%.6f")
    found.to_csv(out / "suspects.csv", index=False, float_format="%.6f")
    (out / "suspects.json").write_text(json.dumps(about, indent=2) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    if settings.tracking.enabled:
        from flowers.tracking import log as tracking

        with tracking.result_run(settings, "suspects", f"{settings.name} suspects", settings.name):
            figures = {name: about[name] for name in ("suspects/acc", "suspects/wrong_frac")}
            tracking.log_metrics({**figures, "suspects/count": len(found)})
            tracking.log_table(found, "suspects.json")
            for name in ("suspects.csv", "out_of_fold.csv"):
                tracking.log_file(out / name)
    print(
        f"{out}/suspects.csv: {len(found)} of {len(judged)} photographs to look at; about "
        f"{about['suspects/wrong_frac']:.1%} of the labels seem wrong. The {len(split) - len(table)} test photographs "
        f"were not judged.\nLook at them: flowers review_labels suspects={out}",
        flush=True,
    )
    return len(found)


def _check_folds(table: pd.DataFrame) -> None:
    """Find before the first training what would end a later one."""
    folds = table[table["fold"] >= 0].groupby("label")["fold"].nunique()
    for label in sorted(table["label"].unique()):
        alone = (table.loc[table["label"] == label, "fold"] < 0).any()  # always trained on
        if folds.get(label, 0) < 2 and not alone:
            raise UserError(
                f"class {label} has photographs in one fold only, so that nothing could be learned of it without that "
                "fold; add photographs of it."
            )
    if (table["fold"] < 0).all():
        raise UserError("no photograph has a fold; run split again.")


def _out_of_fold(settings: Settings, root: Path, table: pd.DataFrame, work: Path) -> np.ndarray:
    """Classify each photograph with a network that was trained without its fold.

    Args:
        settings: The recipe.
        root: Where the photographs lie.
        table: Rows of the split without the test.
        work: Keeps what is done of an interrupted search.

    Returns:
        (N,K) float32 for the N rows that have a fold, in the table's order; columns are the classes, sorted.
    """
    fold_of = table.loc[table["fold"] >= 0, "fold"].to_numpy()
    folds = np.unique(fold_of)
    judged = np.empty((len(fold_of), table["label"].nunique()), dtype=np.float32)
    for number, fold in enumerate(folds, start=1):
        file = work / f"fold-{fold}.npy"
        if not file.exists():
            if settings.progress != "none":
                print(f"fold {number} of {len(folds)}", flush=True)
            partial = work / "partial.npy"
            np.save(partial, _judge_fold(settings, root, table, int(fold), work))
            partial.replace(file)
        judged[fold_of == fold] = np.load(file)
    return judged


def _judge_fold(settings: Settings, root: Path, table: pd.DataFrame, fold: int, work: Path) -> np.ndarray:
    """Train without a fold and classify its photographs; the network is not kept."""
    folder = work / f"fold-{fold}"
    cache = Path(settings.data.cache_dir) / f"suspects-{work.name}-{fold}"  # of no use to anything else
    parts = table.assign(split=["val" if each == fold else "train" for each in table["fold"]])
    split_csv = folder / "split-of-fold.csv"
    write_splits(parts, split_csv)
    train(change(placed(settings, root, split_csv, folder, cache), {"tracking.enabled": False}))
    model = open_model(folder)
    assert model.validation is not None  # this version trained it
    # Not calibrated, for the temperature was fitted on these very labels, right or wrong.
    judged = calibrated(model.validation.logits, temperature=1.0)
    shutil.rmtree(cache, ignore_errors=True)
    shutil.rmtree(folder)
    return judged


def main() -> None:
    """Search the photographs that the command line names."""
    run_command(find_label_errors)
