"""Lightning's Trainer as every fit here wants it, and what the machine's arithmetic and memory are capable of."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch

from flowers.config.compose import instantiate
from flowers.errors import UserError
from flowers.models.inference import keep_freed_memory


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
