import copy
import hashlib
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowers.data.augment import Augment, AugmentParams, erase, mix_batch, normalise, transform

NOTHING = Augment(**{field.name: field.type(0) for field in fields(Augment)})  # type: ignore[operator]
STRONG = replace(
    NOTHING,
    flip=True,
    rotation_deg=30,
    zoom_frac=0.3,
    aspect_frac=0.2,
    translation_frac=0.1,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
)
NO_BOX = torch.empty(0)  # where nothing is erased or made worse, nobody looks at it
MEAN, STD = torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.1, 0.2, 0.3])
FLIP, ROTATION, ZOOM, ASPECT, SHIFT_X, SHIFT_Y, BRIGHTNESS, CONTRAST, SATURATION = range(9)


def photographs(count: int, side_px: int = 12) -> Tensor:
    """(B,3,H,W) uint8, channels-last in memory, as the store gives them."""
    pixels = np.random.default_rng(1).integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def middling(count: int, **columns: float) -> Tensor:
    """AugmentParams that change nothing, but for the named columns."""
    uniform = torch.full((count, 9), 0.5)
    for name, value in columns.items():
        uniform[:, globals()[name]] = value
    return uniform


def augmented(images: Tensor, uniform: Tensor, **changes: Any) -> Tensor:
    """The pixels of a transformed batch, in [0, 1]."""
    prepared = transform(images, uniform, NO_BOX, NO_BOX, replace(NOTHING, **changes), MEAN, STD)
    return prepared * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)


def test_no_augmentation_is_plain_preparation() -> None:
    images = photographs(5)
    uniform = AugmentParams(5, seed=0, epoch=0, mixup_alpha=0).uniform
    plain = transform(images, uniform, NO_BOX, NO_BOX, NOTHING, MEAN, STD)
    assert torch.allclose(plain, normalise(images, MEAN, STD), atol=1e-5)
    by_hand = (images[2, 1, 3, 4].item() / 255 - 0.4) / 0.2
    assert plain[2, 1, 3, 4].item() == pytest.approx(by_hand, abs=1e-5)


def test_middling_draws_change_nothing_however_strong() -> None:
    images = photographs(4)
    still = augmented(images, middling(4), **vars(replace(STRONG, flip=False)))
    assert torch.allclose(still, images / 255, atol=1e-4)


def test_half_of_the_images_are_mirrored_and_the_others_are_not() -> None:
    count = 3000
    images = photographs(count, side_px=6)
    uniform = AugmentParams(count, seed=3, epoch=1, mixup_alpha=0).uniform
    result = augmented(images, uniform, flip=True)
    mirrored = uniform[:, FLIP] < 0.5
    assert torch.allclose(result[mirrored], images.flip(3)[mirrored] / 255, atol=1e-4)
    assert torch.allclose(result[~mirrored], images[~mirrored] / 255, atol=1e-4)
    assert 0.4 < mirrored.float().mean() < 0.6


@pytest.mark.parametrize(("drawn", "turns"), [(0.0, 1), (1.0, -1), (0.5, 0)])
def test_a_quarter_turn_is_that_of_torch(drawn: float, turns: int) -> None:
    images = photographs(3)
    result = augmented(images, middling(3, ROTATION=drawn), rotation_deg=90)
    assert min(
        float((result - torch.rot90(images, k, (2, 3)) / 255).abs().max()) for k in (turns, -turns)
    ) == pytest.approx(0, abs=1e-4)
    opposite = augmented(images, middling(3, ROTATION=1 - drawn), rotation_deg=90)
    assert torch.allclose(opposite, result.flip(2, 3), atol=1e-4) or turns == 0


def test_a_shift_is_in_parts_of_the_side() -> None:
    images = photographs(2, side_px=12)
    result = augmented(images, middling(2, SHIFT_X=1.0), translation_frac=0.25)
    assert torch.allclose(result[..., :-3], images[..., 3:] / 255, atol=1e-4)
    result = augmented(images, middling(2, SHIFT_Y=0.0), translation_frac=0.25)
    assert torch.allclose(result[:, :, 3:], images[:, :, :-3] / 255, atol=1e-4)


@pytest.mark.parametrize(("drawn", "factor"), [(0.0, 2.0), (1.0, 0.5)])
def test_a_zoom_scales_about_the_middle(drawn: float, factor: float) -> None:
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    disc = ((x**2 + y**2).sqrt() < 6).to(torch.uint8).mul(255).expand(1, 3, 33, 33)
    result = augmented(disc, middling(1, ZOOM=drawn), zoom_frac=1.0)
    area = float(result[0, 0, 4:-4, 4:-4].sum() / (disc[0, 0] / 255).sum())
    assert area == pytest.approx(factor**2, rel=0.1)


