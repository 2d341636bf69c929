"""The runs of MLflow that commands other than train add to, open and list.

One run stands for one experiment: the training opens it (:mod:`flowers.tracking.logger`), a training that was
interrupted and started again continues it, and ``report`` adds the test to it. Other results have a run of their own.
MLflow, which takes a second, is imported when it is used.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from flowers.config.store_address import PARENT_VARIABLE, address_of, sqlite_file

if TYPE_CHECKING:
    from flowers.tracking.store import OpenRun

EPOCH_METRICS = ("train/acc", "val/acc", "train/loss", "val/loss")
COLUMNS = ("name", "status", "started", "train/acc", "val/acc", "test/acc", "test/macro_f1", "run_id")


@contextlib.contextmanager
def tracked_run(
    settings: Any, name: str, tags: Mapping[str, str], run_id: str | None = None, recorded: str | None = None
) -> Iterator["OpenRun"]:
    """Open or continue a run, as :class:`OpenRun` does, where a configuration records; close it as it deserves.

    Args:
        settings: The configuration.
        name: Of a new run.
        tags: Of the run.
        run_id: The run to continue.
        recorded: The store that has it, for a configuration that names none.

    Raises:
        UserError: If the store cannot be used.
    """
    from flowers.tracking.store import OpenRun, store_access

    run = OpenRun(*address_of(settings, recorded), name, tags, run_id=run_id)
    if run_id is not None and run.before is None:
        print(f"MLflow: run {run_id} is not in this store (any more); recorded in a new one, {run.run_id}", flush=True)
    # What is added later does not make a finished training longer.
    ended_ms = run.before.info.end_time if run.before and run.before.info.status == "FINISHED" else None
    status = "KILLED"
    try:
        with store_access(run.uri):
            yield run
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        run.close(status, ended_ms)


@contextlib.contextmanager
def series_run(work: Path, settings: Any, name: str, tags: Mapping[str, str]) -> Iterator["OpenRun | None"]:
    """Open a series' run, or the one that it had before an interruption; trainings become its children.

    Its folder `work` keeps the run's id. Without tracking there is no run.

    Raises:
        UserError: If the store cannot be used.
    """
    if not settings.tracking.enabled:
        yield None
        return
    from flowers.tracking.store import read_note, write_note

    above = os.environ.get(PARENT_VARIABLE)  # of a sweep over series
    with tracked_run(settings, name, tags, read_note(work).get("run_id")) as run:
        write_note(work, {"run_id": run.run_id})
        os.environ[PARENT_VARIABLE] = run.run_id
        try:
            yield run
        finally:
            os.environ.pop(PARENT_VARIABLE)
            os.environ.update({PARENT_VARIABLE: above} if above else {})


def list_experiments(uri: str) -> list[tuple[str, str, int]]:
    """Open and repair a store; list number, name and how many runs of its experiments with runs, the latest first."""
    import mlflow

    from flowers.tracking.store import current_store, repair

    client = mlflow.MlflowClient(tracking_uri=uri)
    names = {each.experiment_id: each.name for each in client.search_experiments()}
    repair(client)
    with current_store(uri):
        runs = mlflow.search_runs(list(names), order_by=["attributes.start_time DESC"], output_format="list")
    counts = Counter(run.info.experiment_id for run in runs)
    return [(str(number), names[number], count) for number, count in counts.items()]


def list_trainings(uri: str, experiment: str | None, split: str) -> pd.DataFrame:
    """List the trainings on one split of the photographs, as results on other splits do not compare with theirs.

    Args:
        uri: The store. It is not made if it is not there.
        experiment: The MLflow experiment; None: the one that MLFLOW_EXPERIMENT_ID numbers.
        split: Digest of the split, as in `run.json`.

    Returns:
        A row with :data:`COLUMNS` for each that has finished an epoch, the best on the validation first: metrics in
        [0, 1] of the last epoch, those of the test empty where it was not read; `started` in UTC.

    Raises:
        UserError: If the store cannot be used.
    """
    import mlflow

    from flowers.tracking.store import current_store, find_experiment, store_access

    file = sqlite_file(uri)
    runs = pd.DataFrame()
    if file is None or file.is_file():
        with store_access(uri), current_store(uri):
            found = find_experiment(mlflow.MlflowClient(uri), experiment)
            if found is not None:
                runs = mlflow.search_runs([found.experiment_id], f"tags.split = '{split}' AND metrics.`val/acc` >= 0")
    if runs.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    short = {"tags.mlflow.runName": "name", "tags.kind": "kind", "start_time": "started"}
    table = runs.rename(columns=lambda name: short.get(name, name.removeprefix("metrics.")))
    table = table.reindex(columns=[*COLUMNS, "kind"]).sort_values("val/acc", ascending=False, kind="stable")
    table["started"] = table["started"].dt.tz_localize(None).dt.floor("min")
    return table[table.pop("kind").isna()].reset_index(drop=True)


def read_curves(uri: str, run_id: str) -> pd.DataFrame:
    """Read a row for each epoch of a training, with `epoch` and :data:`EPOCH_METRICS`; none if there is no such run."""
    import mlflow

    from flowers.tracking.store import store_access

    with store_access(uri):
        client = mlflow.MlflowClient(tracking_uri=uri)
        histories = {name: client.get_metric_history(run_id, name) for name in EPOCH_METRICS}
    curves = {name: {int(point.step): float(point.value) for point in histories[name]} for name in EPOCH_METRICS}
    return pd.DataFrame(curves, columns=list(EPOCH_METRICS)).sort_index().rename_axis("epoch").reset_index()
