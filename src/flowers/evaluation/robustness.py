"""Corruptions that are common in practice, at three strengths each, and how much accuracy a model loses on them.

The idea is that of Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations"; so are the strengths of blur, noise and JPEG (their severities 1, 3 and 5). The others are our own.
A recipe that augments by blur, noise, JPEG or few pixels has seen such photographs, made by another program: then these
figures tell how well it has learned that, and the other corruptions how much further it goes.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from flowers.config.provenance import derive_seed
from flowers.data.degrade import recompress
from flowers.evaluation.scores import interval_of_sums, number_groups, score
from flowers.models.inference import calibrated, predict_logits
from flowers.models.trained import TrainedModel

Pixels = NDArray[np.uint8]

AT_ONCE = 64
"""Photographs that are corrupted at a time, which bounds the memory."""
STRENGTHS = (1, 2, 3)
_GAMMA = 2.2
_GREY = 128


def expose(pixels: Pixels, stops: float, rng: np.random.Generator) -> Pixels:
    """Change the exposure by so many stops to too much or too little light, each as likely: 1 doubles or halves it."""
    # Linear light is about the 2.2nd power of the values in a file.
    scaled = pixels * 2 ** (stops * rng.choice((-1, 1)) / _GAMMA)
    return scaled.clip(0, 255).round().astype(np.uint8)


def blur(pixels: Pixels, sd_frac: float, rng: np.random.Generator) -> Pixels:
    """Blur as a lens out of focus does, by a Gaussian of a standard deviation that is a share of the side."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sd_frac * pixels.shape[0])))


def add_noise(pixels: Pixels, sd_frac: float, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise to each pixel and channel, as a sensor does in the dark.

    Its standard deviation is a share of the range from black to white.
    """
    noise = rng.normal(0, 255 * sd_frac, pixels.shape)
    return (pixels + noise).clip(0, 255).round().astype(np.uint8)


def occlude(pixels: Pixels, area_frac: float, rng: np.random.Generator) -> Pixels:
    """Cover a share of the area, at a random place, with a grey square.

    Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks".
    """
    side = pixels.shape[0]
    covered = round(side * math.sqrt(area_frac))
    top, left = (int(share * (side - covered + 1)) for share in rng.random(2))
    result = pixels.copy()
    result[top : top + covered, left : left + covered] = _GREY
    return result


def compress(pixels: Pixels, quality: float, rng: np.random.Generator) -> Pixels:
    """Save as a JPEG of low quality and read it again."""
    return recompress(pixels, int(quality))


def reduce_size(pixels: Pixels, side_px: float, rng: np.random.Generator) -> Pixels:
    """Bring it down to a side in pixels, and back to its own, by bicubic resampling; a smaller one stays as it is."""
    image, side = Image.fromarray(pixels), min(int(side_px), pixels.shape[0])
    return np.asarray(image.resize((side, side)).resize(image.size))


def rotate(pixels: Pixels, angle_deg: float, rng: np.random.Generator) -> Pixels:
    """Rotate to either side, each as likely; mirrored pixels fill the corners, as black would disturb as well."""
    side = pixels.shape[0]
    margin = math.ceil(side * (math.sqrt(2) - 1) / 2) + 1
    padded = Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric"))
    turned = padded.rotate(angle_deg * rng.choice((-1, 1)), Image.Resampling.BICUBIC)
    return np.asarray(turned)[margin : margin + side, margin : margin + side]


CORRUPTIONS: dict[str, tuple[Callable[[Pixels, float, np.random.Generator], Pixels], dict[float, str]]] = {
    "illumination": (expose, {1: "±1 stops", 2: "±2 stops", 3: "±3 stops"}),
    "blur": (blur, {0.005: "σ 0.5 %", 0.013: "σ 1.3 %", 0.027: "σ 2.7 %"}),
    "noise": (add_noise, {0.08: "σ 0.08", 0.18: "σ 0.18", 0.38: "σ 0.38"}),
    "occlusion": (occlude, {0.1: "10 %", 0.25: "25 %", 0.4: "40 %"}),
    "jpeg": (compress, {25: "quality 25", 15: "quality 15", 7: "quality 7"}),
    "resolution": (reduce_size, {64: "64 px", 48: "48 px", 32: "32 px"}),
    "rotation": (rotate, {15: "±15°", 35: "±35°", 70: "±70°"}),
}
"""Each corruption's function, and its three strengths as this takes them and in words."""


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
    function, amounts = CORRUPTIONS[name]
    rng = np.random.default_rng(derive_seed(0, "corruption", name, identity))
    return function(pixels, list(amounts)[strength - 1], rng)


def measure_corruptions(model: TrainedModel, pixels: np.ndarray, test: pd.DataFrame) -> pd.DataFrame:
    """Test a model on photographs in each corruption of :data:`CORRUPTIONS`.

    The corruption is applied to what the network would see, at its size.

    Args:
        model: The model.
        pixels: (N,H,H,3) uint8.
        test: The N photographs: `path`, `label`, `sha256`, `group`.

    Returns:
        A row for the photographs as they are (`corruption` none, `strength` 0), one for each corruption and strength,
        and one for all of these together (`corruption` mean, `strength` 0): `corruption`, `strength`, `setting` (in
        words), `acc`, `acc_low`, `acc_high` (95 % interval, as in :func:`flowers.evaluation.scores.score`), `loss` in
        nats, `photographs`.
    """
    labels = test["label"].map(model.classes.index).to_numpy()
    paths, digests = test["path"].tolist(), test["sha256"].tolist()
    cases = [("none", 0, "as it is")]
    cases += [(name, *case) for name, (_, amounts) in CORRUPTIONS.items() for case in enumerate(amounts.values(), 1)]
    rows, right = [], []
    for name, strength, setting in tqdm(cases, desc="corrupting", unit=" ways", disable=None, leave=False):
        parts = []
        for first in range(0, len(pixels), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            photographs = zip(pixels[part], digests[part], strict=True)
            batch = np.stack([corrupt(photograph, name, strength, digest) for photograph, digest in photographs])
            logits = predict_logits(model.net, batch, paths[part]).logits
            parts.append(calibrated(logits, model.temperature))
        predicted = np.concatenate(parts)
        scores = score(labels, predicted, model.classes, test["group"])
        low, high = scores["interval"]["test/acc"]
        rows.append((name, strength, setting, scores["test/acc"], low, high, scores["test/loss"], len(labels)))
        right.append(predicted.argmax(axis=1) == labels)
    names = ["corruption", "strength", "setting", "acc", "acc_low", "acc_high", "loss", "photographs"]
    table = pd.DataFrame(rows, columns=names)
    # Of each photograph the share of corruptions in which it is recognised is averaged.
    shares, groups = np.mean(right[1:], axis=0), number_groups(test["group"], len(labels))
    low, high = interval_of_sums(np.bincount(groups, shares), np.bincount(groups), (1, 1, 0, 0))
    acc, loss = table.loc[1:, ["acc", "loss"]].mean()
    table.loc[len(table)] = ["mean", 0, "all", acc, max(low, 0.0), min(high, 1.0), loss, len(labels)]
    return table


def examples(photograph: np.ndarray, digest: str) -> dict[str, list[np.ndarray]]:
    """Corrupt one photograph in every way: for each corruption itself and the three strengths, (H,H,3) uint8 each."""
    return {name: [corrupt(photograph, name, strength, digest) for strength in (0, *STRENGTHS)] for name in CORRUPTIONS}
