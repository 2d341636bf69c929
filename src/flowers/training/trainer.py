"""Lightning's Trainer as every training here wants it: made, quiet, with a history of its epochs and a progress bar."""

import contextlib
import logging
import math
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer, TQDMProgressBar
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from flowers.config.compose import instantiate
from flowers.data.datamodule import Batch
from flowers.errors import UserError
from flowers.models.inference import keep_freed_memory
from flowers.training.classifier import Classifier
from flowers.training.stages import optimizer_steps, rates_at, stage_at, total_epochs

METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
"""The figures of an epoch, spelt the same in Lightning, MLflow, history.csv and run.json."""


def make_trainer(node: Mapping[str, Any], folder: Path, **given: Any) -> Trainer:
    """Make the Trainer that a configuration describes.

    Args:
        node: ``_target_`` and arguments of ``lightning.Trainer``; a precision of ``auto`` is chosen here.
        folder: Where checkpoints and large intermediate files lie.
        **given: Arguments that no configuration holds: callbacks and the like.

    Raises:
        UserError: If this machine, or Lightning, cannot do what is asked.
    """
    if node.get("accelerator") == "gpu" and not torch.accelerator.is_available():
        raise UserError("trainer.accelerator=gpu, but torch finds no GPU here; use trainer.accelerator=auto.")
    limit, clip, devices = node.get("limit_train_batches"), node.get("gradient_clip_val"), node.get("devices")
    if isinstance(devices, int) and devices > 1:
        raise UserError(
            f"trainer.devices={devices}, but a training runs on one device here: leave it out, or number the one, as "
            "in trainer.devices=[1]."
        )
    if limit is not None and limit <= 0:
        raise UserError(
            f"trainer.limit_train_batches={limit} must be at least 1 batch or a share above 0.0, or null for all."
        )
    if clip is not None and clip < 0:
        raise UserError(f"trainer.gradient_clip_val={clip} must be at least 0, or null for no clipping.")
    for callback in given.get("callbacks", ()):
        _check_monitor(callback)
    if (accumulated := node.get("accumulate_grad_batches", 1)) < 1:
        raise UserError(f"trainer.accumulate_grad_batches={accumulated} must be at least 1 batch.")
    # With deterministic algorithms torch also fills all memory it allocates, in case that something reads it before
    # writing. Nothing here does, and filling costs a tenth of a training and a quarter of a frozen pass.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    precision = resolve_precision(str(node.get("precision")), str(node.get("accelerator")))
    chosen = {"precision": precision, "default_root_dir": str(folder), **given}
    limit_s = node.get("max_time")
    if isinstance(limit_s, str) and limit_s.count(":") == 2:  # Lightning wants days before hours, minutes and seconds
        chosen["max_time"] = f"00:{limit_s}"
    return instantiate("trainer", node, **chosen)


