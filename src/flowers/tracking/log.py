"""A run of MLflow that this process writes to.

One run stands for one experiment: the training opens it (:mod:`flowers.tracking.logger`), a training that was
interrupted and started again continues it, and ``evaluate`` adds the test to it with :func:`tracked_run`. All goes
through MLflow's client, so that a script's own active run, experiment and store stay what they are.
"""

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags

from flowers.errors import UserError
from flowers.tracking import liveness
from flowers.tracking.naming import KIND, NOTE, PARENT, RECIPE
from flowers.tracking.store import ENDED, open_experiment, store_access, store_folder

if TYPE_CHECKING:
    from flowers.config.schema import Tracking


class OpenRun:
    """A run, opened or continued: `run_id` in `client`'s store, and what it was `before` (None if it is new)."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        name: str | None,
        run_id: str | None,
        tags: Mapping[str, str],
        note: str | None = None,
        system_metrics_s: float = 0,
    ) -> None:
        """Open a run, or continue one.

        Args:
            uri: The store.
            experiment: The MLflow experiment, made if it is new.
            name: The run's name, if it is opened; null: MLflow makes one up.
            run_id: The run to continue; a new one is opened if the store no longer has it.
            tags: Set on the run.
            note: What its page says about it, if it is opened; null: the command that was given.
            system_metrics_s: Seconds between two samples of processor and memory use; 0: none.

        Raises:
            UserError: If the store cannot be used.
        """
        self.uri, self._monitor = uri, None
        with store_access(uri):
            experiment_id = open_experiment(uri, experiment)
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            self.before = None if run_id is None else find_run(self.client, run_id)
            if self.before is None:
                noted = resolve_tags({**tags, NOTE: note or _command()})
                run_id = self.client.create_run(experiment_id, run_name=name, tags=noted).info.run_id
            self.run_id = str(run_id)
            if self.before is not None:
                self.client.update_run(self.run_id, status="RUNNING")
                self.log_tags(tags)
                if ENDED in self.before.data.tags:
                    self.client.delete_tag(self.run_id, ENDED)
            if system_metrics_s > 0:
                resumed = self.before is not None
                self._monitor = SystemMetricsMonitor(
                    self.run_id, max(system_metrics_s, 1), resume_logging=resumed, tracking_uri=uri
                )
                self._monitor.start()
        for each in (self.run_id, tags.get(PARENT)):
            if each is not None:  # a sweep too goes on as long as one of its trainings has a process
                liveness.hold(store_folder(uri), each)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics, at a step if there is one."""
        now_ms = int(time.time() * 1000)
        points = [Metric(name, float(value), now_ms, step or 0) for name, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=points)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters, cut to 250 characters; those of a continued run stay, as MLflow refuses to change them."""
        known = self.client.get_run(self.run_id).data.params
        new = [Param(key, str(value)[:250]) for key, value in params.items() if key not in known]
        for first in range(0, len(new), 100):  # as many as MLflow takes at once
            self.client.log_batch(self.run_id, params=new[first : first + 100])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Label the run."""
        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def close(self, status: str, ended_ms: int | None = None, *, quiet: bool = False) -> None:
        """Close the run. If the store cannot be told, that is said, and whoever opens it next tells it.

        Args:
            status: FINISHED, FAILED or KILLED.
            ended_ms: When it ended, in milliseconds since 1970; null: now.
            quiet: Say nothing.
        """
        folder = store_folder(self.uri)
        liveness.hold(folder, self.run_id)  # again, if it is closed a second time
        untold: tuple[str, float] | tuple[()] = ()
        try:
            with store_access(self.uri):
                if self._monitor is not None:
                    self._monitor.finish()
                self.client.set_terminated(self.run_id, status, end_time=ended_ms)
        except UserError as error:
            untold = (status, time.time() if ended_ms is None else ended_ms / 1000)
            if not quiet:
                print(f"flowers: {error} It is told how the run ended when it is next used.", file=sys.stderr)
        liveness.release(folder, self.run_id, *untold)


