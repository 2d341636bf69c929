"""What a training writes: checkpoints at every epoch's end, so that it can be interrupted, and its model at the end.

A training keeps its checkpoint in ``runs/resume/<key>``, where the key is a digest of all that decides its result. The
same command finds it again; any change of settings, photographs, code or versions makes another key, and a fresh start.

At the end the trained model is written as a folder, which :mod:`flowers.models.trained` opens.
"""

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Checkpoint
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import nn

from flowers.atomic import whole_file, whole_files
from flowers.config.compose import as_dict
from flowers.config.provenance import code_digest, describe, file_digest, key_of
from flowers.config.schema import Settings
from flowers.curation.split_table import write_splits
from flowers.data.augment import as_pixels
from flowers.errors import UserError, is_disk_full
from flowers.models.inference import VALIDATION, Validation, predict_logits
from flowers.models.weights import save_weights
from flowers.training.stages import ended_stages
from flowers.training.trainer import whole_epoch

ROOMS = ("config", "data", "models", "training")
"""Whose code decides the result of a training, the split and the starting weights given."""
TRAINED = Path("runs/trained")
"""What sweeps and series have trained, by key."""
TEMPERATURES = (0.05, 20.0)
"""Between these a temperature is looked for."""


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
    return key_of(decisive, split_sha256, begun, code_digest(*ROOMS), torch.__version__, lightning.__version__)


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
    """Writes ``last.ckpt`` at every epoch's end and ``stage-N.ckpt`` at a stage's; each file is always a whole one.

    A training that a callback ended early stays ended when it goes on from there, to write its model.
    """

    def __init__(self, folder: Path, stop_after_epochs: int | None = None) -> None:
        """Choose the folder, and the epoch after which the training stops as if it were interrupted; None: none."""
        self.path = folder / "last.ckpt"
        self.stop_after_epochs = stop_after_epochs
        self._ended = False

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Train no more what had ended, which Lightning does not remember."""
        trainer.should_stop = trainer.should_stop or self._ended

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write beside the old checkpoint, then put the new one in its place; a part of an epoch is not kept."""
        if not whole_epoch(trainer):
            return
        epoch, ended_early = trainer.current_epoch, trainer.should_stop
        if self.stop_after_epochs is not None and epoch + 1 >= self.stop_after_epochs:
            trainer.should_stop = True
        partial = self.path.with_suffix(".partial")
        ended = [stage_checkpoint(self.path.parent, stage) for stage in ended_stages(pl_module.stages, epoch)]
        try:
            for path in [*ended, self.path]:  # last.ckpt comes last: a restart from it would not write the others
                self._ended = ended_early and path == self.path  # from_stage goes on from the others
                trainer.save_checkpoint(partial)
                partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if not is_disk_full(error):
                raise
            kept = f"the last good one stays in {self.path}" if self.path.exists() else "none was kept"
            raise UserError(
                f"the disk is full, so the checkpoint of epoch {epoch + 1} could not be written to {self.path.parent} "
                f"by way of {tempfile.gettempdir()} ({kept}); make room and give the same command again: it goes on "
                "from there."
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Go into the checkpoint."""
        return {"ended": self._ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Come out of the checkpoint."""
        self._ended = state_dict["ended"]

    def found(self) -> Path | None:
        """Name the checkpoint to go on from, if there is one."""
        return self.path if self.path.exists() else None


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Keep what is done in a folder, which is made if it is not there, to this process.

    Args:
        folder: Where a training or a series leaves what it goes on from.
        what: What is done, for the error.

    Raises:
        UserError: If another process does it already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"this very {what} is running already in another process; wait for it, or change seed or a setting."
        ) from error
    with contextlib.suppress(OSError):  # Windows deletes no open lock; what was finished leaves its empty folder there
        folder.rmdir()


def finish(folder: Path, out: Path) -> None:
    """Move the checkpoints of the stages beside the trained model, and remove what is no longer needed."""
    for path in sorted(folder.glob("stage-*.ckpt")):
        try:
            path.replace(out / path.name)
        except OSError:  # on another file system
            with whole_file(out / path.name) as partial:
                shutil.copy2(path, partial)
    shutil.rmtree(folder, ignore_errors=True)


def remember(key: str, out: Path) -> None:
    """Leave word of where a training that has come to its end lies.

    Args:
        key: Of a sweep's training, its :func:`resume_key`; of a series', the series' own and the member's.
        out: The trained model's folder.
    """
    with whole_file(TRAINED / f"{key}.json") as partial:
        # Relative, as the project may be moved.
        partial.write_text(json.dumps([os.path.relpath(out), file_digest(out / "model.safetensors")]))


def find_trained(key: str) -> tuple[Path, dict[str, Any]] | None:
    """Find the folder and the ``run.json`` of what :func:`remember` was told of, if it still is what lies there."""
    with contextlib.suppress(OSError, ValueError):
        folder, digest = json.loads((TRAINED / f"{key}.json").read_text())
        if file_digest(Path(folder) / "model.safetensors") == digest:
            return Path(folder), json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
    return None


def take_over(earlier: Path, out: Path) -> None:
    """Give a trained model a place in another folder too."""
    if earlier.absolute() == out.absolute():
        return
    with whole_files(out, "run.json") as partial:
        for file in earlier.iterdir():
            if file.is_file():
                shutil.copy2(file, partial / file.name)


