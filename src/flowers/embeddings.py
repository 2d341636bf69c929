"""Photographs as a network sees them before it decides: what its head is given."""

from typing import TYPE_CHECKING

from flowers.trained import probabilities

if TYPE_CHECKING:
    import numpy as np

    from flowers.models.nets import Net


def head_inputs(net: "Net", pixels: "np.ndarray") -> "np.ndarray":
    """Describe photographs by what the network's head is given.

    Args:
        net: Its last child is the head. It is put into ``eval()``, for statistics of a batch would describe the batch.
        pixels: (N,H,W,3) uint8.

    Returns:
        (N,D) float32; where the head is given maps, their means.
    """
    import torch

    parts: list[torch.Tensor] = []
    head = list(net.children())[-1]
    hook = head.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0].cpu()))
    try:
        probabilities(net.eval(), pixels)
    finally:
        hook.remove()
    features = torch.cat(parts)
    return (features.mean(dim=(2, 3)) if features.ndim == 4 else features.flatten(1)).numpy()
