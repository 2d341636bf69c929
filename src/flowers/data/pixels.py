"""Photographs decoded once, kept as one array on disk that is mapped into memory.

The operating system reads rows when they are touched and drops them when memory is short, so that a data set
larger than memory needs no more of it than a small one.

Speed, photographs a second on two shared cores (on one), Pillow 13.0: 2,569 JPEGs of 224 px into a store of
224 px 2,400 (2,000), of 128 px 1,600 (1,000); JPEGs of 1024 px into one of 224 px 490 (280). This includes
hashing and the final fsync. A finished store of 2,569 opens in 2 to 8 ms.
"""

import errno
import hashlib
import json
import mmap
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TypeVar

import filelock
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from flowers.config.provenance import usable_processors
from flowers.config.schema import FITS, Fit
from flowers.errors import UserError, is_disk_full
from flowers.sources.photograph import PhotographError, decode, decoder_version

T = TypeVar("T")


class UnusableError(UserError):
    """Photographs of a split that are no longer what was split, or cannot be read.

    Attributes:
        reasons: Why, by path.
    """

    def __init__(self, root: Path, found: Mapping[str, tuple[str, str]]) -> None:
        """Name the first of them; `found` gives a reason and a remedy for each path."""
        path, (reason, remedy) = next(iter(found.items()))
        others = f", as {len(found) - 1} others are unusable" if len(found) > 1 else ""
        super().__init__(f"{root / path} {reason}{others}: {remedy}.")
        self.reasons = {path: reason for path, (reason, _) in found.items()}


RULE = "upright RGB, JPEG scaled while decoding, {}, bicubic"
FORMAT_VERSION = 1
_writing = threading.Lock()
GREY = 128
"""What `pad` fills a square up with. It is about the mean colour that networks subtract, so that a bar is nearly 0 for
them, as what a convolution surrounds its maps with. Mirrored photographs would show flowers that are not there. An
augmentation mirrors at the square's border, and so goes on with the same grey."""


