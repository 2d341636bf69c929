"""A published archive: pinned by its digest, found on this machine or downloaded, and unpacked without trusting it."""

import contextlib
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from flowers.atomic import room_in
from flowers.config.provenance import file_digest
from flowers.errors import UserError, suggestion
from flowers.sources.downloads import fetch

DIGITS = {"md5": 32, "sha256": 64}
"""How long each kind of digest is, in hexadecimal digits."""
MOST_INFLATION = 20
"""How many times its size an archive may unpack to: photographs hardly compress."""
SMALL_BYTES = 64 << 20
"""An archive may always unpack to this much: small ones that hold text do compress."""
MOST_MEMBERS = 1_000_000
MOST_HEADER_BYTES = 1 << 16
"""What the headers of one member may have: a name, and attributes that systems add."""
_NOT_PLAIN = "is neither a plain file nor a folder"


@dataclass(frozen=True)
class Pin:
    """One published file: its address, and what its content must be."""

    url: str
    digest: str
    """md5 or sha256, in lower case."""
    bytes: int | None
    """Its size; None where it is not known."""

    @property
    def name(self) -> str:
        """The file's name, taken from its address."""
        return urlsplit(self.url).path.rpartition("/")[2]


def read_pin(key: str, values: Mapping[str, Any]) -> Pin:
    """Check what a configuration says of a file.

    Args:
        key: Name of the node, for the error.
        values: `url`, `bytes` (None where it is not known), and either `md5` or `sha256` (the other may be None).

    Raises:
        UserError: A key is unknown, missing, or has a value that it must not have.
    """
    known = ("url", *DIGITS, "bytes")
    for name in values:
        if name not in known:
            raise UserError(f"the configuration has no key '{key}.{name}': {suggestion(str(name), known)}")
    given = {name: values[name] for name in DIGITS if values.get(name) is not None}
    stated = {"'url'": values.get("url"), "'md5' or 'sha256'": given, "'bytes'": "bytes" in values}
    for names, value in stated.items():
        if not value:
            raise UserError(f"'{key}' lacks {names}; add it to the data set's file in conf/data, or to the command.")
    if len(given) > 1:
        raise UserError(f"'{key}' has both 'md5' and 'sha256'; leave one of them.")
    ((kind, digest),) = given.items()
    digest = str(digest).lower()
    if len(digest) != DIGITS[kind] or set(digest) - set("0123456789abcdef"):
        raise UserError(
            f"'{key}.{kind}' is {values[kind]!r}, but must be {DIGITS[kind]} hexadecimal digits; correct it."
        )
    pin = Pin(str(values["url"]), digest, values["bytes"])
    if not pin.name:
        raise UserError(f"'{key}.url' is {pin.url!r}, but must name a file; correct it.")
    if pin.bytes is not None and (not isinstance(pin.bytes, int) or pin.bytes < 1):
        raise UserError(f"'{key}.bytes' is {pin.bytes!r}, but must be a positive whole number or null; correct it.")
    return pin


def get(pin: Pin, downloads_dir: Path) -> Path:
    """Find a published file, or download it.

    Looked for in this order: under its own name in `downloads_dir`, in DVC's cache, at its address.

    Args:
        pin: Which file.
        downloads_dir: Where a download is kept.

    Returns:
        A file with the pinned digest. It may be in DVC's cache, so that it must not be changed.

    Raises:
        UserError: The file cannot be had, or another file has its name.
    """
    target = downloads_dir / pin.name
    if not target.exists() and (cached := find_in_dvc_cache(pin.digest)):
        return cached
    return fetch(pin.url, target, pin.digest, pin.bytes)


