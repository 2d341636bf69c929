"""Where runs are recorded: what is given wins, then MLflow's own variables; a password is never shown or kept."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from flowers.config import store_address
from flowers.config.compose import compose_config, read_settings
from flowers.config.store_address import (
    address_of,
    announce,
    find_address,
    hide_secrets,
    shown,
    store_uri,
)
from flowers.config.untrusted import announce_trained
from flowers.errors import UserError

SECRET = "http://me:s3cr:t@ret@server:5000"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "ALLOW_FILE_STORE"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setattr(store_address, "_secrets", {})


def settings(**tracking: Any) -> Any:
    return SimpleNamespace(
        tracking=SimpleNamespace(**{"enabled": True, "uri": None, "experiment": None} | tracking),
        data=SimpleNamespace(name="garden"),
    )


def test_what_is_given_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert store_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert store_uri() == "http://server"
    assert store_uri("sqlite:///own.db") == f"sqlite:///{tmp_path}/own.db"
    # The configuration's default is null, so that giving it is giving it.
    assert store_uri("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert OmegaConf.select(compose_config(["out_dir=o"]), "logger.mlflow.uri") is None


def test_an_experiment_is_the_one_given_or_named_or_numbered_or_the_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of(settings()).experiment == "garden"
    assert find_address(None, None, None).experiment == "flowers"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    assert address_of(settings()).experiment is None
    assert address_of(settings(uri="sqlite:///own.db")).experiment == "garden"  # where 7 is another's number
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "named")
    assert address_of(settings()).experiment == "named"
    assert address_of(settings(experiment="given")).experiment == "given"


@pytest.mark.parametrize(
    ("words", "uri", "experiment"),
    [
        (["tracking.uri=http://a", "tracking.experiment=b"], "http://a", "b"),
        (["logger.mlflow.uri=http://a", "logger.mlflow.experiment=b"], "http://a", "b"),
        (["logger.mlflow=null", "tracking.uri=http://a"], "http://a", "sample"),
        ([f"tracking.uri='{SECRET}'"], SECRET, "sample"),
    ],
)
def test_the_logger_and_the_other_commands_agree(words: list[str], uri: str, experiment: str) -> None:
    found = read_settings(compose_config(["name=n", "out_dir=o", *words]))
    assert address_of(found) == (uri, experiment)
    logger = found.logger.mlflow
    assert logger is None or store_uri(logger.uri) == uri
    assert "s3cr" not in OmegaConf.to_yaml(found)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///a.db", "{here}/a.db"),
        ("sqlite:////data/a%20b/Blüten #2/a b.db", "/data/a b/Blüten #2/a b.db"),
        ("sqlite:///~/a.db", "/home/me/a.db"),
        ("sqlite:///../a.db", "{here}/../a.db"),
        ("sqlite:///a.db?timeout=3", "{here}/a.db?timeout=3"),
    ],
)
def test_sqlite_files_have_their_full_path(uri: str, file: str, tmp_path: Path) -> None:
    assert store_uri(uri) == f"sqlite:///{file.format(here=tmp_path)}"


@pytest.mark.parametrize("uri", ["http://server:5000", "https://server/mlflow", "databricks", "postgresql://h/db"])
def test_servers_are_left_as_they_are(uri: str) -> None:
    assert store_uri(uri) == shown(uri) == uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "mlruns",
            "is a folder, which MLflow no longer records in; give a database, as in tracking.uri=sqlite:///mlfl",
        ),
        ("file:///data/mlruns", "is a folder, which MLflow no longer records in"),
        ("./runs/", "is a folder, which MLflow no longer records in"),
        ("mlflow.db", "is no address of MLflow; did you mean tracking.uri=sqlite:///mlflow.db?"),
        ("/data/my runs.db", "did you mean tracking.uri=sqlite:////data/my runs.db?"),
        (r"C:\data\mlflow.db", r"did you mean tracking.uri=sqlite:///C:\data\mlflow.db?"),
        ("sqlite:mlflow.db", "did you mean tracking.uri=sqlite:///mlflow.db?"),
        ("sqlite://mlflow.db", "did you mean tracking.uri=sqlite:///mlflow.db?"),
        ("sqlite:///:memory:", "would be forgotten at the end"),
        ("sqlite://", "would be forgotten at the end"),
        ("sqlite:///a b", "=sqlite:///a b is a folder: name a file in it, as in tracking.uri=sqlite:///a b/mlflow.db."),
    ],
)
def test_what_is_no_store_is_one_sentence(uri: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a b").mkdir()
    with pytest.raises(UserError) as caught:
        store_uri(uri)
    assert said in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI="):
        store_uri()


def test_a_folder_is_taken_where_mlflow_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert store_uri("./mlruns") == "./mlruns"


def test_a_password_is_found_again_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(SECRET) == store_address.hide_secret(SECRET) == "http://server:5000"
    assert store_uri("http://server:5000") == SECRET  # in this process
    monkeypatch.setattr(store_address, "_secrets", {})
    assert store_uri("http://server:5000") == "http://server:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SECRET)
    assert store_uri("http://server:5000") == store_uri() == SECRET
    assert store_uri("http://other:5000") == "http://other:5000"
    assert shown("postgresql://me@host/db?password=a&x=1") == "postgresql://host/db?password=&x=1"


def test_a_command_line_is_handed_on_without_its_password() -> None:
    words = ["seed=1", f"tracking.uri='{SECRET}'", "data.root=a@b"]
    assert hide_secrets(words) == ["seed=1", "tracking.uri='http://server:5000'", "data.root=a@b"]
    assert store_uri("http://server:5000") == SECRET


def test_the_first_line_says_where(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    announce(settings())
    announce(settings(uri="sqlite:////other/a.db", experiment="b"))
    announce(settings(enabled=False))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SECRET)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "3")
    announce(settings())
    monkeypatch.setenv("MLFLOW_RUN_ID", "old")
    announce(settings())
    monkeypatch.setenv(store_address.PARENT_VARIABLE, "sweep")
    announce(settings())
    assert capsys.readouterr().out.splitlines() == [
        "MLflow: sqlite:///mlflow.db, experiment garden",
        "MLflow: sqlite:////other/a.db, experiment b",
        "MLflow: http://server:5000, experiment number 3",
        "MLflow: http://server:5000, experiment number 3; MLFLOW_RUN_ID is not followed",
    ]


def test_a_trained_model_tells_where_its_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce_trained(tmp_path)  # which is no model
    (tmp_path / "run.json").write_text(json.dumps({"mlflow_uri": "http://old", "mlflow_run_id": "abc"}))
    (tmp_path / "config.yaml").write_text("tracking: {enabled: true, uri: null}\ndata: {name: garden}\n")
    announce_trained(tmp_path)
    announce_trained(tmp_path)  # by the command that follows
    assert capsys.readouterr().out.splitlines() == [
        "MLflow: sqlite:///mlflow.db, run abc",
        "note: its training was recorded in http://old; to go on there, set MLFLOW_TRACKING_URI",
    ]
