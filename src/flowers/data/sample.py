"""A data set of rendered flowers, for when there are no photographs; each image a pure function."""

import os
import shutil
import signal
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from flowers.data import scene
from flowers.data.species import SPECIES, Form, draw_head, rgb
from flowers.errors import UserError, suggestion

LEAVES = ("strap", "oval", "lobed", "heart")
DOMAINS = ("garden", "herbarium")
SUPERSAMPLING = 2
JPEG_QUALITY = 92
SMALLEST_PX = 16


@dataclass(frozen=True)
class Knobs:
    """What makes the images hard, each in [0, 1]: 0 is a clean studio picture."""

    illumination: float
    """Exposure, colour temperature, uneven light, hard shadows, noise."""
    occlusion: float
    """Grass, leaves, bars and hands in front of the blossom."""
    deformation: float
    """Bent, wilted and uneven petals, and a warp of the whole plant."""
    clutter: float
    """Backgrounds, leaves, loose petals and other blossoms behind."""
    variation: float
    """Colours, petal counts, proportions, views, sizes, places, and how many blossoms."""

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise UserError(f"{key} is {value}, but must lie between 0 and 1: set {key} to 0 (easy) … 1 (hard).")


@dataclass(frozen=True)
class Picture:
    """All that one image depends on."""

    species: str
    index: int
    seed: int
    size_px: int
    knobs: Knobs
    domain: str

    def __post_init__(self) -> None:
        if self.species not in SPECIES:
            raise UserError(f"species '{self.species}' cannot be drawn: {suggestion(self.species, SPECIES)}")
        if self.domain not in DOMAINS:
            raise UserError(f"domain '{self.domain}' is not known: {suggestion(self.domain, DOMAINS)}")
        if self.size_px < SMALLEST_PX:
            raise UserError(f"size_px is {self.size_px}, but must be at least {SMALLEST_PX}: set a larger size_px.")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}, but must not be negative: set seed to 0 or more.")

    def rng(self, aspect: str) -> np.random.Generator:
        """Make the source of chance for one aspect, so that no knob disturbs what another one draws."""
        words = zlib.crc32(self.species.encode()), self.index, zlib.crc32(aspect.encode())
        return np.random.default_rng([self.seed, *words])


@dataclass(frozen=True)
class Look:
    """How the blossoms of one image look."""

    form: Form
    colours: np.ndarray
    tilt_deg: float


def choose_look(picture: Picture) -> Look:
    """Draw form, colours, proportions and view, the farther from typical the more variation there is."""
    rng, amount = picture.rng("look"), picture.knobs.variation
    forms = SPECIES[picture.species]
    chances = np.array([f.chance if k == 0 or amount > 0 else 0.0 for k, f in enumerate(forms)])
    form = forms[rng.choice(len(forms), p=chances / chances.sum())]
    palette = form.palettes[rng.integers(len(form.palettes)) if rng.random() < 1.3 * amount else 0]
    colours = rgb(palette) + rng.normal(0, 0.02 + 0.05 * amount, 3)
    opening, wide, long, dense = rng.normal(0, 1, 4).clip(-2, 2) * amount
    rings = tuple(
        replace(
            ring,
            count=max(1, ring.count * (1 + 0.16 * dense)) if ring.count > 6 else ring.count,
            width=ring.width * (1 + 0.14 * wide),
            length=ring.length * (1 + 0.08 * long),
            rise_deg=ring.rise_deg + 8 * opening,
        )
        for ring in form.rings
    )
    disc = form.disc and replace(form.disc, radius=form.disc.radius * (1 + 0.1 * rng.normal(0, amount)))
    typical, least, most = form.tilt_deg
    tilt_deg = typical + amount * (rng.triangular(least, typical, most + 1e-6) - typical)
    if picture.domain == "herbarium":  # a press knows only the front and the side
        tilt_deg = (least, most)[int(rng.random() < (typical - least + 8) / (most - least + 16))]
    leaf = str(rng.choice(LEAVES)) if rng.random() < 0.5 * amount else form.leaf  # leaves alone must not tell
    return Look(replace(form, rings=rings, disc=disc, leaf=leaf), np.clip(colours, 0, 1), tilt_deg)


