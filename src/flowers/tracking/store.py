"""The MLflow store: opened, repaired, read, and what is wrong with it said in one sentence."""

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
import pandas as pd
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DatabaseError

from flowers.errors import UserError
from flowers.tracking import liveness
from flowers.tracking.naming import KIND, SPLIT
from flowers.tracking.relocation import relocate

PATIENCE_S = 5.0
"""How long another program may hold the store before it counts as locked."""
ENDED = "ended"
"""Tag of a run that was found without a process; taken away when it goes on."""
EPOCH_METRICS = ("train/acc", "val/acc", "train/loss", "val/loss")
COLUMNS = ("name", "status", "started", "train/acc", "val/acc", "test/acc", "test/macro_f1", "run_id")
_ADVICE = {
    "database is locked": "is locked by another program; close that program",
    "database schema": "was written by another version of MLflow; back it up and run `mlflow db upgrade {uri}`",
    "Can't locate revision": "was written by another version of MLflow; back it up and run `mlflow db upgrade {uri}`",
    "not a database": "is not a readable database; restore it from a backup",
    "malformed": "is not a readable database; restore it from a backup",
    "readonly database": "cannot be written; change its permissions",
    "unable to open database": "cannot be written; change its permissions",
}

for _noisy in ("mlflow", "alembic"):  # they announce each start of what they were told to start
    logging.getLogger(_noisy).setLevel(logging.WARNING)
# What it reports with a traceback is said here in a sentence.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@contextlib.contextmanager
def store_access(uri: str, key: str = "tracking.uri") -> Iterator[None]:
    """Say in one sentence what is wrong with the MLflow store, also while the context lasts.

    Args:
        uri: The store.
        key: What another store is chosen by.

    Raises:
        UserError: If the store is locked, of another schema, no database, or unusable in another way.
    """
    file = sqlite_file(uri)
    try:
        if file is not None and file.exists():  # MLflow itself would try for minutes
            with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection:
                connection.execute("BEGIN IMMEDIATE")
        yield
    except (MlflowException, DatabaseError, sqlite3.DatabaseError) as error:
        text = str(error)
        unknown = f"cannot be used ({text.strip().splitlines()[0]}); correct that"
        advice = next((advice for sign, advice in _ADVICE.items() if sign in text), unknown).replace("{uri}", uri)
        raise UserError(
            f"the MLflow store {uri} {advice}, or choose another store with {key}=sqlite:///OTHER.db."
        ) from error


def sqlite_file(uri: str) -> Path | None:
    """Find the file of a store; None if it is of another kind."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def store_folder(uri: str) -> Path | None:
    """Find the folder that a store is in; None if it is no file."""
    file = sqlite_file(uri)
    return None if file is None else file.resolve().parent


@contextlib.contextmanager
def current_store(uri: str) -> Iterator[None]:
    """Have MLflow's module functions, which take no store, use this one; afterwards they use the former one again."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def open_experiment(uri: str, name: str) -> str:
    """Open and repair a store, and open an experiment in it, which is made if it is new.

    Returns:
        MLflow's number of the experiment.
    """
    client = mlflow.MlflowClient(tracking_uri=uri)
    if client.get_experiment_by_name(name) is None:
        try:  # the tag chooses MLflow's pages for trainings
            client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another process, at this moment
                raise
    repair(uri)
    return str(client.get_experiment_by_name(name).experiment_id)


def list_experiments(uri: str) -> list[tuple[str, str, int]]:
    """Open and repair a store; list number, name and how many runs of its experiments with runs, the latest first."""
    names = {each.experiment_id: each.name for each in mlflow.MlflowClient(tracking_uri=uri).search_experiments()}
    repair(uri)
    with current_store(uri):
        runs = mlflow.search_runs(list(names), order_by=["attributes.start_time DESC"], output_format="list")
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.info.experiment_id] = counts.get(run.info.experiment_id, 0) + 1
    return [(str(number), names[number], count) for number, count in counts.items()]


def repair(uri: str) -> None:
    """Repair what a moved project or a killed process left in an open store; not on a server, which others use too."""
    file = sqlite_file(uri)
    if file is None:
        return
    folder = file.resolve().parent
    for old in sorted(relocate(file, PATIENCE_S)):
        print(f"{file}: the files of its runs are found in {folder / old.name} now, no longer in {old}", flush=True)
    client = mlflow.MlflowClient(tracking_uri=uri)
    for run_id, status, ended_s in liveness.orphans(folder):
        try:
            run = client.get_run(run_id)
        except MlflowException:  # deleted for good
            continue
        if run.info.status != "RUNNING" or run.info.lifecycle_stage != "active":
            continue
        if ended_s is None:  # its last sign of life is the last thing that it recorded
            points = [point for name in run.data.metrics for point in client.get_metric_history(run_id, name)]
            ended_s = max([run.info.start_time, *(point.timestamp for point in points)]) / 1000
        client.set_terminated(run_id, status, end_time=int(ended_s * 1000))
        if status == "KILLED":
            client.set_tag(run_id, ENDED, "its process was killed, or the machine stopped")


def list_trainings(uri: str, experiment: str, split: str) -> pd.DataFrame:
    """List the trainings on one split of the photographs, as results on other splits do not compare with theirs.

    Args:
        uri: The store. It is not made if it is not there.
        experiment: The MLflow experiment, which is called like the data set.
        split: Digest of the split, as in `run.json`.

    Returns:
        A row with :data:`COLUMNS` for each that has finished an epoch, the best on the validation first: metrics in
        [0, 1] of the last epoch, those of the test empty where it was not read; `started` in UTC. No rows if there is
        no such store or experiment.

    Raises:
        UserError: If the store cannot be used.
    """
    file = sqlite_file(uri)
    runs = pd.DataFrame()
    if file is None or file.is_file():
        with store_access(uri), current_store(uri):
            found = mlflow.get_experiment_by_name(experiment)
            if found is not None:
                runs = mlflow.search_runs([found.experiment_id], f"tags.{SPLIT} = '{split}' AND metrics.`val/acc` >= 0")
    if runs.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    short = {"tags.mlflow.runName": "name", f"tags.{KIND}": KIND, "start_time": "started"}
    table = runs.rename(columns=lambda name: short.get(name, name.removeprefix("metrics.")))
    table = table.reindex(columns=[*COLUMNS, KIND]).sort_values("val/acc", ascending=False, kind="stable")
    table["started"] = table["started"].dt.tz_localize(None).dt.floor("min")
    return table[table.pop(KIND).isna()].reset_index(drop=True)


def read_curves(uri: str, run_id: str) -> pd.DataFrame:
    """Read a row for each epoch of a training, with `epoch` and :data:`EPOCH_METRICS`; none if there is no such run."""
    with store_access(uri):
        client = mlflow.MlflowClient(tracking_uri=uri)
        histories = {name: client.get_metric_history(run_id, name) for name in EPOCH_METRICS}
    curves = {name: {int(point.step): float(point.value) for point in histories[name]} for name in EPOCH_METRICS}
    return pd.DataFrame(curves, columns=list(EPOCH_METRICS)).sort_index().rename_axis("epoch").reset_index()
