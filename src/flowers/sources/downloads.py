"""Download a file that is pinned by its digest; a broken transfer is resumed.

pooch downloads and checks files as well, but it cannot resume a broken transfer, and our archives are large.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import AcquireReturnProxy, FileLock, Timeout
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError
from urllib3.util import Retry

from flowers.config.provenance import file_digest
from flowers.errors import UserError

CHUNK_BYTES = 1 << 18
MOST_BYTES = 1 << 36
"""Where no size is pinned, a server that sends more than this is left."""
TRY_LATER = {408, 425, 429}
CAUSES = {
    "IncompleteRead": "the connection broke off",
    "RemoteDisconnected": "the connection broke off",
    "Connection reset": "the connection broke off",
    "Connection refused": "the connection is refused",
    "resolve": "its host is not known here",
    "unreachable": "the network cannot be reached",
}
"""Parts of the network libraries' messages, and what to say instead."""


@dataclass(frozen=True)
class RetryPolicy:
    """When a server is given up, and how often and when it is asked again."""

    connect_s: float = 15
    read_s: float = 60
    """A server that sends nothing for this long, or less than `least_bytes_per_s` on average over it, has stalled."""
    least_bytes_per_s: float = 256
    retries: int = 5
    """Allowed in a row. Counting starts again after each `progress_bytes` more than ever before, which bounds the
    number of all attempts."""
    progress_bytes: int = 1 << 20
    backoff_s: float = 1
    """The first retry comes at once, the second after twice this time; then the wait doubles each time."""
    longest_wait_s: float = 60
    """Bounds the wait, also when the server asks for a longer one."""


RETRY_POLICY = RetryPolicy()


class TransferError(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, reason: str, response: requests.Response | None = None) -> None:
        super().__init__(reason)
        self.response = response


@dataclass(frozen=True)
class Download:
    """What is to be downloaded, and where its bytes are collected."""

    url: str
    target: Path
    digest: str
    size_bytes: int | None
    policy: RetryPolicy

    @property
    def algorithm(self) -> str:
        """What the digest was computed with, which its length tells."""
        return "md5" if len(self.digest) == 32 else "sha256"

    @property
    def part(self) -> Path:
        """The file that holds what was received so far."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def version(self) -> Path:
        """The file that holds the server's name for the version that `part` is the beginning of; empty: it has none.

        It may stand in If-Range (RFC 9110, 13.1.5): a strong ETag, else the time of the last change.
        """
        return self.target.with_name(f"{self.target.name}.part.version")

    def received_bytes(self) -> int:
        """Count what was received so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self) -> None:
        """Delete what was received so far."""
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


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
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _lock(target):
                if not target.exists():
                    _transfer(download)
                    return target
        found = file_digest(target, download.algorithm)
    except OSError as error:  # of the file system: those of the network have become other errors before
        kept = f"; {download.received_bytes():,} bytes are kept" if os.access(download.part, os.R_OK) else ""
        raise UserError(
            f"{error.filename or download.part} cannot be written or read ({error.strerror or error}){kept}: make "
            "room, or let the folder be written to, and give the same command again."
        ) from error
    if found != digest.lower():
        raise UserError(
            f"{target} has the digest {found}, where {digest} is pinned for {url}; move it away to fetch it again."
        )
    return target


def _lock(target: Path) -> AcquireReturnProxy:
    """Keep others from writing the same file; the system frees a dead process's lock."""
    lock = FileLock(f"{target}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another download of {target}", file=sys.stderr, flush=True)
        return lock.acquire()


def _transfer(download: Download) -> None:
    """Attempt until the file is whole, then give it its name."""
    policy = download.policy
    budget = Retry(total=policy.retries, backoff_factor=policy.backoff_s, backoff_max=policy.longest_wait_s)
    retry, furthest = budget, download.received_bytes()
    print(f"fetching {download.url}", flush=True)
    with requests.Session() as session:
        while True:
            is_resumed = download.received_bytes() > 0
            try:
                attempt(session, download)
                found = file_digest(download.part, download.algorithm)
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
    download.version.unlink(missing_ok=True)  # first, as nobody comes back for it once the file is there
    download.part.replace(download.target)


def _wait_s(retry: Retry, response: requests.Response | None, policy: RetryPolicy) -> float:
    """Wait as long as the server asks for, else longer each time."""
    asked_s: float | None = None
    if response is not None:
        with contextlib.suppress(InvalidHeader):
            asked_s = retry.get_retry_after(response.raw)
    return min(policy.longest_wait_s, retry.get_backoff_time() if asked_s is None else asked_s)


