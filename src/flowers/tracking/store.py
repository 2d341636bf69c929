"""The MLflow store: opened, repaired, written to, and what is wrong with it said in one sentence.

All goes through MLflow's client, so that a script's own active run, experiment and store stay what they are.
"""

import contextlib
import json
import logging
import os
import re
import shlex
import socket
import sqlite3
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

# Read when mlflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which may hold a password
# MLflow waits four minutes for a server that is not there; what cannot be recorded is kept and tried again anyway.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
import pandas as pd
from alembic.util import CommandError
from filelock import FileLock, Timeout, lock_descriptor
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from flowers.atomic import whole_file
from flowers.config.store_address import PARENT_VARIABLE, shown, sqlite_file, without_secrets
from flowers.errors import UserError
from flowers.tracking.relocation import FOLDER, relocate

PATIENCE_S = 5.0
"""How long another program may hold the store before it counts as locked."""
ENDED = "ended"
"""Tag of a run that was found without a process; taken away when it goes on."""
RUNNING = Path("mlruns/.running")
"""Where the locks of runs are, beside the store. The name is hidden, so that MLflow takes it for no experiment."""
_ADVICE = {
    "database is locked": "is locked by another program; close that program",
    "database schema|Can't locate revision": "was written by another version of MLflow; back it up and run "
    "`mlflow db upgrade {uri}`",
    "not a database|malformed": "is not a readable database; restore it from a backup",
    "readonly database|unable to open database": "cannot be written; change its permissions",
    "Max retries exceeded|could not connect|Connection refused": "cannot be reached; start its server",
    "error code 40[13]": "refuses this user; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}
"""What to do about an error, by what its text contains."""

for _noisy in ("mlflow", "alembic"):  # they announce each start of what they were told to start
    logging.getLogger(_noisy).setLevel(logging.WARNING)
for _said in ("mlflow.store.db.utils", "mlflow.utils.databricks_utils", "urllib3.connectionpool"):  # here in a sentence
    logging.getLogger(_said).setLevel(logging.CRITICAL)
database.MAX_RETRY_COUNT = 4  # MLflow would try for more than a minute to open a database


@contextlib.contextmanager
def store_access(uri: str, key: str = "tracking.uri") -> Iterator[None]:
    """Say in one sentence what is wrong with the MLflow store, also while the context lasts.

    Raises:
        UserError: If the store is locked, of another schema, no database, or unusable in another way; it names the
            `key` that another store is chosen by.
    """
    file, scheme = sqlite_file(uri), uri.partition(":")[0].partition("+")[0]
    try:
        if scheme in DATABASE_ENGINES:
            try:
                make_url(uri).get_dialect().import_dbapi()
            except ImportError as error:
                raise MlflowException(f"it needs the Python package {error.name}, which is not installed") from error
        if file is not None and file.exists():  # MLflow itself would try for minutes
            with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection:
                connection.execute("BEGIN IMMEDIATE")
        yield
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.DatabaseError) as error:
        text, named = without_secrets(str(error).strip()), shown(uri)
        reason = re.split(r"[.]? *\n|[.] ", text)[0]
        advice = next((advice for signs, advice in _ADVICE.items() if re.search(signs, text)), None)
        advice = advice or f"cannot be used ({reason}); correct that"
        raise UserError(
            f"the MLflow store {named} {advice.replace('{uri}', named)}, or choose another store with "
            f"{key}=sqlite:///OTHER.db."
        ) from error


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep other processes from opening a store in a file meanwhile: MLflow would make its tables in each of them."""
    file = sqlite_file(uri)
    with contextlib.ExitStack() as stack:
        if file is not None:
            with contextlib.suppress(OSError, Timeout):  # as where nothing can be written
                folder = file.resolve().parent / FOLDER
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / ".opening.lock", timeout=60))
        yield


@contextlib.contextmanager
def current_store(uri: str) -> Iterator[None]:
    """Have MLflow's module functions, which take no store, use this one; afterwards they use the former one again."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


