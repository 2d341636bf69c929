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
from pathlib import Path
from urllib.parse import quote, unquote

from flowers.errors import UserError

FOLDER = "mlruns"
SCHEMAS = {"dc11669786a5": "3.17"}
"""Versions of MLflow's tables (``alembic_version``) that this was tried with, and the MLflow that makes them."""
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(database: Path, patience_s: float) -> set[Path]:
    """Make the addresses in a store fit the folder that it is in.

    Args:
        database: The sqlite file.
        patience_s: How long to wait for another program's lock.

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
        found = [(*place, address) for place in _COLUMNS for address in _addresses(connection, *place)]
        parts = {address: _parts(address, here) for _, _, address in found}
        # Other folders, of which at least one run or model is here; no two stores name these alike. A folder that leads
        # here through a link was not moved.
        others = {root for root, _, _ in parts.values() if os.path.realpath(root) != str(here)}
        moved = {root for root, rest, _ in parts.values() if rest.count("/") >= 2 and (here / rest).exists()} & others
        if not moved:
            return set()
        _check_schema(connection, database, min(moved))
        connection.execute("BEGIN IMMEDIATE")
        for table, column, address in found:
            root, rest, new = parts[address]
            if root in moved and ((here / rest).exists() or not (root / rest).exists()):  # not left behind
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", [new, address])
        connection.execute("COMMIT")
    return moved


def _check_schema(connection: sqlite3.Connection, database: Path, old: Path) -> None:
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if version not in SCHEMAS:
        raise UserError(
            f"the MLflow store {database} was moved here from {old.parent}, but flowers cannot correct the addresses "
            f"in tables of version {version}; move it back, install mlflow=={max(SCHEMAS.values())}.*, or choose "
            "another store with tracking.uri=sqlite:///OTHER.db."
        )


def _addresses(connection: sqlite3.Connection, table: str, column: str) -> list[str]:
    if all(row[1] != column for row in connection.execute(f"PRAGMA table_info({table})")):
        return []
    rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '%/{FOLDER}/_%'")
    return [address for (address,) in rows if address.startswith(("/", "file:///"))]


def _parts(address: str, here: Path) -> tuple[Path, str, str]:
    """Split an address into the folder of runs and the path below it, and write what it would be here."""
    scheme = "file://" if address.startswith("file://") else ""
    path = unquote(address.removeprefix(scheme)) if scheme else address
    root, rest = re.fullmatch(rf"(.*/{FOLDER})/(.+)", path).groups()  # type: ignore[union-attr]
    return Path(root), rest, f"{scheme}{quote(str(here / rest)) if scheme else here / rest}"
