"""Networks that have learned where to look, so that their explanations can be checked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from flowers.models.inference import PixelLogits
from flowers.models.nets import CNN, ResNetSmall

SIDE_PX = 48
SQUARE_PX = 16
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "cnn": (CNN, {"width": 8, "blocks": 2, "dense": 16}),
    "resnet_small": (ResNetSmall, {"stem_width": 8, "widths": [8, 16], "depth": 1}),
}


@dataclass(frozen=True)
class Squares:
    """Photographs whose class is the colour of a square somewhere on grey noise."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    corners: NDArray[np.int64]  # (N,2), row and column

    def holds(self, index: int, row: int, column: int) -> bool:
        top, left = self.corners[index]
        return bool(top <= row < top + SQUARE_PX and left <= column < left + SQUARE_PX)


def paint_squares(count: int, seed: int) -> Squares:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 160, (count, SIDE_PX, SIDE_PX, 3))
    labels = rng.integers(0, 3, count)
    corners = rng.integers(0, SIDE_PX - SQUARE_PX, (count, 2))
    for image, label, (top, left) in zip(pixels, labels, corners, strict=True):
        square = image[top : top + SQUARE_PX, left : left + SQUARE_PX]
        square[:] = rng.integers(0, 60, square.shape)
        square[..., label] += 180
    return Squares(pixels.astype(np.uint8), labels, corners)


@pytest.fixture(scope="session")
def squares() -> Squares:
    """24 photographs that no network was trained on."""
    return paint_squares(24, seed=1)


@pytest.fixture(scope="session", params=list(KINDS))
def learned(request: pytest.FixtureRequest) -> nn.Module:
    """A network that has learned to name the colour of the square: pixels to logits, in `eval()`."""
    network, parameters = KINDS[request.param]
    examples = paint_squares(256, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PixelLogits(network(num_classes=3, image_px=SIDE_PX, dropout=0.0, **parameters), 1.0)
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
        for _ in range(60):
            chosen = torch.randint(len(examples.labels), (32,))
            batch = torch.from_numpy(examples.pixels)[chosen].permute(0, 3, 1, 2).float()
            loss = nn.functional.cross_entropy(net(batch), torch.from_numpy(examples.labels)[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()
