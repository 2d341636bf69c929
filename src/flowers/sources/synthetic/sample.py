"""Render a data set of flowers in class folders. Each image depends only on the arguments."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from flowers.errors import UserError
from flowers.sources.archives import whole_folder
from flowers.sources.synthetic import scene
from flowers.sources.synthetic.composition import MEADOW, Difficulty, Picture, choose_look, draw_plant, place_blossoms
from flowers.sources.synthetic.scene import Rng

SUPERSAMPLING = 2
JPEG_QUALITY = 92


def paint(picture: Picture) -> Image.Image:
    """Draw one image: the background, the plants, what is in front of them, the light."""
    difficulty, canvas_px = picture.difficulty, picture.size_px * SUPERSAMPLING
    on_paper = picture.domain == "herbarium"
    behind = picture.rng("behind")
    if on_paper:
        canvas = paint_sheet(behind, canvas_px, difficulty.clutter)
    else:
        canvas = scene.paint_backdrop(behind, canvas_px, difficulty.clutter, difficulty.variation)
        scene.draw_clutter(canvas, behind, difficulty.clutter)
    surface = picture.rng("surface")
    layer = Image.new("RGBA", (canvas_px, canvas_px))
    if picture.species != MEADOW:
        look = choose_look(picture)
        for k, spot in enumerate(place_blossoms(picture)):
            draw_plant(layer, picture, look, spot, k)
    layer = scene.warp(layer, surface, difficulty.deformation)
    if on_paper:
        layer = dry(layer, surface)
    scene.paste_with_shadow(canvas, layer, (0.012 if on_paper else 0.045) * canvas_px, 0.5)
    scene.draw_obstructions(canvas, picture.rng("front"), difficulty.occlusion, picture.domain)
    small = canvas.resize((picture.size_px, picture.size_px), Image.Resampling.LANCZOS)
    light = difficulty.illumination * (0.3 if on_paper else 1.0)  # a scanner's lamp is even
    pixels = scene.relight(np.asarray(small) / 255, picture.rng("light"), light, shadows=not on_paper)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


def draw(
    species: str,
    index: int,
    *,
    seed: int,
    size_px: int,
    illumination: float,
    occlusion: float,
    deformation: float,
    clutter: float,
    variation: float,
    domain: str,
) -> Image.Image:
    """Draw one image.

    Args:
        species: A key of :data:`flowers.sources.synthetic.flower_head.SPECIES`, or `meadow` for no flower at all.
        index: Which one, from 1.
        seed: Non-negative; another seed gives other images.
        size_px: Width and height in pixels, at least 16.
        illumination: In [0, 1]; what it and the next four do is said in
            :class:`flowers.sources.synthetic.composition.Difficulty`.
        occlusion: In [0, 1].
        deformation: In [0, 1].
        clutter: In [0, 1].
        variation: In [0, 1].
        domain: `garden`, or `herbarium` for pressed plants on paper.

    Returns:
        An RGB image that depends on nothing but the arguments.

    Raises:
        UserError: An argument is unknown or out of range.
    """
    difficulty = Difficulty(illumination, occlusion, deformation, clutter, variation)
    return paint(Picture(species, index, seed, size_px, difficulty, domain))


def save(picture: Picture, path: Path) -> None:
    """Draw one image into a file; runs in a worker."""
    paint(picture).save(path, quality=JPEG_QUALITY)


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
        seed: See :func:`draw`, as for the others not described here.
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
    difficulty = Difficulty(illumination, occlusion, deformation, clutter, variation)
    if not counts:
        raise UserError("counts names no species: set counts to, for example, {daisy: 100, roses: 100}.")
    for species, count in counts.items():
        Picture(species, 1, seed, size_px, difficulty, domain)  # raises before anything is written
        if count < 1:
            raise UserError(f"counts.{species} is {count}, but must be at least 1: raise it or leave the species out.")
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}, but must be at least 1: raise it or leave it out.")
    with whole_folder(root) as building:
        pictures, paths = [], []
        for species, count in counts.items():
            (building / species).mkdir(parents=True)
            for index in range(1, count + 1):
                pictures.append(Picture(species, index, seed, size_px, difficulty, domain))
                paths.append(building / species / f"{species}_{index:04d}.jpg")
        run_all(pictures, paths, workers or usable_processors())


def usable_processors() -> int:
    """Count the processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ignore_interrupts() -> None:
    """Let Ctrl-C reach only the parent, which then stops its workers and cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_all(pictures: list[Picture], paths: list[Path], workers: int) -> None:
    """Draw all pictures into their files, in this process or in several."""
    if workers == 1:
        for picture, path in zip(pictures, paths, strict=True):
            save(picture, path)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(pictures)),
        mp_context=get_context("forkserver" if os.name == "posix" else "spawn"),  # fork would copy locks in use
        initializer=ignore_interrupts,
    )
    try:
        list(pool.map(save, pictures, paths, chunksize=8))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
