"""Everything in a rendered image except the flower heads: background, stems, leaves, obstructions, light."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]
Rng = np.random.Generator
Point = tuple[float, float]
Colour = tuple[int, ...]

COLOURS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("scene.yaml").read_text(encoding="utf-8"))
GREENS = COLOURS["greens"]
LEAVES = {"strap": (0.25, 0.6), "oval": (0.6, 0.7), "lobed": (0.9, 0.4), "heart": (0.3, 0.75)}
"""Exponents of each leaf's outline u^first (1-u)^second along its midrib."""


def pick_colour(rng: Rng, options: Sequence[Sequence[int]], spread: float = 14) -> Colour:
    """Choose one of some colours at random and shift it a little."""
    shifted = np.asarray(options[int(rng.integers(len(options)))]) + rng.normal(0, spread, 3)
    return tuple(int(c) for c in np.clip(shifted, 0, 255))


def tinted(colour: Colour, factor: float) -> Colour:
    """Brighten or darken a colour, keeping its opacity."""
    return (*(int(min(255, c * factor)) for c in colour[:3]), *colour[3:])


def bezier(start: Point, bend: Point, end: Point, n: int = 14) -> Array:
    """Sample a quadratic Bézier curve at n points (n,2)."""
    t = np.linspace(0, 1, n)[:, None]
    return (1 - t) ** 2 * np.asarray(start) + 2 * t * (1 - t) * np.asarray(bend) + t**2 * np.asarray(end)


def draw_stem(pen: ImageDraw.ImageDraw, spine: Array, width_px: float, colour: Colour) -> None:
    """Draw a round stalk along a spine (n,2), lit from the left."""
    for shift, share, factor in ((0.0, 1.0, 0.72), (-0.14, 0.66, 1.0), (-0.24, 0.25, 1.25)):
        line = (spine + np.array([shift * width_px, 0.0])).ravel().tolist()
        pen.line(line, fill=tinted(colour, factor), width=max(1, round(width_px * share)), joint="curve")


def draw_leaf(pen: ImageDraw.ImageDraw, spine: Array, half_px: float, colour: Colour, kind: str) -> None:
    """Draw a leaf along a spine (n,2) that starts at its foot.

    Args:
        pen: Draws on the canvas.
        spine: Its midrib.
        half_px: Half its greatest width.
        colour: Its mean colour, red to blue in [0, 255], and opacity if there are four.
        kind: One of :data:`LEAVES`.
    """
    u = np.linspace(0, 1, len(spine))
    at_foot, at_tip = LEAVES[kind]
    outline = u**at_foot * (1 - u) ** at_tip
    outline = outline / outline.max() * half_px
    if kind == "lobed":
        outline = outline * np.where(np.arange(len(u)) % 3 == 1, 0.35, 1.0)
    along = np.gradient(spine, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    sideways = np.stack([-along[:, 1], along[:, 0]], 1) * outline[:, None]
    for side, factor in ((1, 0.84), (-1, 1.08)):
        edge = (spine + side * sideways)[::-1]
        pen.polygon(np.concatenate([spine, edge]).ravel().tolist(), fill=tinted(colour, factor))
        if kind in ("oval", "heart") and half_px > 6:
            for k in range(2, len(u) - 2, 2):
                vein = [*spine[k], *(spine + side * 0.85 * sideways)[k + 1]]
                pen.line(vein, fill=tinted(colour, factor * 0.88), width=1)
    pen.line(spine.ravel().tolist(), fill=tinted(colour, 1.25), width=max(1, round(half_px * 0.09)))


def paint_backdrop(rng: Rng, canvas_px: int, clutter: float, variation: float) -> Image.Image:
    """Paint the far background: a studio's paper sheet, or something outdoors, out of focus."""
    n_px = 96  # enough for what is out of focus, and it looks the same at any size
    if rng.random() >= 1.4 * clutter:
        shift = rng.normal(0, 22 * variation, 3)
        tone = (round(206 + shift[0]), round(212 + shift[1]), round(206 + shift[2]))
        top, bottom, spots = tone, tinted(tone, 0.84), ()
    else:
        top, bottom, spots = [*COLOURS["surroundings"].values()][rng.integers(len(COLOURS["surroundings"]))]
    angle_rad = rng.normal(0, 0.5)
    y, x = np.mgrid[0:1:96j, 0:1:96j]
    mix = np.clip(0.5 + (y - 0.5) * np.cos(angle_rad) + (x - 0.5) * np.sin(angle_rad), 0, 1)[..., None]
    soft = np.asarray(top) * (1 - mix) + np.asarray(bottom) * mix
    image = Image.fromarray(np.clip(soft, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image, "RGBA")
    if spots:
        for _ in range(30):
            centre, radius = rng.uniform(0, n_px, 2), rng.uniform(4, 20)
            pen.circle(centre, radius, fill=(*pick_colour(rng, spots), 90))
        for _ in range(int(rng.integers(0, 40))):
            x0, lean = rng.uniform(0, n_px), rng.normal(0, 14)
            blade = (x0, n_px, x0 + lean, rng.uniform(0.1, 0.9) * n_px)
            pen.line(blade, fill=(*pick_colour(rng, GREENS), 120), width=int(rng.integers(1, 4)))
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1.2, 4)))
        pen = ImageDraw.Draw(image, "RGBA")
        for _ in range(round(rng.uniform(0, 26) * clutter)):  # lights out of focus are discs with a rim
            centre, radius = rng.uniform(0, n_px, 2), rng.uniform(2, 8)
            colour = pick_colour(rng, (*spots, *COLOURS["petals"]))
            pen.circle(centre, radius, fill=(*colour, 70), outline=(*tinted(colour, 1.3), 110))
        image = image.filter(ImageFilter.GaussianBlur(0.8))
    return image.resize((canvas_px, canvas_px), Image.Resampling.BICUBIC)


