"""The MLflow record, read: which trainings there are, and how each went."""

import mlflow
import pandas as pd

from flowers.tracking.store import explain_store_errors, sqlite_file

METRICS = ("train/acc", "val/acc", "train/loss", "val/loss")
COLUMNS = ("name", "status", "started", "train/acc", "val/acc", "test/acc", "test/macro_f1", "run_id")
_PAGE = 1000


def list_trainings(uri: str, experiment: str, split: str) -> pd.DataFrame:
    """List the trainings on one split of the photographs, as the figures of others do not compare with theirs.

    Args:
        uri: The store. It is not made if it is not there.
        experiment: The MLflow experiment, which is called like the data set.
        split: Digest of the split, as in `run.json`.

    Returns:
        A row with :data:`COLUMNS` for each that has finished an epoch, the best on the validation first: figures in
        [0, 1] of the last epoch, those of the test empty where it was not read; `started` in UTC. No rows if there is
        no such store or experiment.

    Raises:
        UserError: If the store cannot be used.
    """
    rows = []
    if _is_there(uri):
        with explain_store_errors(uri):
            client = mlflow.MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(experiment)
            token = None
            while found is not None:
                page = client.search_runs([found.experiment_id], max_results=_PAGE, page_token=token)
                rows += [_row(run) for run in page if _is_meant(run, split)]
                token = page.token
                if not token:
                    break
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("val/acc", ascending=False, kind="stable", ignore_index=True)


def read_curves(uri: str, run_id: str) -> pd.DataFrame:
    """Read what a training recorded in each epoch.

    Args:
        uri: The store.
        run_id: The run.

    Returns:
        A row for each epoch, from 1, with `epoch` and :data:`METRICS`; none if there is no such run.

    Raises:
        UserError: If the store cannot be used.
    """
    with explain_store_errors(uri):
        client = mlflow.MlflowClient(tracking_uri=uri)
        curves = {
            name: {int(point.step): float(point.value) for point in client.get_metric_history(run_id, name)}
            for name in METRICS
        }
    table = pd.DataFrame(curves, columns=list(METRICS)).sort_index()
    return table.rename_axis("epoch").reset_index()


def _is_there(uri: str) -> bool:
    """Whether there is a store to read; MLflow would make an empty one."""
    file = sqlite_file(uri)
    return file is None or file.is_file()


def _is_meant(run: mlflow.entities.Run, split: str) -> bool:
    tags = run.data.tags
    return tags.get("split") == split and "kind" not in tags and "val/acc" in run.data.metrics


def _row(run: mlflow.entities.Run) -> dict[str, object]:
    metrics = run.data.metrics
    figures = {name: metrics.get(name, float("nan")) for name in COLUMNS if "/" in name}
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "started": pd.Timestamp(run.info.start_time, unit="ms").floor("min"),
        **figures,
        "run_id": run.info.run_id,
    }