def test_a_stretch_keeps_the_area_and_changes_the_sides() -> None:
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    square = ((x.abs() < 7) & (y.abs() < 7)).to(torch.uint8).mul(255).expand(1, 3, 41, 41)
    result = augmented(square, middling(1, ASPECT=1.0), aspect_frac=1.0)[0, 0]
    width, height = float(result[20].sum()), float(result[:, 20].sum())
    assert max(width / height, height / width) == pytest.approx(2, rel=0.1)
    assert width * height == pytest.approx(13 * 13, rel=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"brightness": 0.4},
        {"contrast": 0.5},
        {"saturation": 0.8},
        {"brightness": 0.3, "contrast": 0.3, "saturation": 0.9},
    ],
)
def test_colours_are_those_of_a_slow_reference(changes: dict[str, float]) -> None:
    images = photographs(3, side_px=4)
    uniform = AugmentParams(3, seed=5, epoch=0, mixup_alpha=0).uniform
    found = augmented(images, uniform, **changes)
    for b in range(3):
        factors = {
            name: 1 + (2 * float(uniform[b, column]) - 1) * changes.get(name, 0)
            for name, column in (("brightness", BRIGHTNESS), ("contrast", CONTRAST), ("saturation", SATURATION))
        }
        pixels = [[[float(images[b, c, i, j]) / 255 for c in range(3)] for j in range(4)] for i in range(4)]
        greys = [[0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in row] for row in pixels]
        middle = sum(map(sum, greys)) / 16
        for i in range(4):
            for j in range(4):
                for c in range(3):
                    value = greys[i][j] + factors["saturation"] * (pixels[i][j][c] - greys[i][j])
                    value = middle + factors["contrast"] * (value - middle)
                    value = min(max(factors["brightness"] * value, 0), 1)
                    assert found[b, c, i, j].item() == pytest.approx(value, abs=1e-4)


def test_the_strongest_changes_reach_their_limits_and_no_farther() -> None:
    images = photographs(2, side_px=4)
    for drawn, factor in ((0.0, 0.7), (1.0, 1.3)):
        bright = augmented(images, middling(2, BRIGHTNESS=drawn), brightness=0.3)
        assert torch.allclose(bright, (images / 255 * factor).clamp(max=1), atol=1e-4)
    grey = augmented(images, middling(2, SATURATION=0.0), saturation=1.0)
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-4)
    flat = augmented(images, middling(2, CONTRAST=0.0), contrast=1.0)
    assert float(flat.std(dim=(1, 2, 3)).max()) < 1e-4


def test_colours_stay_between_black_and_white() -> None:
    images = torch.cat([photographs(6), torch.full((1, 3, 12, 12), 255), torch.zeros(1, 3, 12, 12)]).to(torch.uint8)
    for seed in range(5):
        uniform = AugmentParams(len(images), seed=seed, epoch=0, mixup_alpha=0).uniform
        changed = augmented(images, uniform, brightness=0.4, contrast=0.5, saturation=0.8)
        assert changed.min() >= -1e-6
        assert changed.max() <= 1 + 1e-6


def test_an_image_fares_alike_in_any_batch_and_place() -> None:
    images, draws = photographs(12), AugmentParams(12, seed=2, epoch=4, mixup_alpha=0)
    strong = replace(STRONG, erase_frac=0.2, low_resolution_px=4)

    def seen(rows: list[int]) -> Tensor:
        return transform(images[rows], *draws.of(torch.tensor(rows)), strong, MEAN, STD)

    together = seen(list(range(12)))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    # Where rounding to whole levels is a tie in the last bit of a turned image, it may go to either side.
    assert torch.allclose(seen(order), together[order], atol=0.05)
    assert torch.allclose(torch.cat([seen([k]) for k in range(12)]), together, atol=0.05)
    assert float((together - normalise(images, MEAN, STD)).abs().mean()) > 0.1