def draw_clutter(image: Image.Image, rng: Rng, amount: float) -> None:
    """Draw leaves, twigs, stones, loose petals and other plants' blossoms behind the blossom, in place."""
    size = image.width
    for blurred in (True, False):
        layer = Image.new("RGBA", image.size)
        pen = ImageDraw.Draw(layer)
        for _ in range(round(amount * rng.uniform(5, 13))):
            x, y = rng.uniform(-0.05, 1.05, 2) * size
            reach = rng.uniform(0.05, 0.17) * size
            turn = rng.uniform(0, 2 * np.pi)
            kind = rng.choice(("petal", "leaf", "twig", "stone", "blossom"), p=(0.22, 0.34, 0.1, 0.08, 0.26))
            end = (x + reach * np.cos(turn), y + reach * np.sin(turn))
            bend = ((x + end[0]) / 2 + rng.normal(0, reach / 5), (y + end[1]) / 2 + rng.normal(0, reach / 5))
            if kind == "twig":
                spine = bezier((x, y), bend, (x + 4 * (end[0] - x), y + 4 * (end[1] - y)))
                draw_stem(pen, spine, size * rng.uniform(0.006, 0.018), pick_colour(rng, COLOURS["twigs"]))
            elif kind == "stone":
                pen.ellipse((x, y, x + reach, y + reach * 0.7), fill=pick_colour(rng, COLOURS["stones"]))
            elif kind == "leaf":
                shape = str(rng.choice([*LEAVES]))
                half_px = reach * rng.uniform(0.12, 0.4)
                draw_leaf(pen, bezier((x, y), bend, end), half_px, pick_colour(rng, GREENS), shape)
            else:
                n = 1 if kind == "petal" else int(rng.integers(5, 15))
                colour = pick_colour(rng, COLOURS["petals"])
                for k in range(n):
                    angle = turn + 2 * np.pi * k / n
                    tip = (x + 0.5 * reach * np.cos(angle), y + 0.5 * reach * np.sin(angle) * 0.8)
                    spine = bezier((x, y), ((x + tip[0]) / 2, (y + tip[1]) / 2), tip, 6)
                    draw_leaf(pen, spine, reach * min(0.2, 1.3 / n), tinted(colour, rng.uniform(0.85, 1.05)), "oval")
                if n > 1:
                    r = reach * rng.uniform(0.06, 0.2)
                    heart = pick_colour(rng, COLOURS["petals"] + COLOURS["hearts"])
                    pen.ellipse((x - r, y - 0.8 * r, x + r, y + 0.8 * r), fill=heart)
        if blurred:
            layer = blur_layer(layer, rng.uniform(0.008, 0.025) * size)
        image.paste(layer, (0, 0), layer)


