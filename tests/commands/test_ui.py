"""The pages of MLflow: found, served, read by a real browser, and left without a traceback."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
import pytest

from flowers.commands import ui as ui_module
from flowers.commands.ui import LOCAL, Arguments, check_port, page, prepare, server_command
from flowers.errors import UserError
from flowers.report.confusion import confusion_figure
from flowers.tracking import store as store_module
from flowers.tracking.store import OpenRun, open_experiment

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NAMES = ("cnn_scratch seed=1", "cnn_scratch seed=2")


def free_port() -> int:
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        return int(attempt.getsockname()[1])


# Before anything is served


def test_only_this_machine_is_served_unless_told_otherwise() -> None:
    assert Arguments().host in LOCAL
    command = server_command("sqlite:///mlflow.db", Arguments().host, 5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use.*look at http://127\.0\.0\.1:{port}.*={port + 1}"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("127.0.0.1", -1), ("a..b", 5000), ("8.8.8.8", 5000)])
def test_place_that_cannot_be_served_is_one_sentence(host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"^(port|host)=") as caught:
        check_port(host, port)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1:5000"), ("0.0.0.0", "http://127.0.0.1:5000"), ("::1", "http://[::1]:5000")],
)
def test_address_is_one_that_a_browser_takes(host: str, address: str) -> None:
    assert page(host, 5000) == address


def test_missing_store_says_how_to_make_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no runs yet, for .*mlflow\.db does not exist; make some with `make repro`"):
        prepare(f"sqlite:///{tmp_path}/mlflow.db", "")
    assert list(tmp_path.iterdir()) == []


def test_locked_store_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.1)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"is locked by another program.* with uri=sqlite"):
            prepare(f"sqlite:///{tmp_path}/mlflow.db", "")


def test_the_pages_are_those_of_the_store_that_was_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    addresses = iter(["sqlite:///first.db", "sqlite:///second.db"])
    monkeypatch.setattr(ui_module, "store_uri", lambda *_, **__: next(addresses))
    monkeypatch.setattr(ui_module, "prepare", lambda uri, base: [f"  {uri}"])
    monkeypatch.setattr(os, "execve", lambda program, command, environment: served.extend(command))
    ui_module.ui(Arguments(port=free_port()))
    assert served[served.index("--backend-store-uri") + 1] == "sqlite:///first.db"


# Served


class Pages(NamedTuple):
    """A project that was moved after its runs were made, and whose pages are served."""

    process: "subprocess.Popen[str]"
    base: str
    address: str
    run_id: str


def listen() -> None:
    """Have a program hear Ctrl-C, which the children of a background job ignore, and these tests may be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    import numpy as np

    made = tmp_path_factory.mktemp("made") / "project"
    made.mkdir()
    uri = f"sqlite:///{made}/mlflow.db"
    with contextlib.chdir(made):
        assert_empty(uri)
        for index, name in enumerate(NAMES):
            run = OpenRun(uri, "garden", name, {"recipe": "cnn_scratch"}, note=f"**{name}**")
            for epoch in (1, 2, 3):
                run.log_metrics({"val/acc": 0.25 * epoch, "val/loss": 1 / epoch}, step=epoch)
            run.log_metrics({"test/acc": 0.8})
            confusion_figure(np.eye(2, dtype=int) + index, ["a", "b"], name).savefig(made / "confusion.png")
            run.log_file(made / "confusion.png")
            run.close("FINISHED")
    project = made.rename(tmp_path_factory.mktemp("moved") / "project")
    port = free_port()
    command = [sys.executable, "-m", "flowers", "ui", f"port={port}"]
    with (project / "said").open("w") as said:
        process = subprocess.Popen(
            command, cwd=project, stdout=said, stderr=subprocess.STDOUT, text=True, preexec_fn=listen
        )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(base, process)
        lines = (project / "said").read_text().splitlines()
        assert "mlflow.db" in lines[0]
        assert str(made) in lines[1]
        assert lines[2].split()[:3] == ["garden", "2", "runs"]
        yield Pages(process, base, lines[2].split()[-1], run.run_id)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    said_text = (project / "said").read_text()
    assert "Traceback" not in said_text
    assert "Warning" not in said_text


def assert_empty(uri: str) -> None:
    """A store without runs says so."""
    open_experiment(mlflow.MlflowClient(tracking_uri=uri), "garden")
    with pytest.raises(UserError, match=r"there are no runs in .* yet; make some"):
        prepare(uri, "")


def wait_for(address: str, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.5)
    raise AssertionError(f"{address} is not served")


@pytest.mark.slow
def test_figures_of_a_moved_project_are_served(pages: Pages) -> None:
    address = f"{pages.base}/get-artifact?run_uuid={pages.run_id}&path=confusion.png"
    with urllib.request.urlopen(address, timeout=20) as response:
        assert response.read(4) == b"\x89PNG"


def dom(address: str, folder: Path) -> str:
    """Let a browser without a past show a page, and return what it made of it."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=2400,1000"]
    command += [f"--user-data-dir={folder}", "--virtual-time-budget=20000", "--dump-dom", address]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_browser_shows_names_and_notes(pages: Pages, tmp_path: Path) -> None:
    table = dom(pages.address, tmp_path)
    for text in NAMES:
        assert text in table, text
    assert "Detect Issues" not in table  # of the pages for another kind of work, MLflow's first choice
    number = pages.address.partition("experiments/")[2].partition("/")[0]
    run = dom(f"{pages.base}/#/experiments/{number}/runs/{pages.run_id}", tmp_path)
    assert f"<strong>{NAMES[-1]}</strong>" in run
