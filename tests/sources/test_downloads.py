import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowers.errors import UserError
from flowers.sources.downloads import RETRY_POLICY, RetryPolicy, fetch

CONTENT = random.Random(0).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = RetryPolicy(
    connect_s=5, read_s=5, least_bytes_per_s=1000, retries=3, progress_bytes=1000, backoff_s=0.001, longest_wait_s=0.01
)
QUICK_TO_GIVE_UP = replace(QUICK, read_s=0.2)
SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "photographs.tgz"


@pytest.fixture
def url(web: Any) -> str:
    return web.add("photographs.tgz", CONTENT)


def get(url: str, target: Path, **changes: Any) -> Path:
    usual: dict[str, Any] = {"digest": MD5, "size_bytes": len(CONTENT), "policy": QUICK}
    return fetch(url, target, **usual | changes)


def names_beside(target: Path) -> set[str]:
    """List the files in the target's folder except the lock."""
    return {path.name for path in target.parent.iterdir()} - {f"{target.name}.lock"}


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.005)


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
@pytest.mark.parametrize("digest", [MD5, MD5.upper(), hashlib.sha256(CONTENT).hexdigest()])
def test_file_arrives_whole_and_alone(url: str, target: Path, web: Any, digest: str, size_bytes: int | None) -> None:
    assert get(url, target, digest=digest, size_bytes=size_bytes) == target
    assert target.read_bytes() == CONTENT
    assert names_beside(target) == {target.name}
    get(url, target, digest=digest, size_bytes=size_bytes)
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    "how",
    [
        {"stop_after": 100_000},
        {"stop_after": 100_000, "headers": {"Content-Length": None}},
        {"stop_after": 100_000, "chunked": True},
        {"stall_after": 100_000},
        {"stop_after": 100_000, "headers": {"ETag": 'W/"weak"', "Last-Modified": "Sat, 21 Nov 2015 10:00:00 GMT"}},
    ],
    ids=["cut", "cut, length unknown", "cut in chunks", "stalled", "with a time of change"],
)
def test_broken_transfer_goes_on_where_it_stopped(url: str, target: Path, web: Any, how: dict[str, Any]) -> None:
    web.then(**how)
    if "ETag" in how.get("headers", {}):
        web.always(version="Sat, 21 Nov 2015 10:00:00 GMT")  # what If-Range is then compared with
    policy = QUICK_TO_GIVE_UP if "stall_after" in how else QUICK
    assert get(url, target, policy=policy).read_bytes() == CONTENT
    assert web.ranges() == [None, "bytes=100000-"]
    assert web.asked[1][1]["If-Range"] in ('"1"', "Sat, 21 Nov 2015 10:00:00 GMT")
    assert names_beside(target) == {target.name}


def test_any_mixture_of_failures_ends_with_the_file(tmp_path: Path, url: str, web: Any) -> None:
    rng = random.Random(1)
    for number in range(12):
        target = tmp_path / f"{number}.tgz"
        for _ in range(rng.randrange(4)):
            web.then(
                stop_after=rng.randrange(200_000),
                ranges=rng.random() < 0.6,
                version=rng.choice(['"1"', '"2"']),
                status=rng.choice([200, 200, 503]),
                chunked=rng.random() < 0.3,
            )
        assert get(url, target).read_bytes() == CONTENT
        web.answers.clear()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_server_in_trouble_is_asked_again(url: str, target: Path, web: Any, status: int) -> None:
    web.then(status=status, body=b"busy", headers={"Retry-After": "1000"})
    web.then(status=status, body=b"busy", headers={"Retry-After": "nonsense"})
    assert get(url, target).read_bytes() == CONTENT
    assert len(web.asked) == 3


@pytest.mark.slow
def test_server_says_when_to_come_again(url: str, target: Path, web: Any) -> None:
    web.then(status=503, headers={"Retry-After": "1"})
    begin_s = time.monotonic()
    get(url, target, policy=replace(QUICK, longest_wait_s=60))
    assert 1 <= time.monotonic() - begin_s < 5


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusal_is_final(url: str, target: Path, web: Any, status: int) -> None:
    web.always(status=status, body=b"no")
    with pytest.raises(UserError, match=rf"photographs\.tgz cannot be fetched: the server answers {status} .*correct"):
        get(url, target)
    assert len(web.asked) == 1
    assert names_beside(target) == set()


@pytest.mark.parametrize(
    ("how", "requests", "said"),
    [
        ({"status": 503}, 4, "the server answers 503 Service Unavailable"),
        ({"stop_after": 0}, 4, "the connection broke off"),
        ({"stall_after": 0}, 4, "the server does not answer in time"),
        ({"stop_after": 100_000, "ranges": False}, 4, "the connection broke off"),  # the same bytes again
        ({"stop_after": 100_000, "chunked": True, "ranges": False}, 4, "the connection broke off"),
        ({"shift": 1, "stop_after": 500}, 4, "the server continued at another place than asked; 0 bytes are kept"),
    ],
)
def test_retries_end(url: str, target: Path, web: Any, how: dict[str, Any], requests: int, said: str) -> None:
    web.always(**how)
    with pytest.raises(UserError, match=said) as raised:
        get(url, target, policy=QUICK_TO_GIVE_UP if "stall_after" in how else QUICK)
    assert url in str(raised.value)
    assert len(web.asked) == requests
    assert not target.exists()


