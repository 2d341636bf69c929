"""Published files: where each is published, by which digest it is known, and where it may lie already."""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flowers.data.fetch import PATIENCE, digest_of, fetch
from flowers.data.transfer import Patience
from flowers.errors import UserError, suggestion


@dataclass(frozen=True)
class Pin:
    """One published file."""

    url: str
    md5: str
    bytes: int | None
    """Its size; None where it is not known."""


def read_pin(key: str, values: Mapping[str, Any]) -> Pin:
    """Check what a configuration says of a file.

    Args:
        key: Where it stands, for the error.
        values: Exactly the fields of :class:`Pin`.

    Raises:
        UserError: A key is unknown, missing, or not what it should be.
    """
    known = [field.name for field in fields(Pin)]
    for name in values:
        if name not in known:
            raise UserError(f"the configuration has no key '{key}.{name}': {suggestion(str(name), known)}")
    for name in known:
        if name not in values:
            raise UserError(f"'{key}' lacks '{name}'; add it to the data set's file in conf/data.")
    pin = Pin(**values)
    digits = str(pin.md5).lower()
    if len(digits) != 32 or set(digits) - set("0123456789abcdef"):
        raise UserError(f"'{key}.md5' is {pin.md5!r}, but must be 32 hexadecimal digits; correct it.")
    if not file_name(pin):
        raise UserError(f"'{key}.url' is {pin.url!r}, but must name a file; correct it.")
    if pin.bytes is not None and (not isinstance(pin.bytes, int) or pin.bytes < 1):
        raise UserError(f"'{key}.bytes' is {pin.bytes!r}, but must be a positive whole number or null; correct it.")
    return pin


def file_name(pin: Pin) -> str:
    """Name the file as its address does."""
    return urlsplit(str(pin.url)).path.rpartition("/")[2]


def get(pin: Pin, downloads_dir: Path, patience: Patience = PATIENCE) -> Path:
    """Find a published file, or download it.

    Looked for in this order: under its own name in `downloads_dir`, in DVC's cache, at its address.

    Args:
        pin: Which one.
        downloads_dir: Where a download is kept.
        patience: How long the server is waited for.

    Returns:
        A file with the pinned digest, which may be in DVC's cache: not to be changed.

    Raises:
        UserError: It cannot be had, or what lies in its place is another file.
    """
    target = downloads_dir / file_name(pin)
    if not target.exists() and (cached := find_in_dvc_cache(pin.md5)):
        return cached
    return fetch(pin.url, target, pin.md5, pin.bytes, patience)


def find_in_dvc_cache(md5: str) -> Path | None:
    """Look into the cache of the DVC project that the working folder belongs to.

    Its place is read from the project's own configuration, since asking DVC takes a second. Only the layout of DVC 3 is
    known.

    Returns:
        The file, if it is there and undamaged.
    """
    here = Path.cwd()
    project = next((folder / ".dvc" for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    if project is None:
        return None
    cache = project / "cache"
    for name in ("config", "config.local"):  # the latter wins
        settings = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            settings.read(project / name, encoding="utf-8")
        except (configparser.Error, UnicodeError, OSError):
            continue  # DVC's to complain about
        if stated := settings.get("cache", "dir", fallback="").strip("'\""):
            cache = project / stated  # relative to the file that states it
    md5 = md5.lower()
    found = cache / "files" / "md5" / md5[:2] / md5[2:]
    try:
        return found if digest_of(found, md5) == md5 else None
    except OSError:
        return None
