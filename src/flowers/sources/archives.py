"""Unpack an archive from elsewhere without trusting it."""

import contextlib
import lzma
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from flowers.errors import UserError

MOST_INFLATION = 20
"""How many times its size an archive may unpack to: photographs hardly compress."""
SMALL_BYTES = 64 << 20
"""An archive may always unpack to this much: small ones that hold text do compress."""
MOST_MEMBERS = 1_000_000
CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` that gets its name at the end, or is deleted if something fails.

    Args:
        target: Does not exist yet, or is an empty folder.

    Raises:
        UserError: Something else is at that place.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is not an empty folder: remove it or name another folder.")
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    building = temporary / target.name  # other users cannot read mkdtemp's own folder
    building.mkdir()
    try:
        yield building
        building.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar file, compressed or not, into a folder: whole, or not at all.

    Every member is checked before the first is written: only plain files and folders, each inside the target, and no
    more bytes than photographs can need. Owners, permissions and times are not kept. Whether the content is undamaged
    is not checked here; the archive's digest tells that.

    Args:
        archive: Only read.
        target: Does not exist yet, or is an empty folder.

    Raises:
        UserError: A member fails the check, the archive is damaged, or the disk is full.
    """
    try:
        with tarfile.open(archive) as tar:
            places = _check_members(archive, tar)
            with whole_folder(target) as building:
                for member, place in places:
                    path = building / place
                    if member.isdir():
                        path.mkdir(parents=True, exist_ok=True)
                        continue
                    path.parent.mkdir(parents=True, exist_ok=True)
                    stream = tar.extractfile(member)
                    assert stream is not None  # it is a plain file
                    with stream, path.open("wb") as file:
                        shutil.copyfileobj(stream, file, CHUNK_BYTES)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeError) as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # what the decompressors raise
            raise _damaged(archive, error) from error
        raise UserError(
            f"{archive} cannot be unpacked to {target} ({error.strerror}): make room or fix that, and give the same "
            "command again."
        ) from error


def _damaged(archive: Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0].rstrip(":- ")
    return UserError(f"{archive} is damaged or no tar archive ({reason}); delete it and give the same command again.")


def _check_members(archive: Path, tar: tarfile.TarFile) -> list[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Decide where each member goes, and refuse the archive if one must not be unpacked."""
    limit = max(SMALL_BYTES, MOST_INFLATION * archive.stat().st_size)
    total = 0
    places: list[tuple[tarfile.TarInfo, PurePosixPath]] = []
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in tar:
        place = PurePosixPath(member.name)
        problem = ""
        if place.is_absolute() or ".." in place.parts or "\0" in member.name:
            problem = "would be written outside of the folder"
        elif member.issym() or member.islnk():
            problem = "is a link"
        elif member.issparse() or not (member.isfile() or member.isdir()):
            problem = "is neither a plain file nor a folder"
        elif (
            (place in files and member.isdir()) or (place in folders and member.isfile()) or files & set(place.parents)
        ):
            problem = "would be a file and a folder in one"
        total += member.size
        if total > limit or len(places) >= MOST_MEMBERS:
            problem = f"makes it larger than the {limit:,} bytes and {MOST_MEMBERS:,} members it may have"
        if problem:
            raise UserError(
                f"{archive} is refused, nothing of it was unpacked: its member '{member.name}' {problem}; "
                "get the archive from its publisher again."
            )
        (files if member.isfile() else folders).add(place)
        folders.update(place.parents)
        places.append((member, place))
    return places
