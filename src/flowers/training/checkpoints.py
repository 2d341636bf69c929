"""Checkpoints at every epoch's end, so that an interrupted run goes on where it was.

A training keeps its checkpoint in ``runs/resume/<key>``, where the key is a digest of all that decides its result. The
same command finds it again; any change of settings, photographs, code or versions makes another key, and a fresh start.
"""

import errno
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from flowers.config.compose import as_dict
from flowers.config.provenance import code_digest, file_digest
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.training.classifier import Classifier
from flowers.training.stages import ended_stages

ROOMS = ("config", "data", "models", "training")
"""Whose code decides the result of a training, the split and the starting weights given."""


def resume_key(settings: Settings, split_sha256: str, start: Path | None = None) -> str:
    """Digest all that decides the result of a training.

    Args:
        settings: Where the results go, and who is told of them, does not count.
        split_sha256: Digest of the split, which holds the digests of the photographs.
        start: The checkpoint of a stage that the training goes on from.
    """
    decisive = as_dict(settings)
    for name in ("out_dir", "progress", "logger", "tracking"):
        del decisive[name]
    decisive["model"].pop("features_gib", None)
    if settings.weights is not None and Path(settings.weights).is_file():
        # The content counts, not where it lies.
        decisive["weights"] = decisive["model"]["weights"] = file_digest(Path(settings.weights))
    for name in ("root", "decisions", "split_csv", "cache_dir"):
        decisive["data"].pop(name, None)
    begun = None if start is None else file_digest(start)
    text = json.dumps([decisive, split_sha256, begun, code_digest(*ROOMS), torch.__version__, lightning.__version__])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stage_checkpoint(folder: Path, stage: int) -> Path:
    """Name the file that holds a training as it was at the end of a stage, counted from 1."""
    return folder / f"stage-{stage}.ckpt"


def start_checkpoint(out: Path, settings: Settings) -> Path | None:
    """Find what ``from_stage`` asks for; None if the training starts anew.

    Raises:
        UserError: If there is no such stage, or an earlier training did not leave its checkpoint.
    """
    stage, stages = settings.from_stage, len(settings.model.stages)
    if not 1 <= stage <= stages:
        raise UserError(f"from_stage={stage}, but the recipe's stages are 1 to {stages}; choose one of them.")
    if stage == 1:
        return None
    path = stage_checkpoint(out, stage - 1)
    if not path.is_file():
        raise UserError(
            f"{path} does not exist, so stage {stage} has nothing to go on from; train with from_stage=1 "
            "first, or name the out_dir of a training that did."
        )
    return path


class EpochCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` at every epoch's end and ``stage-N.ckpt`` at a stage's; each file is always a whole one."""

    def __init__(self, folder: Path, stop_after_epochs: int | None = None) -> None:
        """Choose the folder, and the epoch after which the training stops as if it were interrupted; None: none."""
        self.path = folder / "last.ckpt"
        self.stop_after_epochs = stop_after_epochs

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write beside the old checkpoint, then put the new one in its place."""
        assert isinstance(pl_module, Classifier)
        if self.stop_after_epochs is not None and trainer.current_epoch + 1 >= self.stop_after_epochs:
            trainer.should_stop = True
        partial, copy = self.path.with_suffix(".partial"), self.path.with_suffix(".copy")
        try:
            trainer.save_checkpoint(partial)
            for stage in ended_stages(pl_module.stages, trainer.current_epoch):
                # before last.ckpt, from which a restart would not come by here again
                shutil.copyfile(partial, copy)
                copy.replace(stage_checkpoint(self.path.parent, stage))
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            copy.unlink(missing_ok=True)
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


def keep_stages(folder: Path, out: Path) -> None:
    """Move the checkpoints of the stages beside the trained model."""
    for path in sorted(folder.glob("stage-*.ckpt")):
        shutil.move(path, out / path.name)


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