def test_draws_and_views_of_earlier_recipes_are_what_they_were() -> None:
    draws = AugmentParams(50, seed=1, epoch=2, mixup_alpha=0.4)
    digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in (draws.uniform, draws.partner, draws.box)))
    assert digest.hexdigest().startswith("958633a19d8aa649")
    assert draws.mix[:3].tolist() == pytest.approx([0.7561, 0.9957, 0.8359], abs=1e-4)
    recipe = replace(  # sample_finetune, and boxes
        NOTHING,
        flip=True,
        rotation_deg=8,
        zoom_frac=0.15,
        aspect_frac=0.05,
        translation_frac=0.06,
        brightness=0.15,
        contrast=0.15,
        saturation=0.15,
        erase_frac=0.2,
    )
    drawn = AugmentParams(6, seed=0, epoch=0, mixup_alpha=0).of(torch.arange(6))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    views = transform(photographs(6, side_px=32), *drawn, recipe, mean, std)
    greens = [0.57048, -1.06832, 0.63069, -0.96618, 1.39840, -0.70740]
    assert views[:, 1, 16, 16].tolist() == pytest.approx(greens, abs=1e-4)
    assert views.mean().item() == pytest.approx(0.230757, abs=1e-5)


@pytest.mark.parametrize(
    "changes", [{"low_resolution_px": 4}, {"blur_sd_frac": 0.1}, {"noise_sd_frac": 0.2}, {"jpeg_quality": 10}]
)
def test_each_way_of_becoming_worse_can_be_asked_for(changes: dict[str, float]) -> None:
    images, draws = photographs(20), AugmentParams(20, seed=2, epoch=4, mixup_alpha=0).of(torch.arange(20))

    def seen(**more: float) -> Tensor:
        augment = replace(NOTHING, **changes, **more)  # type: ignore[arg-type]
        return transform(images, *draws, augment, torch.zeros(3), torch.ones(3))

    changed = ((seen(degraded_frac=0.5) - images / 255).abs() > 1e-5).any(dim=3).any(dim=2).any(dim=1)
    assert 4 <= int(changed.sum()) <= 16
    assert torch.allclose(seen(degraded_frac=0), images / 255, atol=1e-5)


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    def drawn(**changes: Any) -> tuple[Tensor, Tensor, Tensor]:
        draws = AugmentParams(50, **{"seed": 1, "epoch": 2, "mixup_alpha": 0.4, **changes})
        return draws.uniform, draws.partner, draws.mix

    first = drawn()
    assert all(torch.equal(one, other) for one, other in zip(first, drawn(), strict=True))
    for changes in ({"seed": 2}, {"epoch": 3}):
        assert not any(torch.equal(one, other) for one, other in zip(first, drawn(**changes), strict=True))
    assert torch.equal(drawn(mixup_alpha=0)[0], first[0])  # blending does not disturb what else is drawn


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0])
def test_draws_cover_their_ranges(alpha: float) -> None:
    draws = AugmentParams(4000, seed=0, epoch=0, mixup_alpha=alpha)
    assert draws.uniform.shape == (4000, 9)
    assert draws.uniform.min() >= 0
    assert draws.uniform.max() < 1
    assert torch.allclose(draws.uniform.mean(dim=0), torch.full((9,), 0.5), atol=0.03)
    assert abs(np.corrcoef(draws.uniform.numpy().T) - np.eye(9)).max() < 0.08
    assert draws.mix.dtype == torch.float32
    assert 0.5 <= draws.mix.min() < 0.52
    assert 0.99 < draws.mix.max() <= 1
    # the dominating side of Beta(1, 1) is uniform on [0.5, 1]
    assert alpha != 1.0 or math.isclose(float(draws.mix.mean()), 0.75, abs_tol=0.01)


def mixed(
    activations: Tensor, labels: Tensor, draws: AugmentParams, num_classes: int, **changes: float
) -> tuple[Tensor, Tensor]:
    """Mix a batch whose draws are in its own order."""
    rows = torch.arange(len(labels))
    return mix_batch(activations, labels, draws, rows, replace(NOTHING, **changes), num_classes)  # type: ignore[arg-type]


def with_draws(draws: AugmentParams, **values: Tensor) -> AugmentParams:
    """Other values for some of the draws."""
    changed = copy.copy(draws)
    vars(changed).update(values)
    return changed


def test_each_image_is_blended_with_one_other_and_each_is_used_once() -> None:
    count, classes = 6, 4
    images = torch.randn(count, 3, 5, 5)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    draws = AugmentParams(count, seed=0, epoch=0, mixup_alpha=0.4)
    half = with_draws(draws, mix=torch.full((count,), 0.5))
    doubled, _ = mixed(images, labels, half, classes, mixup_alpha=0.4)
    others = doubled * 2 - images
    partner = [int((others[k] - images).abs().sum(dim=(1, 2, 3)).argmin()) for k in range(count)]
    assert sorted(partner) == list(range(count))
    assert all(one != other for one, other in enumerate(partner))

    blended, targets = mixed(images, labels, draws, classes, mixup_alpha=0.4)
    for k, other in enumerate(partner):
        weight = float(draws.mix[k])
        assert torch.allclose(blended[k], weight * images[k] + (1 - weight) * images[other], atol=1e-6)
        wanted = torch.zeros(classes)
        wanted[labels[k]] += weight
        wanted[labels[other]] += 1 - weight
        assert torch.allclose(targets[k], wanted, atol=1e-6)
    assert torch.allclose(targets.sum(dim=1), torch.ones(count))
    assert torch.equal(targets.argmax(dim=1), labels)