def test_server_that_is_too_slow_has_stalled(url: str, target: Path, web: Any) -> None:
    web.then(piece_bytes=1, pause_s=0.05)
    assert get(url, target, policy=QUICK_TO_GIVE_UP).read_bytes() == CONTENT
    assert len(web.asked) == 2


def test_progress_renews_the_retries(url: str, target: Path, web: Any) -> None:
    web.always(stop_after=20_000)
    assert get(url, target).read_bytes() == CONTENT
    assert len(web.asked) == 15


def test_redirect_is_followed(url: str, target: Path, web: Any) -> None:
    web.then(status=302, headers={"Location": url})
    assert get(url.replace("photographs", "old"), target).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("location", "said"), [("/photographs.tgz", "in circles"), ("ftp://127.0.0.1/x.tgz", "cannot be fetched")]
)
def test_redirect_that_leads_nowhere(url: str, target: Path, web: Any, location: str, said: str) -> None:
    web.always(status=302, headers={"Location": location})
    with pytest.raises(UserError, match=said):
        get(url, target)


@pytest.mark.parametrize("how", [{"ranges": False}, {"version": '"2"'}], ids=["ranges unknown", "file changed"])
def test_file_starts_over_when_it_cannot_be_continued(url: str, target: Path, web: Any, how: dict[str, Any]) -> None:
    web.then(body=b"x" * 300_000, stop_after=100_000)
    web.always(**how)
    assert get(url, target).read_bytes() == CONTENT
    assert web.ranges() == [None, "bytes=100000-"]


def test_halves_of_two_versions_are_noticed(url: str, target: Path, web: Any) -> None:
    web.always(headers={"ETag": None})
    web.then(body=b"x" * 300_000, stop_after=100_000, headers={"ETag": None})
    assert get(url, target).read_bytes() == CONTENT
    assert web.ranges() == [None, "bytes=100000-", None]


@pytest.mark.parametrize(
    "how", [{"shift": 10}, {"headers": {"Content-Range": None}}, {"headers": {"Content-Range": "bytes 100000-1/9"}}]
)
def test_answer_from_another_place_is_not_appended(url: str, target: Path, web: Any, how: dict[str, Any]) -> None:
    web.then(stop_after=100_000)
    web.then(**how)
    assert get(url, target).read_bytes() == CONTENT


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_whole_part_needs_no_bytes(url: str, target: Path, web: Any, size_bytes: int | None) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)  # killed before the rename
    assert get(url, target, size_bytes=size_bytes).read_bytes() == CONTENT
    assert web.ranges() == ([] if size_bytes else ["bytes=300000-"])


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_part_that_is_too_long_is_dropped(url: str, target: Path, web: Any, size_bytes: int | None) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT + b"more")
    assert get(url, target, size_bytes=size_bytes).read_bytes() == CONTENT


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_other_bytes_are_refused_and_not_kept(url: str, target: Path, web: Any, size_bytes: int | None) -> None:
    other = CONTENT[::-1]
    web.then(body=other)
    with pytest.raises(UserError) as raised:
        get(url, target, size_bytes=size_bytes)
    said = str(raised.value)
    assert url in said
    assert MD5 in said
    assert hashlib.md5(other).hexdigest() in said
    assert names_beside(target) == set()
    assert len(web.asked) == 1
    assert get(url, target, size_bytes=size_bytes).read_bytes() == CONTENT
    assert web.ranges() == [None, None]


@pytest.mark.parametrize(
    "how",
    [
        {"body": CONTENT[:1000]},
        {"headers": {"Content-Length": "400000"}},
        {"body": CONTENT * 2},
        {"body": CONTENT * 2, "chunked": True},
    ],
)
def test_file_of_another_size_is_refused(url: str, target: Path, web: Any, how: dict[str, Any]) -> None:
    web.always(**how)
    with pytest.raises(UserError, match=r"300,000 (bytes that )?are expected; correct the pin"):
        get(url, target)
    assert len(web.asked) == 1
    assert not target.exists()
    assert not part_of(target).exists() or not part_of(target).stat().st_size


@pytest.mark.parametrize(
    "how",
    [
        {"body": b"\n<!DOCTYPE html><title>Sign in</title>"},
        {"body": b"<html lang=en>Error"},
        {"body": b"<p>Error", "headers": {"Content-Type": "text/html; charset=utf-8"}},
        {"body": b"<html>" + b"." * 299_994},
    ],
)
def test_web_page_is_recognised(url: str, target: Path, web: Any, how: dict[str, Any]) -> None:
    web.always(**how)
    with pytest.raises(UserError, match=r"gives a web page instead of photographs\.tgz"):
        get(url, target)
    assert names_beside(target) == set()


