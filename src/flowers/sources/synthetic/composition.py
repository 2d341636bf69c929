"""The description of one rendered image: what it depends on, how its blossoms look and where they are."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from flowers.errors import UserError, suggestion
from flowers.sources.synthetic import scene
from flowers.sources.synthetic.flower_head import SPECIES, Form, draw_head, rgb

DOMAINS = ("garden", "herbarium")
SMALLEST_PX = 16
MEADOW = "meadow"
"""Given in place of a species for an image without a flower: only what is behind and in front of it is drawn."""


@dataclass(frozen=True)
class Picture:
    """All that one image depends on.

    From `illumination` to `variation` stands what makes it hard to classify, each in [0, 1]: 0 is a clean studio
    photograph.
    """

    species: str
    """A key of :data:`flowers.sources.synthetic.flower_head.SPECIES`, or `meadow`."""
    index: int
    """Which one of the species, from 1."""
    seed: int
    """Non-negative; another seed gives other images."""
    size_px: int
    """Width and height, at least 16."""
    illumination: float
    """Exposure, colour temperature, uneven light, hard shadows, noise."""
    occlusion: float
    """Grass, leaves, bars and hands in front of the blossom."""
    deformation: float
    """Bent, wilted and uneven petals, and a warp of the whole plant."""
    clutter: float
    """Backgrounds, leaves, loose petals and other blossoms behind."""
    variation: float
    """Colours, petal counts, proportions, views, sizes, positions, and the number of blossoms."""
    domain: str
    """`garden`, or `herbarium` for pressed plants on paper."""

    def __post_init__(self) -> None:
        for key in ("illumination", "occlusion", "deformation", "clutter", "variation"):
            value = getattr(self, key)
            if not 0 <= value <= 1:
                raise UserError(f"{key} is {value}, but must be between 0 and 1: set {key} to 0 (easy) … 1 (hard).")
        if self.species not in SPECIES and self.species != MEADOW:
            raise UserError(f"species '{self.species}' cannot be drawn: {suggestion(self.species, [*SPECIES, MEADOW])}")
        if self.domain not in DOMAINS:
            raise UserError(f"domain '{self.domain}' is not known: {suggestion(self.domain, DOMAINS)}")
        if self.size_px < SMALLEST_PX:
            raise UserError(f"size_px is {self.size_px}, but must be at least {SMALLEST_PX}: set a larger size_px.")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}, but must not be negative: set seed to 0 or more.")

    def rng(self, aspect: str) -> np.random.Generator:
        """Make the random generator of one aspect, so that what one aspect draws does not change the others."""
        words = zlib.crc32(self.species.encode()), self.index, zlib.crc32(aspect.encode())
        return np.random.default_rng([self.seed, *words])


@dataclass(frozen=True)
class Look:
    """How the blossoms of one image look."""

    form: Form
    colours: np.ndarray
    tilt_deg: float


def choose_look(picture: Picture) -> Look:
    """Draw form, colours, proportions and view at random; more variation takes them further from the typical ones."""
    rng, amount = picture.rng("look"), picture.variation
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
    if picture.domain == "herbarium":  # pressed flowers show only the front or the side
        tilt_deg = (least, most)[int(rng.random() < (typical - least + 8) / (most - least + 16))]
    # Leaves alone must not give the species away.
    leaf = str(rng.choice([*scene.LEAVES])) if rng.random() < 0.5 * amount else form.leaf
    return Look(replace(form, rings=rings, disc=disc, leaf=leaf), np.clip(colours, 0, 1), tilt_deg)


def place_blossoms(picture: Picture) -> Iterator[tuple[float, float, float]]:
    """Place one blossom or several, the farthest first: x, y and radius as fractions of the image's side."""
    rng, amount = picture.rng("places"), picture.variation
    count = 1 + int(rng.random() < 0.5 * amount) * int(rng.integers(1, 5))
    radius = 0.36 + amount * rng.uniform(-0.2, 0.1)
    x, y = 0.5 + amount * rng.uniform(-0.24, 0.24), 0.45 + amount * rng.uniform(-0.18, 0.22)
    if count > 1:
        radius *= 0.8
    angle_rad = rng.uniform(0, 2 * np.pi)
    for k in range(count - 1, 0, -1):
        turn = angle_rad + 2 * np.pi * k / (count - 1) + rng.normal(0, 0.3)
        far = radius * rng.uniform(1.2, 1.9)
        yield x + far * np.cos(turn), y + 0.8 * far * np.sin(turn), radius * rng.uniform(0.55, 0.9)
    yield x, y, radius


