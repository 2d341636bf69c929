"""Decode one photograph, whatever kind of file it is, to upright sRGB.

A damaged file raises a :class:`PhotographError` that says what is wrong; callers see no other error or warning of a
decoder. Which kind a file is, its content says and not its name.
"""

import contextlib
import ctypes
import io
import logging
import os
import re
import struct
import threading
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pi_heif
import PIL
import yaml
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from flowers.config.provenance import code_digest
from flowers.sources.colour import to_rgb

pi_heif.register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF", "JPEG2000", "PPM")
"""Formats that are opened. Pillow knows more, some of which start another program (EPS calls Ghostscript)."""
LARGEST_PX = 89_478_485
"""The most pixels that are decoded (256 MiB of RGB), beyond which Pillow suspects a decompression bomb."""
LARGEST_JPEG_PX = 4 * LARGEST_PX
"""The most pixels of a JPEG that is decoded at half its size or smaller; a progressive one is not: all of its
coefficients are held in memory, whatever the size."""
MOST_MISSING = 0.02
"""A JPEG may lack its end if no more than this share of the picture depends on it."""
MOST_PAGES = 100
"""Pages of a TIFF among which the largest is looked for."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a photograph upright, by its EXIF orientation."""
_ON_ITS_SIDE, _ENDS_LEFT, _ENDS_ABOVE = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
"""Orientations that exchange width and height, and in which an edge that is stored last becomes the left or the top."""
_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706  # tags of TIFF
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_TRIES = 3
"""Some noise happens to mean that nothing follows."""
_END_OF_JPEG = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # followed by 0 or a restart it belongs to what is coded
_PROGRESSIVE_FRAMES, _SCAN = (0xC2, 0xCA), 0xDA
_START_OF_CR2 = b"II*\0\x10\0\0\0CR\2"
_RAW = "camera raw (export it as JPEG)"
_OTHER_KINDS = yaml.safe_load(Path(__file__).with_name("other_kinds.yaml").read_text(encoding="utf-8"))
"""What else lies in folders of photographs: a pattern of how it begins, and words for it."""


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
    """Mutes Pillow's warnings, and lets it open what is checked here, while any thread is inside.

    ``warnings.catch_warnings`` alone is not enough: filters belong to the process, and threads that leave in another
    order than they entered would restore the wrong ones. The warnings are about the size, which is checked here, or
    harmless (broken EXIF, while the pixels are good).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outer = warnings.catch_warnings()
        self._limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._outer = warnings.catch_warnings()
                self._outer.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|pi_heif")
                self._limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
                Image.MAX_IMAGE_PIXELS = LARGEST_JPEG_PX // 2  # twice this is an error
                PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # 64 MiB, as all chunks together
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._outer.__exit__(None, None, None)
                Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = self._limits


_quiet_pillow = _QuietPillow()


def decoder_version() -> list[str]:
    """List what decoded pixels depend on beside the file; what is kept of them is named after it."""
    files = ("photograph.py", "other_kinds.yaml", "colour.py", "adobe_rgb.icc")
    return [PIL.__version__, pi_heif.__version__, code_digest(*(f"sources/{file}" for file in files))]


def open_rgb(source: Path | BinaryIO, shorter_px: int | None = None, min_side_px: int = 1) -> Image.Image:
    """Decode a photograph, upright, in sRGB, with white where it is transparent.

    A colour profile (ICC) is applied; what PNG (gAMA, cHRM, cICP), HEIC and AVIF (nclx) say beside one is not. An
    animation gives its first image, a TIFF the largest of its pages, and 16 bits per channel give their upper 8. A JPEG
    that lacks its last bytes is decoded if at most :data:`MOST_MISSING` of the picture depends on them. One that was
    cut and then closed is refused, except for a progressive one that was cut in its last scan: there some details are
    less fine.

    Args:
        source: The file, or a stream at its beginning.
        shorter_px: If given, a large JPEG may be returned 2, 4 or 8 times smaller, its shorter side at least this:
            libjpeg then computes fewer frequencies (1024 px to 224: 330 a second instead of 140, mean difference 0.3 of
            255). Every byte is still read, so that damage is still found.
        min_side_px: A photograph with a shorter side than this is refused.

    Returns:
        The photograph in mode RGB.

    Raises:
        PhotographError: The file cannot be read or decoded completely, or is too small or too large.
    """
    return decode(source, shorter_px, min_side_px).image


class Decoded(NamedTuple):
    """A photograph, upright."""

    image: Image.Image
    """In mode RGB, sRGB."""
    size: tuple[int, int]
    """Width and height of the photograph in pixels."""
    box: tuple[float, float, float, float]
    """Its left, top, right and bottom edge in the image, as :meth:`PIL.Image.Image.resize` takes them: one that is
    decoded at half its size, say, may end within a pixel."""


def decode(source: Path | BinaryIO, shorter_px: int | None, min_side_px: int = 1) -> Decoded:
    """Do the work of :func:`open_rgb`; return also what is needed to resize the image exactly."""
    try:
        with _quiet_pillow:
            try:
                return _decode(source, shorter_px, min_side_px)
            except OSError as error:
                if "truncated" not in str(error):
                    raise
                return _decode(_ended(source, error), shorter_px, min_side_px, is_whole=True)
    except (PhotographError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise PhotographError(f"larger than {LARGEST_JPEG_PX // 1_000_000} megapixels") from None
    except UnidentifiedImageError:
        raise PhotographError(_describe(source)) from None
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
    except Exception:  # Pillow's decoders raise nearly anything
        return None


def _decode(source: Path | BinaryIO, shorter_px: int | None, min_side_px: int, is_whole: bool = False) -> Decoded:
    """Decode a file that is as it should be."""
    with Image.open(source, formats=FORMATS) as image:
        if isinstance(image, TiffImagePlugin.TiffImageFile) and (page := _largest_page(image, source)):
            image.seek(page)
        if image.format == "HEIF":
            _check_boxes(source)
        (width_px, height_px), scale = image.size, 1.0
        if shorter_px is not None and (draft := image.draft(None, (shorter_px, shorter_px))):
            scale = draft[1][2] / width_px
        largest_px = LARGEST_JPEG_PX if scale < 1 and "progressive" not in image.info else LARGEST_PX
        if width_px * height_px > largest_px:
            raise PhotographError(f"larger than {largest_px // 1_000_000} megapixels")
        if min(width_px, height_px) < min_side_px:
            raise PhotographError(f"{width_px} x {height_px} pixels, a side is below data.min_side_px={min_side_px}")
        check_samples(image)
        image.load()
        if image.format in ("JPEG", "MPO") and not is_whole and _ends_without_data(image):
            raise OSError("image file is truncated, though it has an end")
        if "progressive" in image.info and not _has_all_scans(source):
            raise PhotographError("truncated: details of the whole picture are missing")
        try:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:  # broken EXIF raises nearly anything; the pixels are good
            orientation = 1
        upright = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
        if orientation in _ON_ITS_SIDE:
            width_px, height_px = height_px, width_px
        wide, high = scale * width_px, scale * height_px
        left = upright.width - wide if orientation in _ENDS_LEFT else 0
        top = upright.height - high if orientation in _ENDS_ABOVE else 0
        return Decoded(to_rgb(upright), (width_px, height_px), (left, top, left + wide, top + high))


def check_samples(image: Image.Image) -> None:
    """Refuse samples whose range is not known, or is taken for another one by Pillow.

    Raises:
        PhotographError: They are so.
    """
    if image.mode == "F":
        raise PhotographError("its samples are floating-point numbers of unknown range")
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode.startswith("I"):
        bits, kind = image.tag_v2.get(_BITS, (16,)), image.tag_v2.get(_SAMPLE_FORMAT, (1,))
        if bits not in (16, (16,)) or kind not in (1, (1,)) or image.tag_v2.get(_PHOTOMETRIC) == 0:
            raise PhotographError("a grey TIFF of 12, 32 or signed bits, or with white as 0 (export it with 8 bits)")


def _largest_page(image: TiffImagePlugin.TiffImageFile, source: Path | BinaryIO) -> int:
    """Find the largest page of a TIFF, as the first one may be a thumbnail; of equal ones the first.

    Raises:
        PhotographError: It is camera raw, whose pages are previews.
    """
    assert image.fp is not None
    image.fp.seek(0)
    kind = image.tag_v2.get(_NEW_SUBFILE_TYPE)
    is_preview = isinstance(kind, int) and bool(kind & 1) and _SUB_IFDS in image.tag_v2
    if is_preview or _DNG_VERSION in image.tag_v2 or image.fp.read(11) == _START_OF_CR2:
        raise PhotographError(f"not an image in a known format, but {_RAW}")
    sizes = [image.width * image.height]
    if image.is_animated:
        with contextlib.suppress(Exception), _rewound(source) as stream, Image.open(stream, formats=["TIFF"]) as pages:
            for page in range(1, MOST_PAGES):
                pages.seek(page)
                sizes.append(pages.width * pages.height)
    return sizes.index(max(sizes))


def _check_boxes(source: Path | BinaryIO) -> None:
    """Refuse a HEIC file that is cut off: libheif makes green what is missing.

    Raises:
        PhotographError: A box of the file (ISO/IEC 14496-12, 4.2) reaches beyond its end.
    """
    with _rewound(source) as stream:
        end, start = stream.seek(0, os.SEEK_END), 0
        while start < end:
            stream.seek(start)
            size, kind, large_size = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
            if size == 0:  # up to the end
                break
            start += max(large_size if size == 1 else size, 8)
            if start > end and kind in (b"meta", b"mdat"):
                raise PhotographError(f"truncated: {start - end} bytes of the picture are missing")


def _rewound(source: Path | BinaryIO) -> contextlib.AbstractContextManager[BinaryIO]:
    """Read a file once more from its beginning; what is open stays open."""
    if isinstance(source, Path):
        return source.open("rb")
    source.seek(0)
    return contextlib.nullcontext(source)


def _ended(source: Path | BinaryIO, error: OSError) -> io.BytesIO:
    """Give a JPEG the end that it lacks, if hardly anything of the picture depends on what is missing.

    Where libjpeg has no data, a picture is grey, or in a progressive JPEG coarse. How much of it depends on the missing
    bytes is seen by putting noise in their place.

    Args:
        source: The file, or a stream.
        error: What is raised if the file is no JPEG.

    Raises:
        PhotographError: Too much is missing.
    """
    with _rewound(source) as stream:
        content = stream.read()
    if not content.startswith(b"\xff\xd8\xff"):
        raise error
    content = content.rstrip(b"\0")  # space that was never filled
    has_end, content = content.endswith(_END_OF_JPEG), content.removesuffix(_END_OF_JPEG)
    # Without 255, which begins a marker. The zero ends a marker that was cut in two.
    noise = np.random.default_rng(0).integers(0, 255, (_TRIES, len(content)), dtype=np.uint8)
    pictures = []
    for tail in (*(b"\0" + row.tobytes() for row in noise), b""):
        with Image.open(io.BytesIO(content + tail + _END_OF_JPEG), formats=["JPEG"]) as image:
            image.draft(None, (1024, 1024))
            pictures.append(np.atleast_3d(np.asarray(image)))
            empty = _without_data(image)
    depends = (np.stack(pictures[:-1]) != pictures[-1]).any(axis=(0, 3))
    missing = (depends | empty).mean() if depends.any() or not has_end else 0  # else it was grey from the beginning
    if missing > MOST_MISSING:
        raise PhotographError(f"truncated: {100 * missing:.0f} % of the picture is missing") from error
    return io.BytesIO(content + _END_OF_JPEG)


def _has_all_scans(source: Path | BinaryIO) -> bool:
    """Tell whether each coefficient of a progressive JPEG has a scan that completes it (ITU-T T.81, annexes B and G).

    What comes behind its end, another picture or a film, is passed over.
    """
    with _rewound(source) as stream:
        content = stream.read()
    complete, wanted, place = set(), 0, 2
    while (marker := _MARKER.search(content, place)) and marker[0] != _END_OF_JPEG:
        kind, start = marker[0][1], marker.end()
        place = start + int.from_bytes(content[start : start + 2])
        segment = content[start + 2 : place]
        if kind in _PROGRESSIVE_FRAMES:
            wanted = 64 * segment[5]
        elif kind == _SCAN and segment[-1] & 15 == 0:  # the lowest bit is there
            first, last = segment[-3:-1]
            complete |= {(component, index) for component in segment[1:-3:2] for index in range(first, last + 1)}
    return len(complete) == wanted


def _without_data(image: Image.Image) -> NDArray[np.bool_]:
    """Find, (H,W), the grey that libjpeg puts where a JPEG has no data; what is meant for inks Pillow turns round."""
    samples = np.atleast_3d(np.asarray(image))
    return ((samples == 128) | ((samples == 127) & (image.mode == "CMYK"))).all(axis=2)


def _ends_without_data(image: Image.Image) -> bool:
    """Tell whether the last row of a JPEG is all of that grey; the first pixel nearly always answers."""
    corner = image.getpixel((0, image.height - 1))
    if (corner[0] if isinstance(corner, tuple) else corner) not in (127, 128):
        return False
    return bool(_without_data(image.crop((0, image.height - 1, image.width, image.height))).all())


def _describe(source: Path | BinaryIO) -> str:
    """Say what a file is that Pillow does not know."""
    with _rewound(source) as stream:
        start = stream.read(64)
    if not start:
        return "zero bytes"
    start = start.removeprefix(b"\xef\xbb\xbf")
    for pattern, words in _OTHER_KINDS.items():
        if re.match(pattern.encode(), start, re.DOTALL | re.IGNORECASE):
            return f"not an image in a known format, but {words}"
    return "not an image in a known format, or cut off in its header"
