"""Look at every file once and write down what it is: the manifest.

A photograph is decoded to its last byte here, so that a damaged one is found before a training and not during
it, and is set aside with its reason. Nothing in the folder is ever written to.
"""

import hashlib
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from flowers.errors import UserError

COLUMNS = ["path", "label", "sha256", "width_px", "height_px", "dhash", "status", "reason"]
FILES_PER_TASK = 16
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
"""What is opened. Pillow knows more, some of which start another program (EPS calls Ghostscript)."""
LARGEST_PX = 89_478_485
"""Pixels from which Pillow suspects a decompression bomb: 256 MiB of RGB."""


class PhotographError(Exception):
    """A file is no usable photograph; the text is the reason, a part of a sentence."""


class _QuietPillow:
    """Mutes Pillow's warnings while any thread is inside.

    ``warnings.catch_warnings`` alone does not serve: filters belong to the process, and threads that leave in
    another order than they entered would put back the wrong ones. What the warnings say is either decided
    here (the size) or harmless (broken EXIF beside sound pixels).
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
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._outer.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()


def open_rgb(source: Path | BinaryIO, shorter_px: int | None = None) -> Image.Image:
    """Decode a photograph the way up that a person sees it, on white where it is transparent.

    Colour profiles are not applied. Of an animation the first picture is taken, of 16 bits the upper 8.

    Args:
        source: The file, or a stream at its beginning.
        shorter_px: Where given, a large JPEG may come back 2, 4 or 8 times smaller, its shorter side at least
            this: libjpeg then computes fewer frequencies (1024 px to 224: 330 a second instead of 140, mean
            difference 0.3 of 255). Every byte is still read, so that damage is still found.

    Returns:
        The photograph in mode RGB.

    Raises:
        PhotographError: The file cannot be read or decoded completely.
    """
    return _decode(source, shorter_px)[0]


def _decode(source: Path | BinaryIO, shorter_px: int | None) -> tuple[Image.Image, tuple[int, int]]:
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
            except Exception:  # EXIF can be broken in as many ways as it has readers; the pixels are sound
                turned = False
            return _flatten(image), (height_px, width_px) if turned else (width_px, height_px)
    except (PhotographError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise PhotographError(f"larger than {LARGEST_PX // 1_000_000} megapixels") from None
    except UnidentifiedImageError:
        raise PhotographError("not an image in a known format, or cut off in its header") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotographError(f"cannot be read: {os.strerror(error.errno)}") from error
        cut_off = isinstance(error, EOFError | struct.error) or "truncated" in str(error).lower()
        text = " ".join(str(error).split()) or type(error).__name__
        raise PhotographError(f"{'truncated' if cut_off else 'damaged'}: {text}") from error


def _flatten(image: Image.Image) -> Image.Image:
    """Turn any of Pillow's modes into RGB."""
    if image.mode.startswith(
        "I"
    ):  # Pillow's own conversion clips at 255, which makes a 16-bit photograph white
        samples = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(samples.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PhotographError("its samples are floating-point numbers of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def difference_hash(image: Image.Image) -> str:
    """Describe a photograph by 64 bits that survive resizing, recompression and small changes of colour.

    Bit by bit: is a cell of the 8 x 9 greyscale thumbnail brighter than its left neighbour? Source: N.
    Krawetz, "Kind of Like That", hackerfactor.com, 2013.

    Args:
        image: Any size, mode RGB.

    Returns:
        16 hexadecimal digits; two photographs are alike where few bits differ.
    """
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX))
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


