"""The rendered species: a table of how each blossom is built, and the drawing of one blossom head.

A blossom is rings of petals round an axis, and perhaps a domed disc. Every petal is a curved strip in three
dimensions, so one description gives the frontal, the tilted and the side view. Lengths are in blossom radii.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

Array = NDArray[np.float64]
Polygons = tuple[float, list[list[float]], list[tuple[int, ...]]]

LIGHT = np.array([-0.45, 0.62, 0.64])  # towards the lamp: x right, y up, z to the viewer
GOLDEN_RAD = np.pi * (3 - np.sqrt(5))
GREEN = "7da84e 4c7a33"


@dataclass(frozen=True)
class Ring:
    """Petals of one kind that stand evenly round the axis."""

    count: float
    length: float
    width: float
    """Half the petal's greatest width."""
    rise_deg: float = 0.0
    """How steeply the petal leaves the blossom's plane, 0 flat to 90 upright."""
    curl_deg: float = 0.0
    """How much that angle grows from base to tip; negative curls outward."""
    start: float = 0.0
    """Distance of the base from the axis."""
    lift: float = 0.0
    """Height of the base along the axis."""
    base: float = 0.6
    tip: float = 0.5
    """Exponents of the outline u^base (1-u)^tip: near 0 blunt, 1 pointed, beyond drawn out."""
    cup_rad: float = 0.0
    """Bend across the petal, from its midrib to its edge."""
    ruffle: float = 0.0
    notch: float = 0.0
    """Depth of a dent in the tip, as a fraction of the length."""
    fringe: float = 0.0
    """Depth of a toothed tip, as a fraction of the length."""
    tint: int = 0
    """Which colour pair of the palette; -1 is leaf green."""
    fade: float = 1.0
    """Where along the petal the base's colour has become the tip's, in (0, 1]."""
    spots: float = 0.0
    """Share of dark patches."""


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
    """Each one: tip, base[, second tip, second base] as hex; the first is the typical one."""
    rings: tuple[Ring, ...]
    disc: Disc | None = None
    stand: str = "single"
    """`single`, `nodding`, `spike`, `bells` (a spike of nodding ones), or `globe`."""
    tilt_deg: tuple[float, float, float] = (12.0, 0.0, 75.0)
    """Typical, least and greatest angle between the axis and the line of sight."""
    leaf: str = "oval"
    """`strap`, `oval`, `lobed` or `heart`."""
    chance: float = 1.0


def layers(outer: Ring, inner: Ring, n: int) -> tuple[Ring, ...]:
    """Interpolate rings from the outermost to the innermost."""
    steps = np.linspace(0, 1, n)
    pairs = [(f.name, getattr(outer, f.name), getattr(inner, f.name)) for f in fields(Ring)]
    return tuple(
        Ring(**{name: outer.tint if name == "tint" else a + (b - a) * t for name, a, b in pairs}) for t in steps
    )


def sepals(count: float, length: float, rise_deg: float, lift: float = -0.06) -> Ring:
    """Green leaves under the petals, seen from the side."""
    return Ring(count, length, length * 0.3, rise_deg, start=0.04, lift=lift, base=0.3, tip=0.8, tint=-1)


