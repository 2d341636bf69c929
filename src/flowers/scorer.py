"""A network that takes pixels as a camera gives them, for those who know nothing of its training."""

import torch
from torch import Tensor, nn

from flowers.data.augment import normalise


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
        self.register_buffer("mean", torch.tensor(net.mean))
        self.register_buffer("std", torch.tensor(net.std))
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K)."""
        logits: Tensor = self.net(normalise(pixels, self.mean, self.std)) / self.temperature
        return logits


class Scorer(PixelLogits):
    """A network together with all that surrounds it: pixels in, probabilities out."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Map upright RGB pixels (B,3,H,W) float32 in [0, 255] to probabilities (B,K)."""
        return super().forward(pixels).softmax(dim=1)
