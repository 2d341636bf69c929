"""The MLflow record of a run.

One MLflow run stands for one experiment: ``train`` opens it, a training that was interrupted and started again
continues it, and ``evaluate`` adds the test to it.
"""

import contextlib
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from torch import nn

from flowers.config.schema import Tracking
from flowers.errors import UserError
from flowers.tracking.store import ENDED, begin, end, explain_store_errors, open_experiment

_LONGEST_PARAM = 250
NOTE = "mlflow.note.content"
"""Tag with what MLflow's page of a run says about it, in Markdown."""


@contextlib.contextmanager
def tracked_run(
    tracking: Tracking,
    *,
    experiment: str,
    name: str,
    run_id: str | None,
    tags: Mapping[str, str],
    parent: str | None = None,
    note: str | None = None,
    system_metrics: bool = True,
) -> Iterator[str]:
    """Open a run, or continue one, and close it with the status that fits.

    Args:
        tracking: Which store.
        experiment: The MLflow experiment, made if it is new.
        name: The run's name, if it is opened.
        run_id: The run to continue; opened anew if the store no longer has it.
        tags: Set on the run.
        parent: The run that it is opened as a child of.
        note: What its page says about it, in Markdown; null: the command that was given. One that is there stays.
        system_metrics: Sample processor and memory use, as often as the settings say.

    Yields:
        The run's id.

    Raises:
        UserError: If the store cannot be used.
    """
    with explain_store_errors(tracking.uri):
        open_experiment(tracking.uri, experiment)
        with_metrics = system_metrics and tracking.system_metrics_s > 0
        if with_metrics:
            mlflow.set_system_metrics_sampling_interval(max(tracking.system_metrics_s, 1))
        if run_id is not None and not exists(run_id):
            run_id = None
        # Figures that are added later do not make a training longer.
        ended_ms = None if run_id is None else _end_of_finished(run_id)
        if run_id is None:
            whole = {**tags, NOTE: note or command_note(), **({"mlflow.parentRunId": parent} if parent else {})}
            run = mlflow.start_run(run_name=name, tags=whole, log_system_metrics=with_metrics)
        else:
            run = mlflow.start_run(run_id=run_id, tags=dict(tags), log_system_metrics=with_metrics)
            if ENDED in run.data.tags:
                mlflow.delete_tag(ENDED)
        run_id = str(run.info.run_id)
    for each in (run_id, parent):
        if each is not None:  # the sweep too goes on as long as one of its trainings has a process
            begin(tracking.uri, each)
    status = "KILLED"
    try:
        with explain_store_errors(tracking.uri):
            yield run_id
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        _end_run(tracking.uri, run_id, status, ended_ms)


def _end_run(uri: str, run_id: str, status: str, ended_ms: int | None) -> None:
    """Close the active run; that the store cannot be told is no reason to fail what is done."""
    try:
        with explain_store_errors(uri):
            mlflow.end_run(status)
            if ended_ms is not None:
                mlflow.MlflowClient().set_terminated(run_id, status, end_time=ended_ms)
    except UserError as error:
        end(uri, run_id, status, time.time())
        print(f"flowers: {error} It is told how the run ended when it is next used.", file=sys.stderr)
    else:
        end(uri, run_id)


def command_note() -> str:
    """Write, for a run's page, the command that was given; outside a command of ours there is nothing to write."""
    if not sys.argv[0].startswith("flowers "):
        return ""
    words = [sys.argv[0], *(shlex.quote(word) for word in sys.argv[1:])]
    return "\n".join(["```", " \\\n  ".join(words), "```"])  # in short lines, as the page does not break them


def exists(run_id: str) -> bool:
    """Say whether the open store has a run, not deleted."""
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def _end_of_finished(run_id: str) -> int | None:
    """Find when a run finished, in milliseconds since 1970; None if it did not."""
    info = mlflow.get_run(run_id).info
    return info.end_time if info.status == "FINISHED" else None


