"""What is put right in a store in a file: addresses that a moved project left, and runs whose process was killed.

MLflow writes the full address of each run's files into its database and has no public way to change it later (its
issue #3144). This is the one place that writes into MLflow's tables: only in a schema that it was tried with, only
where the store is beside the folder ``mlruns`` that holds the files, and all addresses or none. Addresses of other
kinds, and of files that are not here, stay. Moving the project back changes them back.

MLflow learns from a run itself that it has ended, so a process that is killed leaves a run that is RUNNING for ever.
Here each process locks a small file beside the store for each run that it adds to. The kernel frees the lock however
the process ends, so whoever gets it knows that the process is gone. (Process numbers are used again, and containers
have their own.) A lock is believed on this machine only: elsewhere the file may be on a network drive without locks.
"""

import contextlib
import json
import os
import re
import socket
import sqlite3
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from filelock import lock_descriptor

from flowers.config.store_address import sqlite_file
from flowers.errors import UserError

FOLDER = "mlruns"
SCHEMAS = {"dc11669786a5": "3.17"}
"""Versions of MLflow's tables (``alembic_version``) that this was tried with, and the MLflow that makes them."""
RUNNING = Path(FOLDER) / ".running"
"""Where the locks of runs are, beside the store. The name is hidden, so that MLflow takes it for no experiment."""
_COLUMNS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}


def relocate(database: Path, patience_s: float) -> set[Path]:
    """Make the addresses in a sqlite file fit the folder that it is in; wait so long for another program's lock.

    Returns:
        The folders that the addresses named before; empty if nothing had to be changed.

    Raises:
        UserError: If the store was moved, and its schema is none of :data:`SCHEMAS`.
        sqlite3.DatabaseError: If the store cannot be written.
    """
    here = database.resolve().parent / FOLDER
    if not here.is_dir():
        return set()
    with contextlib.closing(sqlite3.connect(database, timeout=patience_s, isolation_level=None)) as connection:
        found = list(_addresses(connection))
        # Other folders, of which at least one run or model is here; no two stores name these alike. A folder that leads
        # here through a link was not moved.
        moved = {root for *_, root, rest in found if rest.count("/") >= 2 and (here / rest).exists()}
        moved = {root for root in moved if os.path.realpath(root) != str(here)}
        if not moved:
            return set()
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if version not in SCHEMAS:
            raise UserError(
                f"the MLflow store {database} was moved here from {min(moved).parent}, but flowers cannot correct the "
                f"addresses in tables of version {version}; move it back, install mlflow=={max(SCHEMAS.values())}.*, "
                "or choose another store with tracking.uri=sqlite:///OTHER.db."
            )
        connection.execute("BEGIN IMMEDIATE")
        for table, column, address, root, rest in found:
            new = here / rest
            if root in moved and (new.exists() or not (root / rest).exists()):  # not left behind
                values = [new.as_uri() if address.startswith("file:") else str(new), address]
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", values)
        connection.execute("COMMIT")
    return moved


def _addresses(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str, Path, str]]:
    """List table, column and address of what is in a folder of this machine; that folder, and the path below it."""
    for table, columns in _COLUMNS.items():
        known = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
        for column in known.intersection(columns):
            for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
                if parts := re.fullmatch(rf"(file://)?(/.*/{FOLDER})/(.+)", address or ""):
                    scheme, root, rest = parts.groups()
                    read = unquote if scheme else str
                    yield table, column, address, Path(read(root)), read(rest)


_locks: dict[Path, BinaryIO] = {}  # opened and locked


def hold(uri: str, run_id: str) -> Path | None:
    """Show that this process adds to a run, until it ends or calls :func:`release`; return the file that shows it.

    None on a server, or where no file can be written.
    """
    store = sqlite_file(uri)
    if store is None:
        return None
    file = store.resolve().parent / RUNNING / f"{run_id}.{uuid.uuid4().hex}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = _locks[file] = file.open("xb", buffering=0)
        lock_descriptor(opened.fileno())
        opened.write(_state(status="KILLED", ended_ms=None))
    except OSError:
        release(file if file in _locks else None)  # which is empty
        return None
    return file


def release(file: Path | None, **end: Any) -> None:
    """End what :func:`hold` began; with `status` and `ended_ms` if the store could not be told how the run ended."""
    if file is None:
        return
    with _locks.pop(file) as opened, contextlib.suppress(OSError):
        if end:
            opened.seek(0)
            opened.write(_state(**end))  # over what is there, for which a full disk has room
            opened.truncate()
        else:
            _remove(file)
    if not end:
        _remove(file)  # Windows deletes no open file


def orphans(folder: Path) -> Generator[tuple[str, str, int | None]]:
    """Find the runs of the store in a folder that have no process; no other process can do so meanwhile.

    Yields the run, how it ended, and when, in milliseconds since 1970; None if unknown. A run is forgotten when the
    next one is asked for, and found again if an error prevents that.
    """
    for file in sorted((folder / RUNNING).glob("*.json")):
        # An error means that the file is gone by now, or unreadable.
        with contextlib.suppress(OSError, ValueError, KeyError):
            with file.open("r+b") as opened:
                if not lock_descriptor(opened.fileno(), blocking=False):
                    continue
                facts, run_id = json.load(opened), file.name.partition(".")[0]
                if not facts.items() & _machine().items():
                    continue
                if len(list(file.parent.glob(f"{run_id}.*"))) == 1:  # no other process adds to it
                    ended_s = facts.get("ended_s")  # which earlier versions wrote, in files without a process' own name
                    yield run_id, facts["status"], round(1000 * ended_s) if ended_s else facts.get("ended_ms")
                _remove(file)
            _remove(file)  # Windows deletes no open file


def _state(**end: Any) -> bytes:
    """Write what a file says: on which machine the process runs, and how the run ended if it is gone."""
    return json.dumps({**_machine(), **end}).encode()


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):  # other runs have files there
        file.unlink(missing_ok=True)
        file.parent.rmdir()


def _machine() -> dict[str, str]:
    """Name this machine, and on Linux this start of its kernel, which its containers share."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = {"boot": boot.read_text(encoding="utf-8").strip()} if boot.exists() else {}
    return {"host": socket.gethostname(), **started}
