"""A network that takes pixels as a camera gives them, for those who know nothing of its training."""

import torch
from torch import Tensor, nn

from flowers.data.augment import normalise


class PixelLogits(nn.Module):
    """A network together with the preparation of its input: pixels in, logits out."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(net.mean))
        self.register_buffer("std", torch.tensor(net.std))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K)."""
        logits: Tensor = self.net(normalise(pixels, self.mean, self.std))
        return logits


class Scorer(PixelLogits):
    """A network together with all that surrounds it: pixels in, probabilities out."""

    temperature: Tensor

    def __init__(self, net: nn.Module, temperature: float) -> None:
        """Surround a network.

        Args:
            net: Normalised images to logits.
            temperature: What logits are divided by before the softmax; above 1 makes answers less sure.
        """
        super().__init__(net)
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map upright RGB pixels (B,3,H,W) float32 in [0, 255] to probabilities (B,K)."""
        return (super().forward(pixels) / self.temperature).softmax(dim=1)