def _check_monitor(callback: Callback) -> None:
    """Refuse a callback that watches a figure by another name, or would take its worst value for the best.

    Raises:
        UserError: Naming what to give it.
    """
    name, monitor, mode = type(callback).__name__, getattr(callback, "monitor", None), getattr(callback, "mode", None)
    figure = str(monitor).replace("_", "/")
    if figure not in METRICS:
        return
    if monitor != figure:
        raise UserError(
            f"callbacks: {name} watches {monitor}, which is called {figure} here; give it monitor={figure}."
        )
    better = "max" if figure.endswith("acc") else "min"
    if mode not in (better, None):
        raise UserError(
            f"callbacks: {name} watches {figure} with mode={mode}, by which the worst would be the best; give it "
            f"mode={better}."
        )


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on hardware and its advice on choices that are made here on purpose.

    Raises:
        KeyboardInterrupt: At Ctrl-C, of which Lightning makes a SystemExit.
        UserError: If a callback watches a figure that nothing has logged.
    """
    unfounded = (
        "does not have many workers",  # batches are slices of decoded pixels: workers would only take the processor
        "number of training batches",  # a few dozen batches an epoch are what small data sets have
        "Encountered `nan` values",  # the history says it in a sentence when a training diverges
        "LeafSpec.*is deprecated",  # Lightning calls what torch has renamed
    )
    with contextlib.ExitStack() as restored, warnings.catch_warnings():
        # Where mlflow has been imported, the older package's name speaks for Lightning.
        for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
            logger = logging.getLogger(name)
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        for words in unfounded:
            warnings.filterwarnings("ignore", message=f".*{words}")
        try:
            yield
        except SystemExit as error:
            raise KeyboardInterrupt from error
        except (RuntimeError, MisconfigurationException) as error:
            if not re.search(r"conditioned on metric|find the monitored key", str(error)):
                raise
            raise UserError(f"callbacks: {str(error).partition('HINT')[0].strip().rstrip('.')}; correct it.") from error


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
    """One row per epoch, and the weights of the best one, which survive a restart inside the checkpoint.

    Attributes:
        best: The ``epoch`` (from 1) that is best by a figure, of equal ones the latest, and the ``weights`` of its
            ``final_net``; None if none is wanted, or none was validated.
        rows: With ``epoch`` (from 1), ``stage``, the four :data:`METRICS`, ``lr`` (the head's, at the epoch's first
            step) and ``epoch_s``.
    """

    def __init__(self, lines: bool = False, save_best: str | None = None) -> None:
        """Choose whether each row is printed as it is made, and by which figure an epoch is the best; None: by none."""
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.lines, self.save_best = lines, save_best
        self._started_s, self._validated = 0.0, False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started_s, self._validated = time.perf_counter(), False

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop at the first loss that is no number: all that follows would be none either."""
        _check_finite(trainer, pl_module, batch, "train")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop at a loss that is no number; the last step of an epoch shows in the validation alone."""
        self._validated = True
        _check_finite(trainer, pl_module, batch, "val")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Make the row of the epoch that has just ended, and tell it in a line if that is wanted."""
        epoch, stages, groups = trainer.current_epoch, pl_module.stages, pl_module.groups
        row: dict[str, Any] = {"epoch": epoch + 1, "stage": pl_module.stage.name}
        # An epoch without validation (check_val_every_n_epoch) has no figures of it; Lightning keeps the last ones.
        for name in METRICS:
            known = self._validated or name.startswith("train/")
            row[name] = float(trainer.callback_metrics.get(name, math.nan)) if known else math.nan
        steps = optimizer_steps(trainer)
        row["lr"] = rates_at(stages, groups, epoch * steps, steps)[groups[-1]]
        row["epoch_s"] = time.perf_counter() - self._started_s
        self.rows.append(row)
        if self.save_best and self._is_best(self.save_best, row[self.save_best]):
            weights = {name: tensor.detach().cpu().clone() for name, tensor in pl_module.final_net.state_dict().items()}
            self.best = {"epoch": epoch + 1, "weights": weights}
        if self.lines:
            print(
                f"epoch {row['epoch']:>3}/{total_epochs(stages)} {row['stage']:<8} "
                f"train loss {row['train/loss']:.3f} acc {row['train/acc']:.3f}   "
                f"val loss {row['val/loss']:.3f} acc {row['val/acc']:.3f}   {row['epoch_s']:.1f} s",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """Go into the checkpoint."""
        return {"rows": self.rows, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Come out of the checkpoint."""
        self.rows, self.best = list(state_dict["rows"]), state_dict.get("best")

    def _is_best(self, name: str, figure: float) -> bool:
        if math.isnan(figure):  # of an epoch without validation
            return False
        if self.best is None:
            return True
        known = self.rows[self.best["epoch"] - 1][name]
        return figure <= known if name == "val/loss" else figure >= known


def whole_epoch(trainer: Trainer) -> bool:
    """Tell whether the epoch that has ended had all of its batches; ``max_time`` and ``max_steps`` end within one."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def ended_by(trainer: Trainer, epochs: int) -> str | None:
    """Say what ended a training before the epochs of its stage table; None if nothing did."""
    if trainer.current_epoch >= epochs and whole_epoch(trainer):
        return None
    if trainer.global_step >= trainer.max_steps != -1:
        return f"trainer.max_steps={trainer.max_steps}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            return "trainer.max_time"
        if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            return f"EarlyStopping of {callback.monitor}"
    return "a callback"


def _check_finite(trainer: Any, classifier: Classifier, batch: Batch, split: str) -> None:
    """Name the photograph whose loss is no number.

    Raises:
        UserError: If there is one.
    """
    losses = classifier.last_losses
    bad = torch.nonzero(~losses.isfinite()).flatten().tolist()
    if bad:
        photographs: Any = getattr(trainer.datamodule, split, None)
        known = photographs is not None and len(batch) > 2
        path = photographs.paths[int(batch.ids[bad[0]])] if known else f"image {bad[0]} of a batch"
        raise UserError(
            f"{split}/loss of epoch {trainer.current_epoch + 1} is {float(losses[bad[0]])} for {path}, one of "
            f"{len(bad)} such photographs in its batch of {len(batch[1])}: the training diverged; lower max_lr of "
            f"stage '{classifier.stage.name}' or set trainer.gradient_clip_val=1."
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
        bar.ncols, bar.dynamic_ncols = 80, False
        bar.bar_format = "{desc} {percentage:3.0f}%|{bar}|{postfix}"
        return bar

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started_s, self._first_epoch = time.perf_counter(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say which stage and epoch begins."""
        super().on_train_epoch_start(trainer, pl_module)
        epoch, stages = trainer.current_epoch, pl_module.stages
        name = stages[stage_at(stages, epoch)[0]].name
        self.train_progress_bar.set_description(f"{name[:12]} {epoch + 1}/{total_epochs(stages)}")

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, int | str | float | dict[str, float]]:
        """Choose what stands beside the bar."""
        steps = int(trainer.num_training_batches)
        done = (trainer.current_epoch - self._first_epoch) * steps + trainer.fit_loop.batch_idx + 1
        all_steps = (total_epochs(pl_module.stages) - self._first_epoch) * steps
        seconds = time.perf_counter() - self._started_s
        left = int(seconds / done * max(all_steps - done, 0))
        speed = done * max(len(pl_module.last_losses), 1) / seconds
        accuracy = trainer.callback_metrics.get("val/acc")
        shown = {} if accuracy is None else {"val/acc": f"{float(accuracy):.3f}"}
        return {"img/s": f"{speed:.0f}", "left": f"{left // 60}:{left % 60:02d}", **shown}
