"""Checkpoints at every epoch's end, so that an interrupted run goes on where it was.

A training keeps its checkpoint in ``runs/resume/<key>``, where the key is a digest of all that decides its result. The
same command finds it again; any change of settings, photographs, code or versions makes another key, and a fresh start.
"""

import errno
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from flowers.digests import file_digest
from flowers.errors import UserError
from flowers.settings import Settings

_PACKAGE = Path(__file__).parents[1]


def resume_key(settings: Settings, split_sha256: str) -> str:
    """Digest all that decides the result of a training.

    Args:
        settings: Where the results go, and who is told of them, does not count.
        split_sha256: Digest of the split, which holds the digests of the photographs.
    """
    decisive = asdict(settings)
    for name in ("out_dir", "tracking"):
        del decisive[name]
    del decisive["trainer"]["progress"]
    if settings.weights is not None and Path(settings.weights).is_file():
        decisive["weights"] = file_digest(Path(settings.weights))  # the content counts, not where it lies
    for name in ("root", "split_csv", "cache_dir"):
        del decisive["data"][name]
    text = json.dumps([decisive, split_sha256, code_digest(), torch.__version__, lightning.__version__])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest() -> str:
    """Digest the package's source."""
    hasher = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        hasher.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()


class EpochCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` at the end of every epoch; the file is always a whole one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write beside the old checkpoint, then put the new one in its place."""
        partial = self.path.with_suffix(".partial")
        try:
            trainer.save_checkpoint(partial)
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            kept = f"the last good one stays in {self.path}" if self.path.exists() else "none was kept"
            raise UserError(
                f"the disk is full, so the checkpoint of epoch {trainer.current_epoch + 1} could not be written "
                f"({kept}); make room and give the same command again: it goes on from there."
            ) from error

    def found(self) -> Path | None:
        """Name the checkpoint to go on from, if there is one."""
        return self.path if self.path.exists() else None


def discard(folder: Path) -> None:
    """Remove what a finished training no longer needs."""
    shutil.rmtree(folder, ignore_errors=True)


def read_note(folder: Path) -> dict[str, Any]:
    """Read what the interrupted run left for its continuation, for example its MLflow run."""
    note = folder / "note.json"
    return json.loads(note.read_text()) if note.exists() else {}


def write_note(folder: Path, note: dict[str, Any]) -> None:
    """Leave a note for a continuation."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "note.json").write_text(json.dumps(note))
