"""A picture gives the same pixels in whatever colour space it was saved, and an sRGB one keeps its own."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from flowers.sources import colour
from flowers.sources.photograph import PhotographError, decode, open_rgb


def matrix_profile(red: tuple, green: tuple, blue: tuple, gamma: float) -> bytes:
    """Write the profile of a screen (ICC.1:2001-04, "three-component matrix-based display profiles").

    Args:
        red: X, Y and Z of the primary colour, adapted to the white D50.
        green: Likewise.
        blue: Likewise.
        gamma: Exponent from values to light.
    """
    colours = {b"wtpt": (0.9642, 1.0, 0.8249), b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue}
    tags = {
        name: struct.pack(">4s4x3i", b"XYZ ", *(round(65536 * part) for part in xyz)) for name, xyz in colours.items()
    }
    curve = struct.pack(">4s4xIH2x", b"curv", 1, round(256 * gamma))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4s2I", name, 132 + 12 * len(tags) + len(body), len(content))
        body += content
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4xI4s4s4s12x4s", size, 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return header.ljust(68, b"\0") + tags[b"wtpt"][8:] + bytes(48) + table + body


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
PROFILES = {
    "Display P3": matrix_profile(
        (0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), 2.2
    ),
    "Adobe RGB": matrix_profile(
        (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 2.2
    ),
    "ProPhoto": matrix_profile((0.79767, 0.28804, 0.0), (0.13519, 0.71187, 0.0), (0.03134, 0.00009, 0.82491), 1.8),
}
BLACK = matrix_profile((0, 0, 0), (0, 0, 0), (0, 0, 0), 2.2)
STEEP = matrix_profile((0.436, 0.222, 0.014), (0.385, 0.717, 0.097), (0.143, 0.061, 0.714), 50)


def picture(low: int = 60, high: int = 200) -> Image.Image:
    """Colours in the middle of all spaces, so that none is cut off."""
    levels = np.linspace(low, high, 6).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(12, 18, 3)
    return Image.fromarray(cube.repeat(8, axis=0).repeat(8, axis=1))


def converted(image: Image.Image, profile: bytes, mode: str = "RGB") -> Image.Image:
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    result = ImageCms.profileToProfile(image, SRGB, target, outputMode=mode)
    assert result is not None
    return result


def gap(found: Image.Image, wanted: Image.Image) -> int:
    return int(np.abs(np.asarray(found, dtype=int) - np.asarray(wanted, dtype=int)).max())


def saved(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [
        ("PNG", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 98, "subsampling": 0}, 4),
        ("AVIF", {"quality": 98, "subsampling": "4:4:4"}, 14),
    ],
)
def test_a_profile_is_applied(name: str, kind: str, options: dict[str, Any], most: int) -> None:
    image, profile = picture(), PROFILES[name]
    stream = saved(converted(image, profile), kind, icc_profile=profile, **options)
    assert gap(open_rgb(stream), image) <= most + (4 if name == "ProPhoto" else 2)
    stream.seek(0)
    assert gap(open_rgb(stream, 24), image.reduce(4) if kind == "JPEG" else image) <= most + 6


def test_a_photograph_of_a_telephone(tmp_path: Path) -> None:
    # picture() in Display P3, turned by 90 degrees as its EXIF says; encoded by pillow-heif 1.8.1
    content = Path(__file__).with_name("display_p3.heic").read_bytes()
    for name in ("IMG_1.HEIC", "IMG_1.jpg"):  # what it is, the content says
        (tmp_path / name).write_bytes(content)
        found, size, _ = decode(tmp_path / name, 40)
        assert size == picture().size
        assert gap(found, picture()) <= 4
    picture().save(tmp_path / "IMG_2.heic", "JPEG", quality=98, subsampling=0)
    assert gap(open_rgb(tmp_path / "IMG_2.heic"), picture()) <= 4
    for kept in (20, 200, len(content) // 2, len(content) - 9):
        with pytest.raises(PhotographError):
            open_rgb(io.BytesIO(content[:kept]))


def named(profile: bytes, name: bytes) -> bytes:
    """Add a description to a profile."""
    tags = int.from_bytes(profile[128:132]) + 1
    entries = list(struct.iter_unpack(">4s2I", profile[132 : 120 + 12 * tags]))
    content = struct.pack(">4s4xI", b"desc", len(name) + 1) + name + bytes(79)
    entries = [(tag, start + 12, size) for tag, start, size in entries]
    entries.append((b"desc", len(profile) + 12, len(content)))
    table = struct.pack(">I", tags) + b"".join(struct.pack(">4s2I", *entry) for entry in entries)
    whole = profile[4:128] + table + profile[120 + 12 * tags :] + content
    return struct.pack(">I", len(whole) + 4) + whole


def test_srgb_keeps_its_bits() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    tiny = matrix_profile((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410), 2.2)
    assert gap(open_rgb(saved(image, "PNG", icc_profile=tiny)), image) > 0  # an exponent is not sRGB's curve
    assert gap(open_rgb(saved(image, "PNG", icc_profile=named(tiny, b"Camera sRGB 4.0"))), image) == 0
    misnamed = named(PROFILES["Adobe RGB"], b"sRGB")
    assert gap(open_rgb(saved(image, "PNG", icc_profile=misnamed)), image) > 16
    for kind in ("PNG", "JPEG", "TIFF"):
        tagged = saved(image, kind, icc_profile=SRGB.tobytes())
        assert gap(open_rgb(tagged), open_rgb(saved(image, kind))) == 0


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        PROFILES["Display P3"][:200],
        PROFILES["Display P3"].replace(b"RGB ", b"CMYK"),
        PROFILES["Display P3"].replace(b"RGB ", b"GRAY"),
        BLACK,
        STEEP,
    ],
    ids=["text", "cut off", "for print", "for grey", "all black", "absurd"],
)
def test_a_profile_that_cannot_be_meant_is_ignored(profile: bytes) -> None:
    assert gap(open_rgb(saved(picture(), "PNG", icc_profile=profile)), picture()) == 0


def grey_profile(gamma: float) -> bytes:
    """Make a screen's profile one of grey."""
    return matrix_profile((0, 0, 0), (0, 0, 0), (0, 0, 0), gamma).replace(b"RGB ", b"GRAY").replace(b"rTRC", b"kTRC")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_grey(kind: str) -> None:
    grey, profile = picture().convert("L"), grey_profile(1.8)
    found = open_rgb(saved(converted(grey.convert("RGB"), profile, "L"), kind, icc_profile=profile))
    assert gap(found, grey.convert("RGB")) <= (6 if kind == "JPEG" else 2)
    # Photoshop saves grey with a profile of colours.
    tagged = open_rgb(saved(grey, kind, icc_profile=SRGB.tobytes()))
    assert gap(tagged, open_rgb(saved(grey, kind))) == 0
    light = open_rgb(saved(grey, kind, icc_profile=PROFILES["ProPhoto"]))
    assert np.asarray(light).mean() > np.asarray(grey).mean() + 5


