"""The page's server, asked over HTTP as a browser would, and as an attacker would."""

import json
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from starlette.testclient import TestClient

from flowers.curation.labels import LabelEditFile, read_label_edits
from flowers.errors import UserError
from flowers.report.label_review import PHOTO_PX, THUMB_PX, Review, Suspect, make_server, open_port

CLASSES = ["daisy", "roses", "</script><b>"]
PATHS = ["daisy/a.jpg", "daisy/</script><i>.jpg", "roses/gone.jpg"]


class Answer(NamedTuple):
    status: int
    headers: Message
    """Found in upper or lower case."""
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, content: Any, **headers: str) -> Answer:
        if "X_Token" not in headers:
            headers["X_Token"] = self.token
        return self.ask("POST", path, json.dumps(content), **headers)

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script is given."""
        text = self.get("/").body.decode()
        found: list[str] = []

        class Reader(HTMLParser):
            wanted = False

            def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
                self.wanted = dict(attrs).get("id") == "data"

            def handle_data(self, data: str) -> None:
                if self.wanted:
                    found.append(data)

            def handle_endtag(self, tag: str) -> None:
                self.wanted = False

        Reader().feed(text)
        return json.loads("".join(found))

    @property
    def token(self) -> str:
        return str(self.data["token"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, LabelEditFile]]:
    """The page's port, and the table that it writes."""
    suspects = [Suspect(path, path.partition("/")[0], "roses", 0.1, 0.8, "large loss") for path in PATHS]
    file = LabelEditFile(tmp_path_factory.mktemp("review") / "decisions.csv")

    def picture(path: str, side_px: int) -> bytes | None:
        return None if "gone" in path else f"{path} {side_px}".encode()

    with served(Review(suspects, CLASSES, file, "Ada", picture)) as port:
        yield port, file


@pytest.fixture
def edits(page: tuple[int, LabelEditFile]) -> LabelEditFile:
    """The table, which each test finds without a row."""
    page[1].file.unlink(missing_ok=True)
    return page[1]


@pytest.fixture
def client(page: tuple[int, LabelEditFile], edits: LabelEditFile) -> Client:
    return Client(page[0])


@contextmanager
def served(review: Review) -> Iterator[int]:
    """Serve the page in a thread."""
    with open_port(0) as listener:
        server = make_server(review, listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]  # which answers as soon as the server has started
        server.should_exit = True
        thread.join()


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/")
    assert page.status == 200
    assert b"http:" not in page.body
    assert b"https:" not in page.body
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    nonce = policy.partition("script-src 'nonce-")[2].rstrip("'")
    assert f'<script nonce="{nonce}">' in page.body.decode()
    assert nonce not in client.get("/").body.decode()
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    data = client.data  # whole, in spite of the names
    assert [suspect["path"] for suspect in data["suspects"]] == PATHS
    assert data["classes"] == CLASSES
    assert b"<i>" not in page.body


def test_photographs_are_asked_for_by_number(client: Client) -> None:
    token = client.token
    photo = client.get(f"/photo/{token}/0")
    assert (photo.status, photo.headers["Content-Type"]) == (200, "image/jpeg")
    assert photo.body.decode() == f"daisy/a.jpg {PHOTO_PX}"
    assert client.get(f"/thumb/{token}/1").body.decode() == f"{PATHS[1]} {THUMB_PX}"
    for number in ("2", "3", "-1", "x", "0/..", "../decisions.csv", "%2e%2e", "daisy/a.jpg", ""):
        assert client.get(f"/photo/{token}/{number}").status == 404, number
    for path in ("/photo/other/0", "/photo/0", "/etc/passwd", "/../../etc/passwd", f"/full/{token}/0"):
        assert client.get(path).status == 404, path


def test_decisions_are_on_disk_when_they_are_answered(client: Client, edits: LabelEditFile) -> None:
    for number, decision in ((0, "keep"), (1, "relabel:roses"), (0, "drop")):
        answer = client.post("/decide", {"number": number, "decision": decision})
        assert answer.status == 200
        written = read_label_edits(edits.file)[PATHS[number]]
        assert (written.decision, written.by) == (decision, "Ada")
        assert written.when.endswith("Z")
        assert answer.json["decisions"][PATHS[number]]["decision"] == decision
    # Another tab sees them, at its start and later.
    now = {path: row["decision"] for path, row in client.get("/decisions").json["decisions"].items()}
    assert now == {PATHS[0]: "drop", PATHS[1]: "relabel:roses"}
    assert client.data["decisions"] == client.get("/decisions").json["decisions"]
    undone = client.post("/undo", {}).json
    assert undone["undone"] == PATHS[0]
    assert undone["decisions"][PATHS[0]]["decision"] == "keep"
    client.post("/undo", {})
    client.post("/undo", {})
    assert client.post("/undo", {}).json == {"undone": None, "decisions": {}}


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/decide", {"number": 3, "decision": "keep"}, 404),
        ("/decide", {"number": -1, "decision": "keep"}, 404),
        ("/decide", {"number": True, "decision": "keep"}, 404),
        ("/decide", {"number": "0", "decision": "keep"}, 404),
        ("/decide", {"number": 0, "decision": "relabel:tulips"}, 400),
        ("/decide", {"number": 0, "decision": "keep\nb,drop"}, 400),
        ("/decide", {"number": 0}, 400),
        ("/decide", [], 400),
        ("/elsewhere", {}, 404),
        ("/decide", {"number": 0, "decision": "keep", "more": "x" * 5000}, 413),
    ],
)
def test_what_is_no_decision_is_refused(
    path: str, content: Any, status: int, client: Client, edits: LabelEditFile
) -> None:
    answer = client.post(path, content)
    assert answer.status == status
    assert answer.json["error"]
    assert not edits.file.exists()
    assert client.get("/").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Token": "guessed"},
        {"X_Token": ""},
        {"X_Token": "\xe9"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
    ],
)
def test_other_web_pages_cannot_decide(headers: dict[str, str], client: Client, edits: LabelEditFile) -> None:
    answer = client.post("/decide", {"number": 0, "decision": "drop"}, **headers)
    assert answer.status == 403
    assert not edits.file.exists()


