"""Which MLflow runs still have a process, and which are only said to be running.

MLflow learns from a run itself that it has ended, so a process that is killed, or a machine that loses its power,
leaves a run that is RUNNING for ever. Here each run holds a lock on a small file beside the store while it lasts. The
kernel frees the lock however the process ends, so whoever gets it knows that the run is dead; a process number would
not do, as containers have numbers of their own and numbers are used again.

What a lock says is believed on this machine only: where host name and boot differ, the file may lie on a network drive
that does not carry locks, and the run is left as it is.
"""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

FOLDER = Path("mlruns/.running")
"""Where the files lie, beside the store; hidden, as MLflow takes folders there with numbers for a store of files."""
_held: dict[str, int] = {}  # file descriptors by run, whose locks end with this process at the latest


@dataclass(frozen=True)
class Orphan:
    """A run without a process.

    Attributes:
        run_id: The run.
        status: What it should be called: KILLED, or how it ended if the store could not be told then.
        ended_s: When that was, in seconds since 1970; None if nobody knows.
    """

    run_id: str
    status: str
    ended_s: float | None


def hold(store: Path, run_id: str) -> None:
    """Show that a run has a process, until this one ends or calls :func:`release`.

    A run that is closed without :func:`release` leaves its file, which whoever opens the store next removes.

    Where the folder cannot be written nothing is shown, and nobody will take the run for dead.

    Args:
        store: Folder of the store.
        run_id: The run.
    """
    file = store / FOLDER / f"{run_id}.json"
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        while run_id not in _held:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # shared: two evaluations may add to one run
            if os.fstat(descriptor).st_nlink == 0:  # removed in between by who took the run for dead
                os.close(descriptor)
                continue
            _held[run_id] = descriptor
            _write(file, {"host": socket.gethostname(), "boot": _boot(), "status": "KILLED", "ended_s": None})


def release(store: Path, run_id: str, status: str | None = None, ended_s: float | None = None) -> None:
    """End what :func:`hold` began.

    Args:
        store: Folder of the store.
        run_id: The run.
        status: If the store could not be told how the run ended: that, for who opens the store next.
        ended_s: With a status, when the run ended.
    """
    descriptor = _held.pop(run_id, None)
    if descriptor is None:
        return
    file = store / FOLDER / f"{run_id}.json"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if status is None:
            file.unlink()
            _remove_empty(file.parent)
        else:
            _write(file, {**json.loads(file.read_text()), "status": status, "ended_s": ended_s})
    except (OSError, ValueError):  # another process still adds to the run, or the file is gone
        pass
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def orphan(file: Path) -> Iterator[Orphan | None]:
    """Find out whether a run is without a process; nobody else can while the context lasts.

    Args:
        file: One of :func:`files`.

    Yields:
        The run; None if it has a process, or one that cannot be seen from here. Leaving the context without an error
        removes the file of a run that was yielded.
    """
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:  # gone by now, or another user's
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        facts = json.loads(file.read_text())
        near = facts["boot"] == _boot() or facts["host"] == socket.gethostname()
        found = Orphan(file.stem, str(facts["status"]), facts["ended_s"]) if near else None
    except (OSError, ValueError, KeyError):  # held, or unreadable
        found = None
    try:
        yield found
        if found is not None:
            file.unlink(missing_ok=True)
            _remove_empty(file.parent)
    finally:
        os.close(descriptor)


def files(store: Path) -> list[Path]:
    """List the files of all runs that are not known to have ended."""
    return sorted((store / FOLDER).glob("*.json"))


def _write(file: Path, facts: dict[str, object]) -> None:
    file.write_text(json.dumps(facts) + "\n")


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _boot() -> str:
    """Name this start of this machine's kernel, which its containers share."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(psutil.boot_time())
