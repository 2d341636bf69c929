"""A series' MLflow run is one, however often the series is opened; its trainings are its children."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.tracking.log import OpenRun
from flowers.tracking.parents import label_children, series_run
from flowers.tracking.sweep import PARENT_VARIABLE

Make = Callable[..., Settings]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
@pytest.mark.filterwarnings("ignore:::sqlalchemy")
def test_the_run_of_a_series_is_one_however_often_it_is_opened(
    make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, "a sweep")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking = make_settings("tracking.enabled=true", f"tracking.uri={uri}").tracking
    client = mlflow.MlflowClient(tracking_uri=uri)
    work = Path("runs/series/one")
    seen = []

    def opened() -> Any:
        return series_run(work, tracking, experiment="e", kind="crossval", name="n")

    for error, status in ((KeyboardInterrupt(), "KILLED"), (UserError("no"), "FAILED")):
        with contextlib.suppress(type(error)), opened() as run:
            assert run is not None
            assert os.environ[PARENT_VARIABLE] == run
            assert client.get_run(run).info.status == "RUNNING"
            seen.append(run)
            raise error
        run_ended = client.get_run(seen[0])
        assert run_ended.info.status == status
        assert os.environ[PARENT_VARIABLE] == "a sweep"
    assert seen[0] == seen[1]
    assert run_ended.data.tags["kind"] == "crossval"
    assert run_ended.data.tags["mlflow.parentRunId"] == "a sweep"

    child = OpenRun(uri, "e", name="cnn_scratch", run_id=None, tags={"kind": "training"})
    child.close("FINISHED")
    # The second was deleted by a person, which is no reason to fail.
    done: list[Any] = [
        SimpleNamespace(run={"mlflow_run_id": run_id}, member=SimpleNamespace(name="fold 1", tags={"fold": "1"}))
        for run_id in (child.run_id, "0" * 32, None)
    ]
    assert list(label_children(done, tracking, seen[0])) == done
    labelled = client.get_run(child.run_id)
    assert labelled.info.run_name == "fold 1"
    assert {"fold": "1", "mlflow.parentRunId": seen[0]}.items() <= labelled.data.tags.items()

    client.delete_run(seen[0])
    with opened() as run:
        assert run not in (None, seen[0])
