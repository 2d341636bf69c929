"""Download files that a configuration pins by their digest; a broken transfer is resumed.

What is on this machine already, under its own name or in DVC's cache, is not downloaded.
"""

import configparser
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from filelock import AcquireReturnProxy, FileLock, Timeout
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

from flowers.errors import UserError, suggestion
from flowers.sources.transfer import Download, RetryPolicy, TransferError, attempt

RETRY_POLICY = RetryPolicy()
DIGITS = {"md5": 32, "sha256": 64}
"""How long each kind of digest is, in hexadecimal digits."""


def fetch(url: str, target: Path, digest: str, size_bytes: int | None, policy: RetryPolicy = RETRY_POLICY) -> Path:
    """Download a file, unless it is there already. Proxies are taken from the usual environment variables.

    Two calls at once, in one process or several, share the work: the second waits for the first.

    Args:
        url: http or https.
        target: Where to; its folder is made. A file that is there already is used, and never written to.
        digest: md5 (32 hexadecimal digits) or sha256 (64) that the file must have.
        size_bytes: The size it must have; None: not known.
        policy: When the server is given up.

    Returns:
        The target.

    Raises:
        UserError: The address does not give this file, the network or the disk fails, or the target is another file.
    """
    download = Download(url, target, digest, size_bytes, policy)
    with _explain_disk_errors(download):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _lock(download):
                if not target.exists():
                    _transfer(download)
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
        return hashlib.file_digest(file, "md5" if len(like) == DIGITS["md5"] else "sha256").hexdigest()


@contextlib.contextmanager
def _explain_disk_errors(download: Download) -> Iterator[None]:
    """Turn the file system's errors into sentences; those of the network have become other errors before."""
    try:
        yield
    except OSError as error:
        kept = f"; {download.received_bytes():,} bytes are kept" if os.access(download.part, os.R_OK) else ""
        raise UserError(
            f"{error.filename or download.part} cannot be written or read ({error.strerror or error}){kept}: make "
            "room, or let the folder be written to, and give the same command again."
        ) from error


def _lock(download: Download) -> AcquireReturnProxy:
    """Keep others from writing the same file; the system frees a dead process's lock."""
    lock = FileLock(f"{download.target}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another download of {download.target}", file=sys.stderr, flush=True)
        return lock.acquire()


def _transfer(download: Download) -> None:
    """Attempt until the file is whole, then give it its name."""
    policy = download.policy
    budget = Retry(total=policy.retries, backoff_factor=policy.backoff_s, backoff_max=policy.longest_wait_s)
    retry, furthest = budget, download.received_bytes()
    is_resumed = furthest > 0
    print(f"fetching {download.url}", flush=True)
    with requests.Session() as session:
        while True:
            try:
                attempt(session, download)
                found = digest_of(download.part, download.digest)
                if found == download.digest.lower():
                    break
                download.discard()
                if not is_resumed:
                    raise UserError(
                        f"{download.url} gave a file with the digest {found}, where {download.digest} is pinned; "
                        "nothing of it is kept: try again later, and if its publisher has changed it, correct the pin."
                    )
                # Perhaps the pieces are of two versions; the next attempt gets the file in one piece.
                raise TransferError("its pieces do not fit together")
            except TransferError as error:
                received = download.received_bytes()
                is_resumed = received > 0
                if received >= furthest + policy.progress_bytes:
                    retry, furthest = budget, received
                try:
                    retry = retry.increment("GET", download.url)
                except MaxRetryError:
                    raise UserError(
                        f"{download.url} could not be fetched: {error}; {received:,} bytes are kept, so give the same "
                        f"command again to go on, or put the file at {download.target} by hand."
                    ) from error
                wait_s = _wait_s(retry, error.response, policy)
                tqdm.write(f"{download.url}: {error}; trying again in {wait_s:.0f} s", file=sys.stderr)
                time.sleep(wait_s)
    download.part.replace(download.target)
    download.discard()


def _wait_s(retry: Retry, response: requests.Response | None, policy: RetryPolicy) -> float:
    """Wait as long as the server asks for, else longer each time."""
    asked_s: float | None = None
    if response is not None:
        with contextlib.suppress(InvalidHeader):
            asked_s = retry.get_retry_after(response.raw)
    return min(policy.longest_wait_s, retry.get_backoff_time() if asked_s is None else asked_s)


@dataclass(frozen=True)
class Pin:
    """One published file: its address, and what its content must be."""

    url: str
    digest: str
    """md5 or sha256, in lower case."""
    bytes: int | None
    """Its size; None where it is not known."""


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
    if not file_name(pin):
        raise UserError(f"'{key}.url' is {pin.url!r}, but must name a file; correct it.")
    if pin.bytes is not None and (not isinstance(pin.bytes, int) or pin.bytes < 1):
        raise UserError(f"'{key}.bytes' is {pin.bytes!r}, but must be a positive whole number or null; correct it.")
    return pin


def file_name(pin: Pin) -> str:
    """Take the file's name from its address."""
    return urlsplit(pin.url).path.rpartition("/")[2]


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
    target = downloads_dir / file_name(pin)
    if not target.exists() and (cached := find_in_dvc_cache(pin.digest)):
        return cached
    return fetch(pin.url, target, pin.digest, pin.bytes)


def find_in_dvc_cache(md5: str) -> Path | None:
    """Search the cache of the DVC project that the working folder belongs to.

    Its place is read from the project's own configuration, since asking DVC takes a second. Only the layout of DVC 3 is
    known.

    Args:
        md5: In lower case. A digest of another kind is never found.

    Returns:
        The file, if it is there and undamaged.
    """
    here = Path.cwd()
    project = next((folder / ".dvc" for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    if project is None:
        return None
    cache = project / "cache"
    for name in ("config", "config.local"):  # the second overrides the first
        settings = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            settings.read(project / name, encoding="utf-8")
        except (configparser.Error, UnicodeError, OSError):
            continue  # DVC itself will say what is wrong
        if stated := settings.get("cache", "dir", fallback="").strip("'\""):
            cache = project / stated  # relative to the file that states it
    found = cache / "files" / "md5" / md5[:2] / md5[2:]
    try:
        return found if digest_of(found, md5) == md5 else None
    except OSError:
        return None
