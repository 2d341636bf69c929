"""Lightning's Trainer as every fit here wants it, and what the machine's arithmetic and memory are capable of."""

import contextlib
import ctypes
import ctypes.util
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar

from flowers.config.schema import Trainer
from flowers.errors import UserError, suggestion


def check_trainer(trainer: Trainer) -> str:
    """Refuse what this machine, or Lightning, cannot do.

    Returns:
        The precision, in Lightning's words.

    Raises:
        UserError: Naming the key.
    """
    known = ("auto", "cpu", "gpu")
    if trainer.accelerator not in known:
        raise UserError(f"trainer.accelerator='{trainer.accelerator}': {suggestion(trainer.accelerator, known)}")
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu, but torch finds no GPU here; use trainer.accelerator=auto.")
    if trainer.train_batches is not None and trainer.train_batches < 1:
        raise UserError(f"trainer.train_batches={trainer.train_batches} must be at least 1, or null for all of them.")
    if trainer.features_gib < 0:
        raise UserError(f"trainer.features_gib={trainer.features_gib} must be at least 0; correct it.")
    return resolve_precision(trainer.precision, trainer.accelerator)


def make_trainer(
    settings: Trainer, precision: str, *, epochs: int, clip_norm: float, callbacks: Sequence[Callback]
) -> lightning.Trainer:
    """Set Lightning up: one device, deterministic, without loggers, checkpoints and sanity checks of its own.

    Args:
        settings: Where, and how much of each epoch.
        precision: From :func:`check_trainer`.
        epochs: When to stop.
        clip_norm: Largest global gradient norm; 0: no clipping.
        callbacks: If a progress bar is among them, it is shown.
    """
    # With deterministic algorithms torch also fills all memory it allocates, in case that something reads it before
    # writing. Nothing here does, and filling costs a tenth of a training and a quarter of a frozen pass.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return lightning.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        limit_train_batches=settings.train_batches,
        gradient_clip_val=clip_norm or None,
        callbacks=[*callbacks],
        deterministic=True,
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


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


PRECISIONS = ("32-true", "bf16-mixed")
"""Lightning's names of the two that are trained with."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def resolve_precision(precision: str, accelerator: str) -> str:
    """Choose bfloat16 where the processor multiplies it natively, as it is then about twice as fast.

    Args:
        precision: ``auto``, or one of :data:`PRECISIONS`, which is returned as it is.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Returns:
        ``bf16-mixed`` or ``32-true``.

    Raises:
        UserError: If the precision is none of these.
    """
    if precision in PRECISIONS:
        return precision
    if precision != "auto":
        raise UserError(f"trainer.precision='{precision}': {suggestion(precision, ('auto', *PRECISIONS))}")
    if accelerator != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch cannot tell
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return "bf16-mixed" if native else "32-true"


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step instead of returning it to the system.

    Activations are allocated and freed at every step; given back to the system, their pages are zeroed again at the
    next touch, which costs a training on the processor up to half its speed. Elsewhere than on glibc this does nothing.
    """
    libc_name = ctypes.util.find_library("c")
    if not sys.platform.startswith("linux") or libc_name is None:
        return
    mallopt = getattr(ctypes.CDLL(libc_name), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 * 2**20)