def test_an_image_alone_in_its_batch_stays_as_it_is() -> None:
    image = torch.randn(1, 3, 4, 4)
    draws = with_draws(AugmentParams(1, seed=0, epoch=0, mixup_alpha=0.4), mix=torch.tensor([0.6]))
    blended, targets = mixed(image, torch.tensor([1]), draws, 3, mixup_alpha=0.4)
    assert torch.allclose(blended, image)
    assert targets.tolist() == [[0.0, 1.0, 0.0]]


def test_a_cut_box_has_the_share_that_its_label_has() -> None:
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 40, 40).contiguous()
    labels = torch.arange(4)
    draws = AugmentParams(4, seed=0, epoch=0, mixup_alpha=1.0)
    boxed, targets = mixed(images, labels, draws, 4, cutmix_alpha=1.0)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))
    for image, target, own in zip(boxed, targets, labels, strict=True):
        other = [int(value) for value in image.unique() if value != own]
        assert len(other) <= 1
        share = (image[0] == own).float().mean()
        assert target[own] == pytest.approx(float(share), abs=1e-6)
        if other:
            assert target[other[0]] == pytest.approx(1 - float(share), abs=1e-6)
    assert (boxed != images).any()


def test_erasing_blanks_boxes_in_half_of_the_images() -> None:
    count = 3000
    boxes = AugmentParams(count, seed=0, epoch=0, mixup_alpha=0).box
    erased = erase(torch.ones(count, 3, 16, 16), boxes, 0.25)
    shares = (erased == 0).float().mean(dim=(1, 2, 3))
    assert 0.4 < float((shares > 0).float().mean()) < 0.55
    assert 0.15 < float(shares.max()) < 0.3
    assert torch.equal(erase(torch.ones(2, 3, 8, 8), boxes[:2], 0.0), torch.ones(2, 3, 8, 8))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (7, 7), (33, 20)])
@pytest.mark.parametrize("largest_frac", [0.05, 0.25, 0.6])
def test_no_box_exceeds_the_share_that_may_be_erased(height: int, width: int, largest_frac: float) -> None:
    boxes = AugmentParams(2000, seed=1, epoch=0, mixup_alpha=0).box
    boxes[:1000, :2] = (boxes[:1000, :2] * height).round() / height  # centres where rounding is a tie
    erased = erase(torch.ones(2000, 3, height, width), boxes, largest_frac)
    shares = (erased == 0).float().mean(dim=(1, 2, 3))
    assert shares.max() <= largest_frac
    assert shares.max() > 0.6 * largest_frac


def test_mixing_is_as_the_settings_say() -> None:
    draws, rows = AugmentParams(6, seed=0, epoch=0, mixup_alpha=1.0), torch.tensor([4, 1, 2])
    maps, labels = torch.randn(3, 5, 8, 8), torch.tensor([0, 1, 2])
    plain, targets = mix_batch(maps, labels, draws, rows, NOTHING, 3)
    assert plain is maps
    assert targets is labels
    of_rows = with_draws(draws, mix=draws.mix[rows], partner=draws.partner[rows], box=draws.box[rows])
    blended, _ = mix_batch(maps, labels, draws, rows, replace(NOTHING, mixup_alpha=1.0), 3)
    assert torch.equal(blended, mixed(maps, labels, of_rows, 3, mixup_alpha=1.0)[0])
    boxed, _ = mix_batch(maps, labels, draws, rows, replace(NOTHING, cutmix_alpha=1.0), 3)
    assert torch.equal(boxed, mixed(maps, labels, of_rows, 3, cutmix_alpha=1.0)[0])
    assert not torch.equal(boxed, blended)
    features = maps.mean(dim=(2, 3))  # has no area: CutMix becomes MixUp
    pooled, _ = mix_batch(features, labels, draws, rows, replace(NOTHING, cutmix_alpha=1.0), 3)
    assert torch.equal(pooled, mixed(features, labels, of_rows, 3, mixup_alpha=1.0)[0])
