"""A store that was moved or copied with its project finds its figures again.

MLflow writes the full address of each run's files into its database, relative ones it resolves when an experiment is
made, and it offers no way to change them later (its issue #3144). So when an sqlite store lies beside the folder
``mlruns`` and names the files there by another folder, those addresses are changed, all or none of them. Nothing else
is: addresses of other kinds, and of files that do not lie here, stay. Moving the project back changes them back.
"""

import contextlib
import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote

FOLDER = "mlruns"
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_ADDRESS = re.compile(rf"(?P<scheme>file://)?(?P<root>/.*/{FOLDER})/(?P<rest>.+)")


def relocate(database: Path, patience_s: float) -> set[Path]:
    """Make the addresses in a store fit where it lies.

    Args:
        database: The sqlite file; the files are looked for beside it.
        patience_s: How long to wait for another program's lock.

    Returns:
        The folders that the addresses named before; empty if nothing had to be changed.

    Raises:
        sqlite3.DatabaseError: If the store cannot be written.
    """
    here = database.resolve().parent / FOLDER
    if not here.is_dir():
        return set()
    with contextlib.closing(sqlite3.connect(database, timeout=patience_s, isolation_level=None)) as connection:
        places = [place for place in _COLUMNS if _has_column(connection, *place)]
        strange = [(*place, address) for place in places for address in _addresses(connection, *place, here)]
        roots = _moved_here([address for _, _, address in strange], here)
        if not roots:
            return set()
        connection.execute("BEGIN IMMEDIATE")
        for table, column, address in strange:
            new = _new_address(address, roots, here)
            if new is not None:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", [new, address])
        connection.execute("COMMIT")
    return roots


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))


def _addresses(connection: sqlite3.Connection, table: str, column: str, here: Path) -> list[str]:
    """List the addresses that name another folder of runs than the one here."""
    rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '%/{FOLDER}/%'")
    known = (f"{here}/", f"file://{quote(str(here))}/")
    return [address for (address,) in rows if not address.startswith(known) and _ADDRESS.fullmatch(address)]


def _parts(address: str) -> tuple[str, Path, str]:
    """Split an address into scheme, folder of runs, and the way from there."""
    match = _ADDRESS.fullmatch(address)
    assert match is not None
    scheme, root, rest = match["scheme"] or "", match["root"], match["rest"]
    return (scheme, Path(unquote(root)), unquote(rest)) if scheme else (scheme, Path(root), rest)


def _moved_here(addresses: list[str], here: Path) -> set[Path]:
    """Find the folders of which at least one run or model, which no two stores name alike, lies here."""
    found: set[Path] = set()
    same: dict[Path, bool] = {}
    for address in addresses:
        _, root, rest = _parts(address)
        if root not in same:
            same[root] = os.path.realpath(root) == str(here)  # the way there leads through a link
        if not same[root] and rest.count("/") >= 2 and (here / rest).exists():
            found.add(root)
    return found


def _new_address(address: str, roots: set[Path], here: Path) -> str | None:
    """Say how an address should read; None if it should stay, as its files are where it says and not here."""
    scheme, root, rest = _parts(address)
    if root not in roots or ((root / rest).exists() and not (here / rest).exists()):
        return None
    return f"{scheme}{quote(str(here / rest)) if scheme else here / rest}"