def divide_into_heads(arrangement: str, radius: float, rng: scene.Rng) -> list[tuple[float, ...]]:
    """Divide an inflorescence into flower heads.

    Args:
        arrangement: See :class:`flowers.sources.synthetic.flower_head.Form`.
        radius: Half the size of the inflorescence.
        rng: Source of its irregularity.

    Returns:
        For each head x and y from the middle, its radius, and its counterclockwise turn in degrees.
    """
    if arrangement == "globe":
        spots = [(rng.normal(0, 0.42), rng.normal(0, 0.36)) for _ in range(26)]
        return [(x * radius, y * radius, radius * 0.27, rng.uniform(0, 90)) for x, y in spots if x * x + y * y < 0.7]
    if arrangement == "spike":
        rows = np.repeat(np.linspace(1, -1, 11), 3)
        return [(rng.normal(0, 0.13) * radius, y * radius, radius * 0.15, -60 * rng.normal(0, 1)) for y in rows]
    if arrangement == "bells":
        sides = [(1 if k % 2 else -1, y) for k, y in enumerate(np.linspace(0.85, -0.85, 8))]
        return [(s * (0.2 + 0.12 * y) * radius, y * radius, radius * 0.2, 180 - 28 * s) for s, y in sides]
    return [(0.0, 0.0, radius, 180.0 if arrangement == "nodding" else 0.0)]


def draw_plant(layer: Image.Image, picture: Picture, look: Look, spot: tuple[float, float, float], k: int) -> None:
    """Draw one inflorescence with its stem and leaves, in place."""
    rng, pen, size = picture.rng(f"plant {k}"), ImageDraw.Draw(layer), layer.width
    bend, vary = picture.deformation, picture.variation
    x, y, radius = (part * size for part in spot)
    green = scene.pick_colour(rng, scene.GREENS[:3], 12)
    tilt_deg = look.tilt_deg + rng.normal(0, 3 + 7 * vary)
    lean_deg = rng.normal(0, 5 + 14 * max(vary, bend))
    foot = (x + rng.normal(0, 0.05 + 0.1 * vary) * size, 1.08 * size)
    arch = (x + radius * 0.3 * np.sin(np.radians(lean_deg)), (y + foot[1]) / 2)
    top = y - 1.1 * radius if look.form.arrangement in ("bells", "nodding") else y
    spine = scene.bezier(foot, arch, (x, top), 20)
    scene.draw_stem(pen, spine, max(1.5, radius * 0.085), green)
    for side in rng.permutation([-1, 1, -1])[: int(rng.integers(1, 4))]:
        start = spine[int(rng.integers(1, 8))]
        strap = look.form.leaf == "strap"
        reach = radius * rng.uniform(0.8, 1.3) * (1.4 if strap else 1.0)
        tip = (start[0] + side * reach * (0.4 if strap else 0.9), start[1] - reach * (0.95 if strap else 0.35))
        bow = (start[0] + side * reach * 0.45, start[1] - reach * (0.3 if strap else 0.5))
        half = reach * {"strap": 0.075, "oval": 0.24, "lobed": 0.17, "heart": 0.36}[look.form.leaf]
        scene.draw_leaf(pen, scene.bezier(tuple(start), bow, tip, 16), half, scene.tinted(green, 0.95), look.form.leaf)
    for dx, dy, r, roll_deg in divide_into_heads(look.form.arrangement, radius, rng):
        spread_deg = 25 if look.form.arrangement in ("spike", "globe") else 0
        draw_head(
            pen,
            look.form,
            np.clip(look.colours + rng.normal(0, 0.02, 3), 0, 1),
            rng,
            centre_px=(x + dx, y + dy),
            radius_px=r,
            tilt_deg=float(np.clip(tilt_deg + rng.normal(0, spread_deg), 0, 100)),
            roll_deg=roll_deg - lean_deg,
            bend=bend,
        )
