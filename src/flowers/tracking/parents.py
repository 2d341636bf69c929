"""The MLflow run that stands for several trainings: a sweep, a cross-validation, a learning curve."""

import contextlib
import sys
from collections.abc import Mapping

import mlflow
import pandas as pd

from flowers.config.schema import Tracking
from flowers.errors import UserError
from flowers.tracking.log import NOTE, command_note, exists
from flowers.tracking.store import ENDED, begin, check_unlocked, end, explain_store_errors, open_experiment


def open_parent(
    tracking: Tracking,
    *,
    experiment: str,
    name: str,
    kind: str,
    run_id: str | None = None,
    parent: str | None = None,
) -> str:
    """Open the run that stands for several trainings, or open again the one of an interrupted series.

    Args:
        tracking: Which store.
        experiment: The MLflow experiment, made if it is new.
        name: The run's name.
        kind: What the trainings are for, as a tag: ``sweep``, ``crossval`` …
        run_id: The run to continue; opened anew if the store no longer has it.
        parent: The run that it is a child of itself.
    """
    with explain_store_errors(tracking.uri):
        experiment_id = open_experiment(tracking.uri, experiment)
        client = mlflow.MlflowClient()
        if run_id is not None and exists(run_id):
            client.update_run(run_id, status="RUNNING", name=name)
            if ENDED in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, ENDED)
        else:
            tags = {"kind": kind, NOTE: command_note(), **({"mlflow.parentRunId": parent} if parent else {})}
            run_id = str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)
        begin(tracking.uri, run_id)
        return run_id


def label_child(tracking: Tracking, run_id: str, *, parent: str, name: str, tags: Mapping[str, str]) -> None:
    """Name a finished training's run as a child of a series; one that the store no longer has stays unnamed.

    Raises:
        UserError: If the store cannot be used.
    """
    with explain_store_errors(tracking.uri):
        check_unlocked(tracking.uri)
        mlflow.set_tracking_uri(tracking.uri)
        if exists(run_id):
            client = mlflow.MlflowClient()
            client.update_run(run_id, name=name)
            for key, value in {**tags, "mlflow.parentRunId": parent}.items():
                client.set_tag(run_id, key, value)


def close_parent(run_id: str, summary: pd.DataFrame, failed: int) -> None:
    """Write a sweep's summary into its run and close it; if the store is locked by now, say so and leave it.

    Args:
        run_id: From :func:`open_parent`.
        summary: A row for each training that succeeded, the best first, with ``val/acc``, ``overrides``, ``out_dir``.
        failed: How many did not.
    """
    client = mlflow.MlflowClient()
    try:
        with explain_store_errors(mlflow.get_tracking_uri()):
            check_unlocked(mlflow.get_tracking_uri())
            client.log_table(run_id, summary, "sweep.json")
            if not summary.empty:
                client.set_tag(run_id, "best.overrides", summary["overrides"][0])
                client.set_tag(run_id, "best.out_dir", summary["out_dir"][0])
                client.log_metric(run_id, "best/val/acc", float(summary["val/acc"][0]))
            client.set_terminated(run_id, "FAILED" if failed else "FINISHED")
    except UserError as error:
        print(f"flowers: {error} The sweep's own run there is incomplete.", file=sys.stderr)
    end(mlflow.get_tracking_uri(), run_id)


def abandon_parent(run_id: str, status: str) -> None:
    """Close the run of several trainings that were interrupted (``KILLED``) or failed, if the store can be told."""
    with contextlib.suppress(UserError), explain_store_errors(mlflow.get_tracking_uri()):
        check_unlocked(mlflow.get_tracking_uri())
        mlflow.MlflowClient().set_terminated(run_id, status)
    end(mlflow.get_tracking_uri(), run_id)
