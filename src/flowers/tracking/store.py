"""The MLflow store: opened, repaired, written to, and what is wrong with it said in one sentence.

All goes through MLflow's client, so that a script's own active run, experiment and store stay what they are.
"""

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Read when mlflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which may hold a password
# MLflow waits four minutes for a server that is not there; what cannot be recorded is kept and tried again anyway.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
import pandas as pd
from alembic.util import CommandError
from filelock import FileLock, Timeout
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from sqlalchemy.exc import SQLAlchemyError

from flowers.atomic import room_in, whole_file
from flowers.config.store_address import PARENT_VARIABLE, shown, sqlite_file, without_secrets
from flowers.errors import UserError
from flowers.tracking.repair import FOLDER, hold, orphans, release, relocate

PATIENCE_S = 5.0
"""How long another program may hold the store before it counts as locked."""
ENDED = "ended"
"""Tag of a run that was found without a process; taken away when it goes on."""
_LOCKED = "database is locked"
_ADVICE = {
    _LOCKED: "is locked by another program; close that program",
    "database schema|Can't locate revision": "was written by another version of MLflow; back it up and run "
    "`mlflow db upgrade {uri}`",
    r"table \S+ already exists|duplicate column name": "is half made, as what made or upgraded it was killed; delete "
    "it if it has no runs yet, restore it from a backup if it has",
    "not a database|malformed": "is not a readable database; restore it from a backup",
    "disk is full|disk I/O error": "cannot be written (its disk, or that of temporary files, is full); make room",
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
    file = sqlite_file(uri)
    try:
        if file is not None and file.exists():  # MLflow itself would try for minutes
            with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection:
                connection.execute("BEGIN IMMEDIATE")
        with room_in(presumed=f"the MLflow store {shown(uri)}"):  # for the files of runs
            yield
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.DatabaseError) as error:
        text, named = without_secrets(str(error).strip()), shown(uri)
        reason = re.split(r"[.]? *\n|[.] ", text)[0]
        known = (advice for signs, advice in _ADVICE.items() if re.search(signs, text))
        advice = next(known, f"cannot be used ({reason}); correct that")
        raise UserError(
            f"the MLflow store {named} {advice.replace('{uri}', named)}, or choose another store with "
            f"{key}=sqlite:///OTHER.db."
        ) from error


def open_client(uri: str) -> mlflow.MlflowClient:
    """Open a store; a file that is not there is made.

    MLflow makes its tables in many steps, and neither two processes at once nor one that is killed may leave a half of
    them: one process makes them elsewhere, and then puts the file in its place.
    """
    file = sqlite_file(uri)
    try:
        if file is not None and not file.exists():
            lock = FileLock(file.resolve().parent / FOLDER / ".opening.lock", timeout=120)
            with lock, tempfile.TemporaryDirectory() as folder:
                if not file.exists():
                    made = Path(folder) / "mlflow.db"
                    mlflow.MlflowClient(f"sqlite:///{made}")
                    with whole_file(file) as partial:
                        shutil.copyfile(made, partial)
        return mlflow.MlflowClient(uri)
    except Timeout as error:
        raise sqlite3.OperationalError(_LOCKED) from error
    except OSError as error:
        raise sqlite3.OperationalError(f"unable to open database file: {error}") from error
    except ImportError as error:
        raise MlflowException(f"it needs the Python package {error.name}, which is not installed") from error


def check_store(uri: str) -> None:
    """Find out whether a store can be used, without making it, unless the sweep or series around has used it already.

    One that is only busy may be free when it is needed.

    Raises:
        UserError: If it cannot.
    """
    file = sqlite_file(uri)
    if PARENT_VARIABLE in os.environ:
        return
    try:
        with store_access(uri):
            if file is None or file.exists():
                open_client(uri).search_experiments(max_results=1)
            if file is not None:
                folder = next(each for each in file.resolve().parents if each.exists())
                written = [folder, *([file] if file.exists() else [])]
                if not (folder.is_dir() and all(os.access(each, os.W_OK) for each in written)):
                    raise sqlite3.OperationalError("unable to open database file")
    except UserError as error:
        if _LOCKED not in str(error.__cause__):
            raise


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
        of_new = {"dvc_experiment": os.environ.get("DVC_EXP_NAME"), MLFLOW_RUN_NOTE: note or _command()}
        with store_access(uri):
            self.client = open_client(uri)
            repair(self.client)
            self.before = run = None if run_id is None else find_run(self.client, run_id)
            if run is None:
                tagged = resolve_tags({**tags, **{key: value for key, value in of_new.items() if value}})
                run = self.client.create_run(open_experiment(self.client, experiment), run_name=name, tags=tagged)
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
