"""The MLflow run that stands for the trainings of a cross-validation or a learning curve."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow

from flowers.errors import UserError
from flowers.tracking.log import find_run, tracked_run
from flowers.tracking.naming import KIND, PARENT, RECIPE
from flowers.tracking.store import store_access
from flowers.tracking.sweep import PARENT_VARIABLE
from flowers.training.checkpoints import read_note, write_note

if TYPE_CHECKING:
    from flowers.config.schema import Tracking
    from flowers.training.series import Done


@contextlib.contextmanager
def series_run(
    work: Path, tracking: "Tracking", *, experiment: str, kind: str, name: str, recipe: str | None = None
) -> Iterator[str | None]:
    """Open a series' MLflow run, or the one that it had before an interruption; trainings become its children.

    Args:
        work: The series' folder, which keeps the run's id.
        tracking: The MLflow store.
        experiment: The MLflow experiment.
        kind: Tag of the run.
        name: Name of the run.
        recipe: Tag of the run, if it is of one.

    Yields:
        The run's id, to which :mod:`flowers.tracking.log` records meanwhile; None without tracking.

    Raises:
        UserError: If the store cannot be used.
    """
    if not tracking.enabled:
        yield None
        return
    above = os.environ.get(PARENT_VARIABLE)  # of a sweep over series
    tags = {KIND: kind, **({PARENT: above} if above else {}), **({RECIPE: recipe} if recipe else {})}
    known = read_note(work).get("run_id")
    with tracked_run(
        tracking, experiment=experiment, name=name, run_id=known, tags=tags, system_metrics=False
    ) as run_id:
        write_note(work, {"run_id": run_id})
        os.environ[PARENT_VARIABLE] = run_id
        try:
            yield run_id
        finally:
            os.environ.pop(PARENT_VARIABLE)
            os.environ.update({PARENT_VARIABLE: above} if above else {})


def label_children(done: "Iterable[Done]", tracking: "Tracking", parent: str | None) -> "Iterator[Done]":
    """Name the MLflow runs of trainings, as they are done, as children of a series.

    A run that the store no longer has stays unnamed, and a store that cannot be told is no reason to end the series.

    Args:
        done: The trainings, for example :func:`flowers.training.series.train_members`.
        tracking: The MLflow store.
        parent: The series' run; None: nothing is named.
    """
    for each in done:
        run_id = each.run["mlflow_run_id"]
        if parent is not None and run_id is not None:
            try:
                with store_access(tracking.uri):
                    client = mlflow.MlflowClient(tracking_uri=tracking.uri)
                    if find_run(client, run_id) is not None:
                        client.update_run(run_id, name=each.member.name)
                        for key, value in {**each.member.tags, PARENT: parent}.items():
                            client.set_tag(run_id, key, value)
            except UserError as error:
                print(f"flowers: {error} The run of {each.member.name} there keeps its recipe's name.", file=sys.stderr)
        yield each
