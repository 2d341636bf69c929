"""Corruptions that are common in practice, at three strengths each, and how much accuracy a model loses on them.

The idea is that of Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations"; so are the strengths of blur, noise and JPEG (their severities 1, 3 and 5). The others are our own.
Models are tested on corrupted photographs, never trained on them.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from flowers.config.provenance import derive_seed
from flowers.evaluation.scores import score
from flowers.models.inference import calibrated, predict_logits
from flowers.models.trained import TrainedModel

Pixels = NDArray[np.uint8]

AT_ONCE = 64
"""Photographs that are corrupted at a time, which bounds the memory."""
STRENGTHS = (1, 2, 3)
EXPOSURE_STOPS = (1.0, 2.0, 3.0)
"""Two, four and eight times as much light, or one half, a quarter and an eighth of it."""
BLUR_FRAC = (0.005, 0.013, 0.027)
"""Standard deviation of the Gaussian, as a share of the side: 1.1, 2.9 and 6 px of 224."""
NOISE_FRAC = (0.08, 0.18, 0.38)
"""Standard deviation of the noise, as a share of the range from black to white."""
OCCLUDED_FRAC = (0.1, 0.25, 0.4)
"""Share of the area that the square covers."""
JPEG_QUALITY = (25, 15, 7)
ROTATION_DEG = (15.0, 35.0, 70.0)
_GAMMA = 2.2
_GREY = 128


def expose(pixels: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Change the exposure to too much or too little light, each as likely."""
    stops = EXPOSURE_STOPS[strength - 1] * rng.choice((-1, 1))
    scaled = pixels * 2 ** (stops / _GAMMA)  # linear light is about the 2.2nd power of the values in a file
    return scaled.clip(0, 255).round().astype(np.uint8)


def blur(pixels: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Blur as a lens out of focus does."""
    radius = BLUR_FRAC[strength - 1] * pixels.shape[0]
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def add_noise(pixels: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise to each pixel and channel, as a sensor does in the dark."""
    noise = rng.normal(0, 255 * NOISE_FRAC[strength - 1], pixels.shape)
    return (pixels + noise).clip(0, 255).round().astype(np.uint8)


def occlude(pixels: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Cover a random place with a grey square.

    Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks".
    """
    side = pixels.shape[0]
    covered = round(side * math.sqrt(OCCLUDED_FRAC[strength - 1]))
    top, left = (int(share * (side - covered + 1)) for share in rng.random(2))
    result = pixels.copy()
    result[top : top + covered, left : left + covered] = _GREY
    return result


def compress(pixels: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Save as a JPEG of low quality and read it again."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=JPEG_QUALITY[strength - 1])
    with Image.open(stream) as image:
        return np.asarray(image.convert("RGB"))


def rotate(pixels: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Rotate to either side, each as likely; mirrored pixels fill the corners, as black would disturb as well."""
    side = pixels.shape[0]
    margin = math.ceil(side * (math.sqrt(2) - 1) / 2) + 1
    angle_deg = ROTATION_DEG[strength - 1] * rng.choice((-1, 1))
    padded = Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric"))
    turned = padded.rotate(angle_deg, Image.Resampling.BICUBIC)
    return np.asarray(turned)[margin : margin + side, margin : margin + side]


CORRUPTIONS: dict[str, tuple[Callable[[Pixels, int, np.random.Generator], Pixels], tuple[str, ...]]] = {
    "illumination": (expose, tuple(f"±{stops:g} stops" for stops in EXPOSURE_STOPS)),
    "blur": (blur, tuple(f"σ {100 * share:g} %" for share in BLUR_FRAC)),
    "noise": (add_noise, tuple(f"σ {share:g}" for share in NOISE_FRAC)),
    "occlusion": (occlude, tuple(f"{100 * share:g} %" for share in OCCLUDED_FRAC)),
    "jpeg": (compress, tuple(f"quality {quality}" for quality in JPEG_QUALITY)),
    "rotation": (rotate, tuple(f"±{angle:g}°" for angle in ROTATION_DEG)),
}
"""Each corruption's function, and its three strengths in words."""


def corrupt(pixels: Pixels, name: str, strength: int, identity: str) -> Pixels:
    """Corrupt one photograph, in the same way each time.

    Args:
        pixels: (H,H,3) uint8, RGB. Not changed.
        name: A key of :data:`CORRUPTIONS`.
        strength: 1, 2 or 3; 0 leaves it as it is.
        identity: The photograph's sha256, which seeds what is random. The strength does not, so that a stronger
            corruption continues the weaker one, in the same direction.

    Returns:
        (H,H,3) uint8, RGB.
    """
    if not strength:
        return pixels
    function, _ = CORRUPTIONS[name]
    return function(pixels, strength, np.random.default_rng(derive_seed(0, "corruption", name, identity)))


def measure_corruptions(model: TrainedModel, pixels: np.ndarray, test: pd.DataFrame) -> pd.DataFrame:
    """Test a model on photographs in each corruption of :data:`CORRUPTIONS`.

    The corruption is applied to what the network would see, at its size.

    Args:
        model: The model.
        pixels: (N,H,H,3) uint8.
        test: The N photographs: `path`, `label`, `sha256`.

    Returns:
        A row for the photographs as they are (`corruption` none, `strength` 0) and for each corruption and strength:
        `corruption`, `strength`, `setting` (in words), `acc`, `acc_low`, `acc_high` (95 % interval, as in
        :func:`flowers.evaluation.scores.score`), `loss` in nats, `photographs`.
    """
    labels = test["label"].map(model.classes.index).to_numpy()
    paths, digests = test["path"].tolist(), test["sha256"].tolist()
    cases = [("none", 0, "as it is")]
    cases += [(name, level, CORRUPTIONS[name][1][level - 1]) for name in CORRUPTIONS for level in STRENGTHS]
    rows = []
    for name, strength, setting in tqdm(cases, desc="corrupting", unit=" ways", disable=None, leave=False):
        parts = []
        for first in range(0, len(pixels), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            photographs = zip(pixels[part], digests[part], strict=True)
            batch = np.stack([corrupt(photograph, name, strength, digest) for photograph, digest in photographs])
            logits = predict_logits(model.net, batch, paths[part]).logits
            parts.append(calibrated(logits, model.temperature))
        scores = score(labels, np.concatenate(parts), model.classes)
        low, high = scores["interval"]["test/acc"]
        rows.append((name, strength, setting, scores["test/acc"], low, high, scores["test/loss"], len(labels)))
    names = ["corruption", "strength", "setting", "acc", "acc_low", "acc_high", "loss", "photographs"]
    return pd.DataFrame(rows, columns=names)


def examples(photograph: np.ndarray, digest: str) -> dict[str, list[np.ndarray]]:
    """Corrupt one photograph in every way: for each corruption itself and the three strengths, (H,H,3) uint8 each."""
    return {name: [corrupt(photograph, name, strength, digest) for strength in (0, *STRENGTHS)] for name in CORRUPTIONS}
