"""How one flower head is described and drawn.

A head consists of rings of petals round an axis, and perhaps a domed disc. Every petal is a curved strip in three
dimensions, so one description gives the frontal, the tilted and the side view. Lengths are in radii of the head.
"""

import itertools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import ImageDraw

from flowers.sources.synthetic.scene import Array, Colour, Rng

LIGHT = np.array([-0.45, 0.62, 0.64])  # direction of the lamp: x right, y up, z to the viewer
GOLDEN_RAD = np.pi * (3 - np.sqrt(5))
GREEN = "7da84e 4c7a33"


@dataclass(frozen=True)
class Ring:
    """Petals of one kind, evenly spaced round the axis."""

    count: float
    length: float
    width: float
    """Half the petal's greatest width."""
    rise_deg: float = 0.0
    """Angle between the petal's base and the plane of the head: 0 is flat, 90 upright."""
    curl_deg: float = 0.0
    """How much that angle grows from base to tip; a negative one curls outward."""
    start: float = 0.0
    """Distance of the base from the axis."""
    lift: float = 0.0
    """Height of the base along the axis."""
    base: float = 0.6
    tip: float = 0.5
    """Exponents of the outline u^base (1-u)^tip: near 0 is blunt, 1 pointed, above 1 drawn out."""
    cup_rad: float = 0.0
    """Bend across the petal, from its midrib to its edge."""
    ruffle: float = 0.0
    """Height of the waves along its edge."""
    notch: float = 0.0
    """Depth of a dent in the tip, as a fraction of the length."""
    fringe: float = 0.0
    """Depth of a toothed tip, as a fraction of the length."""
    tint: int = 0
    """Number of its colour pair in the palette; -1 is leaf green."""
    fade: float = 1.0
    """Where along the petal the colour of the base ends and that of the tip begins, in (0, 1]."""
    spots: float = 0.0
    """Share of the petal that is covered by dark patches."""


@dataclass(frozen=True)
class Disc:
    """A dome of florets in the order of Vogel's golden-angle spiral (1979)."""

    radius: float
    height: float
    florets: int
    colours: str
    """Colours from the middle outwards, as hex."""


@dataclass(frozen=True)
class Form:
    """One way in which a species can look."""

    palettes: tuple[str, ...]
    """Colours as hex: tip, base[, second tip, second base]; the first palette is the typical one."""
    rings: tuple[Ring, ...]
    disc: Disc | None = None
    arrangement: str = "single"
    """Of the heads on the stem: `single`, `nodding`, `spike`, `bells` (a spike of nodding heads), or `globe`."""
    tilt_deg: tuple[float, float, float] = (12.0, 0.0, 75.0)
    """Typical, least and greatest angle between the axis and the line of sight."""
    leaf: str = "oval"
    """`strap`, `oval`, `lobed` or `heart`."""
    chance: float = 1.0
    """How often the species looks like this, relative to its other forms."""


def _read_form(
    palettes: list[str], rings: list[dict[str, Any]], disc: dict[str, Any] | None = None, **others: Any
) -> Form:
    """Make a form of its entry in the table."""
    each = [interpolate_rings(**ring) if "rings" in ring else [Ring(**ring)] for ring in rings]
    return Form(tuple(palettes), tuple(itertools.chain(*each)), Disc(**disc) if disc else None, **others)


def interpolate_rings(outer: dict[str, Any], inner: dict[str, Any], rings: int) -> list[Ring]:
    """Make so many rings that change evenly from the outermost to the innermost."""
    first, last = Ring(**outer), Ring(**inner)
    pairs = [(field.name, getattr(first, field.name), getattr(last, field.name)) for field in fields(Ring)]
    steps = np.linspace(0, 1, rings)
    return [Ring(**{name: a if name == "tint" else a + (b - a) * t for name, a, b in pairs}) for t in steps]


_TABLE = yaml.safe_load(Path(__file__).with_name("species.yaml").read_text(encoding="utf-8"))["species"]
SPECIES = {str(name): tuple(_read_form(**form) for form in forms) for name, forms in _TABLE.items()}
"""The forms that each species has."""


def rgb(colours: str) -> Array:
    """Read space-separated hex colours into an array (N,3) in [0, 1]."""
    return np.array([list(bytes.fromhex(c)) for c in colours.split()], dtype=np.float64) / 255


def denser_at_tip(t: Array) -> Array:
    """Move points t in [0, 1] along a petal closer together towards its tip, so that the tip is round."""
    return 1 - (1 - t) ** 1.4


