"""What happened in each epoch: kept as rows, printed as lines or shown as a bar."""

import math
import sys
import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from flowers.data.datamodule import Batch
from flowers.errors import UserError
from flowers.training.classifier import Classifier
from flowers.training.stages import rates_at, stage_at, total_epochs

METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
"""The figures of an epoch, spelt the same in Lightning, MLflow, history.csv and run.json."""

COLUMNS = 80
"""Of a terminal, which the bar fits into."""

Row = dict[str, float | int | str]


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
        self._started_s = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started_s = time.perf_counter()

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
        _check_finite(trainer, pl_module, batch, "val")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Make the row of the epoch that has just ended."""
        assert isinstance(pl_module, Classifier)
        epoch = trainer.current_epoch
        stages = pl_module.stages
        steps = int(trainer.num_training_batches)
        row: Row = {"epoch": epoch + 1, "stage": stages[stage_at(stages, epoch)[0]].name}
        # An epoch without validation (check_val_every_n_epoch) has no figures of it.
        row.update({name: float(trainer.callback_metrics.get(name, math.nan)) for name in METRICS})
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
