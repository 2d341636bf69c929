"""Trainings are listed as MLflow remembers them; nothing is written."""

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest

from flowers.commands.crossval import Arguments, crossval
from flowers.commands.data_card import card
from flowers.commands.find_label_errors import find_label_errors
from flowers.commands.train import train
from flowers.config.store_address import shown, store_uri
from flowers.errors import UserError
from flowers.tracking import store as store_module
from flowers.tracking.runs import COLUMNS, list_trainings, read_curves, tracked_run
from flowers.tracking.store import OpenRun, open_experiment

# What MLflow does with SQLAlchemy, pandas and pydantic is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


def garden(uri: str) -> Any:
    return SimpleNamespace(tracking=SimpleNamespace(uri=uri), data=SimpleNamespace(name="garden"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two trainings, one of them tested; one on another split, of another kind, without an epoch."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    settings = garden(uri)

    def run(name: str, tags: dict[str, str], curve: list[float], test: dict[str, float]) -> None:
        with tracked_run(settings, name, tags) as opened:
            for epoch, value in enumerate(curve, start=1):
                opened.log_metrics({"val/acc": value, "val/loss": 1 - value}, step=epoch)
            opened.log_metrics(test)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("tested", {"split": "abc"}, [0.5, 0.9, 0.7], {"test/acc": 0.6, "test/macro_f1": 0.55})
        run("better", {"split": "abc"}, [0.8], {})
        run("another split", {"split": "xyz"}, [0.98], {})
        run("crossval", {"kind": "crossval", "split": "abc"}, [0.99], {})
        run("broken", {"split": "abc"}, [], {})
    return uri


@pytest.mark.slow
def test_trainings_come_with_the_figures_of_their_last_epoch(store: str) -> None:
    table = list_trainings(store, "garden", "abc")
    assert list(table.columns) == list(COLUMNS)
    assert table["name"].tolist() == ["better", "tested"]  # not by the best epoch, which would be a choice
    assert table["val/acc"].tolist() == [0.8, 0.7]
    assert np.isnan(table["test/acc"][0])
    assert (table["test/acc"].iloc[1], table["test/macro_f1"].iloc[1]) == (0.6, 0.55)
    assert table["status"].tolist() == ["FINISHED", "FINISHED"]


def test_curves_have_a_row_for_each_epoch(store: str) -> None:
    run_id = str(list_trainings(store, "garden", "abc")["run_id"].iloc[1])
    curves = read_curves(store, run_id)
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves["val/acc"].tolist() == [0.5, 0.9, 0.7]
    assert curves["train/acc"].isna().all()


def test_more_than_a_page_is_listed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list_trainings(store, "garden", "abc")) == 2


def test_what_is_not_there_is_empty_and_not_made(store: str, tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    table = list_trainings(f"sqlite:///{missing}", "garden", "abc")
    assert table.empty
    assert list(table.columns) == list(COLUMNS)
    assert not missing.exists()
    assert list_trainings(store, "desert", "abc").empty


def test_an_unknown_run_has_no_epochs(store: str) -> None:
    assert read_curves(store, "nobody").empty


def test_a_damaged_store_is_a_sentence(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_text("no database at all, but long enough to be looked at as one, " * 20)
    with pytest.raises(UserError, match="not a readable database"):
        list_trainings(f"sqlite:///{damaged}", "garden", "abc")


@pytest.mark.slow
def test_a_run_of_a_temporary_workspace_lands_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, copy = tmp_path / "project", tmp_path / "project/.dvc/tmp/exps/copy"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    for name, value in (("DVC_ROOT", str(project)), ("DVC_STAGE", "train"), ("DVC_EXP_NAME", "tidy-lark")):
        monkeypatch.setenv(name, value)
    run = OpenRun(store_uri("sqlite:///mlflow.db"), "garden", None, {})
    run.close("FINISHED")
    assert shown(run.uri) == "sqlite:///mlflow.db"  # in run.json, which goes to other machines
    assert not list(copy.glob("ml*"))
    found = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db").get_run(run.run_id)
    assert found.data.tags["dvc_experiment"] == "tidy-lark"
    assert Path(found.info.artifact_uri).is_relative_to(project / "mlruns")


def test_other_addresses_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "train")
    here = f"sqlite:///{tmp_path}/mlflow.db"
    assert store_uri("sqlite:///mlflow.db") == here  # in the project itself
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    for uri in ("http://localhost:5000", here):
        assert store_uri(uri) == uri
    monkeypatch.delenv("DVC_STAGE")
    assert store_uri("sqlite:///mlflow.db") == here


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://me:s3cret@127.0.0.1:9", "the MLflow store http://127.0.0.1:9 cannot be reached; start its server, or"),
        ("postgresql+psycopg2://me:s3cret@host/db", "it needs the Python package psycopg2, which is not installed"),
    ],
)
def test_a_server_that_cannot_be_used_is_a_sentence_without_its_password(
    uri: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError) as caught:
        OpenRun(uri, "garden", None, {})
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert mlflow.environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()  # MLflow shows it whole