def petal_meshes(ring: Ring, rng: Rng, bend: float, n_along: int, n_across: int) -> Array:
    """Lay out the petals of a ring.

    Args:
        ring: What they look like.
        rng: Source of their irregularity.
        bend: How irregular and wilted they are, in [0, 1].
        n_along: Quads from base to tip.
        n_across: Quads from edge to edge.

    Returns:
        Corners (petal, n_along+1, n_across+1, 3) in the head's own axes, in radii of the head.
    """
    n = max(1, round(ring.count))
    u, v = denser_at_tip(np.arange(n_along + 1) / n_along)[:, None], np.linspace(-1, 1, n_across + 1)[None, :]

    def uneven(spread: float) -> Array:
        return rng.normal(0, spread, (n, 1, 1))

    wilt = np.abs(uneven(55 * bend)) + np.maximum(0, uneven(25 * bend))
    rise = np.radians(ring.rise_deg + uneven(2.5 + 9 * bend) + (ring.curl_deg - wilt + uneven(25 * bend)) * u)
    length = ring.length * (1 + np.clip(uneven(0.04 + 0.12 * bend), -0.5, 0.3))
    teeth = ring.notch * (1 - abs(v)) + ring.fringe * (0.5 + 0.5 * np.cos(np.pi * np.arange(v.size)))[None, :]
    step = length * np.diff(u - teeth * u**3, axis=0, prepend=0)
    out, up = ring.start + np.cumsum(step * np.cos(rise), 1), ring.lift + np.cumsum(step * np.sin(rise), 1)
    peak = ring.base / (ring.base + ring.tip)
    outline = u**ring.base * (1 - 0.985 * u) ** ring.tip / (peak**ring.base * (1 - peak) ** ring.tip)
    half = ring.width * outline * (1 + np.clip(uneven(0.05 + 0.15 * bend), -0.4, 0.4))
    arc = max(ring.cup_rad, 0.01) * v
    sideways = half * np.sin(arc) / max(ring.cup_rad, 0.01) + uneven(0.03 + 0.18 * bend) * u**2
    inward = half * (1 - np.cos(arc)) / max(ring.cup_rad, 0.01)
    inward = inward + (ring.ruffle + 0.05 * bend) * u**2 * np.sin(v * 4 + u * 5 + uneven(3.0)) * abs(v)
    out, up = out - inward * np.sin(rise), up + inward * np.cos(rise)
    turn = 2 * np.pi * (np.arange(n)[:, None, None] / n + uneven((0.08 + 0.2 * bend) / n)) + rng.uniform(0, 7)
    x, y = out * np.cos(turn) - sideways * np.sin(turn), out * np.sin(turn) + sideways * np.cos(turn)
    return np.stack([x, y, np.broadcast_to(up, x.shape)], -1)


def project(points: Array, tilt_rad: float, roll_rad: float, perspective: float) -> Array:
    """Rotate points (…,3) of a head into the viewer's axes: x right, y up, z to the viewer."""
    x, y, z = np.moveaxis(points, -1, 0)
    up, near = y * np.cos(tilt_rad) + z * np.sin(tilt_rad), z * np.cos(tilt_rad) - y * np.sin(tilt_rad)
    turned = np.stack([x * np.cos(roll_rad) - up * np.sin(roll_rad), x * np.sin(roll_rad) + up * np.cos(roll_rad)])
    return np.stack([*(turned / (1 - perspective * np.clip(near, -1, 1))), near], -1)


def light(seen: Array, colour: Array) -> Array:
    """Light quads by Lambert's law; shadows are warm, because petals let light through."""
    diagonal, other = seen[..., 1:, 1:, :] - seen[..., :-1, :-1, :], seen[..., 1:, :-1, :] - seen[..., :-1, 1:, :]
    normal = np.cross(diagonal, other)
    back = normal[..., 2:] < 0
    normal *= np.where(back, -1, 1) / (np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9)
    brightness = 0.7 + 0.46 * np.clip(normal @ LIGHT, 0, 1)[..., None]
    return np.where(back, 0.86 * colour + 0.05, colour) * brightness ** np.array([0.85, 1.0, 1.15])


def quads_of(mesh: Array) -> Array:
    """List the corners (I*J,4,3) of the quads of a mesh (I+1,J+1,3)."""
    return np.stack([mesh[:-1, :-1], mesh[:-1, 1:], mesh[1:, 1:], mesh[1:, :-1]], 2).reshape(-1, 4, 3)


def polygons_of(corners: Array, colour: Array, nearness: float) -> tuple[float, list[list[float]], list[Colour]]:
    """Make polygons of corners (N,V,3), the farthest first, with colours (N,3); and say how near all of them are."""
    order = np.argsort(corners[..., 2].sum(1))
    fills = (np.clip(colour, 0, 1)[order] * 255).astype(int)
    return nearness, corners[order, :, :2].reshape(len(order), -1).tolist(), [tuple(f) for f in fills.tolist()]