def find_run(client: mlflow.MlflowClient, run_id: str) -> Any:
    """Find a run; None if the store does not have it, or has deleted it."""
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _command() -> str:
    """Write, for a run's page, the command that was given; outside a command of ours there is nothing to write."""
    if not sys.argv[0].startswith("flowers "):
        return ""
    words = [sys.argv[0], *(shlex.quote(word) for word in sys.argv[1:])]
    return "\n".join(["```", " \\\n  ".join(words), "```"])  # in short lines, as the page does not break them


_runs: list[OpenRun] = []  # of tracked_run, the innermost last


@contextlib.contextmanager
def tracked_run(tracking: "Tracking", *, experiment: str, system_metrics: bool = True, **about: Any) -> Iterator[str]:
    """Open or continue a run for the ``log_`` functions below, yield its id, and close it with the status that fits.

    Args:
        tracking: The store, and how often processor and memory use are sampled.
        experiment: The MLflow experiment.
        system_metrics: Whether they are sampled.
        **about: The other arguments of :class:`OpenRun`.
    """
    sample_s = tracking.system_metrics_s if system_metrics else 0
    run = OpenRun(tracking.uri, experiment, system_metrics_s=sample_s, **about)
    # What is added later does not make a finished training longer.
    ended_ms = run.before.info.end_time if run.before and run.before.info.status == "FINISHED" else None
    _runs.append(run)
    status = "KILLED"
    try:
        with store_access(tracking.uri):
            yield run.run_id
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        _runs.remove(run)
        run.close(status, ended_ms)


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Record metrics, at a step if there is one."""
    _runs[-1].log_metrics(metrics, step)


def log_figure(figure: Any, name: str) -> None:
    """Record a figure under a file name."""
    _runs[-1].client.log_figure(_runs[-1].run_id, figure, name)


def log_table(table: pd.DataFrame, name: str) -> None:
    """Record a table that the run's page shows, in place of an earlier one; ``name`` ends in ``.json``."""
    run = _runs[-1]
    known = {each.path for each in run.client.list_artifacts(run.run_id, name.rpartition("/")[0] or None)}
    if name in known:  # MLflow would add the rows to those that are there
        run.client.log_text(run.run_id, table.to_json(orient="split", index=False), name)
    else:
        run.client.log_table(run.run_id, table, name)


def log_file(path: Path, folder: str | None = None) -> None:
    """Record a file as it is."""
    _runs[-1].client.log_artifact(_runs[-1].run_id, str(path), folder)


@contextlib.contextmanager
def training_run(settings: Any, run: dict[str, Any], tags: Mapping[str, str]) -> Iterator[None]:
    """Continue the MLflow run that a training opened.

    Args:
        settings: The training's configuration.
        run: Its ``run.json``. Where the store has lost the run, `mlflow_run_id` becomes that of a new one.
        tags: Added to the run.
    """
    with tracked_run(
        settings.tracking,
        experiment=settings.data.name,
        name=settings.name,
        run_id=run["mlflow_run_id"],
        tags={RECIPE: settings.name, **tags},
        system_metrics=False,
    ) as run["mlflow_run_id"]:
        yield


@contextlib.contextmanager
def result_run(settings: Any, kind: str, name: str, recipe: str | None = None) -> Iterator[None]:
    """Open a run for results that belong to no training.

    Args:
        settings: Of the command, with the store and the data set, which the MLflow experiment is called by.
        kind: What the results are: `card`, `baseline` and so on.
        name: The run's.
        recipe: What they were made with, if it matters.
    """
    tags = {KIND: kind, **({RECIPE: recipe} if recipe else {})}
    about = {"experiment": settings.data.name, "name": name, "run_id": None, "tags": tags}
    with tracked_run(settings.tracking, system_metrics=False, **about):
        yield
