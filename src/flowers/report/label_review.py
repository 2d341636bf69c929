"""A page on this machine that shows suspects one by one, and writes down what a person decides.

It is served on the loopback interface only. A web page from elsewhere that is open in the same browser can neither read
nor write here: requests must name this host (else DNS rebinding would do), and decisions must carry a token that only
the page knows. Photographs are asked for by their number in the list, so that no request can name a file.
"""

import dataclasses
import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from flowers.errors import UserError
from flowers.report.html import open_template

PHOTO_PX, THUMB_PX = 1400, 160
_LONGEST_REQUEST = 4096


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A photograph to look at: a row of ``suspects.csv``."""

    path: str
    label: str
    suggested: str
    probability_given: float
    probability_suggested: float
    why: str


class Ledger(Protocol):
    """Where decisions are kept, see :class:`flowers.curation.label_edits.DecisionFile`."""

    file: Path

    def read(self) -> Mapping[str, Any]:
        """Give the last decision on each path: objects with `decision`, `by` and `when`."""

    def append(self, path: str, decision: str, by: str) -> None:
        """Write a decision to the disk."""

    def undo(self) -> str | None:
        """Take back the last decision; return its path, or None if it cannot be."""


@dataclasses.dataclass(frozen=True)
class Desk:
    """What the page is about."""

    suspects: Sequence[Suspect]
    classes: Sequence[str]
    """What a photograph can be relabelled to."""
    ledger: Ledger
    by: str
    """Who decides."""
    picture: Callable[[str, int], bytes | None]
    """From a path and a longest side in pixels to a JPEG; None if it cannot be shown."""

    def decisions(self) -> dict[str, dict[str, str]]:
        """Give the last decision on each suspect."""
        known = self.ledger.read()
        return {
            suspect.path: {name: getattr(known[suspect.path], name) for name in ("decision", "by", "when")}
            for suspect in self.suspects
            if suspect.path in known
        }


def make_server(desk: Desk, port: int) -> ThreadingHTTPServer:
    """Bind the page's server to the loopback interface.

    Args:
        desk: What is shown.
        port: 0 for any that is free.

    Returns:
        A server that is yet to be run with ``serve_forever``; ``server_port`` tells its port.

    Raises:
        UserError: If the port is taken or not allowed.
    """
    try:
        return _Server(desk, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"port={port} cannot be used ({reason}); choose another, or 0 for any free one.") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, desk: Desk, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.desk = desk
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.page = open_template("desk.html.jinja")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that hung up, as they do on every change of page."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _RefusedError(Exception):
    """A request that is not answered; the arguments are the status and the reason."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "flowers"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the page itself tells what happens."""

    def do_GET(self) -> None:
        """Answer with the page, a photograph, or the decisions so far."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Write down a decision, or take the last one back."""
        self._answer(self._post)

    def _answer(self, work: Callable[[], tuple[str, bytes]]) -> None:
        nonce = self.nonce = secrets.token_urlsafe(12)
        try:
            if self.headers.get("Host") not in self.server.hosts:
                raise _RefusedError(403, "this page answers to its own address only")
            status, (kind, body) = 200, work()
        except _RefusedError as refused:
            status, reason = refused.args
            kind, body = _json({"error": reason})
            self.close_connection = True  # what was sent may not have been read
        except (UserError, OSError) as error:
            status, (kind, body) = 500, _json({"error": f"not written: {error}"})
            self.close_connection = True
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "private, max-age=3600" if kind == "image/jpeg" else "no-store",
            "Content-Security-Policy": (
                "default-src 'none'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                f"frame-ancestors 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            **({"Connection": "close"} if self.close_connection else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _get(self) -> tuple[str, bytes]:
        desk = self.server.desk
        if self.path == "/":
            page = self.server.page.render(
                nonce=self.nonce,
                by=desk.by,
                data={
                    "token": self.server.token,
                    "suspects": [dataclasses.asdict(suspect) for suspect in desk.suspects],
                    "classes": list(desk.classes),
                    "decisions": desk.decisions(),
                },
            )
            return "text/html; charset=utf-8", page.encode()
        if self.path == "/decisions":
            return _json({"decisions": desk.decisions()})
        match self.path.split("/"):
            # The token keeps a browser from showing what it remembers of another list at the same port.
            case ["", ("photo" | "thumb") as size, token, number] if secrets.compare_digest(token, self.server.token):
                suspect = self._suspect(int(number) if number.isdecimal() and number.isascii() else None)
                picture = desk.picture(suspect.path, PHOTO_PX if size == "photo" else THUMB_PX)
                if picture is not None:
                    return "image/jpeg", picture
        raise _RefusedError(404, "there is nothing at this address")

    def _post(self) -> tuple[str, bytes]:
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site")
        own = origin in {None, *(f"http://{host}" for host in self.server.hosts)} and site in {None, "same-origin"}
        token = self.headers.get("X-Token", "")
        if not own or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise _RefusedError(403, "this page belongs to an earlier start of the command; load it again")
        request = self._body()
        desk = self.server.desk
        if self.path == "/undo":
            undone = desk.ledger.undo()
            return _json({"undone": undone, "decisions": desk.decisions()})
        if self.path != "/decide":
            raise _RefusedError(404, "there is nothing at this address")
        suspect, decision = self._suspect(request.get("number")), request.get("decision")
        if decision not in {"keep", "drop", *(f"relabel:{name}" for name in desk.classes)}:
            raise _RefusedError(400, "a decision is keep, drop or relabel to one of the classes")
        desk.ledger.read()  # a table that cannot be read must not grow
        desk.ledger.append(suspect.path, decision, desk.by)
        return _json({"decisions": desk.decisions()})

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and length.isascii()) or int(length) > _LONGEST_REQUEST:
            raise _RefusedError(413, "the request has no length, or is too long")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise _RefusedError(400, "the request is no JSON object")
        return body

    def _suspect(self, number: Any) -> Suspect:
        suspects = self.server.desk.suspects
        if type(number) is not int or not 0 <= number < len(suspects):
            raise _RefusedError(404, "there is no suspect of this number")
        return suspects[number]


def _json(content: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(content).encode()