def places(picture: Picture) -> Iterator[tuple[float, float, float]]:
    """Place one blossom or several, the farthest first: x, y and radius as fractions of the image."""
    rng, amount = picture.rng("places"), picture.knobs.variation
    count = 1 + int(rng.random() < 0.5 * amount) * int(rng.integers(1, 5))
    radius = 0.36 + amount * rng.uniform(-0.2, 0.1)
    x, y = 0.5 + amount * rng.uniform(-0.24, 0.24), 0.45 + amount * rng.uniform(-0.18, 0.22)
    if count > 1:
        radius *= 0.8
    angle_rad = rng.uniform(0, 2 * np.pi)
    for k in range(count - 1, 0, -1):
        turn, far = (
            angle_rad + 2 * np.pi * k / (count - 1) + rng.normal(0, 0.3),
            radius * rng.uniform(1.2, 1.9),
        )
        yield x + far * np.cos(turn), y + 0.8 * far * np.sin(turn), radius * rng.uniform(0.55, 0.9)
    yield x, y, radius


def heads(stand: str, radius: float, rng: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """Divide an inflorescence into heads: x and y from its middle, radius, roll in degrees."""
    if stand == "globe":
        spots = [(rng.normal(0, 0.42), rng.normal(0, 0.36)) for _ in range(26)]
        return [(x * radius, y * radius, radius * 0.27, rng.uniform(0, 90)) for x, y in spots if x * x + y * y < 0.7]
    if stand == "spike":
        rows = np.repeat(np.linspace(1, -1, 11), 3)
        return [(rng.normal(0, 0.13) * radius, y * radius, radius * 0.15, -60 * rng.normal(0, 1)) for y in rows]
    if stand == "bells":
        sides = [(1 if k % 2 else -1, y) for k, y in enumerate(np.linspace(0.85, -0.85, 8))]
        return [(s * (0.2 + 0.12 * y) * radius, y * radius, radius * 0.2, 180 - 28 * s) for s, y in sides]
    return [(0.0, 0.0, radius, 180.0 if stand == "nodding" else 0.0)]


def draw_plant(layer: Image.Image, picture: Picture, look: Look, spot: tuple[float, float, float], k: int) -> None:
    """Draw one inflorescence with its stem and leaves, in place."""
    rng, pen, size = picture.rng(f"plant {k}"), ImageDraw.Draw(layer), layer.width
    bend, vary = picture.knobs.deformation, picture.knobs.variation
    x, y, radius = (part * size for part in spot)
    green = scene.pick(rng, scene.GREENS[:3], 12)
    tilt_deg = look.tilt_deg + rng.normal(0, 3 + 7 * vary)
    lean_deg = rng.normal(0, 5 + 14 * max(vary, bend))
    foot = (x + rng.normal(0, 0.05 + 0.1 * vary) * size, 1.08 * size)
    arch = (x + radius * 0.3 * np.sin(np.radians(lean_deg)), (y + foot[1]) / 2)
    top = y - 1.1 * radius if look.form.stand in ("bells", "nodding") else y
    spine = scene.curve(foot, arch, (x, top), 20)
    scene.stem(pen, spine, max(1.5, radius * 0.085), green)
    for side in rng.permutation([-1, 1, -1])[: int(rng.integers(1, 4))]:
        start = spine[int(rng.integers(1, 8))]
        strap = look.form.leaf == "strap"
        reach = radius * rng.uniform(0.8, 1.3) * (1.4 if strap else 1.0)
        tip = (
            start[0] + side * reach * (0.4 if strap else 0.9),
            start[1] - reach * (0.95 if strap else 0.35),
        )
        bow = (start[0] + side * reach * 0.45, start[1] - reach * (0.3 if strap else 0.5))
        half = reach * {"strap": 0.075, "oval": 0.24, "lobed": 0.17, "heart": 0.36}[look.form.leaf]
        scene.leaf(pen, scene.curve(tuple(start), bow, tip, 16), half, scene.tinted(green, 0.95), look.form.leaf)
    for dx, dy, r, roll_deg in heads(look.form.stand, radius, rng):
        spread_deg = 25 if look.form.stand in ("spike", "globe") else 0
        draw_head(
            pen,
            look.form.rings,
            look.form.disc,
            np.clip(look.colours + rng.normal(0, 0.02, 3), 0, 1),
            rng,
            centre_px=(x + dx, y + dy),
            radius_px=r,
            tilt_deg=float(np.clip(tilt_deg + rng.normal(0, spread_deg), 0, 100)),
            roll_deg=roll_deg - lean_deg,
            bend=bend,
        )


def paint(picture: Picture) -> Image.Image:
    """Draw one image: what is behind, the plants, what is in front, the light."""
    knobs, canvas_px = picture.knobs, picture.size_px * SUPERSAMPLING
    herbarium = picture.domain == "herbarium"
    behind = picture.rng("behind")
    if herbarium:
        canvas = scene.paper(behind, canvas_px, knobs.clutter)
    else:
        canvas = scene.backdrop(behind, canvas_px, knobs.clutter, knobs.variation)
        scene.scatter(canvas, behind, knobs.clutter)
    look, surface = choose_look(picture), picture.rng("surface")
    layer = Image.new("RGBA", (canvas_px, canvas_px))
    for k, spot in enumerate(places(picture)):
        draw_plant(layer, picture, look, spot, k)
    layer = scene.warp(layer, surface, knobs.deformation)
    if herbarium:
        layer = scene.pressed(layer, surface)
    scene.cast(canvas, layer, (0.012 if herbarium else 0.045) * canvas_px, 0.5)
    scene.obstruct(canvas, picture.rng("front"), knobs.occlusion, picture.domain)
    small = canvas.resize((picture.size_px, picture.size_px), Image.Resampling.LANCZOS)
    light = knobs.illumination * (0.3 if herbarium else 1.0)  # a scanner's lamp is even
    pixels = scene.relight(np.asarray(small) / 255, picture.rng("light"), light, shadows=not herbarium)
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
        species: A key of :data:`flowers.data.species.SPECIES`.
        index: Which one, from 1.
        seed: Non-negative; another seed gives other images.
        size_px: Width and height, at least 16.
        illumination: See :class:`Knobs`, as are the four that follow; in [0, 1].
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
    knobs = Knobs(illumination, occlusion, deformation, clutter, variation)
    return paint(Picture(species, index, seed, size_px, knobs, domain))


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
        seed: See :func:`draw`, as are the others not told here.
        size_px: Width and height, at least 16.
        counts: Number of images of each species, at least 1.
        illumination: In [0, 1].
        occlusion: In [0, 1].
        deformation: In [0, 1].
        clutter: In [0, 1].
        variation: In [0, 1].
        domain: `garden` or `herbarium`.
        workers: Number of processes; None: one for each usable processor. Does not change the images.

    Raises:
        UserError: An argument is unknown or out of range, or the folder is not empty.
    """
    knobs = Knobs(illumination, occlusion, deformation, clutter, variation)
    if not counts:
        raise UserError("counts names no species: set counts to, for example, {daisy: 100, roses: 100}.")
    for species, count in counts.items():
        Picture(species, 1, seed, size_px, knobs, domain)  # refuses what cannot be drawn before anything is written
        if count < 1:
            raise UserError(f"counts.{species} is {count}, but must be at least 1: raise it or leave the species out.")
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}, but must be at least 1: raise it or leave it out.")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} exists and is not an empty folder: remove it or name another root.")
    root = root.resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    building = aside / root.name  # mkdtemp's own folder is closed to other users
    try:
        pictures, paths = [], []
        for species, count in counts.items():
            (building / species).mkdir(parents=True)
            for index in range(1, count + 1):
                pictures.append(Picture(species, index, seed, size_px, knobs, domain))
                paths.append(building / species / f"{species}_{index:04d}.jpg")
        run_all(pictures, paths, workers or usable_processors())
        building.replace(root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def usable_processors() -> int:
    """Count the processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_interrupts_alone() -> None:
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
        mp_context=get_context("forkserver" if os.name == "posix" else "spawn"),  # fork would copy held locks
        initializer=leave_interrupts_alone,
    )
    try:
        list(pool.map(save, pictures, paths, chunksize=8))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
