"""What a recipe's augmentation makes of photographs: the very pictures that its training sees."""

from collections.abc import Sequence

import numpy as np
import torch

from flowers.data.augment import Draws, erase, transform
from flowers.settings import Settings

GREY = 0.5
"""What an erased box is filled with; a training fills it with its network's mean."""


def augmented_views(
    settings: Settings, pixels: np.ndarray, rows: Sequence[int], count: int, epochs: Sequence[int]
) -> np.ndarray:
    """Augment training photographs as a training does in some epochs.

    Blending with other photographs (MixUp, CutMix) depends on the batch and is left out.

    Args:
        settings: The recipe, with the seed.
        pixels: (B,H,W,3) uint8, at the size that the network sees.
        rows: Their B places among the training photographs of the split.
        count: How many training photographs there are.
        epochs: E of them, counted from 1 as in ``history.csv``.

    Returns:
        (E,B,H,W,3) uint8.
    """
    augment = settings.augment
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)  # a copy: a store is read-only
    mean, std = torch.full((3,), GREY), torch.ones(3)
    places = torch.as_tensor(list(rows))
    views = []
    for epoch in epochs:
        draws = Draws(count, seed=settings.seed, epoch=epoch - 1, mixup_alpha=0)
        view = transform(images, draws.uniform[places], augment, mean, std)
        if augment.erase_frac:
            view = erase(view, draws.box[places], augment.erase_frac)
        views.append(((view + GREY) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
    return torch.stack(views).numpy()
