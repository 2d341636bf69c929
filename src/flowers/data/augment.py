"""Random changes of training images, drawn for each image and epoch.

What an image undergoes is a function of (seed, epoch, image) alone: neither the batch size, nor the order of batches,
nor a restart changes it. (Only whom it is blended with, if at all, depends on who else is in its batch.) A batch passes
through two tensor operations: one affine resampling for all geometry, and one 3×3 colour matrix with an offset, into
which the network's normalisation is folded.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flowers.config.provenance import derive_seed
from flowers.data.degrade import COLUMNS, degrade
from flowers.errors import UserError

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness that a person sees (ITU-R BT.601)."""

_COLUMNS = 9
_FLIP, _ROTATION, _ZOOM, _ASPECT, _SHIFT_X, _SHIFT_Y, _BRIGHTNESS, _CONTRAST, _SATURATION = range(_COLUMNS)


@dataclass
class Augment:
    """Random changes of a training image, drawn anew for each image and epoch.

    Colours are the stored values, in [0, 1], as in torchvision: no linear light. What a change of colour takes out of
    that range is cut off.

    Raises:
        UserError: If a strength is negative, or MixUp and CutMix are both on.
    """

    flip: bool
    """Mirror half of the images left to right."""
    rotation_deg: float
    """Rotate by up to this angle either way."""
    zoom_frac: float
    """Scale by a factor between 1/(1+z) and 1+z."""
    aspect_frac: float
    """Stretch one axis against the other by a factor between 1/(1+a) and 1+a."""
    translation_frac: float
    """Shift by up to this fraction of the image along each axis."""
    brightness: float
    """Scale all values by a factor between 1-b and 1+b."""
    contrast: float
    """Scale the distance from the image's mean grey by a factor between 1-c and 1+c."""
    saturation: float
    """Scale the distance from each pixel's grey by a factor between 1-s and 1+s."""
    erase_frac: float
    """Blank a box of at most this share of the pixels in half of the images (Zhong et al. 2017)."""
    mixup_alpha: float
    """Blend pairs of images and labels with weights from Beta(a, a) (Zhang et al. 2018); 0: never."""
    cutmix_alpha: float
    """Cut boxes of an area from Beta(a, a) out of other images (Yun et al. 2019), instead of MixUp; 0: never."""
    degraded_frac: float = 0.5
    """Make this share of the images worse, in all ways of the following four that are not 0."""
    low_resolution_px: int = 0
    """Reduce the shorter side to between this and its own length (log-uniform), and enlarge the image again."""
    blur_sd_frac: float = 0
    """Blur by a Gaussian of a standard deviation of up to this share of the side."""
    noise_sd_frac: float = 0
    """Add noise of a standard deviation of up to this share of the range from black to white."""
    jpeg_quality: int = 0
    """Save as JPEG of a quality between this and 100."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not value >= 0:
                raise UserError(f"model.augment.{name}={value} must be at least 0; correct the recipe.")
        for name, most in (("degraded_frac", 1), ("jpeg_quality", 100)):
            if getattr(self, name) > most:
                raise UserError(
                    f"model.augment.{name}={getattr(self, name)} must be at most {most}; correct the recipe."
                )
        if self.mixup_alpha and self.cutmix_alpha:
            raise UserError(
                "model.augment.mixup_alpha and model.augment.cutmix_alpha exclude each other; set one of them to 0."
            )


class AugmentParams:
    """The random numbers of one epoch, a row for each image of the training split.

    Attributes:
        epoch: The epoch, from 0.
        uniform: (N, 9) float32 in [0, 1): one column for each kind of change.
        mix: (N,) float32 in [0.5, 1]: weight of the image itself when it is blended with another.
        partner: (N,) float32: sorting a batch by it pairs each image with another at random.
        box: (N, 4) float32 in [0, 1): where a box lies that is erased or cut out, and of which size and shape.
        worse: (N, 8) float32 in [0, 1): how an image is made worse, see :func:`flowers.data.degrade.degrade`.
    """

    def __init__(self, count: int, *, seed: int, epoch: int, mixup_alpha: float) -> None:
        self.epoch = epoch
        generator = np.random.default_rng(derive_seed(seed, "augment", epoch))
        self.uniform = torch.from_numpy(generator.random((count, _COLUMNS), dtype=np.float32))
        self.partner = torch.from_numpy(generator.random(count, dtype=np.float32))
        weights = generator.beta(mixup_alpha, mixup_alpha, count) if mixup_alpha > 0 else np.ones(count)
        # Blending (a, b) with weight w is blending (b, a) with 1 - w: keep the side on which an image dominates.
        self.mix = torch.from_numpy(np.maximum(weights, 1 - weights).astype(np.float32))
        boxes = np.random.default_rng(derive_seed(seed, "box", epoch))
        self.box = torch.from_numpy(boxes.random((count, 4), dtype=np.float32))
        ways = np.random.default_rng(derive_seed(seed, "degrade", epoch))
        self.worse = torch.from_numpy(ways.random((count, COLUMNS), dtype=np.float32))

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take what :func:`transform` needs for a batch, given its (B,) int64 rows."""
        return self.uniform[rows], self.box[rows], self.worse[rows]