def attempt(session: requests.Session, download: Download) -> None:
    """Ask for the missing bytes and append them.

    Raises:
        TransferError: Not all bytes were received; another attempt may get them.
        UserError: No attempt can get them.
    """
    received = download.received_bytes()
    if received > (download.size_bytes or MOST_BYTES):
        received = 0  # it is the beginning of another file
    if received == download.size_bytes:  # the process was killed between the last byte and the rename
        return
    headers = {"Accept-Encoding": "identity"}  # the bytes of the file itself, not compressed ones
    if received:
        headers["Range"] = f"bytes={received}-"
        if download.version.exists() and (version := download.version.read_text(encoding="utf-8")):
            headers["If-Range"] = version
    timeout = (download.policy.connect_s, download.policy.read_s)
    with (
        _explain_network_errors(download),
        session.get(download.url, headers=headers, stream=True, timeout=timeout) as response,
    ):
        start, total = _content_range(response)
        if response.status_code == 416 and received:
            if download.size_bytes is None and total == received:
                return
            download.discard()
            raise TransferError("the server has less than was received before", response)
        answer = f"{response.status_code} {response.reason}"
        if response.status_code in TRY_LATER or response.status_code >= 500:
            raise TransferError(f"the server answers {answer}", response)
        if response.status_code not in (200, 206):
            raise UserError(
                f"{download.url} cannot be fetched: the server answers {answer}; correct the address, or put the file "
                f"at {download.target} by hand."
            )
        if response.status_code == 200:
            received = 0  # the server ignores ranges, or its file has changed
        elif start != received or (download.size_bytes is not None and total not in (None, download.size_bytes)):
            download.discard()
            raise TransferError("the server continued at another place than asked", response)
        _receive(download, response, received)


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Read where a partial answer starts and how large the whole file is, as far as the header says it."""
    header = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"\s*bytes\s+(?:(\d+)-\d+|\*)/(?:(\d+)|\*)\s*", header)
    start, total = (int(digits) if digits else None for digits in match.groups()) if match else (None, None)
    return start, total


def _receive(download: Download, response: requests.Response, received: int) -> None:
    """Write what the server sends after the `received` first bytes of the file."""
    length = response.headers.get("Content-Length", "")
    whole = received + int(length) if length.isdecimal() else None
    chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
    if not received:
        _refuse_web_page(download, response, chunk)
    limit = download.size_bytes or MOST_BYTES
    if whole is not None and (whole > limit or (not received and download.size_bytes not in (None, whole))):
        raise UserError(f"{download.url} gives a file of {whole:,} bytes, but {limit:,} are expected; correct the pin.")
    measured_s, measured_bytes = time.monotonic(), received
    name, size_bytes = download.target.name, download.size_bytes or whole
    bar = tqdm(desc=name, total=size_bytes, initial=received, unit="B", unit_scale=True, disable=None, leave=False)
    with download.part.open("ab" if received else "wb", buffering=0) as file, bar:
        if not received:
            tag = response.headers.get("ETag", "")
            version = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
            download.version.write_text(version, encoding="utf-8")
        while chunk:
            if received + len(chunk) > limit:
                download.discard()
                raise UserError(
                    f"{download.url} gives more than the {limit:,} bytes that are expected; correct the pin."
                )
            view = memoryview(chunk)
            while view:  # a disk that is nearly full takes only a part
                view = view[file.write(view) :]
            received += len(chunk)
            bar.update(len(chunk))
            if (passed_s := time.monotonic() - measured_s) > download.policy.read_s:
                if received - measured_bytes < download.policy.least_bytes_per_s * passed_s:
                    raise TransferError("the server sends almost nothing")
                measured_s, measured_bytes = time.monotonic(), received
            chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
    if download.size_bytes is not None and received < download.size_bytes:
        raise TransferError("the connection ended early")


def _refuse_web_page(download: Download, response: requests.Response, beginning: bytes) -> None:
    """Raise if the server sends a web page, such as a sign-in, in place of the file."""
    html = response.headers.get("Content-Type", "").startswith("text/html")
    text = beginning.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")) or (html and text.startswith(b"<")):
        raise UserError(
            f"{download.url} gives a web page instead of {download.target.name}: open the address in a browser to "
            f"read it, or put the file at {download.target} by hand."
        )


@contextlib.contextmanager
def _explain_network_errors(download: Download) -> Iterator[None]:
    """Turn the network libraries' errors into TransferError, or UserError where another attempt cannot help."""
    try:
        yield
    except requests.TooManyRedirects as error:
        raise UserError(f"{download.url} leads in circles (too many redirects); correct the address.") from error
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise UserError(f"{download.url} cannot be fetched ({error}); correct the address or the proxy.") from error
    except requests.exceptions.MissingSchema as error:
        raise UserError(f"{download.url} is no address; write it with https:// in front.") from error
    except (requests.RequestException, HTTPError) as error:
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise UserError(
                f"{download.url} cannot be trusted, since its certificate is not valid here; put the file at "
                f"{download.target} by hand, or name your proxy's certificates in REQUESTS_CA_BUNDLE."
            ) from error
        if isinstance(error, requests.Timeout) or "timed out" in text:
            raise TransferError("the server does not answer in time") from error
        raise TransferError(next((words for mark, words in CAUSES.items() if mark in text), text)) from error
