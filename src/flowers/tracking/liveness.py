"""Which MLflow runs still have a process, and which are only said to be running.

MLflow learns from a run itself that it has ended, so a process that is killed leaves a run that is RUNNING for ever.
Here each run holds a lock on a small file beside the store. The kernel frees the lock however the process ends, so
whoever gets it knows that the run is dead. (Process numbers are used again, and containers have their own.) A lock is
believed on this machine only: elsewhere the file may be on a network drive that does not carry locks.
"""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("mlruns/.running")
"""Where the files are, beside the store. The name is hidden, so that MLflow does not read it as an experiment."""
_held: dict[str, int] = {}  # file descriptors by run, whose locks end with this process at the latest


class Orphan(NamedTuple):
    """A run without a process, how it ended, and when (seconds since 1970; None if unknown)."""

    run_id: str
    status: str
    ended_s: float | None


def hold(store: Path | None, run_id: str) -> None:
    """Show that a run has a process, until this one ends or calls :func:`release`.

    Args:
        store: Folder of the store; if it is None or cannot be written, nothing is shown.
        run_id: The run.
    """
    if store is None:
        return
    file = store / FOLDER / f"{run_id}.json"
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        while run_id not in _held:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # shared: two evaluations may add to one run
            if os.fstat(descriptor).st_nlink == 0:  # removed in between, by a process that took the run for dead
                os.close(descriptor)
                continue
            _held[run_id] = descriptor
            facts = {"host": socket.gethostname(), "boot": _boot(), "status": "KILLED", "ended_s": None}
            file.write_text(json.dumps(facts))


def release(store: Path | None, run_id: str, status: str | None = None, ended_s: float | None = None) -> None:
    """End what :func:`hold` began; with a status if the store could not be told how and when the run ended."""
    if store is None or run_id not in _held:
        return
    file = store / FOLDER / f"{run_id}.json"
    # An error means that another process still adds to the run, or that the file is gone.
    with os.fdopen(_held.pop(run_id)) as held, contextlib.suppress(OSError, ValueError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if status is None:
            _remove(file)
        else:
            file.write_text(json.dumps({**json.loads(file.read_text()), "status": status, "ended_s": ended_s}))


def orphans(store: Path) -> Generator[Orphan]:
    """Find the runs without a process; no other process can do so meanwhile.

    A run is forgotten when the next one is asked for, and found again if an error prevents that.
    """
    for file in sorted((store / FOLDER).glob("*.json")):
        # An error means that the file is held, gone by now, or unreadable.
        with contextlib.suppress(OSError, ValueError, KeyError), file.open("r+") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            facts = json.load(opened)
            if facts["boot"] == _boot() or facts["host"] == socket.gethostname():
                yield Orphan(file.stem, str(facts["status"]), facts["ended_s"])
                _remove(file)


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other runs have files there
        file.parent.rmdir()


def _boot() -> str:
    """Name this start of this machine's kernel, which its containers share."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux, where the host name has to do
        return socket.gethostname()
