"""Images in rows and columns, as a figure or as one image; and the maps of explanations as images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowers.explain.attribution import Explanation
from flowers.report.style import CAPTION_PT, DPI, INK, PAPER, WIDTH_IN, cut_text, write

Picture = NDArray[np.uint8]

MONTAGE_COLUMNS = 12
"""Photographs in a row of a montage."""

_GAP_IN = 0.1
_LINE_IN = 0.16
_HEAT = colormaps["inferno"]  # even steps of lightness, told apart with every common colour blindness
_SIGNED = colormaps["PuOr_r"]
_GREY = 128
_LOUDEST_PERCENT = 99
_SOFT = 0.7  # below 1 lets little be seen, but near 0 draws hard edges where a map begins


def gallery_figure(pictures: Sequence[Picture] | Picture, captions: Sequence[str], columns: int) -> Figure:
    """Set pictures in rows.

    Args:
        pictures: At least one, (H,W,3) or (H,W,4) in an array or a list, where they may differ in size.
        captions: One for each; a line too long for its picture is cut.
        columns: Pictures in a row, which share the figure's width.

    Returns:
        The figure.

    Raises:
        ValueError: There is no picture, or not one caption for each.
    """
    if not len(pictures) or len(captions) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures with {len(captions)} captions")
    wide = (WIDTH_IN - _GAP_IN * (columns + 1)) / columns
    starts = range(0, len(pictures), columns)
    # Each row is as high as its highest picture and its longest caption.
    high = [max(wide * each.shape[0] / each.shape[1] for each in pictures[at : at + columns]) for at in starts]
    words = [max(caption.count("\n") + 1 for caption in captions[at : at + columns]) * _LINE_IN for at in starts]
    total = sum(high) + sum(words) + _GAP_IN * (len(high) + 1)
    figure = Figure(figsize=(WIDTH_IN, total), dpi=DPI, facecolor=PAPER)
    top = total - _GAP_IN
    for number, at in enumerate(starts):
        base = top - words[number]
        for column, picture in enumerate(pictures[at : at + columns]):
            left = _GAP_IN + column * (wide + _GAP_IN)
            tall = wide * picture.shape[0] / picture.shape[1]
            axes = figure.add_axes((left / WIDTH_IN, (base - tall) / total, wide / WIDTH_IN, tall / total))
            axes.imshow(picture, interpolation="lanczos", interpolation_stage="rgba", aspect="auto")
            axes.set_axis_off()
            lines = "\n".join(cut_text(line, wide, CAPTION_PT) for line in captions[at + column].split("\n"))
            write(
                figure, left / WIDTH_IN, (base + 0.06) / total, lines, CAPTION_PT, INK, va="baseline", linespacing=1.15
            )
        top = base - high[number] - _GAP_IN
    return figure


def tile(images: Sequence[Picture] | Picture, columns: int, gap_px: int, blank: int = 255) -> Picture:
    """Put images into the rows of one image.

    Args:
        images: At least one, (h,w,C) each; each cell is as large as the largest of them.
        columns: In a row.
        gap_px: Between two.
        blank: Value of all channels where there is no image.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = (max(image.shape[axis] for image in images) + gap_px for axis in (0, 1))
    shape = (rows * height - gap_px, columns * width - gap_px, images[0].shape[2])
    sheet = np.full(shape, blank, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def side_by_side(pixels: np.ndarray) -> np.ndarray:
    """Set images (N,H,H,3) into rows of :data:`MONTAGE_COLUMNS`, with nothing between them, as one image (h,w,4)."""
    opaque = np.full((*pixels.shape[:3], 1), 255, np.uint8)
    return tile(np.concatenate([pixels, opaque], axis=3), MONTAGE_COLUMNS, gap_px=4, blank=0)


@dataclass(frozen=True)
class Panel:
    """A picture of a strip.

    Attributes:
        method: ``photograph``, ``cam``, ``cam_truth``, ``guided_cam``, ``guided``, ``gradient`` or ``occlusion``.
        caption: A few words.
        picture: (H,W,3) uint8.
    """

    method: str
    caption: str
    picture: Picture


def strip(explanation: Explanation, classes: Sequence[str]) -> list[Panel]:
    """Make the pictures that explain one photograph, in the order in which they are read.

    Each map is scaled by itself, but both Grad-CAMs are on one scale where their sizes can be compared.

    Args:
        explanation: The maps.
        classes: The K class names.
    """
    predicted, truth = classes[explanation.predicted], classes[explanation.truth]
    said = "recognised" if explanation.is_right else f"taken for {predicted}"
    panels = [Panel("photograph", f"{truth}, {said} ({explanation.confidence:.0%} sure)", explanation.photograph)]
    cams = (("cam", explanation.cam, predicted, "predicted"), ("cam_truth", explanation.cam_truth, truth, "true"))
    peaks = [0.0 if cam is None else float(cam.max()) for _, cam, _, _ in cams]
    for (method, cam, name, role), peak in zip(cams, peaks, strict=True):
        if cam is not None:
            words = f"Grad-CAM for {name} ({role}){'' if peak > 0 else ': nothing speaks for it'}"
            largest = max(peaks) if explanation.cams_compare else peak
            panels.append(Panel(method, words, heat(cam, explanation.photograph, largest)))
    if explanation.guided_cam is not None:
        panels.append(Panel("guided_cam", "guided Grad-CAM", signed(explanation.guided_cam)))
    if explanation.guided is not None:
        panels.append(Panel("guided", "guided backpropagation", signed(explanation.guided)))
    panels.append(Panel("gradient", "gradient", magnitude(explanation.gradient)))
    most = float(explanation.occlusion.max())
    words = f"occlusion: hiding costs up to {most:.1f} nats" if most > 0 else "occlusion: hiding nothing costs anything"
    return [*panels, Panel("occlusion", words, two_sided(explanation.occlusion, explanation.photograph))]


def heat(values: NDArray[np.floating], photograph: Picture, largest: float) -> Picture:
    """Lay a map over a grey photograph: dark violet where there is little, bright yellow where there is most.

    Args:
        values: (H,W), at least 0.
        photograph: (H,W,3).
        largest: What is brightest; 0: nothing is coloured.
    """
    share = np.clip(_of_largest(values, largest), 0, 1)
    return _blend(_HEAT(0.15 + 0.85 * share)[..., :3], 0.85 * share**_SOFT, photograph)


def two_sided(values: NDArray[np.floating], photograph: Picture) -> Picture:
    """Lay a map with a sign over a grey photograph: orange for what is above 0, violet for below.

    Args:
        values: (H,W); the scale reaches to the largest of either sign.
        photograph: (H,W,3).
    """
    share = _of_largest(values, float(np.abs(values).max()))
    return _blend(_SIGNED(0.5 + 0.5 * share)[..., :3], 0.85 * np.abs(share) ** _SOFT, photograph)


def signed(gradient: NDArray[np.floating]) -> Picture:
    """Show a map of colours with a sign: 0 is mid-grey; beyond the 99th percentile of its size it is cut.

    Args:
        gradient: (H,W,3).
    """
    return _around_grey(gradient, _loudest(np.abs(gradient)))


def magnitude(gradient: NDArray[np.floating]) -> Picture:
    """Show how large a gradient is, whatever its sign: the largest of the three colours (Simonyan et al. 2013).

    Args:
        gradient: (H,W,3); beyond the 99th percentile it is cut.
    """
    size = np.abs(gradient).max(axis=2)
    return _bytes(_HEAT(np.clip(_of_largest(size, _loudest(size)), 0, 1))[..., :3])


def weight_pictures(weights: NDArray[np.floating]) -> list[Picture]:
    """Show filters or templates (F,h,w,3) as pictures, each scaled by its own largest weight; 0 is mid-grey."""
    return [_around_grey(each, float(np.abs(each).max())) for each in weights]


def map_pictures(maps: NDArray[np.floating]) -> list[Picture]:
    """Show feature maps (C,h,w) as pictures, each from its own smallest (dark) to its own largest value (bright)."""
    return [_bytes(_HEAT(_of_largest(each - each.min(), float(np.ptp(each))))[..., :3]) for each in maps]


def montage(pictures: Sequence[Picture], columns: int, side_px: int, gap_px: int = 2) -> Picture:
    """Put square pictures into rows, enlarged so that single pixels are seen.

    Args:
        pictures: (h,w,3) each.
        columns: In a row.
        side_px: Least side of a picture; it is enlarged by a whole number.
        gap_px: Between two; it is white, as what stays empty is.
    """
    enlarged = []
    for picture in pictures:
        times = max(-(-side_px // picture.shape[0]), 1)
        enlarged.append(picture.repeat(times, axis=0).repeat(times, axis=1))
    return tile(enlarged, columns, gap_px)


def _of_largest(values: NDArray[np.floating], largest: float) -> NDArray[np.floating]:
    """Write values as shares of the largest; all are 0 if that is 0."""
    return values / largest if largest > 0 else np.zeros_like(values)


def _loudest(sizes: NDArray[np.floating]) -> float:
    """Find the size at which a map is cut: its 99th percentile, or its largest if nearly all of it is 0."""
    return float(np.percentile(sizes, _LOUDEST_PERCENT)) or float(sizes.max())


def _blend(colours: NDArray[np.floating], opacity: NDArray[np.floating], photograph: Picture) -> Picture:
    grey = photograph @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R BT.601
    opacity = opacity[..., None]
    return _bytes(colours * opacity + grey[..., None] * (1 - opacity))


def _around_grey(values: NDArray[np.floating], largest: float) -> Picture:
    return np.clip(np.rint(_GREY + (255 - _GREY) * _of_largest(values, largest)), 0, 255).astype(np.uint8)


def _bytes(colours: NDArray[np.floating]) -> Picture:
    return np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
