"""Networks applied to pixels: in bulk, to logits and features; and as a module that takes pixels as they are."""

import ctypes
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn

from flowers.data.augment import normalise
from flowers.data.pixels import take_rows
from flowers.errors import UserError
from flowers.models.nets import layer_groups

VALIDATION = "validation.npz"
"""The file of a trained model's folder that holds a :class:`Validation`."""
WIDEST_FEATURES = 4096
"""A linear layer that is given more sees the photograph itself, or all places of a map."""


class ModelOutputs(NamedTuple):
    """What a network makes of N photographs."""

    logits: np.ndarray
    """(N,K) float32."""
    features: np.ndarray
    """What its last linear layer is given, (N,D) float32; see :func:`predict_logits`."""


class Validation(NamedTuple):
    """What a network makes of its M validation photographs, in the order of ``split.csv``."""

    logits: np.ndarray
    """(M,K) float32."""
    features: np.ndarray
    """(M,D) float32, see :class:`ModelOutputs`."""
    labels: np.ndarray
    """(M,) int64 true classes."""


def find_device(wanted: str, key: str) -> torch.device:
    """Find the device that a person, or a recipe, asks for.

    Args:
        wanted: ``auto`` (CUDA where there is one), ``gpu``, or one of torch's names, such as ``cpu`` and ``cuda:1``.
        key: What it was given with.

    Raises:
        UserError: If there is no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device("cuda" if wanted == "gpu" else wanted)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        listed = str(error).startswith("Expected one of")  # and then all that any build of torch knows
        reason = "torch knows no such device" if listed else str(error).partition("\n")[0].rstrip(".")
        raise UserError(f"{key}={wanted} cannot be used here ({reason}); give {key}=auto or {key}=cpu.") from error
    return device


def device_of(net: nn.Module) -> torch.device:
    """Tell where a network is; one without tensors is on the processor."""
    return next((tensor.device for tensor in (*net.parameters(), *net.buffers())), torch.device("cpu"))


def photographs_at_once(device: torch.device) -> int:
    """Choose how many photographs a pass without gradients takes.

    On a processor more are no faster, only larger: 64 of 224 px take MobileNetV2 1.2 GB in float32, 8 take 0.15. What
    is computed of each is the same to the last bit.
    """
    return 8 if device.type == "cpu" else 64


def predict_logits(
    net: nn.Module, pixels: np.ndarray, names: Sequence[str], batch_size: int | None = None, head_is_new: bool = False
) -> ModelOutputs:
    """Apply a network, where it is, to decoded photographs, in float32 whatever precision it was trained in.

    Features are what the last linear layer is given if that is at most :data:`WIDEST_FEATURES` wide, else what the head
    is given, averaged over places.

    Args:
        net: Normalised images to logits; its last child is the head.
        pixels: (N,H,W,3) uint8.
        names: What the N photographs are called in an error.
        batch_size: Photographs in a forward pass, which bound the memory; None: :func:`photographs_at_once`.
        head_is_new: The head was not trained, so that features are taken before all of it.

    Raises:
        UserError: If a logit is not finite.
    """
    device = device_of(net)
    batch_size = batch_size or photographs_at_once(device)
    net = net.to(memory_format=torch.channels_last).eval()
    mean, std = (torch.tensor(value, device=device) for value in (net.mean, net.std))
    logits: list[Tensor] = []
    features: list[Tensor] = []
    layer = _feature_layer(net, head_is_new)
    hook = layer.register_forward_pre_hook(lambda _, inputs: features.append(_flat(inputs[0])))
    try:
        with torch.inference_mode():
            for first in range(0, len(pixels), batch_size):
                rows = range(first, min(first + batch_size, len(pixels)))
                batch = torch.from_numpy(take_rows(pixels, rows))
                images = batch.to(device).permute(0, 3, 1, 2)  # (B,H,W,3) -> (B,3,H,W), channels-last in memory
                logits.append(net(normalise(images, mean, std)).float().cpu())
    finally:
        hook.remove()
    answers = ModelOutputs(torch.cat(logits).numpy(), torch.cat(features).numpy())
    broken = np.flatnonzero(~np.isfinite(answers.logits).all(axis=1))
    if len(broken):
        raise UserError(
            f"the network's answer to {names[broken[0]]} (and {len(broken) - 1} others of {len(pixels)}) is no number: "
            "its weights are damaged or diverged; train again with a lower max_lr."
        )
    return answers


def _feature_layer(net: nn.Module, head_is_new: bool) -> nn.Module:
    """Find the layer whose input are the features."""
    head = list(layer_groups(net).values())[-1]
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    if head_is_new or not linear or linear[-1].in_features > WIDEST_FEATURES:
        return head
    return linear[-1]


def _flat(activations: Tensor) -> Tensor:
    """Average maps (B,D,H,W) over their places; flatten others to (B,D)."""
    return (activations.mean(dim=(2, 3)) if activations.ndim == 4 else activations.flatten(1)).float().cpu()


def calibrated(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Turn logits into probabilities.

    Args:
        logits: (N, K).
        temperature: What they are divided by first, above 0.

    Returns:
        (N, K); rows sum to 1.
    """
    return np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1)).astype(np.float32)


class PixelLogits(nn.Module):
    """A network together with the preparation of its input and its calibration: pixels in, logits out."""

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(self, net: nn.Module, temperature: float) -> None:
        """Surround a network.

        Args:
            net: Normalised images to logits.
            temperature: What logits are divided by; above 1 makes answers less sure.
        """
        super().__init__()
        self.net = net
        for name, value in (("mean", net.mean), ("std", net.std), ("temperature", temperature)):
            self.register_buffer(name, torch.tensor(value, device=device_of(net)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K)."""
        return self.net(normalise(pixels, self.mean, self.std)) / self.temperature


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step instead of returning it to the system.

    Activations are allocated and freed at every step; given back to the system, their pages are zeroed again at the
    next touch, which costs a training on the processor up to half its speed. Elsewhere than on glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # which musl does not have
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20)):
        if mallopt is not None:
            mallopt(option, value)
