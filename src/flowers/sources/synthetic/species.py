"""The table of rendered species: how the flower heads of each one are built."""

from dataclasses import fields

import numpy as np

from flowers.sources.synthetic.flower_head import Disc, Form, Ring


def interpolate_rings(outer: Ring, inner: Ring, n: int) -> tuple[Ring, ...]:
    """Make n rings that change evenly from the outermost to the innermost."""
    steps = np.linspace(0, 1, n)
    pairs = [(f.name, getattr(outer, f.name), getattr(inner, f.name)) for f in fields(Ring)]
    return tuple(
        Ring(**{name: outer.tint if name == "tint" else a + (b - a) * t for name, a, b in pairs}) for t in steps
    )


def sepals(count: float, length: float, rise_deg: float, lift: float = -0.06) -> Ring:
    """Describe a ring of green leaves under the petals."""
    return Ring(count, length, length * 0.3, rise_deg, start=0.04, lift=lift, base=0.3, tip=0.8, tint=-1)


SPECIES: dict[str, tuple[Form, ...]] = {
    "daisy": (
        Form(
            ("ffffff e9ecf2", "fbd3e0 ffffff", "f6e27a f3cf4a", "d9b8ea f4ecfa", "e0609c f7c3d8", "fff3d6 f2e3b0"),
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
                *interpolate_rings(
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
            interpolate_rings(
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
            ("e0243e 6e0618", "f7a4bc c43e6a", "fff8f0 dcb88a", "fddc58 dc8a10", "f9ac78 c84a24", "cc94d8 74408e"),
            (
                sepals(5, 0.55, -10),
                *interpolate_rings(
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
            ("ffc61a f09a08", "ffe14a f5b81c", "f59a1c c8560c", "b8401c 7c1e10", "fff0a8 f3cf58", "ffd21a a8440c"),
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
            ("e0263c f0a030", "f784b0 fbe3ea", "fbd22c f0e27a", "fffaf2 e6ecc8", "7c3a94 b88ac8", "f58a2c fbd060"),
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
            arrangement="nodding",
            tilt_deg=(84, 60, 95),
            leaf="strap",
        ),
    ),
    "bluebell": (
        Form(
            ("6a78d8 4450b0", "8a6ad0 5a40a0", "f0e8fa c8b8e0", "e8a0c8 c070a0"),
            (Ring(6, 1.4, 0.26, 74, -60, 0.1, 0, 0.15, 0.5, 0.8),),
            arrangement="bells",
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
                *interpolate_rings(
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
            arrangement="spike",
            leaf="strap",
        ),
    ),
    "lily_of_the_valley": (
        Form(
            ("ffffff e8eed8", "f8e0e8 e8b8c8"),
            (Ring(6, 1.3, 0.52, 20, 70, 0.05, 0, 0.3, 0.1, 0.8), Ring(6, 0.4, 0.2, 0, -90, 0.6, 0.9)),
            arrangement="bells",
            leaf="oval",
        ),
    ),
    "hydrangea": (
        Form(
            ("8aa0e8 d8e0f8", "e88ab8 fae0ec", "f4f8ea d0e0b0", "b08ad8 e8dcf6"),
            (Ring(4, 0.98, 0.52, 6, -6, 0.03, tip=0.3, cup_rad=0.2),),
            Disc(0.12, 0.1, 8, "e8e0b0 c8c890"),
            arrangement="globe",
        ),
    ),
    "marigold": (
        Form(
            ("f88a10 e05a08", "fbd02a f0a010", "c8401c 8a1c10", "fff2b0 f0d870"),
            (
                sepals(9, 0.5, 20),
                *interpolate_rings(
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
