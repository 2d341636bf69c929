"""A run without a process is known for dead, and no other."""

import contextlib
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowers.tracking import repair

HOLD = """
import sys, time
from flowers.tracking.repair import hold
hold(sys.argv[1], "run")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """A function that starts a process with a run, which is there when the function returns."""
    processes = []

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", HOLD, store_uri(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def store_uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def orphans(folder: Path) -> list[tuple[str, str, int | None]]:
    return list(repair.orphans(folder))


def files(folder: Path) -> list[Path]:
    return sorted((folder / repair.RUNNING).glob("*.json"))


@pytest.mark.slow
def test_killed_process_leaves_an_orphan_once(start: Callable[[], "subprocess.Popen[str]"], tmp_path: Path) -> None:
    process = start()
    assert orphans(tmp_path) == []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert orphans(tmp_path) == [("run", "KILLED", None)]
    assert orphans(tmp_path) == []
    assert not (tmp_path / repair.RUNNING).exists()


@pytest.mark.slow
def test_run_of_two_processes_lives_until_both_are_gone(
    start: Callable[[], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    first, second = start(), start()
    first.kill()
    first.wait()
    assert orphans(tmp_path) == []
    second.kill()
    second.wait()
    assert len(orphans(tmp_path)) == 1


def test_released_run_leaves_nothing(tmp_path: Path) -> None:
    held = [repair.hold(store_uri(tmp_path), "run") for _ in range(2)]  # as evaluate does in the process that trained
    for each in held:
        assert files(tmp_path)
        assert orphans(tmp_path) == []
        repair.release(each)
    assert not (tmp_path / repair.RUNNING).exists()


def test_run_that_ended_untold_keeps_its_end(tmp_path: Path) -> None:
    repair.release(repair.hold(store_uri(tmp_path), "run"), status="FINISHED", ended_ms=12500)
    assert orphans(tmp_path) == [("run", "FINISHED", 12500)]


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({"host": "elsewhere", "boot": "other"}, False),  # another machine's
        ({"host": "elsewhere"}, True),  # another container of this machine
        ({"boot": "other"}, True),  # before this machine was started again
    ],
)
def test_only_this_machine_is_believed(changes: dict[str, str], dead: bool, tmp_path: Path) -> None:
    repair.release(repair.hold(store_uri(tmp_path), "run"), status="KILLED", ended_ms=None)
    (file,) = files(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert bool(orphans(tmp_path)) == dead
    assert file.exists() != dead


@pytest.mark.parametrize(("ended_s", "ended_ms"), [(None, None), (12.5, 12500)])
def test_file_of_an_earlier_version_is_read(ended_s: float | None, ended_ms: int | None, tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file = tmp_path / repair.RUNNING / "run.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"host": "elsewhere", "boot": boot, "status": "KILLED", "ended_s": ended_s}))
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)  # as its process did
        assert orphans(tmp_path) == []
    assert orphans(tmp_path) == [("run", "KILLED", ended_ms)]
    assert not (tmp_path / repair.RUNNING).exists()


def test_unreadable_file_is_left(tmp_path: Path) -> None:
    (tmp_path / repair.RUNNING).mkdir(parents=True)
    (tmp_path / repair.RUNNING / "run.json").write_text("{")
    assert orphans(tmp_path) == []
    assert len(files(tmp_path)) == 1


def test_what_could_not_be_told_is_tried_again(tmp_path: Path) -> None:
    repair.release(repair.hold(store_uri(tmp_path), "run"), status="KILLED", ended_ms=None)
    (file,) = files(tmp_path)
    assert file.exists()
    found = repair.orphans(tmp_path)
    next(found)
    found.close()  # as an error does that ends the loop
    assert len(orphans(tmp_path)) == 1


def test_folder_that_cannot_be_written_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("a file where the folder should be")
    repair.release(repair.hold(store_uri(tmp_path), "run"))
    assert files(tmp_path) == []


def test_a_server_is_shown_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert repair.hold("http://127.0.0.1:5000", "run") is None
    assert list(tmp_path.iterdir()) == []


FIRST = """
import sys
from flowers.tracking.store import OpenRun
OpenRun(sys.argv[1], "garden", sys.argv[2], {}).close("FINISHED")
"""


@pytest.mark.slow
def test_trainings_that_begin_at_once_in_a_new_store_are_all_recorded(tmp_path: Path) -> None:
    commands = [[sys.executable, "-W", "ignore", "-c", FIRST, store_uri(tmp_path), str(number)] for number in range(3)]
    processes = [subprocess.Popen(each, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for each in commands]
    assert [process.communicate()[1] for process in processes] == [""] * 3
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)] * 3


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.2, 0.6, 1.2])
def test_a_kill_while_the_store_is_made_leaves_no_half_of_it(after_s: float, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FIRST, store_uri(tmp_path), "first"]
    process = subprocess.Popen(command, cwd=tmp_path)
    while not (tmp_path / "mlruns").exists():  # what is made first
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(after_s)
    process.kill()
    process.communicate()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert ("FINISHED",) in connection.execute("SELECT status FROM runs").fetchall()
