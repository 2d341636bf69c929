"""A network that takes pixels as a camera gives them, for those who know nothing of its training."""

import torch
from torch import Tensor, nn

from flowers.data.augment import normalise


class Scorer(nn.Module):
    """A network together with what surrounds it: pixels in, probabilities out."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(net.mean))
        self.register_buffer("std", torch.tensor(net.std))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map upright RGB pixels (B,3,H,W) float32 in [0, 255] to probabilities (B,K)."""
        return self.net(normalise(pixels, self.mean, self.std)).softmax(dim=1)