def test_a_name_that_leads_here_by_dns_reads_nothing(client: Client) -> None:
    token, port = client.token, client.port
    for path in ("/", "/decisions", f"/photo/{token}/0"):
        answer = client.get(path, Host=f"evil.example:{port}")
        assert answer.status == 403
        assert token.encode() not in answer.body
        assert client.get(path, Host=f"localhost:{port}").status == 200


def test_own_pages_may_decide(client: Client) -> None:
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec_Fetch_Site": "same-origin"}
    assert client.post("/decide", {"number": 0, "decision": "keep"}, **own).status == 200


def test_what_cannot_be_written_is_said(client: Client, edits: LabelEditFile) -> None:
    token = client.token
    edits.file.write_text("no table\n")
    answer = client.post("/decide", {"number": 0, "decision": "keep"}, X_Token=token)
    assert answer.status == 500
    assert "line 1, is 'no table'" in answer.json["error"]
    assert edits.file.read_text() == "no table\n"


def test_many_tabs_at_once_lose_nothing(client: Client, edits: LabelEditFile) -> None:
    token = client.token

    def decide(number: int) -> None:
        for decision in ("keep", "drop", "relabel:roses") * 3:
            client.post("/decide", {"number": number, "decision": decision}, X_Token=token)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(edits.file.read_text().splitlines()) == 1 + 3 * 9
    assert {row.decision for row in edits.read().values()} == {"relabel:roses"}


def test_only_this_machine_is_served_and_a_taken_port_is_named(client: Client, edits: LabelEditFile) -> None:
    with open_port(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    for port in (client.port, 99999):
        with pytest.raises(UserError, match=f"port={port} cannot be used"):
            open_port(port)


def test_an_empty_list_is_said(edits: LabelEditFile) -> None:
    with served(Review([], CLASSES, edits, "Ada", lambda path, side_px: None)) as port:
        assert b"nothing to decide" in Client(port).get("/").body


@pytest.mark.slow
def test_no_request_ends_in_an_exception_and_only_valid_ones_are_written(tmp_path: Path) -> None:
    """5,000 requests with a fixed seed; most are damaged in a way or two."""
    pick = random.Random(0)
    edits = LabelEditFile(tmp_path / "decisions.csv")
    suspects = [Suspect(path, path.partition("/")[0], "roses", 0.1, 0.8, "large loss") for path in PATHS]
    with open_port(0) as listener:
        app: Any = make_server(Review(suspects, CLASSES, edits, "Ada", lambda path, side_px: b""), listener).config.app
        host = f"http://127.0.0.1:{listener.getsockname()[1]}"
    browser = TestClient(app, base_url=host, raise_server_exceptions=True)
    token = re.findall(r'"token": ?"([\w-]+)"', browser.get("/").text)[0]
    tokens = [*[token.encode()] * 8, b"", b"\xe9", b"x" * 300, "\u0663".encode()]
    numbers = [*["0", "1", "2"] * 3, "3", "-1", "true", "null", "0.0", "1e400", "NaN", '"0"', "[]", "{}", "9" * 4000]
    valid = ['"keep"', '"drop"', '"relabel:roses"']
    decisions = [*valid * 4, '"relabel:"', '"keep\\n"', '"\\ud800"', '""', "[]", '["keep"]', "{}", "null", "1", "true"]
    odd = [b"[" * 4000, b'{"a":' * 800, b"\xff\xfe", b"\0" * 99, b"NaN", b"{", b"9" * 4090, b"", b"{}", b"x" * 200_000]
    types = [b"application/json", b"text/plain", b"multipart/form-data; boundary=", b"\xe9", b""]
    lengths = [b"9" * 5000, b"-1", b"", b"\xb2", b"0x10"]
    parts = ["photo", "thumb", token, "0", "2", "9" * 4400, "-1", "%00", "%ff", "%D9%A3", "..", "1.5", ""]
    written = 0
    for _ in range(5000):
        number, decision = pick.choice(numbers), pick.choice(decisions)
        sent = f'{{"number": {number}, "decision": {decision}}}'.encode()
        body = pick.choice(odd) if pick.random() < 0.3 else sent
        headers = {b"X-Token": pick.choice(tokens), b"Content-Type": pick.choice(types)}
        headers |= {b"Content-Length": pick.choice(lengths)} if pick.random() < 0.1 else {}
        headers |= {b"Origin": pick.choice([b"null", b"\xff", host.encode()])} if pick.random() < 0.1 else {}
        method = pick.choice(["POST", "POST", "POST", "GET", "PUT", "HEAD", "OPTIONS", "DELETE"])
        path = pick.choice(
            ["/decide", "/decide", "/decide", "/undo", "/", "/decisions", "/".join(pick.choices(parts, k=4))]
        )
        before = edits.file.read_bytes() if edits.file.exists() else b""
        answer = browser.request(method, path, content=body, headers=cast("Any", headers))
        assert answer.status_code < 500, (method, path, headers, body[:80], answer.text)
        after = edits.file.read_bytes() if edits.file.exists() else b""
        if after != before:
            assert (method, answer.status_code, headers[b"X-Token"]) == ("POST", 200, token.encode())
            decided = path == "/decide" and body == sent and number in ("0", "1", "2") and decision in valid
            assert decided if len(after) > len(before) else path == "/undo"
            written += decided
    assert written > 20