def read_square(source: Path | BinaryIO, image_px: int, fit: Fit = "crop", min_side_px: int = 1) -> np.ndarray:
    """Decode one photograph at the size that the network sees, resized bicubic with antialiasing.

    Args:
        source: The file, or a stream at its beginning.
        image_px: Side of the square in pixels.
        fit: `crop`: the shorter side becomes `image_px`, and of the longer one the middle is kept. Only that middle is
            resized, so that a panorama costs no more than a square. `pad`: the longer side becomes `image_px`, and
            bars of :data:`GREY` fill the square up. `squash`: both sides become `image_px`, and the aspect ratio is
            lost. A square is the same by all three.
        min_side_px: A photograph whose shorter side is below is refused.

    Returns:
        (image_px, image_px, 3) uint8, RGB.

    Raises:
        PhotographError: The file cannot be decoded, or is too small.
        ValueError: `fit` is none of these.
    """
    if fit not in FITS:
        raise ValueError(f"fit='{fit}' is none of {', '.join(FITS)}")
    image, size, box = decode(source, image_px, min_side_px)
    if fit == "pad":
        width_px, height_px = (max(round(side_px * image_px / max(size)), 1) for side_px in size)
        square = Image.new("RGB", (image_px, image_px), (GREY,) * 3)
        inner = image.resize((width_px, height_px), Image.Resampling.BICUBIC, box)
        square.paste(inner, ((image_px - width_px) // 2, (image_px - height_px) // 2))
        return np.asarray(square)
    if fit == "crop":
        side_px, scale = min(size), (box[2] - box[0]) / size[0]
        # Whole pixels of the photograph are left out, so that one that has the right height is not blurred.
        left, top = (edge + scale * ((each_px - side_px) // 2) for edge, each_px in zip(box[:2], size, strict=True))
        box = left, top, left + scale * side_px, top + scale * side_px
    return np.asarray(image.resize((image_px, image_px), Image.Resampling.BICUBIC, box))


def open_store(root: Path, table: pd.DataFrame, image_px: int, cache_dir: Path, fit: Fit = "crop") -> np.memmap:
    """Return the pixels of all photographs of a table; decode them the first time.

    The store is named after what it holds (contents in their order, size, rule, version of the decoder), so
    that whatever needs the same shares it and nothing else finds it. It appears whole or not at all;
    processes that want the same one wait for the first.

    Args:
        root: Folder that the paths are relative to. Not touched where the store is there.
        table: Columns path and sha256.
        image_px: Side of the squares in pixels.
        cache_dir: Where stores are kept; created if missing, can be deleted at any time.
        fit: How they become squares, see :func:`read_square`.

    Returns:
        (N, image_px, image_px, 3) uint8, RGB, read-only; row i is row i of the table.

    Raises:
        UnusableError: Some are missing, changed since the split or cannot be decoded.
        UserError: The disk is full.
    """
    if table.empty:
        raise UserError(f"There are no photographs of {root} to decode: check the split.")
    identity = json.dumps([FORMAT_VERSION, RULE.format(FITS[fit]), *decoder_version(), image_px, list(table["sha256"])])
    folder = cache_dir / hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = folder / "pixels.npy"
    shape = (len(table), image_px, image_px, 3)
    pixels = _map(target, shape)
    if pixels is not None:
        return pixels
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            if _map(target, shape) is None:  # else another process has finished it meanwhile
                _build(target, shape, fit, root, table)
    except OSError as error:
        if is_disk_full(error):
            raise UserError(
                f"{cache_dir} has no room for {np.prod(shape)} bytes of decoded photographs: "
                "free some, or set data.cache_dir to a larger disk."
            ) from error
        raise UserError(f"{cache_dir} cannot be used ({error}): set data.cache_dir to another folder.") from error
    return np.lib.format.open_memmap(target, mode="r")


def take_rows(pixels: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """Copy photographs out of a store, and let go of the pages that they lie on.

    Pages once touched would count as this process's memory until the system needs them, so that a training would seem
    to take as much of it as there are photographs. This costs 11 microseconds a photograph of 224 px.

    Args:
        pixels: From :func:`open_store`, or any array of that shape.
        rows: B indices.

    Returns:
        (B, image_px, image_px, 3) uint8, RGB.
    """
    copied = pixels[rows]
    if isinstance(pixels.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pixels.base.madvise(mmap.MADV_DONTNEED)  # of a file that is only read: the next touch finds it in the cache
    return np.asarray(copied)


def _map(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """Map a finished store, or return None where there is none, or another, or a part of one."""
    try:
        pixels = np.lib.format.open_memmap(path, mode="r")
        whole = path.stat().st_size == pixels.offset + pixels.nbytes
    except Exception:  # whatever a damaged header makes numpy's parser raise
        return None
    fits = pixels.shape == shape and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    return pixels if whole and fits else None


def _build(target: Path, shape: tuple[int, ...], fit: Fit, root: Path, table: pd.DataFrame) -> None:
    """Decode all photographs into a file beside the target, then rename it.

    Rows are written, not mapped: a mapping counts as this process's memory, and on a full disk a signal would
    kill the process.
    """
    part = target.with_suffix(".part")  # one fixed name under the lock: a killed builder's rest is overwritten
    row_bytes = int(np.prod(shape[1:]))
    try:
        with part.open("wb", buffering=0) as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            offset = stream.tell()
            reserve(stream, offset + shape[0] * row_bytes, part.parent)

            def keep(row: int, square: np.ndarray) -> None:
                if _write_at(stream, square.tobytes(), offset + row * row_bytes) != row_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            _read_each(root, table, "decoding", lambda file: read_square(file, shape[1], fit), keep)
            os.fsync(stream)  # else a power cut could leave the name without the pixels
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def reserve(stream: BinaryIO, nbytes: int, folder: Path) -> None:
    """Give a new file its size, so that a full disk is found before the work, and not by a signal in its middle.

    Args:
        stream: The file, empty or with its beginning.
        nbytes: How large it will be.
        folder: Where it lies.

    Raises:
        OSError: The disk has no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, nbytes)
        return
    # On macOS and Windows a file can be given a size that the disk does not have.
    if shutil.disk_usage(folder).free < nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    stream.truncate(nbytes)


def _write_at(stream: FileIO, content: bytes, place: int) -> int:
    """Write at a place of a file, from several threads; return how many bytes were written."""
    if hasattr(os, "pwrite"):  # not on Windows
        return os.pwrite(stream.fileno(), content, place)
    with _writing:
        stream.seek(place)
        return stream.write(content)


_ANEW = "bring it back as it was, or train again (in the pipeline `dvc repro`)"


def check_unchanged(root: Path, table: pd.DataFrame) -> None:
    """Make sure that photographs are still those that were split, which a store that is there does not look at.

    Args:
        root: Folder that the paths are relative to.
        table: Columns path and sha256.

    Raises:
        UnusableError: If some are not.
    """
    _read_each(root, table, "checking", lambda stream: None, lambda row, nothing: None)


def _read_each(
    root: Path, table: pd.DataFrame, what: str, read: Callable[[BinaryIO], T], keep: Callable[[int, T], object]
) -> None:
    """Read photographs that still are those that were split, in threads, and then name those that are unusable.

    Raises:
        UnusableError: If some are.
    """
    paths, digests = list(table["path"]), list(table["sha256"])
    found: dict[int, tuple[str, str]] = {}

    def attempt(row: int) -> None:
        try:
            with (root / paths[row]).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != digests[row]:
                    found[row] = "changed since the split was made", _ANEW
                    return
                stream.seek(0)
                content = read(stream)
        except FileNotFoundError:
            found[row] = "is gone since the split was made", _ANEW
        except PhotographError as error:
            found[row] = f"cannot be decoded ({error})", f"{_ANEW}, which sets it aside"
        except OSError as error:
            found[row] = f"cannot be read ({error.strerror})", "make it readable"
        else:
            keep(row, content)

    bar = tqdm(total=len(paths), desc=what, unit=" photographs", disable=None, leave=False)
    with ThreadPoolExecutor(usable_processors()) as pool, bar:
        for _ in pool.map(attempt, range(len(paths))):  # cancels what is waiting when one raises
            bar.update()
    if found:
        raise UnusableError(root, {paths[row]: found[row] for row in sorted(found)})
