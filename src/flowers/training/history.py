"""What happened in each epoch: kept as rows, and told to whoever watches."""

import sys
import time
from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from flowers.data.datamodule import Batch
from flowers.errors import UserError
from flowers.training.classifier import Classifier
from flowers.training.stages import rates_at, stage_at

METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
"""The figures of an epoch, spelt the same in Lightning, MLflow, history.csv and run.json."""

Row = dict[str, float | int | str]


class History(Callback):
    """One row per epoch, which survives a restart inside the checkpoint.

    Attributes:
        rows: With ``epoch`` (from 1), ``stage``, the four :data:`METRICS`, ``lr`` (the head's, at the epoch's first
            step) and ``epoch_s``.
    """

    def __init__(self, watchers: list[Callable[[Row, Classifier], None]]) -> None:
        """Take those who are told each row as it is made."""
        self.rows: list[Row] = []
        self.watchers = watchers
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
        figures = {name: float(trainer.callback_metrics[name]) for name in METRICS}
        row.update(figures)
        row["lr"] = rates_at(stages, pl_module.groups, epoch * steps, steps)["head"]
        row["epoch_s"] = time.perf_counter() - self._started_s
        self.rows.append(row)
        for watcher in self.watchers:
            watcher(row, pl_module)

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
        path = getattr(trainer.datamodule, split).paths[int(batch.ids[bad[0]])]  # type: ignore[attr-defined]
        raise UserError(
            f"{split}/loss of epoch {trainer.current_epoch + 1} is {float(pl_module.last_losses[bad[0]])} for {path}, "
            f"one of {len(bad)} such photographs in its batch of {len(batch.ids)}: the training diverged; lower max_lr "
            f"of stage '{pl_module.stage.name}' or set learning.clip_norm=1."
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
        raise UserError(f"trainer.progress='{progress}' is none of auto, lines, none; choose one of them.")
    return progress == "auto" and sys.stdout.isatty()


class Bar(TQDMProgressBar):
    """Lightning's bar, one line per epoch, without the version number that means nothing here."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Choose what stands beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
