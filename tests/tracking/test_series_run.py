"""A series of trainings is one MLflow run, whatever interrupts it, and its trainings are the children."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from flowers.errors import UserError
from flowers.tracking.runs import series_run
from flowers.tracking.summary import PARENT_VARIABLE

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracking = SimpleNamespace(enabled=True, uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield SimpleNamespace(tracking=tracking, data=SimpleNamespace(name="e"))
    mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_the_run_of_a_series_is_one_however_often_it_is_opened(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, "a sweep")
    work = tmp_path / "runs/series/one"
    work.mkdir(parents=True)
    about: Any = {"name": "n", "tags": {"kind": "crossval"}}
    seen = []
    for error, status in ((KeyboardInterrupt(), "KILLED"), (UserError("no"), "FAILED")):
        with contextlib.suppress(type(error)), series_run(work, settings, **about) as run:
            assert run is not None
            assert os.environ[PARENT_VARIABLE] == run.run_id
            assert mlflow.get_run(run.run_id).info.status == "RUNNING"
            seen.append(run.run_id)
            raise error
        run_ended = mlflow.get_run(seen[0])
        assert run_ended.info.status == status
        assert os.environ[PARENT_VARIABLE] == "a sweep"
    assert seen[0] == seen[1]
    assert run_ended.data.tags["kind"] == "crossval"
    assert run_ended.data.tags["mlflow.parentRunId"] == "a sweep"

    with series_run(work, settings, **about) as run:
        assert run is not None
        run.log_metrics({"crossval/val/acc": 0.5})
    assert mlflow.get_run(seen[0]).info.status == "FINISHED"
    assert mlflow.get_run(seen[0]).data.metrics == {"crossval/val/acc": 0.5}
    monkeypatch.delenv(PARENT_VARIABLE)
    with series_run(work, settings, **about):
        assert os.environ[PARENT_VARIABLE] == seen[0]
    assert PARENT_VARIABLE not in os.environ

    mlflow.MlflowClient().delete_run(seen[0])
    with series_run(work, settings, **about) as run:
        assert run is not None
        assert run.run_id != seen[0]


def test_without_tracking_there_is_no_run(tmp_path: Path) -> None:
    nowhere = SimpleNamespace(tracking=SimpleNamespace(enabled=False, uri=f"sqlite:///{tmp_path}/mlflow.db"))
    with series_run(tmp_path, nowhere, "n", {"kind": "crossval"}) as run:
        assert run is None
    assert list(tmp_path.iterdir()) == []