SPECIES: dict[str, tuple[Form, ...]] = {
    "daisy": (
        Form(
            (
                "ffffff e9ecf2",
                "fbd3e0 ffffff",
                "f6e27a f3cf4a",
                "d9b8ea f4ecfa",
                "e0609c f7c3d8",
                "fff3d6 f2e3b0",
            ),
            (
                sepals(10, 0.3, 10),
                Ring(22, 0.76, 0.074, 0, -6, 0.2, base=0.3, tip=0.28, cup_rad=0.3, notch=0.04),
                Ring(14, 0.7, 0.07, 9, -8, 0.2, 0.02, base=0.3, tip=0.28, cup_rad=0.3, notch=0.04),
            ),
            Disc(0.27, 0.12, 150, "d8a21a f4c928 f9da4a"),
            leaf="lobed",
        ),
    ),
    "dandelion": (
        Form(
            ("ffe02e fbc81a", "fff05a f2cf1e", "ffb52a ee8a10", "fff6b8 f0dc70", "f8c81c d98e08"),
            (
                sepals(14, 0.4, -25),
                *layers(
                    Ring(27, 0.98, 0.052, 0, -14, 0.04, base=0.3, tip=0.12, fringe=0.05),
                    Ring(9, 0.34, 0.045, 72, 12, 0.02, 0.12, base=0.3, tip=0.12, fringe=0.1),
                    7,
                ),
            ),
            tilt_deg=(18, 0, 85),
            leaf="lobed",
        ),
        Form(
            ("ffffff a9a08c", "f3f1ea 9c9078", "fffdf2 b7ab90"),
            layers(
                Ring(36, 0.94, 0.04, -70, base=5, tip=0.12, start=0.04, fringe=0.15, fade=0.8),
                Ring(7, 0.94, 0.04, 82, base=5, tip=0.12, start=0.04, fringe=0.15, fade=0.8),
                9,
            ),
            Disc(0.15, 0.12, 50, "6f5a3c 8d7448 b59a66"),
            tilt_deg=(35, 0, 90),
            leaf="lobed",
            chance=0.45,
        ),
    ),
    "roses": (
        Form(
            (
                "e0243e 6e0618",
                "f7a4bc c43e6a",
                "fff8f0 dcb88a",
                "fddc58 dc8a10",
                "f9ac78 c84a24",
                "cc94d8 74408e",
            ),
            (
                sepals(5, 0.55, -10),
                *layers(
                    Ring(5, 0.92, 0.5, 22, -34, 0.03, 0, 0.42, 0.3, 0.55, 0.04, fade=1),
                    Ring(3, 0.5, 0.2, 88, -10, 0.05, 0.2, 0.2, 0.2, 1.35, 0.02, fade=1),
                    8,
                ),
            ),
            tilt_deg=(22, 0, 80),
        ),
    ),
    "sunflowers": (
        Form(
            (
                "ffc61a f09a08",
                "ffe14a f5b81c",
                "f59a1c c8560c",
                "b8401c 7c1e10",
                "fff0a8 f3cf58",
                "ffd21a a8440c",
            ),
            (
                sepals(14, 0.55, -8),
                Ring(18, 0.6, 0.125, 0, -8, 0.42, base=0.4, tip=0.75, cup_rad=0.4, fade=0.7),
                Ring(17, 0.52, 0.115, 14, -14, 0.42, 0.03, base=0.4, tip=0.75, cup_rad=0.4, fade=0.7),
            ),
            Disc(0.47, 0.09, 300, "6a5a26 3a2210 2c170c 5e3a14 9c6a1e"),
            leaf="heart",
        ),
    ),
    "tulips": (
        Form(
            (
                "e0263c f0a030",
                "f784b0 fbe3ea",
                "fbd22c f0e27a",
                "fffaf2 e6ecc8",
                "7c3a94 b88ac8",
                "f58a2c fbd060",
            ),
            (
                Ring(3, 1.6, 0.44, 38, 62, 0.02, 0.03, 0.42, 0.5, 1.0, fade=0.7),
                Ring(3, 1.55, 0.46, 32, 64, 0.04, 0, 0.42, 0.5, 1.0, fade=0.7),
                Ring(6, 0.5, 0.03, 80, 0, 0.03, 0.02, 0.2, 0.2, tint=-1),
            ),
            tilt_deg=(76, 8, 92),
            leaf="strap",
        ),
    ),
    "daffodil": (
        Form(
            ("fde04a f7cc2a f79a1c e87c10", "fffdf0 f6f0d0 f9c832 f0a018", "fff6c0 f4e48a fbe04a f2bc20"),
            (
                Ring(6, 0.98, 0.34, 4, -8, 0.05, base=0.5, tip=0.55, cup_rad=0.25),
                Ring(7, 0.55, 0.16, 84, -34, 0.16, 0.02, 0.1, 0.05, 0.45, 0.08, 0.06, tint=1),
            ),
            tilt_deg=(30, 0, 85),
            leaf="strap",
        ),
    ),
    "snowdrop": (
        Form(
            ("ffffff e8f0dc 8ab05a ffffff", "fbfbf4 d8e4c0 6a9a48 f4f8ea"),
            (
                Ring(3, 0.7, 0.24, 88, 4, 0.06, 0, 0.2, 0.2, 0.8, notch=0.1, tint=1),
                Ring(3, 1.25, 0.34, 62, -12, 0.04, 0, 0.7, 0.45, 0.6),
                sepals(5, 0.3, 80, -0.2),
            ),
            stand="nodding",
            tilt_deg=(84, 60, 95),
            leaf="strap",
        ),
    ),
    "bluebell": (
        Form(
            ("6a78d8 4450b0", "8a6ad0 5a40a0", "f0e8fa c8b8e0", "e8a0c8 c070a0"),
            (Ring(6, 1.4, 0.26, 74, -60, 0.1, 0, 0.15, 0.5, 0.8),),
            stand="bells",
            leaf="strap",
        ),
    ),
    "crocus": (
        Form(
            ("8a4cc0 b48ad8 f59a1c f59a1c", "fbc02a f5a81c f58a1c e87010", "f6f0fa d0c0e8 f8a82c f59a1c"),
            (
                Ring(3, 0.4, 0.05, 80, -20, 0.02, 0.3, 0.6, 0.1, tint=1),
                Ring(3, 1.5, 0.42, 56, 22, 0.02, 0, 0.9, 0.5, 0.7),
                Ring(3, 1.5, 0.42, 48, 22, 0.03, 0, 0.9, 0.5, 0.7),
            ),
            tilt_deg=(50, 5, 85),
            leaf="strap",
        ),
    ),
    "iris": (
        Form(
            ("5a3ab8 f5d24a 8a6ad8 b8a0e8", "e8b030 6a2a14 fbe07a f5c83a", "f4f0fa f5d24a b8c4f0 e0e4fa"),
            (
                Ring(3, 1.15, 0.4, 42, -150, 0.04, 0, 0.9, 0.3, 0.4, 0.08, fade=0.45),
                Ring(3, 1.1, 0.38, 78, 40, 0.04, 0.03, 0.9, 0.35, 0.7, 0.09, tint=1),
            ),
            tilt_deg=(62, 15, 85),
            leaf="strap",
        ),
    ),
    "tigerlily": (
        Form(
            ("f07a20 f8a83a 7a3a18 d8b060", "fbd04a f5b030 7a3a18 d8b060", "f8c0d0 f0e0c0 a85a30 e0d0a0"),
            (
                Ring(6, 1.3, 0.2, 48, -150, 0.05, 0, 0.6, 0.8, 0.3, 0.04, spots=0.16),
                Ring(6, 0.8, 0.025, 62, -20, 0.03, 0.02, 0.2, 0.1, tint=1),
            ),
            tilt_deg=(40, 0, 80),
            leaf="strap",
        ),
    ),
    "buttercup": (
        Form(
            ("fbe02a f0c010", "fff27a f5dc3a", "fffef0 f5ecb0"),
            (sepals(5, 0.4, 5), Ring(5, 0.98, 0.52, 24, 14, 0.05, base=0.6, tip=0.22, cup_rad=0.5)),
            Disc(0.22, 0.16, 60, "b8a81c e8c41c fbe04a"),
            tilt_deg=(25, 0, 75),
            leaf="lobed",
        ),
    ),
    "windflower": (
        Form(
            ("fdfbff e4dcf0", "6a58c8 f4f0fa", "d8304a fbe8ea", "e070a8 fae4f0"),
            (Ring(4, 0.98, 0.36, 4, 6, 0.06, tip=0.35), Ring(4, 0.9, 0.34, 12, 6, 0.06, 0.02, tip=0.35)),
            Disc(0.2, 0.14, 70, "22203a 3a3658 1a1a2c d8d0a0"),
            leaf="lobed",
        ),
    ),
    "pansy": (
        Form(
            ("6a3ab0 3a1454 fbd23a 3a1430", "fbd23a 4a1830 fbe27a 5a2030", "f8f4fa 4a2070 8a5ac8 3a1450"),
            (
                Ring(2, 0.95, 0.6, 0, -5, 0.03, base=0.5, tip=0.2, ruffle=0.05, tint=1, fade=0.5),
                Ring(3, 0.9, 0.55, 6, -8, 0.03, 0.03, 0.5, 0.2, 0.1, 0.05, 0.08, fade=0.6),
            ),
            Disc(0.07, 0.05, 12, "f8e04a f0c020"),
            tilt_deg=(10, 0, 60),
        ),
    ),
    "poppy": (
        Form(
            ("e8301c 2a0c10", "fb8a2a f0c020", "fbf6ee e8dca0", "f0a0a8 3a1020", "fbd83a f0a81c"),
            (
                Ring(2, 0.98, 0.8, 20, 10, 0.02, 0, 0.55, 0.12, 0.6, 0.07, fade=0.35),
                Ring(2, 0.9, 0.72, 34, 12, 0.02, 0.02, 0.55, 0.12, 0.7, 0.07, fade=0.35),
                Ring(26, 0.3, 0.015, 40, 0, 0.12, 0.05, 2.5, 0.05, tint=0),
            ),
            Disc(0.15, 0.2, 40, "8a9a5a 6a7a44 4a5a30"),
            tilt_deg=(30, 0, 88),
            leaf="lobed",
        ),
    ),
    "cornflower": (
        Form(
            ("3a5ae0 2a3aa8 5a2a90 3a1a60", "e87ab8 b84888 a83a7a 6a2050", "f8f8fc d8dce8 b8a0c8 8a70a0"),
            (
                sepals(8, 0.4, 60, -0.2),
                Ring(11, 0.85, 0.17, 16, -14, 0.14, base=1.6, tip=0.08, cup_rad=0.8, fringe=0.4),
                *layers(
                    Ring(12, 0.4, 0.03, 50, start=0.08, base=0.5, tip=0.3, tint=1),
                    Ring(7, 0.3, 0.03, 80, start=0.03, base=0.5, tip=0.3, tint=1),
                    2,
                ),
            ),
            tilt_deg=(35, 0, 85),
            leaf="strap",
        ),
    ),
    "lavender": (
        Form(
            ("8a6ac8 5a3a98", "b8a0e0 7a5ab0", "f0e8f8 b8b0c8"),
            (sepals(5, 0.8, 75), Ring(5, 1.0, 0.3, 40, -40, 0.1, tip=0.3)),
            stand="spike",
            leaf="strap",
        ),
    ),
    "lily_of_the_valley": (
        Form(
            ("ffffff e8eed8", "f8e0e8 e8b8c8"),
            (Ring(6, 1.3, 0.52, 20, 70, 0.05, 0, 0.3, 0.1, 0.8), Ring(6, 0.4, 0.2, 0, -90, 0.6, 0.9)),
            stand="bells",
            leaf="oval",
        ),
    ),
    "hydrangea": (
        Form(
            ("8aa0e8 d8e0f8", "e88ab8 fae0ec", "f4f8ea d0e0b0", "b08ad8 e8dcf6"),
            (Ring(4, 0.98, 0.52, 6, -6, 0.03, tip=0.3, cup_rad=0.2),),
            Disc(0.12, 0.1, 8, "e8e0b0 c8c890"),
            stand="globe",
        ),
    ),
    "marigold": (
        Form(
            ("f88a10 e05a08", "fbd02a f0a010", "c8401c 8a1c10", "fff2b0 f0d870"),
            (
                sepals(9, 0.5, 20),
                *layers(
                    Ring(13, 0.95, 0.2, 4, -10, 0.05, 0, 0.5, 0.12, 0.5, 0.05, 0.1),
                    Ring(5, 0.35, 0.12, 70, 10, 0.04, 0.15, 0.5, 0.12, 0.8, 0.06, 0.1),
                    5,
                ),
            ),
            leaf="lobed",
        ),
    ),
    "coneflower": (
        Form(
            ("d868a8 a8407a", "f8f4ee e0e4d0", "fbc83a e8901c", "e8582a b83018"),
            (Ring(14, 0.75, 0.13, -18, -22, 0.26, 0, 0.3, 0.3, 0.3, notch=0.06),),
            Disc(0.3, 0.3, 130, "7a8a2a c8641c a83c14 e8842a"),
            tilt_deg=(50, 10, 80),
        ),
    ),
}


