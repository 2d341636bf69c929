"""Fetch a file over HTTP: whole and as pinned, or not at all.

What has come lies in ``<name>.part`` beside the target, so that a transfer that broke, even by a kill, goes on where it
stopped. The target appears by one rename, after size and digest were checked.
"""

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

from flowers.data.transfer import Broken, Order, Patience, attempt
from flowers.errors import UserError

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