def test_file_in_place_is_used(url: str, target: Path, web: Any) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    target.parent.chmod(0o500)
    assert get(url, target) == target
    assert web.asked == []
    assert names_beside(target) == {target.name}
    target.parent.chmod(0o700)


def test_other_file_in_place_is_never_touched(url: str, target: Path, web: Any) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"photographs\.tgz has the digest .* move it away"):
        get(url, target)
    assert target.read_bytes() == b"mine"
    assert web.asked == []


def test_two_at_once_share_the_work(url: str, target: Path, web: Any, capsys: pytest.CaptureFixture[str]) -> None:
    web.always(pause_s=0.002)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(get(url, target).read_bytes())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 3
    assert len(web.asked) == 1
    assert "waiting for another download" in capsys.readouterr().err


def start(url: str, target: Path, before: str = "") -> subprocess.Popen[str]:
    """Fetch in another process."""
    code = (
        f"{before}\nimport sys\nfrom pathlib import Path\nfrom flowers.sources.downloads import fetch\n"
        "from flowers.config.cli import exit_on_user_error\n"
        f"with exit_on_user_error(): fetch({url!r}, Path({str(target)!r}), {MD5!r}, {len(CONTENT)})"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, stderr=subprocess.PIPE)


@pytest.mark.parametrize("at_bytes", [60_000, pytest.param(1, marks=pytest.mark.slow)])
def test_next_process_resumes_what_a_killed_one_received(url: str, target: Path, web: Any, at_bytes: int) -> None:
    web.always(pause_s=0.02)
    with start(url, target) as process:
        wait_until(lambda: part_of(target).exists() and part_of(target).stat().st_size >= at_bytes)
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    kept = part_of(target).stat().st_size
    assert at_bytes <= kept < len(CONTENT)
    web.always()
    assert get(url, target).read_bytes() == CONTENT
    assert web.ranges() == [None, f"bytes={kept}-"]


@pytest.mark.slow
def test_two_processes_share_the_work_even_if_one_is_killed(url: str, target: Path, web: Any) -> None:
    web.always(pause_s=0.02)
    with start(url, target) as process:
        wait_until(lambda: len(web.asked) == 1)
        rest = threading.Timer(0.2, process.kill)
        rest.start()
        assert get(url, target).read_bytes() == CONTENT
        rest.join()
    assert len(web.asked) == 2


def test_full_disk_is_a_sentence(url: str, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"\.part cannot be written or read \(No space left on device\).*make room"):
        get(url, target)
    assert not target.exists()


def test_what_came_before_the_disk_was_full_is_used(url: str, target: Path, web: Any) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    with start(url, target, limited) as process:
        _, said = process.communicate()
    assert process.returncode == 2
    assert "File too large" in said
    assert "50,000 bytes are kept" in said
    assert len(said.strip().splitlines()) == 1
    assert get(url, target).read_bytes() == CONTENT
    assert web.ranges() == [None, "bytes=50000-"]


def test_unusable_folder_is_a_sentence(url: str, tmp_path: Path, web: Any) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file cannot be written or read .*same command again"):
        get(url, tmp_path / "file" / "photographs.tgz")
    assert web.asked == []


def test_closed_folder_is_a_sentence(url: str, target: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is closed to root")
    target.parent.mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"cannot be written or read \(Permission denied\)"):
        get(url, target)


def test_proxy_is_taken_from_the_environment(target: Path, web: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{web.server_port}")
    assert get("http://flowers.invalid/photographs.tgz", target).read_bytes() == CONTENT
    assert [path for path, _ in web.asked] == ["http://flowers.invalid/photographs.tgz"]


def test_refused_connection_is_a_sentence(target: Path, web: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        with pytest.raises(
            UserError, match=r"could not be fetched: the connection is refused; 0 bytes are kept.*by hand"
        ):
            get(f"http://127.0.0.1:{taken.getsockname()[1]}/x.tgz", target)


@pytest.mark.parametrize("address", ["photographs.tgz", "ftp://127.0.0.1/x.tgz", "http://", "http://[x/y.tgz"])
def test_invalid_address_is_a_sentence(target: Path, address: str) -> None:
    with pytest.raises(UserError, match=r"(is no address|cannot be fetched)"):
        get(address, target)


def test_default_policy_suits_real_servers() -> None:
    assert RETRY_POLICY.read_s >= 30
    assert RETRY_POLICY.connect_s >= 10
    waits_s = [0.0] + [RETRY_POLICY.backoff_s * 2**number for number in range(1, RETRY_POLICY.retries)]
    assert 15 <= sum(min(wait, RETRY_POLICY.longest_wait_s) for wait in waits_s) <= 300
