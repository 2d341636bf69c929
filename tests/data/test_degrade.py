import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from flowers.data.augment import AugmentParams
from flowers.data.degrade import COLUMNS, degrade

OFF: dict[str, Any] = {"share": 1, "smallest_px": 0, "blur_sd_frac": 0, "noise_sd_frac": 0, "jpeg_quality": 0}
ALL: dict[str, Any] = {"share": 0.6, "smallest_px": 8, "blur_sd_frac": 0.02, "noise_sd_frac": 0.1, "jpeg_quality": 20}
SHARE, SIDE, DOWN, UP, BLUR, NOISE, SEED, QUALITY = range(COLUMNS)


def photographs(count: int, height_px: int = 40, width_px: int = 40) -> Tensor:
    """(B,3,H,W) float32, whole levels, smooth enough for JPEG."""
    noise = np.random.default_rng(1).integers(0, 256, (count, 9, 7, 3), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(each).resize((width_px, height_px))) for each in noise]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def drawn(count: int = 1, **columns: float) -> Tensor:
    uniform = torch.full((count, COLUMNS), 0.5)
    for name, value in columns.items():
        uniform[:, globals()[name]] = value
    return uniform


def as_file(image: Tensor) -> Image.Image:
    """(3,H,W) as a picture."""
    return Image.fromarray(image.to(torch.uint8).permute(1, 2, 0).numpy())


def difference(image: Tensor, other: Any) -> float:
    """The largest, in levels."""
    return float((image - torch.from_numpy(np.array(other)).permute(2, 0, 1)).abs().max())


def test_an_image_becomes_worse_in_the_same_way_in_any_batch() -> None:
    images, uniform = photographs(12), AugmentParams(12, seed=3, epoch=1, mixup_alpha=0).worse
    before = images.clone()
    together = degrade(images, uniform, **ALL)
    assert torch.equal(images, before)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(degrade(images[order], uniform[order], **ALL), together[order])
    alone = [degrade(images[k, None], uniform[k, None], **ALL) for k in range(12)]
    assert torch.equal(torch.cat(alone), together)
    as_stored = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(degrade(as_stored, uniform, **ALL), together)
    changed = (together != images).flatten(1).any(dim=1)
    assert torch.equal(changed, uniform[:, SHARE] < 0.6)
    assert torch.equal(together[changed], together[changed].round().clamp(0, 255))


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    first, again = (AugmentParams(9, seed=3, epoch=1, mixup_alpha=alpha).worse for alpha in (0, 0.4))
    assert torch.equal(first, again)
    for changes in ({"seed": 4}, {"epoch": 2}):
        other = AugmentParams(9, **{"seed": 3, "epoch": 1, "mixup_alpha": 0, **changes}).worse
        assert not torch.equal(first, other)


def test_nothing_asked_for_is_nothing_done() -> None:
    images = photographs(3) + 0.25  # no whole levels
    assert degrade(images, drawn(3), **(ALL | {"share": 0})) is images
    assert torch.equal(degrade(images, drawn(3), **OFF), images.round())


@pytest.mark.parametrize("down", [0.0, 0.9])
@pytest.mark.parametrize("up", [0.0, 0.9])
@pytest.mark.parametrize(("side", "factor"), [(0.0, 10 / 40), (0.5, 20 / 40), (0.99999, 1)])
def test_few_pixels_are_those_of_pillow(down: float, up: float, side: float, factor: float) -> None:
    (image,) = images = photographs(1, 40, 60)
    (found,) = degrade(images, drawn(SIDE=side, DOWN=down, UP=up), **(OFF | {"smallest_px": 10}))
    how = {0.0: Image.Resampling.BILINEAR, 0.9: Image.Resampling.BICUBIC}
    small = as_file(image).resize((round(60 * factor), round(40 * factor)), how[down])
    assert difference(found, small.resize((60, 40), how[up])) <= 1


def test_a_side_is_drawn_between_the_smallest_and_its_own() -> None:
    images = photographs(300, 16, 16)
    uniform = AugmentParams(300, seed=0, epoch=0, mixup_alpha=0).worse
    kept = degrade(images, uniform, **(OFF | {"smallest_px": 4})) == images
    # What is drawn above 15.5 px, log-uniformly between 4 and 16, keeps its size.
    assert kept.flatten(1).all(dim=1).float().mean() == pytest.approx(np.log(16 / 15.5) / np.log(4), abs=0.03)
    assert torch.equal(degrade(images, uniform, **(OFF | {"smallest_px": 16})), images)


@pytest.mark.parametrize("strength", [0.2, 0.9])
def test_blur_is_that_of_torchvision(strength: float) -> None:
    torchvision = pytest.importorskip("torchvision.transforms.v2.functional")
    (image,) = images = photographs(1, 40, 56)
    (found,) = degrade(images, drawn(BLUR=strength), **(OFF | {"blur_sd_frac": 0.05}))
    sd_px = strength * 0.05 * 40
    reach = int(np.ceil(3 * sd_px))
    wanted = torchvision.gaussian_blur(image, [2 * reach + 1] * 2, [sd_px] * 2).round()
    assert (found - wanted).abs().max() <= 1
    assert (found - image).abs().max() > 1


def test_noise_has_the_deviation_that_was_drawn() -> None:
    grey = torch.full((2, 3, 80, 80), 128.0)
    one, other = degrade(grey, torch.cat([drawn(SEED=0.1), drawn(SEED=0.2)]), **(OFF | {"noise_sd_frac": 0.2}))
    assert (one - grey[0]).std().item() == pytest.approx(0.1 * 255, rel=0.03)
    assert (one - grey[0]).mean().item() == pytest.approx(0, abs=1)
    assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.03


@pytest.mark.parametrize(("quality", "strength"), [(10, 0.0), (55, 0.5)])
def test_jpeg_is_that_of_a_file(quality: int, strength: float) -> None:
    (image,) = images = photographs(1)
    (found,) = degrade(images, drawn(QUALITY=strength), **(OFF | {"jpeg_quality": 10}))
    stream = io.BytesIO()
    as_file(image).save(stream, "JPEG", quality=quality)
    assert difference(found, Image.open(stream)) == 0
    assert not torch.equal(found, image)
