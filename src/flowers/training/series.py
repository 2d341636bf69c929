"""A series of trainings: children of one MLflow run, each done once, however often the series is interrupted.

What is done of a series lies in ``runs/series/<key>``, where the key is a digest of all that decides its results. The
same command finds it again, whatever ended the one before.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from flowers.config.compose import change
from flowers.config.provenance import split_digest
from flowers.config.schema import Settings
from flowers.curation.split_table import write_splits
from flowers.errors import UserError
from flowers.training.checkpoints import resume_key


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

    def final(self, name: str) -> float:
        """Give a figure of the last epoch, for example ``val/acc``."""
        return float(self.run["final"][name])

    def outcome(self) -> dict[str, Any]:
        """Give what tables of series have in common: figures of the last epoch, time, where it lies and is recorded."""
        return {
            "val/acc": self.final("val/acc"),
            "val/loss": self.final("val/loss"),
            "train_s": self.run["train_s"],
            "model": str(self.folder),
            "mlflow_run_id": self.run["mlflow_run_id"],
        }


def series_folder(kind: str, recipes: Sequence[Settings], split: pd.DataFrame) -> Path:
    """Name the folder of a series.

    Args:
        kind: What is done with the recipes.
        recipes: What is trained.
        split: The photographs that all members are made of. Numbers of folds have to be in its column `split`.
    """
    digest = split_digest(split)
    decisive = [kind, [resume_key(each, digest) for each in recipes], [dict(each.tracking) for each in recipes]]
    return Path("runs/series") / hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


@contextlib.contextmanager
def opened(work: Path, kind: str) -> Iterator[None]:
    """Keep a series to this process.

    Args:
        work: The series' folder.
        kind: What it is, for the error.

    Raises:
        UserError: If the series is running already.
    """
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"this very {kind} is running already in another process; wait for it, or change seed or a setting."
        ) from error


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
    for number, member in enumerate(members):
        folder = work / member.name.replace(",", "").replace(" ", "-")
        cache = _cache(member, work)
        split_csv = folder / "split-of-member.csv"
        settings = placed(member.settings, root, split_csv, folder, cache)
        speaks = settings.progress != "none"
        done = _finished(folder, settings, member.split)
        if done is None:
            if speaks:
                print(f"\n{member.name} ({number + 1} of {len(members)})", flush=True)
            # What lies there is of this very training, but without its end.
            (folder / "model.safetensors").unlink(missing_ok=True)
            write_splits(member.split, split_csv)
            train(settings, called=member.name)
            done = json.loads((folder / "run.json").read_text())
            for stage in folder.glob("stage-*.ckpt"):  # no series goes on from a stage
                stage.unlink()
        elif speaks:
            print(f"{member.name} ({number + 1} of {len(members)}) is trained already: {folder}", flush=True)
        yield Done(member, folder, done)
        if all(_cache(later, work) != cache for later in members[number + 1 :]):
            shutil.rmtree(cache, ignore_errors=True)


def _cache(member: Member, work: Path) -> Path:
    """Name the folder of a member's decoded pixels, which are of no use to anything but the series."""
    return Path(member.settings.data.cache_dir) / f"series-{work.name}-{split_digest(member.split)[:8]}"


def placed(settings: Settings, root: Path, split_csv: Path, folder: Path, cache: Path) -> Settings:
    """Have a recipe train on a split that was made for it.

    Args:
        settings: The recipe.
        root: Where the photographs lie.
        split_csv: The split, in which the decisions about photographs are carried out already.
        folder: For the model.
        cache: For the decoded pixels.
    """
    return change(
        settings,
        {
            "out_dir": str(folder),
            "data.root": str(root),
            "data.source": None,
            "data.decisions": None,
            "data.split_csv": str(split_csv),
            "data.cache_dir": str(cache),
        },
    )


def _finished(folder: Path, settings: Settings, split: pd.DataFrame) -> dict[str, Any] | None:
    """Read the record of a training that came to its end; None if it did not."""
    try:
        run: dict[str, Any] = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        return None
    # A training removes its checkpoint last, when MLflow too has all of it.
    unfinished = Path("runs/resume") / resume_key(settings, split_digest(split))
    if unfinished.exists() or not (folder / "model.safetensors").exists():
        return None
    return run