def rgb(colours: str) -> Array:
    """Read space-separated hex colours into an array (N,3) in [0, 1]."""
    return np.array([list(bytes.fromhex(c)) for c in colours.split()], dtype=np.float64) / 255


def rounded(t: Array) -> Array:
    """Space points along a petal more closely towards its tip, so that the tip is round."""
    return 1 - (1 - t) ** 1.4


def petals(ring: Ring, rng: np.random.Generator, bend: float, n_along: int, n_across: int) -> Array:
    """Lay out the petals of a ring.

    Args:
        ring: What they look like.
        rng: Source of their irregularity.
        bend: How irregular and wilted they are, in [0, 1].
        n_along: Quads from base to tip.
        n_across: Quads from edge to edge.

    Returns:
        Corners (petal, n_along+1, n_across+1, 3) in the blossom's own axes, in blossom radii.
    """
    n = max(1, round(ring.count))
    u, v = rounded(np.arange(n_along + 1) / n_along)[:, None], np.linspace(-1, 1, n_across + 1)[None, :]

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
    aside = half * np.sin(arc) / max(ring.cup_rad, 0.01) + uneven(0.03 + 0.18 * bend) * u**2
    inward = half * (1 - np.cos(arc)) / max(ring.cup_rad, 0.01)
    inward = inward + (ring.ruffle + 0.05 * bend) * u**2 * np.sin(v * 4 + u * 5 + uneven(3.0)) * abs(v)
    out, up = out - inward * np.sin(rise), up + inward * np.cos(rise)
    turn = 2 * np.pi * (np.arange(n)[:, None, None] / n + uneven((0.08 + 0.2 * bend) / n)) + rng.uniform(0, 7)
    x, y = out * np.cos(turn) - aside * np.sin(turn), out * np.sin(turn) + aside * np.cos(turn)
    return np.stack([x, y, np.broadcast_to(up, x.shape)], -1)


