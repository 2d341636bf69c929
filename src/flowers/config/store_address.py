"""Which MLflow store and experiment a command records in: what the configuration gives, else MLflow's own variables.

A key that is null gives nothing; ``conf/config.yaml`` leaves both open. MLflow itself is not imported, so that this can
be told in the first line.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from flowers.errors import UserError

DEFAULT = "sqlite:///mlflow.db"
"""Where a plain ``mlflow ui`` looks too."""
PARENT_VARIABLE = "FLOWERS_PARENT_RUN"
"""Environment variable with the MLflow run that others are children of; a launcher hands it on."""
_SQLITE = "sqlite:///"
_SECRET = re.compile(r"(?<=://)[^/\s]*@|(?<=password=)[^&\s]+")
_secrets: dict[str, str] = {}  # addresses with a password, by the same without it


class Address(NamedTuple):
    """Where runs are recorded."""

    uri: str
    experiment: str | None
    """Its name; None: the one that MLFLOW_EXPERIMENT_ID numbers."""


def without_secrets(text: str) -> str:
    """Leave out the passwords of the addresses in a text."""
    return _SECRET.sub("", text)


def hide_secret(uri: str) -> str:
    """Leave out an address's password, which is known to this process alone from now on."""
    shown = without_secrets(uri)
    if shown != uri:
        _secrets[shown] = uri
    return shown


def hide_secrets(words: Sequence[str]) -> list[str]:
    """Leave out the password where a command line names the store, as Hydra prints and hands on its words."""
    hidden = []
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        uri = value.strip("'\"") if key in ("tracking.uri", "logger.mlflow.uri") else ""
        hidden.append(word.replace(uri, hide_secret(uri)))
    return hidden


def store_uri(given: str | None = None, key: str = "tracking.uri") -> str:
    """Find the address of the store, whole: a sqlite file by its full path, and with its password.

    Args:
        given: By the configuration.
        key: Of the configuration, for the error.

    Raises:
        UserError: If it is no address that MLflow records at.
    """
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    uri = given or variable or DEFAULT
    if variable and without_secrets(variable) == uri:
        uri = variable
    uri = _secrets.get(uri, uri)
    shown, key = without_secrets(uri), key if given or not variable else "MLFLOW_TRACKING_URI"
    if uri in ("sqlite:", "sqlite://", _SQLITE, f"{_SQLITE}:memory:"):
        raise UserError(f"{key}={shown} would be forgotten at the end; name a file, as in {key}={DEFAULT}.")
    scheme = re.match(r"[\w+.-]{2,}(?=:)|databricks$", uri)
    plain = re.sub(r"^(file|sqlite):(//(?!/))?", "", shown)
    if scheme is None or scheme[0] == "file" or (scheme[0] == "sqlite" and not uri.startswith(_SQLITE)):
        if Path(plain).suffix:
            raise UserError(f"{key}={shown} is no address of MLflow; did you mean {key}={_SQLITE}{plain}?")
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise UserError(
                f"{key}={shown} is a folder, which MLflow no longer records in; give a database, as in "
                f"{key}={DEFAULT} (`mlflow migrate-filestore` carries the folder's runs over)."
            )
    file = sqlite_file(uri)
    if file is None:
        return uri
    # Whole, as MLflow keeps its connections by their address, and takes ~ for a folder of that name.
    path, (_, sign, query) = _project() / file.expanduser(), uri.partition("?")
    if path.is_dir():
        place = f"{key}={_SQLITE}{file}"
        raise UserError(f"{place} is a folder: name a file in it, as in {place}/mlflow.db.")
    # Of two readings of a %, MLflow has both.
    return uri if "%" in str(path) else f"{_SQLITE}{path}{sign}{query}"


def _project() -> Path:
    """Find what stands for the working folder in the project.

    ``dvc exp run --temp`` and ``--queue`` run a stage in a copy of the project, which is removed when all is done.
    """
    root, here = os.environ.get("DVC_ROOT"), Path.cwd()
    copy = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
    if root is None or "DVC_STAGE" not in os.environ or copy == Path(root).resolve():
        return here
    return Path(root) / here.relative_to(copy)


def sqlite_file(uri: str) -> Path | None:
    """Find the file of a store; None if it is of another kind."""
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0])) if uri.startswith(_SQLITE) else None


def shown(uri: str) -> str:
    """Write an address for people: without a password, and a file in the project as it is called there."""
    file = sqlite_file(uri)
    inside = file is not None and file.is_relative_to(_project())
    return f"{_SQLITE}{file.relative_to(_project())}" if inside and file else without_secrets(uri)


def address_of(settings: Any) -> Address:
    """Find where a configuration's runs are recorded.

    Raises:
        UserError: As :func:`store_uri` does.
    """
    nodes = (getattr(getattr(settings, "logger", None), "mlflow", None), settings.tracking)
    uri, experiment = (
        next((value for node in nodes if (value := getattr(node, key, None))), None) for key in ("uri", "experiment")
    )
    return find_address(uri, experiment, getattr(settings.data, "name", None))


def find_address(uri: str | None, experiment: str | None, data: str | None) -> Address:
    """Find where runs are recorded, given what the configuration says, and the name of the data set."""
    named = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    # A number belongs to the store that the environment means.
    numbered = not named and not uri and os.environ.get("MLFLOW_EXPERIMENT_ID")
    return Address(store_uri(uri), None if numbered else named or data or "flowers")


def announce(settings: Any, run_id: str | None = None) -> None:
    """Say where a command records, unless the sweep or series that it is part of has said it.

    Args:
        settings: The configuration.
        run_id: The run to be continued there.

    Raises:
        UserError: As :func:`store_uri` does.
    """
    if settings.tracking.enabled and PARENT_VARIABLE not in os.environ:
        uri, experiment = address_of(settings)
        called = f"experiment {experiment or 'number ' + os.environ['MLFLOW_EXPERIMENT_ID']}"
        anew = "; MLFLOW_RUN_ID is not followed" if "MLFLOW_RUN_ID" in os.environ else ""
        print(f"MLflow: {shown(uri)}, {f'run {run_id}' if run_id else called}{anew}", flush=True)
