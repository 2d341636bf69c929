"""The second domain of rendered images: the same plants pressed, dried and mounted on paper."""

import numpy as np
from PIL import Image, ImageDraw

from flowers.sources.synthetic.scene import Rng


def paint_sheet(rng: Rng, canvas_px: int, clutter: float) -> Image.Image:
    """Paint a herbarium sheet: aged paper with fibres, stains and a label strip."""
    tone = np.array([226, 212, 178]) + rng.normal(0, 10) + rng.normal(0, 3, 3)
    cloud = np.asarray(Image.fromarray(rng.normal(0, 1, (7, 7))).resize((96, 96), Image.Resampling.BICUBIC))
    sheet = Image.fromarray(np.clip(tone + cloud[..., None] * 7, 0, 255).astype(np.uint8))
    sheet = sheet.resize((canvas_px, canvas_px), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(sheet, "RGBA")
    for _ in range(70):
        (x, y), turn = rng.uniform(0, 1, 2) * canvas_px, rng.uniform(0, 7)
        reach = rng.uniform(0.01, 0.05) * canvas_px
        end = (x + reach * np.cos(turn), y + reach * np.sin(turn))
        pen.line((x, y, *end), fill=(110, 84, 50, int(rng.integers(18, 60))), width=1)
    for _ in range(round(10 * clutter * rng.uniform(0.3, 1))):
        (x, y), r = rng.uniform(0, 1, 2) * canvas_px, rng.uniform(0.01, 0.1) * canvas_px
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(140, 100, 54, 30), outline=(120, 84, 44, 44))
    left, top = rng.uniform(0.04, 0.6) * canvas_px, rng.uniform(0.84, 0.88) * canvas_px
    pen.rectangle((left, top, left + 0.36 * canvas_px, top + 0.1 * canvas_px), fill=(244, 238, 220, 255))
    for k in range(3):
        y, reach = top + (0.025 + 0.026 * k) * canvas_px, rng.uniform(0.15, 0.32) * canvas_px
        pen.line(
            (left + 0.02 * canvas_px, y, left + reach, y),
            fill=(70, 58, 60, 200),
            width=max(1, canvas_px // 128),
        )
    return sheet


def dry(layer: Image.Image, rng: Rng) -> Image.Image:
    """Make a plant look dried: muted, brownish and a little transparent."""
    pixels = np.asarray(layer).astype(np.float64)
    grey = pixels[..., :3].mean(-1, keepdims=True)
    dried = grey + (pixels[..., :3] - grey) * rng.uniform(0.3, 0.55)
    dried = dried * 0.62 + np.array([112, 84, 48]) * (0.18 + 0.2 * dried / 255)
    opacity = pixels[..., 3:] * rng.uniform(0.88, 0.97)
    return Image.fromarray(np.clip(np.concatenate([dried, opacity], -1), 0, 255).astype(np.uint8), "RGBA")