def view(points: Array, tilt_rad: float, roll_rad: float, perspective: float) -> Array:
    """Turn points of a blossom into the viewer's axes: x right, y up, z to the viewer."""
    x, y, z = np.moveaxis(points, -1, 0)
    up, near = y * np.cos(tilt_rad) + z * np.sin(tilt_rad), z * np.cos(tilt_rad) - y * np.sin(tilt_rad)
    turned = np.stack([x * np.cos(roll_rad) - up * np.sin(roll_rad), x * np.sin(roll_rad) + up * np.cos(roll_rad)])
    return np.stack([*(turned / (1 - perspective * np.clip(near, -1, 1))), near], -1)


def shaded(seen: Array, colour: Array) -> Array:
    """Light quads by Lambert's law; shade is warm, because petals let light through."""
    first, second = (
        seen[..., 1:, 1:, :] - seen[..., :-1, :-1, :],
        seen[..., 1:, :-1, :] - seen[..., :-1, 1:, :],
    )
    normal = np.cross(first, second)
    back = normal[..., 2:] < 0
    normal *= np.where(back, -1, 1) / (np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9)
    light = 0.7 + 0.46 * np.clip(normal @ LIGHT, 0, 1)[..., None]
    return np.where(back, 0.86 * colour + 0.05, colour) * light ** np.array([0.85, 1.0, 1.15])


