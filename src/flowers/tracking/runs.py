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

from flowers.config.store_address import PARENT_VARIABLE, address_of, announce, sqlite_file

if TYPE_CHECKING:
    from flowers.tracking.store import OpenRun

MOST = 50_000
"""How many runs MLflow lists at once, at most."""
EPOCH_METRICS = ("train/acc", "val/acc", "train/loss", "val/loss")
COLUMNS = ("name", "status", "started", "train/acc", "val/acc", "test/acc", "test/macro_f1", "run_id")


def announce_store(settings: Any) -> None:
    """Say where a command will record, and find out whether it can, before its work begins.

    Raises:
        UserError: If the store cannot be used.
    """
    announce(settings)
    if settings.tracking.enabled:
        from flowers.tracking.store import check_store

        check_store(address_of(settings).uri)


@contextlib.contextmanager
def tracked_run(settings: Any, name: str, tags: Mapping[str, str], run_id: str | None = None) -> Iterator["OpenRun"]:
    """Open or continue a run, as :class:`OpenRun` does, where a configuration records; close it as it deserves.

    Args:
        settings: The configuration.
        name: Of a new run.
        tags: Of the run.
        run_id: The run to continue, if the store has it.

    Raises:
        UserError: If the store cannot be used.
    """
    from flowers.tracking.store import OpenRun, store_access

    run = OpenRun(*address_of(settings), name, tags, run_id=run_id)
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
    from flowers.tracking.store import open_client, repair

    client = open_client(uri)
    repair(client)
    names = {each.experiment_id: each.name for each in client.search_experiments()}
    runs = client.search_runs(list(names), order_by=["attributes.start_time DESC"], max_results=MOST)
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
    from flowers.tracking.store import find_experiment, open_client, store_access

    file = sqlite_file(uri)
    rows = []
    if file is None or file.is_file():
        with store_access(uri):
            client, measured = open_client(uri), f"tags.split = '{split}' AND metrics.`val/acc` >= 0"
            found = find_experiment(client, experiment)
            for run in client.search_runs([found.experiment_id], measured, max_results=MOST) if found else ():
                if "kind" not in run.data.tags:
                    about = {"name": run.info.run_name, "status": run.info.status, "started": run.info.start_time}
                    rows.append({**about, **run.data.metrics, "run_id": run.info.run_id})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["started"] = pd.to_datetime(table["started"], unit="ms").dt.floor("min")
    return table.sort_values("val/acc", ascending=False, kind="stable", ignore_index=True)


def read_curves(uri: str, run_id: str) -> pd.DataFrame:
    """Read a row for each epoch of a training, with `epoch` and :data:`EPOCH_METRICS`; none if there is no such run."""
    from flowers.tracking.store import open_client, store_access

    with store_access(uri):
        client = open_client(uri)
        histories = {name: client.get_metric_history(run_id, name) for name in EPOCH_METRICS}
    curves = {name: {int(point.step): float(point.value) for point in points} for name, points in histories.items()}
    return pd.DataFrame(curves, columns=list(EPOCH_METRICS)).sort_index().rename_axis("epoch").reset_index()