def check_free(out: Path, settings: Settings) -> None:
    """Refuse to put a training where a different one lies.

    One that goes on from an earlier stage of the training there may differ in what follows that stage.

    Raises:
        UserError: If the folder holds a model that was trained with other settings.
    """
    config = out / "config.yaml"
    if not (out / "model.safetensors").exists() or not config.exists():
        return

    def compared(node: Any) -> Any:
        """Leave out of a configuration what may differ, such as how the folders were typed."""
        data = {key: os.path.normpath(value) if key == "root" else value for key, value in node["data"].items()}
        node = {**node, "out_dir": None, "data": data, "logger": None, "tracking": None}
        if settings.from_stage == 1:
            return node
        model = {**node["model"], "stages": node["model"]["stages"][: settings.from_stage - 1]}
        return {**node, "model": model, "from_stage": None, "trainer": None}

    try:
        same = compared(OmegaConf.to_container(OmegaConf.load(config), resolve=True)) == compared(as_dict(settings))
    except Exception:  # unreadable is different
        same = False
    if not same:
        raise UserError(f"out_dir={out} holds another training's model; choose another out_dir, or delete that one.")


def validation_batches(datamodule: Any) -> Iterator[tuple[NDArray[Any], Sequence[str], NDArray[np.integer]]]:
    """Give the validation images of a DataModule, in their order.

    Args:
        datamodule: Ours, whose images come all at once; or somebody else's, whose are uint8, or float in [0, 1].

    Yields:
        Pixels (B,H,W,3) in [0, 255], what the images are called, and labels (B,).
    """
    if hasattr(datamodule, "val"):
        yield datamodule.val.pixels, datamodule.val.paths, datamodule.val.labels.numpy()
        return
    for images, labels, *_ in datamodule.val_dataloader():
        names = [f"image {number} of a batch" for number in range(len(images))]
        yield as_pixels(images).permute(0, 2, 3, 1).numpy(), names, labels.numpy()


def write_model(
    out: Path,
    settings: Settings,
    net: nn.Module,
    datamodule: Any,
    rows: Sequence[dict[str, Any]],
    saved_epoch: int,
    noted: Mapping[str, str | int | None],
) -> dict[str, Any]:
    """Write a trained model's folder: each file whole, ``run.json`` last.

    Args:
        out: The folder.
        settings: What was trained with.
        net: The weights to be saved.
        datamodule: Where the photographs lie, and which of them were used for what, if it says so. Its validation
            photographs decide the temperature, and are kept as the network sees them.
        rows: The history, a row for each epoch.
        saved_epoch: The epoch, from 1, that `net` is of.
        noted: Added to the record: how the training ended, which MLflow run it is, and in which store.

    Returns:
        What ``run.json`` holds.
    """
    batches = [
        (*predict_logits(net, pixels, names), labels) for pixels, names, labels in validation_batches(datamodule)
    ]
    validation = Validation(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    split = getattr(datamodule, "split", None)
    record = {
        "name": settings.name,
        "dataset": settings.data.get("name"),
        "photographs": None if split is None else str(datamodule.root),
        "photographs_dir": None if split is None else str(Path(datamodule.root).resolve()),
        "classes": list(datamodule.classes),
        "temperature": fit_temperature(validation.logits, validation.labels),
        "seed": settings.seed,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "epochs": len(rows),
        "saved_epoch": saved_epoch,
        "train_s": round(sum(float(row["epoch_s"]) for row in rows), 2),
        "final": final_figures(rows[:saved_epoch], validation),
        **describe(split),
        **noted,
    }
    with whole_files(out, "run.json") as partial:
        save_weights(net, partial / "model.safetensors")
        OmegaConf.save(settings, partial / "config.yaml")
        if split is not None:
            write_splits(split, partial / "split.csv")
        np.savez(partial / VALIDATION, **validation._asdict())
        pd.DataFrame(rows).to_csv(partial / "history.csv", index=False, float_format="%.6g")
        (partial / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def final_figures(rows: Sequence[dict[str, Any]], validation: Validation) -> dict[str, float]:
    """Give the last figure of each metric that an epoch has measured.

    With ``trainer.check_val_every_n_epoch`` the last epoch may have no validation, or none may: what the final network
    makes of the validation photographs then stands for it.
    """
    acc = float((validation.logits.argmax(axis=1) == validation.labels).mean())
    loss = -float(_log_likelihoods(validation.logits, validation.labels).mean())
    figures = {"train/loss": math.nan, "train/acc": math.nan, "val/loss": loss, "val/acc": acc}
    return figures | {name: value for row in rows for name, value in row.items() if name in figures and value == value}


def _log_likelihoods(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Give the logarithm of the probability of each true class, (N,1)."""
    return np.take_along_axis(log_softmax(logits, axis=1), labels[:, None], axis=1)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Find the temperature at which the probabilities of known photographs fit best (Guo et al. 2017).

    It minimises the mean log loss, with the weight of half a photograph pulling its logarithm towards 0: where a
    network makes no mistake, the loss alone would fall for ever as the temperature approaches 0.

    Args:
        logits: (N, K) of photographs that were not trained on; N may be 0.
        labels: (N,) true classes.

    Returns:
        The temperature, in :data:`TEMPERATURES`; above 1 if the network is too sure of itself.
    """
    if not len(labels):
        return 1.0
    wide = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        of_truth = _log_likelihoods(wide / np.exp(log_temperature), labels)
        return float(-of_truth.sum() + 0.5 * log_temperature**2)

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x))