def quads(seen: Array, colour: Array, nearer: float) -> Polygons:
    """Turn a mesh (I+1,J+1,3) into its quads, the farthest first, with colours (I,J,3)."""
    ring = [seen[:-1, :-1], seen[:-1, 1:], seen[1:, 1:], seen[1:, :-1]]
    corners = np.stack([c[..., :2] for c in ring], 2).reshape(-1, 8)
    order = np.argsort(np.sum([c[..., 2] for c in ring], axis=0).ravel())
    fills = (np.clip(colour, 0, 1).reshape(-1, 3)[order] * 255).astype(int)
    return float(seen[..., 2].mean()) + nearer, corners[order].tolist(), [tuple(f) for f in fills.tolist()]


def florets(disc: Disc, rng: np.random.Generator, density: float) -> tuple[Array, Array]:
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
    rings: tuple[Ring, ...],
    disc: Disc | None,
    colours: Array,
    rng: np.random.Generator,
    *,
    centre_px: tuple[float, float],
    radius_px: float,
    tilt_deg: float,
    roll_deg: float,
    bend: float,
) -> tuple[float, float]:
    """Draw one blossom head, its projection centred and scaled to its radius.

    Args:
        pen: Draws on the canvas.
        rings: The petals.
        disc: The florets in the middle, if there are any.
        colours: Tip and base of each tint in turn (2 x tints, 3), in [0, 1].
        rng: Source of its irregularity.
        centre_px: Where its middle lies.
        radius_px: Half its larger extent.
        tilt_deg: Angle between its axis and the line of sight; 0 is frontal, 90 from the side.
        roll_deg: Counterclockwise turn in the image.
        bend: How irregular and wilted it is, in [0, 1].

    Returns:
        Where the stem begins, in pixels.
    """
    tilt_rad, roll_rad, fine = np.radians(tilt_deg), np.radians(roll_deg), min(1.0, radius_px / 70)
    meshes: list[tuple[Array, Array]] = []
    cells = np.clip(1500 * fine / sum(ring.count for ring in rings), 6, 200)  # few petals are drawn more finely
    for ring in rings:
        n_across = 2 * max(1, round(np.sqrt(cells * min(1.2, 4 * ring.width / ring.length)) / 2))
        n_along = int(np.clip(cells / n_across, 3, 16))
        corners = view(petals(ring, rng, bend, n_along, n_across), tilt_rad, roll_rad, 0.1 + 0.2 * bend)
        tip, base = rgb(GREEN) if ring.tint < 0 else colours[2 * ring.tint : 2 * ring.tint + 2]
        along = rounded((np.arange(n_along) + 0.5) / n_along)[:, None]
        mix = np.clip(along / ring.fade, 0, 1)[:, None] ** 1.3
        streak = rng.normal(1, 0.035, (len(corners), 1, n_across, 1)) * rng.normal(1, 0.03, (len(corners), 1, 1, 1))
        colour = (base + (tip - base) * mix) * streak * (0.84 + 0.16 * along[:, None] ** 0.6)
        if n_across > 2:
            colour[:, :, [0, -1]] *= 0.93  # a darker edge sets a petal off against its neighbour
        colour *= 1 + 0.14 * along[:, None] ** 6  # and so does a rim that catches the light
        dark = rng.random(colour.shape[:3]) < ring.spots
        colour = np.where(dark[..., None], colour * 0.45, colour)
        withered = (bend * rng.random((len(corners), 1, 1, 1)) ** 3 * along[:, None] ** 4) * 0.9
        colour = colour + withered * (rgb("8a6434") - colour)
        meshes.append((corners, shaded(corners, colour)))
    every = np.concatenate([corners[..., :2].reshape(-1, 2) for corners, _ in meshes])
    low, high = every.min(0), every.max(0)
    scale = radius_px * 2 / max(high - low)
    shift, flip = (low + high) / 2, np.array([1, -1])

    def place(seen: Array) -> Array:
        flat = np.asarray(centre_px) + (seen[..., :2] - shift) * flip * scale
        return np.concatenate([flat, seen[..., 2:]], -1)

    parts = [
        quads(place(c), f, -1.0 if ring.tint < 0 and ring.lift < 0 else 0.0)  # the petals hide their sepals
        for ring, (corners, fills) in zip(rings, meshes, strict=True)
        for c, f in zip(corners, fills, strict=True)
    ]
    if disc is not None:
        hexagons, fills = florets(disc, rng, max(0.3, fine))
        seen = place(view(hexagons, tilt_rad, roll_rad, 0.1 + 0.2 * bend))
        order = np.argsort(seen[..., 2].mean(1))
        flat, inks = (
            seen[order, :, :2].reshape(-1, 12).tolist(),
            (np.clip(fills[order], 0, 1) * 255).astype(int),
        )
        parts.append((float(seen[..., 2].mean()), flat, [tuple(i) for i in inks.tolist()]))
    for _, polygons, fills_of in sorted(parts, key=lambda part: part[0]):
        for polygon, ink in zip(polygons, fills_of, strict=True):
            pen.polygon(polygon, fill=ink)
    foot = place(view(np.zeros(3), tilt_rad, roll_rad, 0.0))
    return float(foot[0]), float(foot[1])
