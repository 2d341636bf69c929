"""Render a data set of flowers in class folders. Each image depends only on the arguments."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from PIL import Image, ImageDraw

from flowers.config.provenance import usable_processors
from flowers.errors import UserError
from flowers.sources.archives import whole_folder
from flowers.sources.synthetic import scene
from flowers.sources.synthetic.composition import MEADOW, Picture, choose_look, draw_plant, place_blossoms
from flowers.sources.synthetic.scene import Rng

SUPERSAMPLING = 2
JPEG_QUALITY = 92


def paint(picture: Picture) -> Image.Image:
    """Draw one image: the background, the plants, what is in front of them, the light.

    Returns:
        An RGB image that depends on nothing but the description.
    """
    canvas_px = picture.size_px * SUPERSAMPLING
    on_paper = picture.domain == "herbarium"
    behind = picture.rng("behind")
    if on_paper:
        canvas = paint_sheet(behind, canvas_px, picture.clutter)
    else:
        canvas = scene.paint_backdrop(behind, canvas_px, picture.clutter, picture.variation)
        scene.draw_clutter(canvas, behind, picture.clutter)
    surface = picture.rng("surface")
    layer = Image.new("RGBA", (canvas_px, canvas_px))
    if picture.species != MEADOW:
        look = choose_look(picture)
        for k, spot in enumerate(place_blossoms(picture)):
            draw_plant(layer, picture, look, spot, k)
    layer = scene.warp(layer, surface, picture.deformation)
    if on_paper:
        layer = dry(layer, surface)
    scene.paste_with_shadow(canvas, layer, (0.012 if on_paper else 0.045) * canvas_px, 0.5)
    scene.draw_obstructions(canvas, picture.rng("front"), picture.occlusion, picture.domain)
    small = canvas.resize((picture.size_px, picture.size_px), Image.Resampling.LANCZOS)
    light = picture.illumination * (0.3 if on_paper else 1.0)  # a scanner's lamp is even
    pixels = scene.relight(np.asarray(small) / 255, picture.rng("light"), light, shadows=not on_paper)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


def save(picture: Picture, path: Path) -> None:
    """Draw one image into a file; runs in a worker."""
    stream = io.BytesIO()  # Pillow's own JPEG files end early, and no error says so, where a disk takes only a part
    paint(picture).save(stream, "JPEG", quality=JPEG_QUALITY)
    path.write_bytes(stream.getvalue())


def render(
    root: Path,
    *,
    seed: int,
    size_px: int,
    counts: dict[str, int],
    illumination: float,
    occlusion: float,
    deformation: float,
    clutter: float,
    variation: float,
    domain: str,
    workers: int | None = None,
) -> None:
    """Write images to `root/<species>/<species>_0001.jpg` and so on: all of them, or, when stopped, none.

    Args:
        root: Folder that does not exist yet, or is empty.
        seed: See :class:`flowers.sources.synthetic.composition.Picture`, as for the others not described here.
        size_px: Width and height, at least 16.
        counts: Number of images of each species, at least 1.
        illumination: In [0, 1].
        occlusion: In [0, 1].
        deformation: In [0, 1].
        clutter: In [0, 1].
        variation: In [0, 1].
        domain: `garden` or `herbarium`.
        workers: Number of processes; None: one for each usable processor. The images do not depend on it.

    Raises:
        UserError: An argument is unknown or out of range, or the folder is not empty.
    """
    if not counts:
        raise UserError("counts names no species: set counts to, for example, {daisy: 100, roses: 100}.")
    difficulty = (illumination, occlusion, deformation, clutter, variation)
    pictures: list[Picture] = []
    for species, count in counts.items():
        first = Picture(species, 1, seed, size_px, *difficulty, domain)
        if count < 1:
            raise UserError(f"counts.{species} is {count}, but must be at least 1: raise it or leave the species out.")
        pictures += [replace(first, index=index) for index in range(1, count + 1)]
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}, but must be at least 1: raise it or leave it out.")
    with whole_folder(root) as building:
        for species in counts:
            (building / species).mkdir()
        paths = [building / each.species / f"{each.species}_{each.index:04d}.jpg" for each in pictures]
        workers = workers or usable_processors()
        try:  # the processes import no script of the user's again
            Parallel(workers, batch_size=8)(delayed(save)(*each) for each in zip(pictures, paths, strict=True))
        finally:
            if workers > 1:  # they would stay for minutes, in case of more work
                get_reusable_executor().shutdown()


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
        (x, y), radius = rng.uniform(0, 1, 2) * canvas_px, rng.uniform(0.01, 0.1) * canvas_px
        pen.circle((x, y), radius, fill=(140, 100, 54, 30), outline=(120, 84, 44, 44))
    left, top = rng.uniform(0.04, 0.6) * canvas_px, rng.uniform(0.84, 0.88) * canvas_px
    pen.rectangle((left, top, left + 0.36 * canvas_px, top + 0.1 * canvas_px), fill=(244, 238, 220, 255))
    for k in range(3):
        y, reach = top + (0.025 + 0.026 * k) * canvas_px, rng.uniform(0.15, 0.32) * canvas_px
        line = (left + 0.02 * canvas_px, y, left + reach, y)
        pen.line(line, fill=(70, 58, 60, 200), width=max(1, canvas_px // 128))
    return sheet


def dry(layer: Image.Image, rng: Rng) -> Image.Image:
    """Make a plant look dried: muted, brownish and a little transparent."""
    pixels = np.asarray(layer).astype(np.float64)
    grey = pixels[..., :3].mean(-1, keepdims=True)
    dried = grey + (pixels[..., :3] - grey) * rng.uniform(0.3, 0.55)
    dried = dried * 0.62 + np.array([112, 84, 48]) * (0.18 + 0.2 * dried / 255)
    opacity = pixels[..., 3:] * rng.uniform(0.88, 0.97)
    return Image.fromarray(np.clip(np.concatenate([dried, opacity], -1), 0, 255).astype(np.uint8), "RGBA")