def blur_layer(layer: Image.Image, radius_px: float) -> Image.Image:
    """Blur a layer and its opacity, at half the size, which is much faster and looks the same."""
    small = layer.reduce(2).convert("RGBa").filter(ImageFilter.GaussianBlur(radius_px / 2))
    return small.convert("RGBA").resize(layer.size, Image.Resampling.BILINEAR)


def paste_with_shadow(image: Image.Image, layer: Image.Image, shift_px: float, strength: float) -> None:
    """Paste a layer on an image with a soft shadow to its lower right, in place."""
    eighth = layer.getchannel("A").reduce(4).filter(ImageFilter.GaussianBlur(max(1.0, shift_px / 5)))
    mask = eighth.resize(layer.size, Image.Resampling.BILINEAR).point(lambda a: int(a * strength))
    image.paste((14, 16, 20), (round(shift_px * 0.7), round(shift_px)), mask)
    image.paste(layer, (0, 0), layer)


def draw_obstructions(image: Image.Image, rng: Rng, amount: float, domain: str) -> None:
    """Draw grass, leaves, bars or fingers (on paper: strips of tape) in front of the blossom, in place."""
    size = image.width
    count = int(rng.poisson(4.0 * amount)) + (amount > 0.5)
    layer = Image.new("RGBA", image.size)
    pen = ImageDraw.Draw(layer)
    for _ in range(count):
        x, y = rng.uniform(0.18, 0.82, 2) * size
        if domain == "herbarium":
            turn, reach, half = rng.uniform(0, np.pi), 0.3 * size, rng.uniform(0.02, 0.045) * size
            along = np.array([np.cos(turn), np.sin(turn)]) * reach
            sideways = np.array([-np.sin(turn), np.cos(turn)]) * half
            corners = np.add((x, y), [along + sideways, along - sideways, -along - sideways, -along + sideways])
            pen.polygon(corners.ravel().tolist(), fill=(*pick_colour(rng, COLOURS["tapes"], 4), 235))
            continue
        kind = rng.choice(("blades", "leaf", "bar", "fingers"), p=(0.46, 0.3, 0.14, 0.1))
        if kind == "blades":
            for _ in range(int(rng.integers(1, 4))):
                foot_x = x + rng.normal(0, 0.12) * size
                tip = (x + rng.normal(0, 0.2) * size, rng.uniform(-0.2, 0.4) * size)
                spine = bezier((foot_x, 1.08 * size), (x, y), tip, 18)
                draw_leaf(pen, spine, size * rng.uniform(0.012, 0.035), pick_colour(rng, GREENS), "strap")
        elif kind == "leaf":
            turn = rng.uniform(0, 2 * np.pi)
            foot = (size / 2 + 0.75 * size * np.cos(turn), size / 2 + 0.75 * size * np.sin(turn))
            shape = str(rng.choice(("oval", "heart", "lobed")))
            half_px = size * rng.uniform(0.06, 0.15)
            draw_leaf(pen, bezier(foot, (x, y), (x, y), 16), half_px, pick_colour(rng, GREENS), shape)
        elif kind == "bar":
            lean, width_px = rng.normal(0, 0.15) * size, size * rng.uniform(0.02, 0.07)
            bar = np.array([[x - lean, -0.1 * size], [x + lean, 1.1 * size]])
            bar = bar if rng.random() < 0.7 else bar[:, ::-1]
            draw_stem(pen, bar, width_px, pick_colour(rng, COLOURS["bars"]))
        else:
            skin = pick_colour(rng, COLOURS["skins"])
            for k in range(int(rng.integers(1, 4))):
                tip = (x + 0.02 * k * size, y + k * 0.085 * size)
                knuckle = ((x > size / 2) * 1.2 * size - 0.1 * size, tip[1] + 0.08 * size)
                draw_stem(pen, np.linspace(knuckle, tip, 5), 0.085 * size, skin)
                r = 0.042 * size
                pen.circle(tip, r, fill=tinted(skin, 0.98))
                nail = (tip[0] - r * 0.5, tip[1] - r * 0.7, tip[0] + r * 0.8, tip[1] + r * 0.3)
                pen.ellipse(nail, fill=tinted(skin, 1.12))
    if count:
        if domain != "herbarium" and rng.random() >= 0.65:
            layer = blur_layer(layer, 0.012 * size)
        paste_with_shadow(image, layer, 0.03 * size, 0.4)


