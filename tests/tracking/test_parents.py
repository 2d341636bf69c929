"""A series of trainings is one MLflow run, whatever interrupts it, and its trainings are the children."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from flowers.config.schema import Tracking
from flowers.errors import UserError
from flowers.tracking import log as tracking
from flowers.tracking.parents import label_children, series_run
from flowers.tracking.sweep import PARENT_VARIABLE
from flowers.training.series import Done, Member

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracking]:
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield Tracking(enabled=True, uri=f"sqlite:///{tmp_path / 'mlflow.db'}", system_metrics_s=0)
    mlflow.set_tracking_uri(None)


def trained(run_id: str | None) -> Done:
    settings: Any = None
    return Done(Member("fold 1", settings, pd.DataFrame(), {"fold": "1"}), Path(), {"mlflow_run_id": run_id})


@pytest.mark.slow
def test_the_run_of_a_series_is_one_however_often_it_is_opened(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, "a sweep")
    work = tmp_path / "runs/series/one"
    about: Any = {"experiment": "e", "kind": "crossval", "name": "n"}
    seen = []
    for error, status in ((KeyboardInterrupt(), "KILLED"), (UserError("no"), "FAILED")):
        with contextlib.suppress(type(error)), series_run(work, store, **about) as run:
            assert run is not None
            assert os.environ[PARENT_VARIABLE] == run
            assert mlflow.get_run(run).info.status == "RUNNING"
            seen.append(run)
            raise error
        run_ended = mlflow.get_run(seen[0])
        assert run_ended.info.status == status
        assert os.environ[PARENT_VARIABLE] == "a sweep"
    assert seen[0] == seen[1]
    assert run_ended.data.tags["kind"] == "crossval"
    assert run_ended.data.tags["mlflow.parentRunId"] == "a sweep"

    with series_run(work, store, **about):
        tracking.log_metrics({"crossval/val/acc": 0.5})
    assert mlflow.get_run(seen[0]).info.status == "FINISHED"
    assert mlflow.get_run(seen[0]).data.metrics == {"crossval/val/acc": 0.5}
    monkeypatch.delenv(PARENT_VARIABLE)
    with series_run(work, store, **about):
        assert os.environ[PARENT_VARIABLE] == seen[0]
    assert PARENT_VARIABLE not in os.environ

    mlflow.MlflowClient().delete_run(seen[0])
    with series_run(work, store, **about) as run:
        assert run not in (None, seen[0])


@pytest.mark.slow
def test_children_are_named(
    store: Tracking, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.tracked_run(store, experiment="e", name="cnn_scratch", run_id=None, tags={}) as child:
        pass
    done = [trained(child), trained("0" * 32), trained(None)]  # the second was deleted by a person: no reason to fail
    assert list(label_children(done, store, "parent")) == done
    labelled = mlflow.get_run(child)
    assert labelled.info.run_name == "fold 1"
    assert {"fold": "1", "mlflow.parentRunId": "parent"}.items() <= labelled.data.tags.items()
    assert capfd.readouterr().err == ""
    broken = Tracking(enabled=True, uri="foo://bar", system_metrics_s=0)
    assert list(label_children(done[:1], broken, "parent")) == done[:1]
    assert capfd.readouterr().err.count("The run of fold 1 there keeps its recipe's name.") == 1


def test_without_tracking_there_is_no_run(tmp_path: Path) -> None:
    nowhere = Tracking(enabled=False, uri=f"sqlite:///{tmp_path}/mlflow.db", system_metrics_s=0)
    with series_run(tmp_path, nowhere, experiment="e", kind="crossval", name="n") as run:
        assert run is None
    done = [trained("a")]
    assert list(label_children(done, nowhere, None)) == done
    assert list(tmp_path.iterdir()) == []