def scan(root: Path, strict: bool, workers: int | None = None) -> pd.DataFrame:
    """Read and decode every file in the class folders.

    Names that begin with a dot and files directly in `root` (a licence, say) are passed over. Folders inside
    a class folder belong to the class. Pillow decodes and hashlib hashes without Python's lock, so threads
    do: SPEED_SCAN

    Args:
        root: Folder of class folders.
        strict: Raise if any file is refused.
        workers: Threads; None: one per core.

    Returns:
        One row per file, sorted by path: `path` (relative to `root`, with slashes), `label` (class folder),
        `sha256` of the bytes, `width_px` and `height_px` of the upright photograph, `dhash`
        (:func:`difference_hash`), `status` (ok or refused), `reason`. Of a refused file, what is
        unknown is empty or 0.

    Raises:
        UserError: There are no two classes of photographs in `root`, or `strict` and a file was refused.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {problem}: name the folder that holds one folder of photographs per class.")
    found = sorted((path.relative_to(root).as_posix(), reason) for path, reason in _files(root, top=True))
    if not found:
        raise UserError(
            f"{root} holds no photographs in class folders: put each class into a folder of its own there."
        )
    chunks = [found[first : first + FILES_PER_TASK] for first in range(0, len(found), FILES_PER_TASK)]
    bar = tqdm(total=len(found), desc="reading", unit=" files", disable=None, leave=False)
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool, bar:
        rows = []
        for done in pool.map(lambda chunk: [_inspect(root, *file) for file in chunk], chunks):
            rows += done
            bar.update(len(done))
    manifest = pd.DataFrame(rows, columns=COLUMNS)

    refused = manifest[manifest["status"] == "refused"]
    first = f"{refused['path'].iloc[0]} ({refused['reason'].iloc[0]})" if len(refused) else ""
    if len(refused) == len(manifest):
        raise UserError(
            f"{root} holds no usable photograph: {len(refused)} refused, first {first}; replace them."
        )
    if strict and len(refused):
        raise UserError(
            f"{root} holds {len(refused)} files that are refused, first {first}: "
            "repair or remove them, or set data.strict=false to leave them out."
        )
    labels = manifest.loc[manifest["status"] == "ok", "label"].unique()
    if len(labels) == 1:
        raise UserError(
            f"{root} has usable photographs in one class only ({labels[0]}): add a folder for a second one."
        )
    return manifest


def _files(folder: Path, top: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield every visible file below a folder, with the reason where it must not even be opened."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        yield folder, f"the folder cannot be listed: {error.strerror}"
        return
    for entry in entries:
        is_link, is_folder = entry.is_symlink(), os.path.isdir(entry)  # noqa: PTH112 - as below
        if is_folder and is_link and not (top and _leads_outside(entry, folder)):
            yield entry, "a link to a folder"  # could lead in circles
        elif is_folder:
            yield from _files(entry)
        elif top:
            continue
        elif os.path.isfile(entry):  # noqa: PTH113 - Path.is_file raises where a link leads to a closed folder
            yield entry, ""
        else:
            yield entry, "a link that leads nowhere" if is_link else "not a regular file"


def _leads_outside(link: Path, root: Path) -> bool:
    """Say whether a link leads to a folder that neither holds `root` nor lies in it."""
    target, root = link.resolve(), root.resolve()
    return not (root.is_relative_to(target) or target.is_relative_to(root))


def _inspect(root: Path, path: str, reason: str) -> tuple[str, str, str, int, int, str, str, str]:
    """Make one row of the manifest."""
    label, digest = path.partition("/")[0], ""
    try:
        path.encode()
    except UnicodeEncodeError:
        path = os.fsencode(path).decode(errors="backslashreplace")
        return (
            path,
            os.fsencode(label).decode(errors="backslashreplace"),
            "",
            0,
            0,
            "",
            "refused",
            "its name is not UTF-8",
        )
    try:
        if reason:
            raise PhotographError(reason)
        with (root / path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if stream.tell() == 0:
                raise PhotographError("zero bytes")
            stream.seek(0)
            image, (width_px, height_px) = _decode(stream, shorter_px=64)
        return path, label, digest, width_px, height_px, difference_hash(image), "ok", ""
    except (PhotographError, OSError) as error:
        text = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        return path, label, digest, 0, 0, "", "refused", text


def summarise(manifest: pd.DataFrame, most_refused: int = 10) -> str:
    """Word the manifest for a person.

    Args:
        manifest: What :func:`scan` returned.
        most_refused: How many refused files are listed by name.

    Returns:
        A line of totals, one with the photographs per class, and one for each refused file.
    """
    usable = manifest[manifest["status"] == "ok"]
    refused = manifest[manifest["status"] == "refused"]
    counts = usable["label"].value_counts().sort_index()
    lines = [
        f"{len(usable)} photographs in {len(counts)} classes, {len(refused)} files refused",
        ", ".join(f"{label} {count}" for label, count in counts.items()),
    ]
    shown = refused.head(most_refused)
    lines += [
        f"refused {path}: {reason}" for path, reason in zip(shown["path"], shown["reason"], strict=True)
    ]
    if len(refused) > len(shown):
        lines.append(f"refused {len(refused) - len(shown)} more, see the manifest")
    return "\n".join(lines)
