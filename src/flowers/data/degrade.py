"""What makes photographs from elsewhere worse than one's own: few pixels, blur, noise and JPEG.

The order is that of a poor camera: its lens blurs what falls on few pixels, these are noisy, the file is a JPEG, and
whoever shows it enlarges it. So everything happens at the small size, where it also costs little.
"""

import io
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

COLUMNS = 8
_SHARE, _SIDE, _DOWN, _UP, _BLUR, _NOISE, _SEED, _QUALITY = range(COLUMNS)
_BEST_QUALITY = 100


def degrade(
    pixels: Tensor,
    uniform: Tensor,
    *,
    share: float,
    smallest_px: int,
    blur_sd_frac: float,
    noise_sd_frac: float,
    jpeg_quality: int,
) -> Tensor:
    """Make some images of a batch worse, each as its random numbers say, whatever else is in the batch.

    Args:
        pixels: (B,3,H,W) float32 in [0, 255]; not changed.
        uniform: (B,8) float32 in [0, 1).
        share: This share of the images become worse, in all of the following ways.
        smallest_px: They are reduced to a shorter side between this and their own, log-uniform, and enlarged again,
            each by bilinear or bicubic resampling as Pillow does it (antialiased); 0: they keep their size.
        blur_sd_frac: Blurred by a Gaussian of a standard deviation of up to this share of the side.
        noise_sd_frac: Noise of a standard deviation of up to this share of the range from black to white is added.
        jpeg_quality: Saved as JPEG of a quality between this and 100, and read again; 0: not at all.

    Returns:
        (B,3,H,W) float32; whole levels in [0, 255] where the image became worse, else as it was.
    """
    chosen = (uniform[:, _SHARE] < share).nonzero().flatten().tolist()
    pixels = pixels.clone() if chosen else pixels
    for place in chosen:
        drawn = uniform[place].tolist()
        image = _levels(pixels[place])
        sides_px = image.shape[1:]
        if 0 < smallest_px < min(sides_px):
            factor = (smallest_px / min(sides_px)) ** (1 - drawn[_SIDE])
            image = _resize(image, [round(side_px * factor) for side_px in sides_px], drawn[_DOWN])
        if blur_sd_frac:
            image = _levels(_blur(image.float(), drawn[_BLUR] * blur_sd_frac * min(image.shape[1:])))
        if noise_sd_frac:
            image = _levels(image + _noise(image, drawn[_SEED]) * (255 * noise_sd_frac * drawn[_NOISE]))
        if jpeg_quality:
            quality = round(jpeg_quality + (_BEST_QUALITY - jpeg_quality) * drawn[_QUALITY])
            saved = recompress(image.permute(1, 2, 0).cpu().numpy(), quality)
            image = torch.from_numpy(saved).permute(2, 0, 1).to(pixels.device)
        pixels[place] = _resize(image, list(sides_px), drawn[_UP])
    return pixels


def recompress(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Save (H,W,3) uint8 RGB as a JPEG of a quality from 1 to 100, and read it again."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        return np.array(image.convert("RGB"))


def _levels(pixels: Tensor) -> Tensor:
    """Round to what a file can hold: uint8."""
    return pixels.round().clamp(0, 255).to(torch.uint8)


def _resize(image: Tensor, sides_px: list[int], drawn: float) -> Tensor:
    """Resample (3,H,W) uint8, bilinearly or bicubically."""
    if list(image.shape[1:]) == sides_px:
        return image
    levels = image if image.device.type == "cpu" else image.float()  # only on the CPU there is arithmetic for uint8
    mode = "bilinear" if drawn < 0.5 else "bicubic"
    return _levels(functional.interpolate(levels[None], sides_px, mode=mode, antialias=True)[0])


def _blur(image: Tensor, sd_px: float) -> Tensor:
    """Blur (3,H,W) float32, one axis after the other; the image goes on mirrored."""
    reach = min(math.ceil(3 * sd_px), min(image.shape[1:]) - 1)
    if not reach:
        return image
    places = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-((places / sd_px) ** 2) / 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = functional.pad(image[:, None], [reach] * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


def _noise(image: Tensor, drawn: float) -> Tensor:
    """Draw a number from N(0, 1) for each value of an image, the same on any device."""
    generator = torch.Generator().manual_seed(int(drawn * 2**24))  # as many as float32 can tell apart in [0, 1)
    return torch.randn(image.shape, generator=generator).to(image.device)
