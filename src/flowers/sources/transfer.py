"""One attempt at a transfer over HTTP, which goes on where an earlier one stopped."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from flowers.errors import UserError

CHUNK_BYTES = 1 << 18
MOST_BYTES = 1 << 36
"""Where no size is pinned, a server that never ends is left after this much."""
TRY_LATER = {408, 425, 429}
CAUSES = {
    "IncompleteRead": "the connection broke off",
    "RemoteDisconnected": "the connection broke off",
    "Connection reset": "the connection broke off",
    "Connection refused": "the connection is refused",
    "resolve": "its host is not known here",
    "unreachable": "the network cannot be reached",
}
"""What a text of the network libraries holds, in plain words."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for."""

    connect_s: float = 15
    read_s: float = 60
    """Without a byte for so long, or with fewer than `least_bytes_per_s` on average over so long, it has stalled."""
    least_bytes_per_s: float = 256
    retries: int = 5
    """Failures in a row after the first that are borne; counted anew after each `progress_bytes` more than ever before,
    which keeps the number of all attempts finite."""
    progress_bytes: int = 1 << 20
    backoff_s: float = 1
    """The second retry waits for twice as long, each further one for twice its predecessor's time."""
    longest_wait_s: float = 60
    """Bounds the wait, also when the server asks for a longer one."""


class Broken(Exception):  # noqa: N818 - it is no error yet
    """An attempt failed in a way that another may not."""

    def __init__(self, reason: str, response: requests.Response | None = None) -> None:
        super().__init__(reason)
        self.response = response


@dataclass(frozen=True)
class Order:
    """What is to be fetched, and where it gathers."""

    url: str
    target: Path
    digest: str
    size_bytes: int | None
    patience: Patience

    @property
    def part(self) -> Path:
        """Holds what has come so far."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def validator(self) -> Path:
        """Holds what the server called the version that `part` is the beginning of."""
        return self.target.with_name(f"{self.target.name}.part.version")

    def received_bytes(self) -> int:
        """Say how much has come so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self) -> None:
        """Forget what has come so far."""
        self.part.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)


def attempt(session: requests.Session, order: Order) -> None:
    """Ask for what is missing, and append it.

    Raises:
        Broken: It did not all come.
        UserError: It never will.
    """
    received = order.received_bytes()
    if order.size_bytes is not None and received > order.size_bytes:
        received = 0  # it is the beginning of another file
    if received == order.size_bytes:  # killed between the last byte and the rename
        return
    # The bytes of the file itself are wanted, not a compressed form of them.
    headers = {"Accept-Encoding": "identity"}
    if received:
        headers["Range"] = f"bytes={received}-"
        if order.validator.exists():
            headers["If-Range"] = order.validator.read_text()
    with _explain_network_errors(order):
        response = session.get(
            order.url, headers=headers, stream=True, timeout=(order.patience.connect_s, order.patience.read_s)
        )
        with response:
            if response.status_code == 416 and received:
                if order.size_bytes is None and _content_range(response)[1] == received:
                    return
                order.discard()
                raise Broken("the server has less than what came before", response)
            _check_status(order, response)
            if response.status_code == 206:
                start, total = _content_range(response)
                if start != received or (order.size_bytes is not None and total not in (None, order.size_bytes)):
                    order.discard()
                    raise Broken("the server continued at another place than asked", response)
            else:
                received = 0  # it ignores ranges, or its file has changed
            _receive(order, response, received)


def _check_status(order: Order, response: requests.Response) -> None:
    """Let only answers pass that bring the file."""
    code = response.status_code
    if code in (200, 206):
        return
    answer = f"{code} {response.reason}"
    if code in TRY_LATER or code >= 500:
        raise Broken(f"the server answers {answer}", response)
    raise UserError(
        f"{order.url} cannot be fetched: the server answers {answer}; correct the address, or put the file at "
        f"{order.target} by hand."
    )


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Read where a partial answer starts and how large the whole is, as far as the header says it."""
    header = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"\s*bytes\s+(?:(\d+)-\d+|\*)/(?:(\d+)|\*)\s*", header)
    start, total = match.groups() if match else (None, None)
    return (None if start is None else int(start)), (None if total is None else int(total))


def _receive(order: Order, response: requests.Response, received: int) -> None:
    """Write what comes: from the start of the file, or after the bytes that were received before."""
    length = response.headers.get("Content-Length", "")
    whole = received + int(length) if length.isdecimal() else None
    chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
    if not received:
        _refuse_page(order, response, chunk)
    limit = order.size_bytes or MOST_BYTES
    if whole is not None and (whole > limit or (not received and order.size_bytes not in (None, whole))):
        raise UserError(f"{order.url} gives a file of {whole:,} bytes, but {limit:,} are expected; correct the pin.")
    clock_s, since = time.monotonic(), received
    bar = tqdm(
        desc=order.target.name,
        total=order.size_bytes or whole,
        initial=received,
        unit="B",
        unit_scale=True,
        disable=None,
        leave=False,
    )
    with order.part.open("ab" if received else "wb", buffering=0) as file, bar:
        if not received:
            _remember_version(order, response)
        while chunk:
            if received + len(chunk) > limit:
                order.discard()
                raise UserError(f"{order.url} gives more than the {limit:,} bytes that are expected; correct the pin.")
            view = memoryview(chunk)
            while view:  # a nearly full disk takes a part of it
                view = view[file.write(view) :]
            received += len(chunk)
            bar.update(len(chunk))
            if (passed_s := time.monotonic() - clock_s) > order.patience.read_s:
                if received - since < order.patience.least_bytes_per_s * passed_s:
                    raise Broken("the server has all but stalled")
                clock_s, since = time.monotonic(), received
            chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
    if order.size_bytes is not None and received < order.size_bytes:
        raise Broken("the connection ended early")


def _refuse_page(order: Order, response: requests.Response, beginning: bytes) -> None:
    """Tell a web page, which a sign-in or an error may be served as, from the file."""
    html = response.headers.get("Content-Type", "").startswith("text/html")
    text = beginning.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")) or (html and text.startswith(b"<")):
        raise UserError(
            f"{order.url} gives a web page instead of {order.target.name}: open the address in a browser to read it, "
            f"or put the file at {order.target} by hand."
        )


def _remember_version(order: Order, response: requests.Response) -> None:
    """Keep a validator that may stand in If-Range (RFC 9110, 13.1.5): a strong ETag, else the time of change."""
    tag = response.headers.get("ETag", "")
    version = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    if version:
        order.validator.write_text(version)
    else:
        order.validator.unlink(missing_ok=True)


@contextlib.contextmanager
def _explain_network_errors(order: Order) -> Iterator[None]:
    """Tell failures that may pass from those that will not."""
    try:
        yield
    except requests.TooManyRedirects as error:
        raise UserError(f"{order.url} leads in circles (too many redirects); correct the address.") from error
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise UserError(f"{order.url} cannot be fetched ({error}); correct the address or the proxy.") from error
    except requests.exceptions.MissingSchema as error:
        raise UserError(f"{order.url} is no address; write it with https:// in front.") from error
    except (requests.RequestException, HTTPError) as error:
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise UserError(
                f"{order.url} cannot be trusted, since its certificate is not valid here; put the file at "
                f"{order.target} by hand, or name your proxy's certificates in REQUESTS_CA_BUNDLE."
            ) from error
        if isinstance(error, requests.Timeout) or "timed out" in text:
            raise Broken("the server does not answer in time") from error
        raise Broken(next((words for mark, words in CAUSES.items() if mark in text), text)) from error
