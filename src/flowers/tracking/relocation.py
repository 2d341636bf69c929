"""A store that was moved or copied with its project finds its files again.

MLflow writes the full address of each run's files into its database and has no public way to change it later (its
issue #3144). This is the one place that writes into MLflow's tables: only in a schema that it was tried with, only
where the store is beside the folder ``mlruns`` that holds the files, and all addresses or none. Addresses of other
kinds, and of files that are not here, stay. Moving the project back changes them back.
"""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from flowers.errors import UserError

FOLDER = "mlruns"
SCHEMAS = {"dc11669786a5": "3.17"}
"""Versions of MLflow's tables (``alembic_version``) that this was tried with, and the MLflow that makes them."""
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