def find_in_dvc_cache(md5: str) -> Path | None:
    """Search the cache of the DVC project that the working folder belongs to. Only the layout of DVC 3 is known.

    Args:
        md5: In lower case. A digest of another kind is never found.

    Returns:
        The file, if it is there and undamaged.
    """
    here = Path.cwd()
    project = next((folder / ".dvc" for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    if project is None:
        return None
    from dvc.config import Config, ConfigError  # takes a third of a second to import

    try:
        cache = Path(Config(dvc_dir=str(project))["cache"].get("dir", project / "cache"))
        found = cache / "files" / "md5" / md5[:2] / md5[2:]
        return found if file_digest(found, "md5") == md5 else None
    except (ConfigError, OSError):  # what is wrong with its configuration, DVC itself will say
        return None


def is_empty(folder: Path) -> bool:
    """Tell whether there is no such folder, or nothing in it."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextlib.contextmanager
def unfinished_folder(target: Path) -> Iterator[Path]:
    """Name a folder beside `target` that is this process's alone, and deleted at the end.

    What a killed process left is deleted first; a living one is waited for.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished, lock = (target.with_name(f".{target.name}.{word}") for word in ("unfinished", "lock"))
    with FileLock(lock):  # the system frees a dead process's lock
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            yield unfinished / str(os.getpid())  # a killed process's workers may live on and write to theirs
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            with contextlib.suppress(PermissionError):  # Windows deletes no open file; FileLock then does it
                lock.unlink(missing_ok=True)  # FileLock notices it where another waits, and makes a new one


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` that gets its name at the end, or is deleted if something fails.

    Args:
        target: Does not exist yet, or is an empty folder.

    Raises:
        UserError: Something else is at that place, or there is no room.
    """
    target = target.resolve()
    with room_in(target), unfinished_folder(target) as building:
        if not is_empty(target):
            raise UserError(f"{target} exists and is not an empty folder: remove it or name another folder.")
        building.mkdir(parents=True)
        yield building
        if target.is_dir():
            target.rmdir()  # Windows puts nothing in the place of a folder, even of an empty one
        building.rename(target)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar file, compressed or not, into a folder: whole, or not at all.

    Only plain files and folders are taken, each inside the target, and no more bytes than photographs can need. Owners,
    permissions and times are not kept. Whether the content is undamaged is not checked here; the archive's digest tells
    that.

    Args:
        archive: Only read.
        target: Does not exist yet, or is an empty folder.

    Raises:
        UserError: A member must not be unpacked, the archive is damaged, or the disk is full.
    """
    limit = max(SMALL_BYTES, MOST_INFLATION * archive.stat().st_size)
    try:
        with tarfile.open(archive, tarinfo=_Member) as tar, whole_folder(target) as building:
            # Not extractall: it keeps permissions, and its filters came with Python 3.11.4.
            for number, member in enumerate(iter(tar.next, None)):
                if member.offset_data + member.size > limit or number >= MOST_MEMBERS:
                    problem = f"makes it larger than the {limit:,} bytes and {MOST_MEMBERS:,} members it may have"
                    raise _RefusedError(member, problem)
                _unpack_member(tar, member, building)
                tar.pax_headers = {}  # tarfile would keep all that there were
                tar.members = []  # type: ignore[attr-defined]
    except _RefusedError as error:
        raise UserError(
            f"{archive} is refused, nothing of it was unpacked: {error}; get the archive from its publisher again."
        ) from error
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # decompressors raise it without a number
            raise UserError(
                f"{archive} cannot be unpacked to {target} ({error.strerror}): make room or fix that, and give the "
                "same command again."
            ) from error
        reason = str(error).partition("\n")[0].rstrip(":- ")
        raise UserError(
            f"{archive} is damaged or no tar archive ({reason}); delete it and give the same command again."
        ) from error


class _RefusedError(Exception):
    """A member must not be unpacked."""

    def __init__(self, member: tarfile.TarInfo, problem: str) -> None:
        super().__init__(f"its member '{member.name[:200]}' {problem}")


class _Member(tarfile.TarInfo):
    """A member whose headers are looked at before tarfile reads them into memory, of whatever size they are."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Do what tarfile does with a header, which calls this for each of the headers of a member."""
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._proc_gnusparse_10(self)
        header_bytes = self.offset - tar.offset + (0 if self.isreg() else self.size)
        if header_bytes > MOST_HEADER_BYTES or self.size < 0:
            raise _RefusedError(self, f"has headers of more than {MOST_HEADER_BYTES:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _proc_gnusparse_10(self, member: tarfile.TarInfo, *_: object) -> None:
        """Refuse a file with holes, whose list of holes tarfile would read."""
        raise _RefusedError(member, _NOT_PLAIN)


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member, or refuse it."""
    place = PureWindowsPath(member.name)  # knows slashes too
    path = folder / member.name
    if place.anchor or ".." in place.parts or "\0" in member.name:
        raise _RefusedError(member, "would be written outside of the folder")
    if member.issym() or member.islnk():
        raise _RefusedError(member, "is a link")
    if member.issparse() or not (member.isfile() or member.isdir()) or member.size < 0:
        raise _RefusedError(member, _NOT_PLAIN)
    try:
        (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
        if stream := tar.extractfile(member):
            with stream, path.open("wb") as file:
                shutil.copyfileobj(stream, file)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise _RefusedError(member, "would be a file and a folder in one") from error
