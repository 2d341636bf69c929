"""A page on this machine that shows suspect labels one by one, and writes down what a person decides.

It is served on the loopback interface only. A web page from elsewhere that is open in the same browser can neither read
nor write here: requests must name this host (which also stops DNS rebinding), and decisions must carry a token that
only this page knows. Photographs are requested by their number in the list, so that no request can name a file.
"""

import errno
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from flowers.curation.labels import LabelEditFile
from flowers.errors import UserError
from flowers.report.html import PHOTOGRAPH, open_template

PHOTO_PX, THUMB_PX = 1400, 160
_LONGEST_REQUEST = 4096
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Suspect(NamedTuple):
    """A photograph to look at: a row of ``suspects.csv``."""

    path: str
    label: str
    suggested: str
    probability_given: float
    probability_suggested: float
    why: str


@dataclass(frozen=True)
class Review:
    """What the page shows, and where decisions go."""

    suspects: Sequence[Suspect]
    classes: Sequence[str]
    """What a photograph can be relabelled to."""
    edits: LabelEditFile
    by: str
    """Who decides."""
    picture: Callable[[str, int], bytes | None]
    """From a path and a longest side in pixels to a JPEG; None if it cannot be shown."""
    noun: str = PHOTOGRAPH
    """What a photograph is called."""

    def decisions(self) -> dict[str, dict[str, str]]:
        """Look up the last decision on each suspect."""
        edits = self.edits.read()
        found = {suspect.path: edits[suspect.path] for suspect in self.suspects if suspect.path in edits}
        return {path: {"decision": each.decision, "by": each.by, "when": each.when} for path, each in found.items()}


def open_port(port: int) -> socket.socket:
    """Listen on the loopback interface.

    Args:
        port: 0 for any free one.

    Raises:
        UserError: If the port is taken or not allowed.
    """
    try:
        if not 0 <= port <= 65535:
            raise OSError(errno.EINVAL, "ports end at 65535")
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(
            f"port={port} cannot be used ({error.strerror}); choose another, or 0 for any free one."
        ) from error


def make_server(review: Review, listener: socket.socket) -> uvicorn.Server:
    """Make the page's server.

    Args:
        review: What is shown.
        listener: From :func:`open_port`. Start the server with ``run(sockets=[listener])``, which ends at Ctrl-C.
    """
    pages = _Pages(review, listener.getsockname()[1])
    app = Starlette(
        routes=[
            Route("/", pages.index),
            Route("/decisions", pages.decisions),
            Route("/{size}/{token}/{number}", pages.picture),
            Route("/decide", pages.decide, methods=["POST"]),
            Route("/undo", pages.undo, methods=["POST"]),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=pages.protect)],
        exception_handlers={HTTPException: _refuse, UserError: _fail, OSError: _fail},
    )
    app.router.redirect_slashes = False
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="error",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


class _Pages:
    """Answers requests; the functions without ``async`` run in threads."""

    def __init__(self, review: Review, port: int) -> None:
        self.review = review
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self.template = open_template("label_review.html.jinja", review.noun)

    async def protect(self, request: Request, answer: RequestResponseEndpoint) -> Response:
        """Refuse requests to other names than this machine's, and tell the browser to load nothing from elsewhere."""
        nonce = request.state.nonce = secrets.token_urlsafe(12)
        if request.headers.get("Host") in self.hosts:
            response = await answer(request)
        else:
            response = JSONResponse({"error": "this page answers to its own address only"}, 403)
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
        )
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def index(self, request: Request) -> Response:
        data = {
            "token": self.token,
            "suspects": [suspect._asdict() for suspect in self.review.suspects],
            "classes": list(self.review.classes),
            "decisions": self.review.decisions(),
        }
        return HTMLResponse(self.template.render(nonce=request.state.nonce, by=self.review.by, data=data))

    def decisions(self, request: Request) -> Response:
        return JSONResponse({"decisions": self.review.decisions()})

    def picture(self, request: Request) -> Response:
        side_px = {"photo": PHOTO_PX, "thumb": THUMB_PX}.get(request.path_params["size"])
        # The browser keeps pictures for an hour: a token in their address tells another list at the same port apart.
        if side_px is None or not self._is_own(request.path_params["token"]):
            raise HTTPException(404)
        number = request.path_params["number"]  # Starlette's own reading of numbers fails at 4,301 digits
        picture = self.review.picture(self._suspect(int(number) if _is_short(number) else None).path, side_px)
        if picture is None:
            raise HTTPException(404, "this photograph cannot be shown")
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def decide(self, request: Request) -> Response:
        content = await self._content(request)
        suspect, decision = self._suspect(content.get("number")), content.get("decision")
        if decision not in ["keep", "drop", *(f"relabel:{name}" for name in self.review.classes)]:
            raise HTTPException(400, "a decision is keep, drop or relabel to one of the classes")
        self.review.edits.read()  # a table that cannot be read must not grow
        self.review.edits.append(suspect.path, decision, self.review.by)  # a row takes no time worth a thread
        return self.decisions(request)

    async def undo(self, request: Request) -> Response:
        await self._content(request)
        return JSONResponse({"undone": self.review.edits.undo(), "decisions": self.review.decisions()})

    def _is_own(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(errors="replace"), self.token.encode())

    async def _content(self, request: Request) -> dict[str, Any]:
        """Read what this page, and no other, has sent."""
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        is_own = origin in {None, *(f"http://{host}" for host in self.hosts)} and site in {None, "same-origin"}
        if not is_own or not self._is_own(request.headers.get("X-Token", "")):
            raise HTTPException(403, "this page belongs to an earlier start of the command; load it again")
        length = request.headers.get("Content-Length", "")
        if not _is_short(length) or int(length) > _LONGEST_REQUEST:  # the server lets no more than this through
            raise HTTPException(413, "the request has no length, or is too long")
        try:
            content = await request.json()
        except (ValueError, RecursionError, ClientDisconnect):  # no JSON, too deeply nested, or cut off
            content = None
        if not isinstance(content, dict):
            raise HTTPException(400, "the request is no JSON object")
        return content

    def _suspect(self, number: Any) -> Suspect:
        if type(number) is not int or not 0 <= number < len(self.review.suspects):
            raise HTTPException(404, "there is no suspect of this number")
        return self.review.suspects[number]


def _is_short(digits: str) -> bool:
    """Tell whether a text is a whole number of a few digits; Python refuses to read those of thousands."""
    return digits.isascii() and digits.isdecimal() and len(digits) < 10


def _refuse(request: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, {"Connection": "close"})


def _fail(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"not written: {error}"}, 500)