def store_of(folder: Path, place: str) -> str:
    """Make what a test of stores needs, and give the address of one."""
    (folder / "file").write_text("no folder")
    (folder / "garbage.db").write_bytes(b"garbage" * 100)
    with contextlib.closing(sqlite3.connect(folder / "half.db")) as connection:
        connection.execute("CREATE TABLE _alembic_tmp_tags (key)")  # as a kill leaves it
    return place.replace("HERE", str(folder))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("sqlite:///HERE/file/mlflow.db", "cannot be written; change its permissions"),
        ("sqlite:///HERE/garbage.db", "is not a readable database"),
        ("foo://bar", "cannot be used"),
        ("postgresql+psycopg2://me:s3cret@host/db", "it needs the Python package psycopg2, which is not installed"),
        pytest.param("http://127.0.0.1:9", "cannot be reached; start its server", marks=pytest.mark.slow),
        pytest.param("sqlite:///HERE/half.db", "delete it if it has no runs yet", marks=pytest.mark.slow),
    ],
)
def test_a_store_that_cannot_be_used_is_said_before_photographs_are_read(
    make_settings: Callable[..., Any], tmp_path: Path, place: str, said: str
) -> None:
    before = store_of(tmp_path, place), sorted(tmp_path.iterdir())
    words = ["tracking.enabled=true", f"tracking.uri={before[0]}", "data.root=nowhere", "tracking.system_metrics_s=0"]
    settings = make_settings(*words)
    for command in (train, card, find_label_errors, lambda each: crossval(each, Arguments(seeds=2))):
        with pytest.raises(UserError, match=said):
            command(settings)
    assert sorted(tmp_path.iterdir()) == before[1]


def test_a_new_store_is_not_made_before_it_is_needed(make_settings: Callable[..., Any], tmp_path: Path) -> None:
    for place in ("mlflow.db", "new/folder/mlflow.db"):
        words = ["tracking.enabled=true", f"tracking.uri=sqlite:///{tmp_path}/{place}", "data.root=nowhere"]
        with pytest.raises(UserError, match="nowhere does not exist"):
            train(make_settings(*words))
    assert list(tmp_path.iterdir()) == []


def test_a_busy_store_stops_nothing_before_it_is_needed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.1)
    with contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="is locked by another program"), store_module.store_access(store):
            pass
        store_module.check_store(store)


def test_a_deleted_experiment_says_how_it_comes_back(store: str) -> None:
    client = mlflow.MlflowClient(store)
    number = client.create_experiment("meadow")
    client.delete_experiment(number)
    with pytest.raises(UserError) as caught:
        OpenRun(store, "meadow", None, {})
    (command,) = re.findall(r"`(.*)`", str(caught.value))
    assert command == f"MLFLOW_TRACKING_URI={store} mlflow experiments restore -x {number}"


def test_an_experiment_may_be_known_by_its_number(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow.MlflowClient(store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("numbered"))
    assert open_experiment(client, None) == client.get_experiment_by_name("numbered").experiment_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "99")
    with pytest.raises(UserError, match="No Experiment with id=99 exists"):
        OpenRun(store, None, None, {})


def test_a_run_that_the_environment_names_is_not_continued(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracked_run(garden(store), "old", {}) as old:
        old.log_metrics({"val/acc": 0.1})
    before = mlflow.MlflowClient(store).get_run(old.run_id).to_dictionary()
    monkeypatch.setenv("MLFLOW_RUN_ID", old.run_id)
    with tracked_run(garden(store), "new", {}) as new:
        new.log_metrics({"val/acc": 0.2})
    assert new.run_id != old.run_id
    assert mlflow.MlflowClient(store).get_run(old.run_id).to_dictionary() == before


def test_a_run_that_is_gone_is_said(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    with tracked_run(garden(store), "gone", {}, "1234") as run:
        pass
    assert (
        capsys.readouterr().out
        == f"MLflow: run 1234 is not in this store (any more); recorded in a new one, {run.run_id}\n"
    )


@pytest.mark.parametrize("name", ["my runs/Blüten #2 (1)", "my runs/50 %"])
def test_a_store_may_lie_in_a_folder_of_any_name(
    name: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir(parents=True)
    file = shutil.copy(store.removeprefix("sqlite:///"), folder / "ml flow.db")
    uri = store_uri(f"sqlite:///{folder.relative_to(tmp_path)}/ml flow.db")
    with tracked_run(garden(uri), "there", {}) as run:
        run.log_metrics({"val/acc": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["my runs"]
    with contextlib.closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT status FROM runs WHERE name = 'there'").fetchall()
    assert found == [("FINISHED",)]