def warp(layer: Image.Image, rng: Rng, amount: float) -> Image.Image:
    """Bend a layer smoothly by a few long waves, by at most about a tenth of the image."""
    size, cells = layer.width, 6
    t = np.linspace(0, 1, cells + 1)
    phase = rng.uniform(0, 2 * np.pi, 4)
    wave = rng.normal(0, 0.032 * amount, (2, 2))
    shift_x = wave[0, 0] * np.sin(5 * t[:, None] + phase[0]) + wave[0, 1] * np.sin(7 * t[None, :] + phase[1])
    shift_y = wave[1, 0] * np.sin(7 * t[:, None] + phase[2]) + wave[1, 1] * np.sin(5 * t[None, :] + phase[3])
    xs, ys = (t[None, :] + shift_x) * size, (t[:, None] + shift_y) * size
    edge, points = np.round(t * size).astype(int).tolist(), np.stack([xs, ys], -1)
    mesh = []
    for i, j in np.ndindex(cells, cells):
        quad = points[[i, i + 1, i + 1, i], [j, j, j + 1, j + 1]].ravel().tolist()
        mesh.append(((edge[j], edge[i], edge[j + 1], edge[i + 1]), quad))
    return layer.transform(layer.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def relight(pixels: Array, rng: Rng, amount: float, shadows: bool) -> Array:
    """Change the exposure, colour and evenness of the light on pixels (H,W,3) in [0, 1]."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    warm, tint = rng.normal(0, 0.16 * amount), rng.normal(0, 0.06 * amount)
    light = 2.0 ** rng.normal(0.12 * amount, 0.5 * amount) * np.array([1 + warm, 1 + tint, 1 - warm])
    angle_rad = rng.uniform(0, 2 * np.pi)
    slope = 1 + amount * rng.uniform(0, 0.6) * (x * np.cos(angle_rad) + y * np.sin(angle_rad))
    field = np.clip(slope, 0.15, None) * (1 - amount * rng.uniform(0, 0.4) * (x**2 + y**2) / 2)
    if shadows and rng.random() < amount:  # the shadow of a fence or of foliage
        across = x * np.cos(angle_rad + 1) + y * np.sin(angle_rad + 1)
        waves = np.sin(across * rng.uniform(3, 9) + rng.uniform(0, 7) + np.sin(3 * y + 4 * x) * rng.uniform(0, 1.5))
        field = field * (1 - amount * rng.uniform(0.25, 0.65) * np.clip(waves * 6 + rng.uniform(-2, 2), 0, 1))
    lit = pixels * field[..., None] * light
    gain = rng.uniform(1 - 0.35 * amount, 1 + 0.35 * amount)
    lit = 0.5 + (lit - 0.5) * gain + rng.normal(0, 0.05 * amount)
    return lit + rng.normal(0, 0.004 + 0.022 * amount, (height, width, 1))
