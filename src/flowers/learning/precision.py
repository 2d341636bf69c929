"""What the machine's arithmetic and memory are capable of."""

import ctypes
import ctypes.util
import resource
import sys

import torch

from flowers.errors import UserError, suggestion

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


def peak_memory_bytes() -> int:
    """Read the largest resident size that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
