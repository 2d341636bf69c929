"""A series of trainings: each done once, however often the series is interrupted.

What is done of a series lies in ``runs/series/<key>``, where the key is a digest of all that decides its results. The
same command finds it again, whatever ended the one before.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowers.config.compose import change
from flowers.config.provenance import key_of, split_digest
from flowers.config.schema import Settings
from flowers.config.store_address import address_of, shown
from flowers.curation.split_table import write_splits
from flowers.errors import UserError
from flowers.models.inference import VALIDATION, calibrated
from flowers.training.checkpoints import find_trained, locked, remember, resume_key


@dataclass(frozen=True)
class Member:
    """One training of a series.

    Attributes:
        name: What a person calls it: its MLflow run, and with dashes its folder.
        settings: The recipe. Where its photographs lie and its model goes is for the series to say.
        split: Which photographs it trains and validates on.
        tags: What its MLflow run is found by.
    """

    name: str
    settings: Settings
    split: pd.DataFrame
    tags: dict[str, str]


@dataclass(frozen=True)
class Done:
    """A member that is trained.

    Attributes:
        member: The member.
        folder: Its trained model.
        run: The content of its ``run.json``.
    """

    member: Member
    folder: Path
    run: dict[str, Any]

    def outcome(self) -> dict[str, Any]:
        """Give what tables of series have in common: figures of the last epoch, time, where it lies and is recorded."""
        return {
            "val/acc": self.run["final"]["val/acc"],
            "val/loss": self.run["final"]["val/loss"],
            "train_s": self.run["train_s"],
            "model": str(self.folder),
            "mlflow_run_id": self.run["mlflow_run_id"],
        }

    def unseen(self) -> pd.DataFrame:
        """List the M photographs that it was validated on, in the split's order: `path`, `label` and its tags."""
        split = self.member.split
        return split.loc[split["split"] == "val", ["path", "label"]].assign(**self.member.tags)

    def probabilities(self) -> NDArray[np.float32]:
        """Give what its network says to :meth:`unseen`, (M,K) float32; rows sum to 1.

        Not calibrated, for the temperature was fitted on these very labels, right or wrong.
        """
        with np.load(self.folder / VALIDATION) as arrays:
            return calibrated(arrays["logits"], temperature=1.0)


def refuse_unfit(command: str, recipes: Sequence[Settings]) -> None:
    """Refuse recipes that no series can train, before their photographs are read."""
    if any(recipe.from_stage != 1 for recipe in recipes):
        raise UserError(f"{command} trains each time from the start; leave out from_stage.")
    if any(recipe.get("save_best") for recipe in recipes):
        raise UserError(
            f"{command} measures on the photographs that save_best would choose an epoch by, and so too high; leave it "
            "out."
        )


@contextlib.contextmanager
def open_series(command: str, recipes: Sequence[Settings], split: pd.DataFrame) -> Iterator[Path]:
    """Make or find the folder of a series, and keep it to this process.

    Args:
        command: What trains the recipes.
        recipes: What is trained.
        split: The photographs that all members are made of. Numbers of folds have to be in its column `split`.

    Yields:
        The folder.

    Raises:
        UserError: If another process does the same series already.
    """
    digest = split_digest(split)
    stores = [[shown(uri), name] for uri, name in (address_of(each) for each in recipes if each.tracking.enabled)]
    given = [dict(each.tracking) for each in recipes]
    work = Path("runs/series") / key_of(command, [resume_key(each, digest) for each in recipes], given, stores)
    with locked(work, command):
        yield work


def train_members(work: Path, root: Path, members: Sequence[Member], train: Callable[..., float]) -> Iterator[Done]:
    """Train what is not yet trained, in order.

    Args:
        work: The series' folder.
        root: Where the photographs lie.
        members: With different names. Those that share a split should follow each other: their pixels are kept so
            long.
        train: :func:`flowers.commands.train.train`.

    Yields:
        Each member when it is trained, with its decoded pixels still there.

    Raises:
        UserError: If a training cannot be done.
        KeyboardInterrupt: If interrupted; the same call goes on from the last whole epoch.
    """
    # Pixels of a split are of no use to anything but the series.
    caches = [
        Path(member.settings.data.cache_dir) / f"series-{work.name}-{split_digest(member.split)[:8]}"
        for member in members
    ]
    for number, (member, cache) in enumerate(zip(members, caches, strict=True), start=1):
        folder = work / member.name.replace(",", "").replace(" ", "-")
        split_csv = folder / "split-of-member.csv"
        places = {
            "out_dir": str(folder),
            "data.root": str(root),
            "data.source": None,
            "data.decisions": None,  # carried out in the split already
            "data.split_csv": str(split_csv),
            "data.cache_dir": str(cache),
        }
        settings = change(member.settings, places)
        key = f"{work.name}-{folder.name}"
        known = find_trained(key)
        if settings.progress != "none":
            called = f"{member.name} ({number} of {len(members)})"
            print(f"{called} is trained already: {folder}" if known else f"\n{called}", flush=True)
        if known is None:
            # What lies there is of this very training, but without its end.
            (folder / "model.safetensors").unlink(missing_ok=True)
            write_splits(member.split, split_csv)
            train(settings, logged={"run_name": member.name, "tags": member.tags})
            for stage in folder.glob("stage-*.ckpt"):  # no series goes on from a stage
                stage.unlink()
            remember(key, folder)
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        yield Done(member, folder, run)
        if cache not in caches[number:]:
            shutil.rmtree(cache, ignore_errors=True)