def log_settings(config_path: Path, params: Mapping[str, Any]) -> None:
    """Record the configuration: whole as a file, and in short as parameters to filter and compare by.

    Args:
        config_path: The file.
        params: What decides the result, by short names.
    """
    mlflow.log_artifact(str(config_path))
    flat = {name: str(value)[:_LONGEST_PARAM] for name, value in params.items()}
    # A continued run has its parameters already; MLflow refuses to change them, and they cannot differ.
    known = mlflow.active_run().data.params if mlflow.active_run() else {}
    mlflow.log_params({name: value for name, value in flat.items() if name not in known})


def log_split(split: pd.DataFrame, *, name: str, source: str, digest: str) -> None:
    """Record which photographs were used, as two MLflow data sets.

    Args:
        split: With ``path``, ``label``, ``split``.
        name: The data set's name.
        source: Where the photographs lie.
        digest: Of the split; MLflow keeps its first 36 characters.
    """
    origin = LocalArtifactDatasetSource(source)
    for part, context in (("train", "training"), ("val", "validation")):
        rows = split.loc[split["split"] == part, ["path", "label"]].reset_index(drop=True)
        dataset = mlflow.data.from_pandas(
            rows, source=origin, targets="label", name=f"{name}-{part}", digest=digest[:36]
        )
        mlflow.log_input(dataset, context=context)


def logged_steps(metric: str) -> set[int]:
    """List the steps at which the active run already has a metric, so that a resumed curve has no doubles."""
    client = mlflow.MlflowClient()
    return {point.step for point in client.get_metric_history(mlflow.active_run().info.run_id, metric)}


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Record figures, of one epoch if a step is given."""
    mlflow.log_metrics({name: float(value) for name, value in metrics.items()}, step=step)


def log_image(image: np.ndarray, key: str, step: int) -> None:
    """Record one image of a series that the run's page shows with a slider.

    Args:
        image: (H,W,3) uint8.
        key: Name of the series.
        step: Its place in the series.
    """
    mlflow.log_image(image, key=key, step=step)


def log_figure(figure: Figure, name: str) -> None:
    """Record a figure under a file name."""
    mlflow.log_figure(figure, name)


def log_table(table: pd.DataFrame, name: str) -> None:
    """Record a table that the run's page shows, in place of an earlier one; ``name`` ends in ``.json``."""
    folder = name.rpartition("/")[0]
    run_id = mlflow.active_run().info.run_id
    known = {each.path for each in mlflow.MlflowClient().list_artifacts(run_id, folder or None)}
    if name in known:  # MLflow would add the rows to those that are there
        mlflow.log_text(table.to_json(orient="split", index=False), name)
    else:
        mlflow.log_table(table, name)


def log_file(path: Path, folder: str | None = None) -> None:
    """Record a file as it is."""
    mlflow.log_artifact(str(path), folder)


def log_tags(tags: Mapping[str, str]) -> None:
    """Label the active run."""
    mlflow.set_tags(dict(tags))


def log_model(scorer: nn.Module, examples: np.ndarray, classes: list[str]) -> None:
    """Record the network, with signature and input example, in a format that runs no code when it is loaded.

    Args:
        scorer: Pixels (B,3,H,W) float32 in [0, 255] to probabilities (B,K).
        examples: Such pixels, with B >= 2, from which the batch is known to vary.
        classes: Names of the K outputs.
    """
    scorer = scorer.cpu().eval()
    with torch.inference_mode():
        probabilities = scorer(torch.from_numpy(examples)).numpy()
    with warnings.catch_warnings():
        # About weights that are not on the processor, which these are.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        mlflow.pytorch.log_model(
            scorer,
            name="model",
            serialization_format="pt2",
            signature=infer_signature(examples, probabilities),
            input_example=examples,
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
            metadata={"classes": classes},
        )