class OpenRun:
    """A run that this process writes to: `run_id` in `client`'s store, and what it was `before` (None if it is new)."""

    def __init__(
        self,
        uri: str,
        experiment: str | None,
        name: str | None,
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
        note: str | None = None,
        system_metrics_s: float = 0,
    ) -> None:
        """Continue a run, by its `run_id`; open one if there is none, or the store no longer has it.

        Args:
            uri: The store.
            experiment: The MLflow experiment, made if it is new; None: the one that MLFLOW_EXPERIMENT_ID numbers.
            name: Of a new run; None: MLflow makes one up.
            tags: Of the run: its `recipe`, if it matters, and, if it is no training, of what `kind` it is. Its parent
                is told by :data:`flowers.config.store_address.PARENT_VARIABLE`.
            run_id: The run to continue.
            note: What the page of a new run says; None: the command that was given.
            system_metrics_s: Seconds between two samples of processor and memory use; 0: none.

        Raises:
            UserError: If the store cannot be used.
        """
        self.uri, self._monitor, parent = uri, None, os.environ.get(PARENT_VARIABLE)
        tags = {**tags, **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
        with _alone(uri), store_access(uri):
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            repair(self.client)
            self.before = run = None if run_id is None else find_run(self.client, run_id)
            if run is None:
                experiment_id = open_experiment(self.client, experiment)
                tagged = resolve_tags({**tags, **_dvc_tags(), MLFLOW_RUN_NOTE: note or _command()})
                run = self.client.create_run(experiment_id, run_name=name, tags=tagged)
            else:
                self.client.update_run(run_id, status="RUNNING")
                self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
                if ENDED in run.data.tags:
                    self.client.delete_tag(run_id, ENDED)
            self.run_id, self.experiment_id = str(run.info.run_id), str(run.info.experiment_id)
            if system_metrics_s > 0:
                resumed, sample_s = self.before is not None, max(system_metrics_s, 1)
                self._monitor = SystemMetricsMonitor(self.run_id, sample_s, resume_logging=resumed, tracking_uri=uri)
                self._monitor.start()
        # A sweep too goes on as long as one of its trainings has a process.
        self._held = [hold(uri, each) for each in (self.run_id, parent) if each]

    def log_metrics(
        self, metrics: Mapping[str, float], step: int | None = None, measured_on: tuple[str, str] | None = None
    ) -> None:
        """Record metrics, at a step if there is one; of a data set (name, digest) also as those of the run's model."""
        now_ms, outputs = int(time.time() * 1000), self.before.outputs if self.before and measured_on else None
        model = [outputs.model_outputs[-1].model_id, *measured_on] if measured_on and outputs else []
        points = [Metric(name, float(value), now_ms, step or 0, *model) for name, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=points)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters, cut to 250 characters; those of a continued run stay, as MLflow refuses to change them."""
        known = self.client.get_run(self.run_id).data.params
        new = [Param(key, str(value)[:250]) for key, value in params.items() if key not in known]
        self.client.log_batch(self.run_id, params=new)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Record a file as it is."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Record a table that the run's page shows, in place of an earlier one; ``name`` ends in ``.json``."""
        known = self.client.list_artifacts(self.run_id, name.rpartition("/")[0] or None)
        if any(each.path == name for each in known):  # MLflow would add the rows to those that are there
            self.client.log_text(self.run_id, table.to_json(orient="split", index=False), name)
        else:
            self.client.log_table(self.run_id, table, name)

    def close(self, status: str, ended_ms: int | None = None, *, quiet: bool = False) -> None:
        """Close the run: FINISHED, FAILED or KILLED, now or at a time in milliseconds since 1970.

        If the store cannot be told, that is said, unless `quiet`, and whoever opens it next tells it.
        """
        own, *parents = self._held or [hold(self.uri, self.run_id)]  # none if it is closed a second time
        untold: dict[str, Any] = {}
        try:
            with store_access(self.uri):
                if self._monitor is not None:
                    self._monitor.finish()
                self.client.set_terminated(self.run_id, status, end_time=ended_ms)
        except UserError as error:
            untold = {"status": status, "ended_ms": ended_ms or int(time.time() * 1000)}
            if not quiet:
                print(f"flowers: {error} It is told how the run ended when it is next used.", file=sys.stderr)
        release(own, **untold)
        for each in parents:
            release(each)
        self._held = []


def _command() -> str:
    """Write, for a run's page, the command that was given; outside a command of ours there is nothing to write."""
    if not sys.argv[0].startswith("flowers "):
        return ""
    # As the page does not break long lines.
    words = without_secrets(" \\\n  ".join([sys.argv[0], *map(shlex.quote, sys.argv[1:])]))
    return f"```\n{words}\n```"


def _dvc_tags() -> dict[str, str]:
    """Name the experiment of DVC that this is a stage of, as `dvc exp show` lists it."""
    name = os.environ.get("DVC_EXP_NAME")
    return {"dvc_experiment": name} if name else {}


def find_run(client: mlflow.MlflowClient, run_id: str) -> Any:
    """Find a run; None if the store does not have it, or has deleted it."""
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return None
    return run if run.info.lifecycle_stage == "active" else None


def find_experiment(client: mlflow.MlflowClient, name: str | None) -> Any:
    """Find an experiment by its name, or, if that is None, by MLFLOW_EXPERIMENT_ID; None if there is none."""
    return client.get_experiment_by_name(name) if name else client.get_experiment(os.environ["MLFLOW_EXPERIMENT_ID"])


def open_experiment(client: mlflow.MlflowClient, name: str | None) -> str:
    """Open an experiment, made if it is new, in a store; return MLflow's number of it.

    Raises:
        UserError: If it was deleted.
    """
    if find_experiment(client, name) is None:
        file = sqlite_file(client.tracking_uri)
        # MLflow itself would put a run's files into the working folder; they belong beside the store.
        apart = file is not None and file.resolve().parent != Path.cwd()
        files = str(file.resolve().parent / FOLDER / uuid.uuid4().hex) if file and apart else None
        try:  # the tag chooses MLflow's pages for trainings
            client.create_experiment(name, files, tags={"mlflow.experimentKind": "custom_model_development"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another process, at this moment
                raise
    found = find_experiment(client, name)
    if found.lifecycle_stage == "deleted":
        uri = without_secrets(client.tracking_uri)
        raise UserError(
            f"the MLflow experiment {found.name} was deleted; restore it with `MLFLOW_TRACKING_URI={shlex.quote(uri)} "
            f"mlflow experiments restore -x {found.experiment_id}`, or choose another with tracking.experiment=NAME."
        )
    return str(found.experiment_id)


def repair(client: mlflow.MlflowClient) -> None:
    """Repair what a moved project or a killed process left in a store; not on a server, which others use too."""
    file = sqlite_file(client.tracking_uri)
    if file is None:
        return
    folder = file.resolve().parent
    for old in sorted(relocate(file, PATIENCE_S)):
        print(f"{file}: the files of its runs are found in {folder / old.name} now, no longer in {old}", flush=True)
    for run_id, status, ended_ms in orphans(folder):
        run = find_run(client, run_id)
        if run is None or run.info.status != "RUNNING":
            continue
        if ended_ms is None:  # its last sign of life is the last thing that it recorded
            points = [point for name in run.data.metrics for point in client.get_metric_history(run_id, name)]
            ended_ms = max([run.info.start_time, *(point.timestamp for point in points)])
        client.set_terminated(run_id, status, end_time=ended_ms)
        if status == "KILLED":
            client.set_tag(run_id, ENDED, "its process was killed, or the machine stopped")


# MLflow learns from a run itself that it has ended, so a process that is killed leaves a run that is RUNNING for ever.
# Here each process locks a small file beside the store for each run that it adds to. The kernel frees the lock however
# the process ends, so whoever gets it knows that the process is gone. (Process numbers are used again, and containers
# have their own.) A lock is believed on this machine only: elsewhere the file may be on a network drive without locks.

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
        return None
    return file


def release(file: Path | None, **end: Any) -> None:
    """End what :func:`hold` began; with `status` and `ended_ms` if the store could not be told how the run ended."""
    if file is None:
        return
    with _locks.pop(file) as opened, contextlib.suppress(OSError):
        if end:
            opened.seek(0)
            opened.truncate()
            opened.write(_state(**end))
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
    return {
        "host": socket.gethostname(),
        **({"boot": boot.read_text(encoding="utf-8").strip()} if boot.exists() else {}),
    }


def read_note(folder: Path) -> dict[str, Any]:
    """Read from a folder which run stands for what is made in it, and whether that has `finished`.

    Returns:
        Nothing if there is no note, or it cannot be read.
    """
    try:
        note = json.loads((folder / "note.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(folder: Path, note: dict[str, Any]) -> None:
    """Leave a note for a continuation in the folder."""
    with whole_file(folder / "note.json") as partial:
        partial.write_text(json.dumps(note), encoding="utf-8")
