"""Files fetched from an address: pinned by digest, kept when a transfer breaks off, gone on with later."""

import configparser
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

from flowers.errors import UserError, suggestion
from flowers.sources.transfer import Broken, Order, Patience, attempt

PATIENCE = Patience()


def fetch(url: str, target: Path, digest: str, size_bytes: int | None, patience: Patience = PATIENCE) -> Path:
    """Download a file, unless it is there already. Proxies are taken from the usual environment variables.

    Two calls at once, in one process or several, share the work: the second waits for the first.

    Args:
        url: http or https.
        target: Where to; its folder is made. A file that lies there is used, and never written to.
        digest: md5 (32 hexadecimal digits) or sha256 (64) that the file must have.
        size_bytes: The size it must have; None: not known.
        patience: How long the server is waited for.

    Returns:
        The target.

    Raises:
        UserError: The address does not give this file, the network or the disk fails, or something else lies at the
            target.
    """
    order = Order(url, target, digest, size_bytes, patience)
    with _explain_disk_errors(order):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _alone(order):
                if not target.exists():
                    _transfer(order)
                    return target
        found = digest_of(target, digest)
    if found != digest.lower():
        raise UserError(
            f"{target} has the digest {found}, where {digest} is pinned for {url}; move it away and it is fetched anew."
        )
    return target


def digest_of(path: Path, like: str) -> str:
    """Compute a file's digest of the kind that another one is: md5 if that has 32 digits, else sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5" if len(like) == 32 else "sha256").hexdigest()


@contextlib.contextmanager
def _explain_disk_errors(order: Order) -> Iterator[None]:
    """Word what the file system refuses; those of the network are no OSErrors when they get here."""
    try:
        yield
    except OSError as error:
        kept = f"; {order.received_bytes():,} bytes are kept" if os.access(order.part, os.R_OK) else ""
        raise UserError(
            f"{error.filename or order.part} cannot be written or read ({error.strerror or error}){kept}: make room, "
            "or let the folder be written to, and give the same command again."
        ) from error


@contextlib.contextmanager
def _alone(order: Order) -> Iterator[None]:
    """Hold the lock that keeps two downloads from writing the same file; the system frees a dead process's lock."""
    lock = FileLock(f"{order.target}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another download of {order.target}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _transfer(order: Order) -> None:
    """Attempt until the part is whole, then give it its name."""
    patience = order.patience
    budget = Retry(total=patience.retries, backoff_factor=patience.backoff_s, backoff_max=patience.longest_wait_s)
    retry, furthest = budget, order.received_bytes()
    pieces = furthest > 0
    print(f"fetching {order.url}", flush=True)
    with requests.Session() as session:
        while True:
            try:
                attempt(session, order)
                found = digest_of(order.part, order.digest)
                if found == order.digest.lower():
                    break
                order.discard()
                if not pieces:
                    raise UserError(
                        f"{order.url} gave a file with the digest {found}, where {order.digest} is pinned; nothing of "
                        "it is kept: try again later, and if its publisher has changed it, correct the pin."
                    )
                raise Broken("its pieces do not fit together")  # maybe of two versions; the next comes in one piece
            except Broken as broken:
                received = order.received_bytes()
                pieces = received > 0
                if received >= furthest + patience.progress_bytes:
                    retry, furthest = budget, received
                try:
                    retry = retry.increment("GET", order.url)
                except MaxRetryError:
                    raise UserError(
                        f"{order.url} could not be fetched: {broken}; {received:,} bytes are kept, so give the same "
                        f"command again to go on, or put the file at {order.target} by hand."
                    ) from broken
                wait_s = _wait_s(retry, broken.response, patience)
                tqdm.write(f"{order.url}: {broken}; trying again in {wait_s:.0f} s", file=sys.stderr)
                time.sleep(wait_s)
    order.part.replace(order.target)
    order.discard()


def _wait_s(retry: Retry, response: requests.Response | None, patience: Patience) -> float:
    """Wait as long as the server asks for, or else ever longer."""
    asked_s: float | None = None
    if response is not None:
        with contextlib.suppress(InvalidHeader):
            asked_s = retry.get_retry_after(response.raw)
    return min(patience.longest_wait_s, retry.get_backoff_time() if asked_s is None else asked_s)


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
