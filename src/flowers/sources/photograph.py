"""Decode one photograph, whatever kind of file it is, to upright RGB.

A damaged file raises a :class:`PhotographError` that says what is wrong; callers see no other error or warning of a
decoder.
"""

import contextlib
import ctypes
import logging
import os
import struct
import threading
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", *(["HEIF"] if pillow_heif else []))
"""Formats that are opened. Pillow knows more, some of which start another program (EPS calls Ghostscript)."""
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
"""Bytes 8 to 11 of the photographs of many telephones."""
LARGEST_PX = 89_478_485
"""Pixels from which Pillow suspects a decompression bomb: 256 MiB of RGB."""


def _silence_libtiff() -> None:
    """Keep libtiff from writing to stderr, since Pillow raises the same; other builds of Pillow are left alone."""
    for library in (Path(PIL.__file__).parents[1] / "pillow.libs").glob("libtiff*"):
        with contextlib.suppress(OSError, AttributeError):
            tiff = ctypes.CDLL(str(library))  # Pillow's own, which is loaded once in a process
            tiff.TIFFSetErrorHandler(None)
            tiff.TIFFSetWarningHandler(None)


_silence_libtiff()
logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it logs as an error it raises as well


class PhotographError(Exception):
    """A file is no usable photograph; the text is the reason, a part of a sentence."""


class _QuietPillow:
    """Mutes Pillow's warnings while any thread is inside.

    ``warnings.catch_warnings`` alone is not enough: filters belong to the process, and threads that leave in another
    order than they entered would restore the wrong ones. The warnings are about the size, which is checked here, or
    harmless (broken EXIF, while the pixels are good).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outer = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._outer = warnings.catch_warnings()
                self._outer.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._outer.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()


def open_rgb(source: Path | BinaryIO, shorter_px: int | None = None) -> Image.Image:
    """Decode a photograph, upright, with white where it is transparent.

    Colour profiles are not applied. An animation gives its first image, and 16 bits per channel give their upper 8.

    Args:
        source: The file, or a stream at its beginning.
        shorter_px: If given, a large JPEG may be returned 2, 4 or 8 times smaller, its shorter side at least this:
            libjpeg then computes fewer frequencies (1024 px to 224: 330 a second instead of 140, mean difference 0.3 of
            255). Every byte is still read, so that damage is still found.

    Returns:
        The photograph in mode RGB.

    Raises:
        PhotographError: The file cannot be read or decoded completely.
    """
    return decode(source, shorter_px)[0]


def decode(source: Path | BinaryIO, shorter_px: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Do the work of :func:`open_rgb`; return also the upright photograph's width and height."""
    try:
        with _quiet_pillow, Image.open(source, formats=FORMATS) as image:
            width_px, height_px = image.size
            if width_px * height_px > LARGEST_PX:
                raise Image.DecompressionBombError
            if shorter_px is not None:
                image.draft(None, (shorter_px, shorter_px))
            image.load()
            try:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
                ImageOps.exif_transpose(image, in_place=True)
            except Exception:  # broken EXIF raises nearly anything; the pixels are good
                turned = False
            return _flatten(image), (height_px, width_px) if turned else (width_px, height_px)
    except (PhotographError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise PhotographError(f"larger than {LARGEST_PX // 1_000_000} megapixels") from None
    except UnidentifiedImageError:
        if pillow_heif is None and _is_heif(source):
            raise PhotographError("a HEIC file: pip install pillow-heif, or save it as JPEG") from None
        raise PhotographError("not an image in a known format, or cut off in its header") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotographError(f"cannot be read: {os.strerror(error.errno)}") from error
        cut_off = isinstance(error, EOFError | struct.error) or "truncated" in str(error).lower()
        text = " ".join(str(error).split()) or type(error).__name__
        raise PhotographError(f"{'truncated' if cut_off else 'damaged'}: {text}") from error


def read_size(path: Path) -> tuple[int, int] | None:
    """Read from a photograph's header how wide and high it is, whichever way is up; None if it has no such header."""
    try:
        with _quiet_pillow, Image.open(path, formats=FORMATS) as image:
            return image.size
    except Exception:  # as above
        return None


def _is_heif(source: Path | BinaryIO) -> bool:
    """Whether a file's first bytes are those of a HEIF file."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return _is_heif(stream)
    source.seek(0)
    start = source.read(12)
    return start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS


def _flatten(image: Image.Image) -> Image.Image:
    """Convert an image of any of Pillow's modes to RGB."""
    # Pillow's own conversion clips at 255, which would make a 16-bit photograph white.
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(samples.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PhotographError("its samples are floating-point numbers of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