def transform(
    images: Tensor, uniform: Tensor, box: Tensor, worse: Tensor, augment: Augment, mean: Tensor, std: Tensor
) -> Tensor:
    """Augment and normalise a batch.

    Args:
        images: (B,3,H,W) uint8.
        uniform: (B,9) float32 in [0, 1), the batch's rows of :class:`AugmentParams`.
        box: (B,4) likewise.
        worse: (B,8) likewise.
        augment: How strong each change may be.
        mean: (3,) of pixels in [0, 1].
        std: (3,) likewise.

    Returns:
        (B,3,H,W) float32, normalised.
    """
    pixels = images.float()
    if augment.flip or any((augment.rotation_deg, augment.zoom_frac, augment.aspect_frac, augment.translation_frac)):
        grid = functional.affine_grid(_affine(uniform, augment), list(pixels.shape), align_corners=False)
        pixels = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if augment.low_resolution_px or augment.blur_sd_frac or augment.noise_sd_frac or augment.jpeg_quality:
        # Not before the geometry, which stands for how the photograph was taken: it was made worse after that, along
        # its own rows and columns. Colours may follow: but for noise and JPEG, the order makes no difference to them.
        pixels = degrade(
            pixels,
            worse,
            share=augment.degraded_frac,
            smallest_px=augment.low_resolution_px,
            blur_sd_frac=augment.blur_sd_frac,
            noise_sd_frac=augment.noise_sd_frac,
            jpeg_quality=augment.jpeg_quality,
        )
    matrix, offset = _colour(pixels, uniform, augment)
    matrix, offset = matrix / std[:, None], (offset - mean) / std
    flat = pixels.flatten(2)  # (B,3,H,W) -> (B,3,H*W)
    changed = torch.baddbmm(offset[:, :, None], matrix, flat).view_as(pixels)
    if augment.brightness or augment.contrast or augment.saturation:
        black, white = ((level - mean[:, None, None]) / std[:, None, None] for level in (0, 1))
        changed.clamp_(black, white)
    return erase(changed, box, augment.erase_frac) if augment.erase_frac else changed


def as_pixels(images: Tensor) -> Tensor:
    """Bring images (…,3,H,W) to levels in [0, 255]: integers are there already, floats are taken to lie in [0, 1]."""
    return images.float() * 255 if images.is_floating_point() else images


