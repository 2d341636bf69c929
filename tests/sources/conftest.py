"""A web server on the loopback interface; the tests choose how it fails."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PIECE_BYTES = 4096


@dataclass
class Answer:
    """How one request is answered; by default as a good server does."""

    status: int = 200
    body: bytes | None = None
    """Instead of the file."""
    headers: dict[str, str | None] = field(default_factory=dict)
    """Added to the usual ones; None leaves one out."""
    ranges: bool = True
    version: str = '"1"'
    """The ETag."""
    shift: int = 0
    """ModelOutputs a range from so many bytes further on."""
    stop_after: int | None = None
    """Closes the connection after so many bytes."""
    stall_after: int | None = None
    """Sends nothing more after so many bytes."""
    pause_s: float = 0.0
    """Before each piece."""
    piece_bytes: int = PIECE_BYTES
    chunked: bool = False


class Loopback(ThreadingHTTPServer):
    """Serves `files`, answering the first requests by `answers` and all others by `usual`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.usual = Answer()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()

    def add(self, name: str, content: bytes) -> str:
        """Serve a file; return its address."""
        self.files[f"/{name}"] = content
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def then(self, **how: Any) -> None:
        """Choose the answer to the next request that has none yet: the fields of Answer."""
        self.answers.append(Answer(**how))

    def always(self, **how: Any) -> None:
        """Choose the answer to all requests that have none of their own."""
        self.usual = Answer(**how)

    def ranges(self) -> list[str | None]:
        """List what each request asked for; None: the whole file."""
        return [headers.get("Range") for _, headers in self.asked]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report no clients that closed the connection."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.path, dict(self.headers.items())))
        answer = server.answers.pop(0) if server.answers else server.usual
        path = re.sub(r"^http://[^/]+", "", self.path)  # a proxy is asked for the whole address
        status, body = answer.status, answer.body if answer.body is not None else server.files.get(path, b"")
        headers: dict[str, str | None] = {"ETag": answer.version, "Connection": "close"}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if (
            wanted
            and answer.ranges
            and status == 200
            and self.headers.get("If-Range", answer.version) == answer.version
        ):
            start = int(wanted[1]) + answer.shift
            if start >= len(body):
                status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
        headers |= {"Transfer-Encoding": "chunked"} if answer.chunked else {"Content-Length": str(len(body))}
        self.send_response(status)
        for name, value in (headers | answer.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        self.send_body(answer, body)

    def send_body(self, answer: Answer, body: bytes) -> None:
        ends = [end for end in (answer.stop_after, answer.stall_after) if end is not None]
        end = min([*ends, len(body)])
        for first in range(0, end, answer.piece_bytes):
            piece = body[first : min(end, first + answer.piece_bytes)]
            if answer.pause_s:
                self.server.closing.wait(answer.pause_s)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece)
        if answer.stall_after is not None:
            self.server.closing.wait(20)
        if answer.chunked and answer.stop_after is None:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *words: Any) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A server, reached without the machine's proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Loopback()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()