def test_sixteen_bits_of_grey(tmp_path: Path) -> None:
    grey, profile = picture().convert("L"), grey_profile(1.8)
    samples = np.asarray(converted(grey.convert("RGB"), profile, "L")).astype(np.uint16) << 8
    stream = saved(Image.fromarray(samples), "TIFF", icc_profile=profile)
    assert gap(open_rgb(stream), grey.convert("RGB")) <= 2


def test_transparency_stays() -> None:
    image, profile = picture(), PROFILES["Display P3"]
    wide = converted(image, profile)
    wide.putalpha(Image.linear_gradient("L").resize(image.size))
    plain = image.copy()
    plain.putalpha(wide.getchannel("A"))
    found = open_rgb(saved(wide, "PNG", icc_profile=profile))
    assert gap(found, open_rgb(saved(plain, "PNG"))) <= 3
    palette = converted(image, profile).quantize(16)
    wanted = open_rgb(saved(palette.convert("RGB"), "PNG", icc_profile=profile))
    assert gap(open_rgb(saved(palette, "PNG", icc_profile=profile)), wanted) == 0
    cut_out = open_rgb(saved(palette, "PNG", icc_profile=profile, transparency=3))
    index = np.asarray(palette)
    assert (np.asarray(cut_out)[index == 3] == 255).all()
    assert (np.asarray(cut_out)[index != 3] == np.asarray(wanted)[index != 3]).all()


def print_profile() -> bytes:
    """Write a profile of inks (ICC.1:2001-04, lut8Type): grid of two points, L* falls with each ink, no colour."""
    grid = b"".join(
        bytes((max(0, 255 - 60 * (c + m + y) - 200 * k), 128 + 40 * (m - c), 128 + 40 * (y - c)))
        for c in (0, 1)
        for m in (0, 1)
        for y in (0, 1)
        for k in (0, 1)
    )
    line = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut += line * 4 + grid + line * 3
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    table = struct.pack(">I4s2I4s2I", 2, b"wtpt", 156, 20, b"A2B0", 176, len(lut))
    header = struct.pack(">I4xI4s4s4s12x4s", 176 + len(lut), 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    return header.ljust(68, b"\0") + white[8:] + bytes(48) + table + white + lut


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks(kind: str) -> None:
    inks = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    found = open_rgb(saved(inks, kind, icc_profile=print_profile()))
    lab = Image.new("LAB", (1, 1), (195, 88, 88))
    wanted = ImageCms.profileToProfile(lab, ImageCms.createProfile("LAB"), SRGB, outputMode="RGB")
    assert wanted is not None
    assert gap(found.crop((9, 9, 10, 10)), wanted) <= 4
    plain = open_rgb(saved(inks, kind))
    assert gap(open_rgb(saved(inks, kind, icc_profile=PROFILES["Adobe RGB"])), plain) == 0  # of another kind of image


def test_a_camera_set_to_adobe_rgb() -> None:
    assert PROFILES["Adobe RGB"] == colour._ADOBE_RGB
    image = picture()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03", 2: b"0100"}
    stored = converted(image, PROFILES["Adobe RGB"])
    options: dict[str, Any] = {"quality": 98, "subsampling": 0}
    assert gap(open_rgb(saved(stored, "JPEG", exif=exif, **options)), image) <= 6
    exif.get_ifd(0x8769)[0xA005] = {1: "R98"}
    assert gap(open_rgb(saved(stored, "JPEG", exif=exif, **options)), open_rgb(saved(stored, "JPEG", **options))) == 0