def reduced(images: Tensor, side_px: int) -> Tensor:
    """Reduce images (B,3,H,W) of levels in [0, 255] to squares, bilinearly and without aliasing; uint8 stays uint8."""
    smaller = functional.interpolate(images.float(), (side_px, side_px), mode="bilinear", antialias=True)
    return smaller if images.is_floating_point() else smaller.round().to(images.dtype)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Prepare a batch for a network without changing what it shows.

    Args:
        images: (B,3,H,W) uint8, or float32 in [0, 255].
        mean: (3,) of pixels in [0, 1].
        std: (3,) likewise.

    Returns:
        (B,3,H,W) float32.
    """
    return (images.float() / 255).sub_(mean[:, None, None]).div_(std[:, None, None])


def erase(images: Tensor, box: Tensor, largest_frac: float) -> Tensor:
    """Blank a box in half of the images (random erasing, Zhong et al. 2017).

    Args:
        images: (B,3,H,W) normalised; a blank is 0, the mean.
        box: (B,4) in [0, 1), see :class:`AugmentParams`.
        largest_frac: Largest share of the area. Sides are rounded down to whole pixels, so that no box exceeds it.

    Returns:
        (B,3,H,W).
    """
    height, width = images.shape[2:]
    side = ((2 * box[:, 2] - 1).clamp(min=0) * largest_frac).sqrt()  # below a half: no box
    stretch = torch.exp(_between(box, 3, math.log(2) / 2))
    sides_px = (side * stretch * height).floor(), (side / stretch * width).floor()
    return images.masked_fill(_inside(box, *sides_px, images), 0)


def mix_batch(
    activations: Tensor, labels: Tensor, draws: AugmentParams, rows: Tensor, augment: Augment, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Mix each image, and its label, with another of the batch, as the settings say.

    MixUp (Zhang et al. 2018) blends the two; CutMix (Yun et al. 2019) puts a box of one into the other, and blends
    their labels by area. Where only pooled features are left, which have no area, CutMix becomes MixUp.

    Args:
        activations: (B,…) where training begins: images, or what frozen layers made of them.
        labels: (B,) int64.
        draws: The epoch's.
        rows: (B,) int64 of the photographs in the training split.
        augment: With ``mixup_alpha`` and ``cutmix_alpha``; where both are 0, nothing is mixed.
        num_classes: K.

    Returns:
        The activations, and labels (B,) as they were or target probabilities (B,K).
    """
    if not augment.mixup_alpha and not augment.cutmix_alpha:
        return activations, labels
    kept, keys, box = (draw[rows].to(activations.device) for draw in (draws.mix, draws.partner, draws.box))
    order = keys.argsort()
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # (B,) places
    if augment.cutmix_alpha and activations.ndim == 4:
        height, width = activations.shape[2:]
        side = (1 - kept).sqrt()
        inside = _inside(box, side * height, side * width, activations)
        mixed = torch.where(inside, activations[other], activations)
        kept = 1 - inside.float().mean(dim=(2, 3))  # (B,1): a box may reach over the edge
    else:
        weight = kept.to(activations.dtype).view(-1, *[1] * (activations.ndim - 1))
        mixed, kept = torch.lerp(activations[other], activations, weight), kept[:, None]
    targets = functional.one_hot(labels, num_classes).float()
    return mixed, torch.lerp(targets[other], targets, kept)


def _inside(box: Tensor, height_px: Tensor, width_px: Tensor, images: Tensor) -> Tensor:
    """Mark the pixels in boxes of given sides (B,) about random centres: (B,1,H,W) bool."""

    def along(size: int, centre: Tensor, length_px: Tensor) -> Tensor:
        places = torch.arange(size, device=images.device) + 0.5
        first = (centre * size - length_px / 2)[:, None]
        return (places >= first) & (places < first + length_px[:, None])  # (B,size): of a whole length so many or fewer

    rows = along(images.shape[2], box[:, 0], height_px)
    columns = along(images.shape[3], box[:, 1], width_px)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _between(uniform: Tensor, column: int, reach: float) -> Tensor:
    # (B,) in [-reach, reach)
    return (2 * uniform[:, column] - 1) * reach


def _affine(uniform: Tensor, augment: Augment) -> Tensor:
    """Compose the geometry: (B,2,3) from output to input coordinates in [-1, 1]."""
    angle = _between(uniform, _ROTATION, math.radians(augment.rotation_deg))
    scale = torch.exp(_between(uniform, _ZOOM, math.log1p(augment.zoom_frac)))
    stretch = torch.exp(_between(uniform, _ASPECT, math.log1p(augment.aspect_frac) / 2))
    sign = torch.where(uniform[:, _FLIP] < 0.5, -1.0, 1.0) if augment.flip else torch.ones_like(angle)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # translation_frac is of the side, and the side is 2 in these coordinates
    shift_x = _between(uniform, _SHIFT_X, 2 * augment.translation_frac)
    shift_y = _between(uniform, _SHIFT_Y, 2 * augment.translation_frac)
    rows = [sign * cos * stretch, -sin / stretch, shift_x, sign * sin * stretch, cos / stretch, shift_y]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def _colour(pixels: Tensor, uniform: Tensor, augment: Augment) -> tuple[Tensor, Tensor]:
    """Compose the colour change of pixels in [0, 255] to [0, 1]: matrices (B,3,3) and offsets (B,3)."""
    grey = pixels.new_tensor(GREY)
    identity = torch.eye(3, dtype=pixels.dtype, device=pixels.device)
    brightness = 1 + _between(uniform, _BRIGHTNESS, augment.brightness)
    contrast = 1 + _between(uniform, _CONTRAST, augment.contrast)
    saturation = (1 + _between(uniform, _SATURATION, augment.saturation))[:, None, None]
    matrix = saturation * identity + (1 - saturation) * grey.expand(3, 3)
    matrix = matrix * (brightness * contrast / 255)[:, None, None]
    mean_grey = pixels.mean(dim=(2, 3)) @ grey / 255 if augment.contrast else torch.zeros_like(contrast)
    offset = (brightness * (1 - contrast) * mean_grey)[:, None].expand(-1, 3)
    return matrix, offset
