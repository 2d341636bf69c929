"""The MLflow store: opened, mended, and what is wrong with it said in one sentence."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

# Read when mlflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DatabaseError

from flowers.errors import UserError
from flowers.tracking import liveness as alive
from flowers.tracking.relocation import relocate
from flowers.tracking.view import TAG, needs_view, view_tag

PATIENCE_S = 5.0
"""How long another program may hold the store before it counts as locked."""
ENDED = "ended"
"""Tag of a run that was found without a process; taken away when it goes on."""
_KIND = "mlflow.experimentKind"

for _chatty in ("mlflow", "alembic"):  # they announce each start of what they were told to start
    logging.getLogger(_chatty).setLevel(logging.WARNING)
# This module says what it says, without a traceback.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@contextlib.contextmanager
def explain_store_errors(uri: str, key: str = "tracking.uri") -> Iterator[None]:
    """Say in one sentence what is wrong with the MLflow store.

    Args:
        uri: The store.
        key: What another store is chosen by.

    Raises:
        UserError: If the store is locked, of another schema, no database, or unusable in another way.
    """
    try:
        yield
    except (MlflowException, DatabaseError, sqlite3.DatabaseError) as error:
        text = str(error)
        if "database is locked" in text:
            advice = "is locked by another program; close that program, or choose another store"
        elif "database schema" in text or "Can't locate revision" in text:
            advice = (
                f"was written by another version of MLflow; back it up and run `mlflow db upgrade {uri}`, "
                "or choose another store"
            )
        elif "not a database" in text or "malformed" in text:
            advice = "is not a readable database; restore it from a backup, or choose another store"
        elif "readonly database" in text or "unable to open database" in text:
            advice = "cannot be written; change its permissions, or choose another store"
        else:
            advice = f"cannot be used ({text.strip().splitlines()[0]}); mend that, or choose another store"
        raise UserError(f"the MLflow store {uri} {advice} with {key}=sqlite:///OTHER.db.") from error


def sqlite_file(uri: str) -> Path | None:
    """Find the file of a store; None if it is of another kind."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def store_folder(uri: str) -> Path | None:
    """Find the folder that a store lies in; None if it is no file."""
    file = sqlite_file(uri)
    return None if file is None else file.resolve().parent


def check_unlocked(uri: str) -> None:
    """Find a locked or damaged sqlite file within seconds; MLflow itself tries again for minutes, and says so.

    Raises:
        sqlite3.DatabaseError: As sqlite says it; :func:`explain_store_errors` makes a sentence of it.
    """
    file = sqlite_file(uri)
    if file is not None and file.exists():
        with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()


def open_experiment(uri: str, name: str) -> str:
    """Open a store and an experiment in it, which is made if it is new.

    Returns:
        MLflow's number of the experiment.
    """
    check_unlocked(uri)
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.set_experiment(name)
    mend(uri)
    _dress(experiment)
    return str(experiment.experiment_id)


def list_experiments(uri: str) -> list[tuple[str, str, int]]:
    """Open a store and list its experiments, those of the latest runs first.

    Returns:
        Number, name and how many runs, of each that has runs.
    """
    check_unlocked(uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    experiments = client.search_experiments(order_by=["last_update_time DESC"])
    mend(uri)
    found: list[tuple[int, str, str, int]] = []
    for experiment in experiments:
        runs = mlflow.search_runs([experiment.experiment_id], output_format="list")
        if runs:
            _dress(experiment)
            latest = max(run.info.start_time for run in runs)
            found.append((latest, str(experiment.experiment_id), experiment.name, len(runs)))
    return [(number, name, count) for _, number, name, count in sorted(found, reverse=True)]


def _dress(experiment: mlflow.entities.Experiment) -> None:
    """Give an experiment's pages what a person should see first."""
    client = mlflow.MlflowClient()
    if _KIND not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, _KIND, "custom_model_development")  # pages for trainings
    if needs_view(experiment.tags.get(TAG)):
        client.set_experiment_tag(experiment.experiment_id, TAG, view_tag())


def mend(uri: str) -> None:
    """Mend what a moved project or a killed process left in an open store."""
    file = sqlite_file(uri)
    if file is None:  # a server's, which others use too
        return
    for old in sorted(relocate(file, PATIENCE_S)):
        new = file.resolve().parent / old.name
        print(f"{file}: the files of its runs are found in {new} now, no longer in {old}", flush=True)
    _end_orphans(file.resolve().parent)


def _end_orphans(folder: Path) -> None:
    """Close the runs whose processes are gone."""
    client = mlflow.MlflowClient()
    for file in alive.files(folder):
        with alive.orphan(file) as orphan:
            if orphan is None:
                continue
            try:
                run = client.get_run(orphan.run_id)
            except MlflowException:  # deleted for good
                continue
            if run.info.status != "RUNNING" or run.info.lifecycle_stage != "active":
                continue
            ended_ms = _last_sign_ms(run) if orphan.ended_s is None else int(orphan.ended_s * 1000)
            client.set_terminated(orphan.run_id, orphan.status, end_time=ended_ms)
            if orphan.status == "KILLED":
                client.set_tag(orphan.run_id, ENDED, "its process was killed, or the machine stopped")


def _last_sign_ms(run: mlflow.entities.Run) -> int:
    """Find when a run last recorded something, in milliseconds since 1970."""
    client = mlflow.MlflowClient()
    history = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return max((point.timestamp for points in history for point in points), default=int(run.info.start_time))


def begin(uri: str, run_id: str) -> None:
    """Show others who open the store that a run has a process."""
    folder = store_folder(uri)
    if folder is not None:
        alive.hold(folder, run_id)


def end(uri: str, run_id: str, status: str | None = None, ended_s: float | None = None) -> None:
    """End what :func:`begin` began; with a status if the store could not be told it."""
    folder = store_folder(uri)
    if folder is not None:
        alive.release(folder, run_id, status, ended_s)