def floret_hexagons(disc: Disc, rng: Rng, density: float) -> tuple[Array, Array]:
    """Lay out a disc's florets as hexagons (N,6,3) with their colours (N,3)."""
    n = max(6, round(disc.florets * density))
    rank = (np.arange(n) + 0.5) / n
    radius, turn = disc.radius * np.sqrt(rank), np.arange(n) * GOLDEN_RAD
    middle = np.stack([radius * np.cos(turn), radius * np.sin(turn), disc.height * (1 - rank) + 0.03], -1)
    round_rad = np.arange(6) * np.pi / 3
    size = disc.radius * 1.25 / np.sqrt(n)
    hexagon = np.stack([np.cos(round_rad), np.sin(round_rad), 0 * round_rad], -1) * size
    stops = rgb(disc.colours)
    place = np.linspace(0, 1, len(stops))
    colour = np.stack([np.interp(np.sqrt(rank), place, stops[:, c]) for c in range(3)], -1)
    return middle[:, None] + hexagon, colour * rng.uniform(0.68, 1.22, (n, 1))


def draw_head(
    pen: ImageDraw.ImageDraw,
    form: Form,
    colours: Array,
    rng: Rng,
    *,
    centre_px: tuple[float, float],
    radius_px: float,
    tilt_deg: float,
    roll_deg: float,
    bend: float,
) -> None:
    """Draw one flower head, its projection centred and scaled to its radius.

    Args:
        pen: Draws on the canvas.
        form: Its petals, and the florets in the middle, if there are any.
        colours: Tip and base of each tint in turn (2 x tints, 3), in [0, 1].
        rng: Source of its irregularity.
        centre_px: Its middle.
        radius_px: Half its larger extent.
        tilt_deg: Angle between its axis and the line of sight; 0 is frontal, 90 from the side.
        roll_deg: Counterclockwise turn in the image.
        bend: How irregular and wilted it is, in [0, 1].
    """
    tilt_rad, roll_rad, fine = np.radians(tilt_deg), np.radians(roll_deg), min(1.0, radius_px / 70)
    meshes: list[tuple[Array, Array]] = []
    cells = np.clip(1500 * fine / sum(ring.count for ring in form.rings), 6, 200)  # the fewer petals, the finer
    for ring in form.rings:
        n_across = 2 * max(1, round(np.sqrt(cells * min(1.2, 4 * ring.width / ring.length)) / 2))
        n_along = int(np.clip(cells / n_across, 3, 16))
        corners = project(petal_meshes(ring, rng, bend, n_along, n_across), tilt_rad, roll_rad, 0.1 + 0.2 * bend)
        tip, base = rgb(GREEN) if ring.tint < 0 else colours[2 * ring.tint : 2 * ring.tint + 2]
        along = denser_at_tip((np.arange(n_along) + 0.5) / n_along)[:, None]
        mix = np.clip(along / ring.fade, 0, 1)[:, None] ** 1.3
        streak = rng.normal(1, 0.035, (len(corners), 1, n_across, 1)) * rng.normal(1, 0.03, (len(corners), 1, 1, 1))
        colour = (base + (tip - base) * mix) * streak * (0.84 + 0.16 * along[:, None] ** 0.6)
        if n_across > 2:
            colour[:, :, [0, -1]] *= 0.93  # a darker edge separates a petal from its neighbour
        colour *= 1 + 0.14 * along[:, None] ** 6  # and so does a rim that catches the light
        dark = rng.random(colour.shape[:3]) < ring.spots
        colour = np.where(dark[..., None], colour * 0.45, colour)
        withered = (bend * rng.random((len(corners), 1, 1, 1)) ** 3 * along[:, None] ** 4) * 0.9
        colour = colour + withered * (rgb("8a6434") - colour)
        meshes.append((corners, light(corners, colour)))
    every = np.concatenate([corners[..., :2].reshape(-1, 2) for corners, _ in meshes])
    low, high = every.min(0), every.max(0)
    scale = radius_px * 2 / max(high - low)
    shift, flip = (low + high) / 2, np.array([1, -1])

    def place(seen: Array) -> Array:
        flat = np.asarray(centre_px) + (seen[..., :2] - shift) * flip * scale
        return np.concatenate([flat, seen[..., 2:]], -1)

    parts = []
    for ring, (petals, fills) in zip(form.rings, meshes, strict=True):
        nearer = -1.0 if ring.tint < 0 and ring.lift < 0 else 0.0  # sepals are behind the petals
        for seen, fill in zip(place(petals), fills, strict=True):
            parts.append(polygons_of(quads_of(seen), fill.reshape(-1, 3), float(seen[..., 2].mean()) + nearer))
    if form.disc is not None:
        hexagons, fills = floret_hexagons(form.disc, rng, max(0.3, fine))
        seen = place(project(hexagons, tilt_rad, roll_rad, 0.1 + 0.2 * bend))
        parts.append(polygons_of(seen, fills, float(seen[..., 2].mean())))
    for _, polygons, fills_of in sorted(parts, key=lambda part: part[0]):
        for polygon, ink in zip(polygons, fills_of, strict=True):
            pen.polygon(polygon, fill=ink)
