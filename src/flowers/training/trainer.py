"""Lightning's Trainer as every training here wants it: made, quiet, with a history of its epochs and a progress bar."""

import contextlib
import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from flowers.config.compose import instantiate
from flowers.data.datamodule import Batch
from flowers.errors import UserError
from flowers.models.inference import keep_freed_memory
from flowers.training.classifier import Classifier
from flowers.training.stages import rates_at, stage_at, total_epochs

METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
"""The figures of an epoch, spelt the same in Lightning, MLflow, history.csv and run.json."""

COLUMNS = 80
"""Of a terminal, which the bar fits into."""

Row = dict[str, float | int | str]


def make_trainer(node: Mapping[str, Any], folder: Path, **given: Any) -> lightning.Trainer:
    """Make the Trainer that a configuration describes.

    Args:
        node: ``_target_`` and arguments of ``lightning.Trainer``; a precision of ``auto`` is chosen here.
        folder: Where checkpoints and large intermediate files lie.
        **given: Arguments that no configuration holds: callbacks and the like.

    Raises:
        UserError: If this machine, or Lightning, cannot do what is asked.
    """
    if node.get("accelerator") == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu, but torch finds no GPU here; use trainer.accelerator=auto.")
    limit = node.get("limit_train_batches")
    if limit is not None and limit <= 0:
        raise UserError(
            f"trainer.limit_train_batches={limit} must be at least 1 batch or a share above 0.0, or null for all."
        )
    clip = node.get("gradient_clip_val")
    if clip is not None and clip < 0:
        raise UserError(f"trainer.gradient_clip_val={clip} must be at least 0, or null for no clipping.")
    precision = resolve_precision(str(node.get("precision")), str(node.get("accelerator")))
    # With deterministic algorithms torch also fills all memory it allocates, in case that something reads it before
    # writing. Nothing here does, and filling costs a tenth of a training and a quarter of a frozen pass.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    chosen = {"precision": precision, "default_root_dir": str(folder), **given}
    if str(node.get("max_time")).count(":") == 2:  # Lightning wants days before hours, minutes and seconds
        chosen["max_time"] = f"00:{node['max_time']}"
    trainer: lightning.Trainer = instantiate("trainer", node, **chosen)
    return trainer


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on hardware and its advice on choices that are made here on purpose.

    Raises:
        KeyboardInterrupt: At Ctrl-C, of which Lightning makes a SystemExit.
    """
    # Where mlflow has been imported, the older package's name speaks for Lightning.
    names = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Batches are slices of decoded pixels: worker processes would only take the processor from training.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # A few dozen batches an epoch are what small data sets have.
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        # The history says it in a sentence when a training diverges.
        warnings.filterwarnings("ignore", message=".*Encountered `nan` values.*")
        # Lightning calls what torch has renamed.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
        try:
            yield
        except SystemExit as error:
            raise KeyboardInterrupt from error
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def resolve_precision(precision: str, accelerator: str) -> str:
    """Choose bfloat16 where the processor multiplies it natively, as it is then about twice as fast.

    Args:
        precision: ``auto``, or one of Lightning's, which is returned as it is.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Returns:
        ``bf16-mixed`` or ``32-true`` for ``auto``.
    """
    if precision != "auto":
        return precision
    if accelerator != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch cannot tell
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return "bf16-mixed" if native else "32-true"


class History(Callback):
    """One row per epoch, which survives a restart inside the checkpoint.

    Attributes:
        rows: With ``epoch`` (from 1), ``stage``, the four :data:`METRICS`, ``lr`` (the head's, at the epoch's first
            step) and ``epoch_s``.
    """

    def __init__(self, lines: bool = False) -> None:
        """Choose whether each row is printed as it is made."""
        self.rows: list[Row] = []
        self.lines = lines
        self._started_s, self._validated = 0.0, False

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started_s, self._validated = time.perf_counter(), False

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Stop at the first loss that is no number: all that follows would be none either."""
        _check_finite(trainer, pl_module, batch, "train")

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop at a loss that is no number; the last step of an epoch shows in the validation alone."""
        self._validated = True
        _check_finite(trainer, pl_module, batch, "val")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Make the row of the epoch that has just ended."""
        assert isinstance(pl_module, Classifier)
        epoch = trainer.current_epoch
        stages = pl_module.stages
        steps = int(trainer.num_training_batches)
        row: Row = {"epoch": epoch + 1, "stage": stages[stage_at(stages, epoch)[0]].name}
        # An epoch without validation (check_val_every_n_epoch) has no figures of it; Lightning keeps the last ones.
        for name in METRICS:
            known = self._validated or name.startswith("train/")
            row[name] = float(trainer.callback_metrics.get(name, math.nan)) if known else math.nan
        row["lr"] = rates_at(stages, pl_module.groups, epoch * steps, steps)[pl_module.groups[-1]]
        row["epoch_s"] = time.perf_counter() - self._started_s
        self.rows.append(row)
        if self.lines:
            print_row(row, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Go into the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Come out of the checkpoint."""
        self.rows = list(state_dict["rows"])


def _check_finite(trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Batch, split: str) -> None:
    """Name the photograph whose loss is no number.

    Raises:
        UserError: If there is one.
    """
    assert isinstance(pl_module, Classifier)
    bad = torch.nonzero(~pl_module.last_losses.isfinite()).flatten().tolist()
    if bad:
        photographs: Any = getattr(trainer.datamodule, split, None)  # type: ignore[attr-defined]
        known = photographs is not None and len(batch) > 2
        path = photographs.paths[int(batch.ids[bad[0]])] if known else f"image {bad[0]} of a batch"
        raise UserError(
            f"{split}/loss of epoch {trainer.current_epoch + 1} is {float(pl_module.last_losses[bad[0]])} for {path}, "
            f"one of {len(bad)} such photographs in its batch of {len(batch[1])}: the training diverged; lower max_lr "
            f"of stage '{pl_module.stage.name}' or set trainer.gradient_clip_val=1."
        )


def print_row(row: Row, classifier: Classifier) -> None:
    """Tell an epoch in one line."""
    total = sum(stage.epochs for stage in classifier.stages)
    print(
        f"epoch {row['epoch']:>3}/{total} {row['stage']:<8} "
        f"train loss {row['train/loss']:.3f} acc {row['train/acc']:.3f}   "
        f"val loss {row['val/loss']:.3f} acc {row['val/acc']:.3f}   {row['epoch_s']:.1f} s",
        flush=True,
    )


def shows_bar(progress: str) -> bool:
    """Decide between a live bar and plain lines.

    Args:
        progress: ``auto``, ``lines`` or ``none``.

    Raises:
        UserError: If it is none of these.
    """
    if progress not in ("auto", "lines", "none"):
        raise UserError(f"progress='{progress}' is none of auto, lines, none; choose one of them.")
    return progress == "auto" and sys.stdout.isatty()


class Bar(TQDMProgressBar):
    """Lightning's bar in one line of 80 columns: stage, epoch of how many, images a second, and the time left."""

    def __init__(self) -> None:
        super().__init__(leave=True)
        self._started_s = 0.0
        self._first_epoch = 0

    def init_train_tqdm(self) -> Tqdm:
        """Leave room for the words, and no more."""
        bar = super().init_train_tqdm()
        bar.ncols, bar.dynamic_ncols = COLUMNS, False
        bar.bar_format = "{desc} {percentage:3.0f}%|{bar}|{postfix}"
        return bar

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started_s, self._first_epoch = time.perf_counter(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say which stage and epoch begins."""
        super().on_train_epoch_start(trainer, pl_module)
        assert isinstance(pl_module, Classifier)
        epoch, stages = trainer.current_epoch, pl_module.stages
        name = stages[stage_at(stages, epoch)[0]].name
        self.train_progress_bar.set_description(f"{name[:12]} {epoch + 1}/{total_epochs(stages)}")

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Choose what stands beside the bar."""
        assert isinstance(pl_module, Classifier)
        steps = int(trainer.num_training_batches)
        done = (trainer.current_epoch - self._first_epoch) * steps + trainer.fit_loop.batch_idx + 1
        all_steps = (total_epochs(pl_module.stages) - self._first_epoch) * steps
        seconds = time.perf_counter() - self._started_s
        left = int(seconds / done * max(all_steps - done, 0))
        shown: dict[str, int | str | float | dict[str, float]] = {
            "img/s": f"{done * max(len(pl_module.last_losses), 1) / seconds:.0f}",
            "left": f"{left // 60}:{left % 60:02d}",
        }
        accuracy = trainer.callback_metrics.get("val/acc")
        return shown if accuracy is None else {**shown, "val/acc": f"{float(accuracy):.3f}"}
