"""The colours that a file means, as RGB: by the colour profile (ICC) that it carries or names."""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""What a profile is made for, in the words of LittleCMS and of Pillow."""
_BLACK_GREY_WHITE = {
    "RGB": bytes((0, 0, 0, 128, 128, 128, 255, 255, 255)),
    "L": bytes((0, 128, 255)),
    "CMYK": bytes((0, 0, 0, 255, 0, 0, 0, 128, 0, 0, 0, 0)),
    "LAB": bytes((0, 128, 128, 128, 128, 128, 255, 128, 128)),
}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_SAME, _SAME_IF_NAMED = 3, 16
"""Of 255: by so much a profile of sRGB may differ from it, and one that says that it is sRGB: some have an exponent
instead of its curve. Pixels that are meant as sRGB keep their bits."""


_ADOBE_RGB = Path(__file__).with_name("adobe_rgb.icc").read_bytes()
"""Adobe RGB (1998), with one exponent; written by `tests/sources/test_colour.py` from the primary colours."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any of Pillow's modes to RGB, in sRGB, with white where it is transparent.

    Args:
        image: With ``info`` as it was opened. Integers; of 16 bits per sample the upper 8 are taken.
    """
    # Pillow's own conversion clips at 255, which would make a 16-bit photograph white.
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        profile = image.info.get("icc_profile")
        image = Image.fromarray(samples.astype(np.uint8))
        image.info["icc_profile"] = profile
    image = _to_srgb(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert the colours of an image by its profile; whether it is transparent stays.

    A camera that is set to Adobe RGB does not write a profile but an EXIF entry (DCF 2.0, "R03"). What carries neither
    is taken for sRGB, and so is what has a profile that is damaged, made for another kind of image, or absurd (white
    becomes dark, or black bright).

    Args:
        image: With ``info`` as it was opened. Any of Pillow's modes with 8 bits.

    Returns:
        In mode RGB or RGBA; the image itself if there is nothing to convert.
    """
    profile = image.info.get("icc_profile") or (_ADOBE_RGB if _is_adobe_rgb(image) else None)
    found = _transform(profile) if profile else None
    if found is None:
        return image
    mode, transform = found
    fits = image.mode not in ("CMYK", "LAB") if mode == "RGB" else image.mode in (mode, f"{mode}A")
    if not fits:
        return image
    opacity = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    colours = image if opacity is None or mode == "L" else image.convert("RGBA")
    result = transform.apply(colours.convert(mode))
    if opacity is not None:
        result.putalpha(opacity)
    return result


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Tell whether a camera says so; the bytes are looked for first, as reading EXIF takes a while."""
    try:
        named = b"R03" in image.info.get("exif", b"")
        return named and image.getexif().get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex) == "R03"
    except Exception:  # broken EXIF raises nearly anything
        return False


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """Make what converts from a profile, and the mode that it takes; None if pixels had better stay as they are."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[opened.profile.xcolor_space.strip()]
        exact, usual = (
            ImageCms.ImageCmsTransform(opened, _SRGB, mode, "RGB", intent)
            for intent in (ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Intent.PERCEPTUAL)
        )
    except Exception:  # LittleCMS and Pillow raise nearly anything on a damaged profile
        return None
    probe = Image.frombytes(mode, (3, 1), _BLACK_GREY_WHITE[mode])
    black, grey, white = np.asarray(usual.apply(probe), dtype=float)[0].mean(axis=1)
    if not (black < 96 and 8 < grey < 248 and white > 200):
        return None
    if mode == "RGB":
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        named = "srgb" in (opened.profile.profile_description or "").lower()
        gap = np.abs(np.asarray(exact.apply(Image.fromarray(cube)), dtype=int) - cube).max()
        if gap <= (_SAME_IF_NAMED if named else _SAME):
            return None
    return mode, usual
