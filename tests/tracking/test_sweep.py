"""A sweep is one MLflow run with a child for each training, and ends with the best."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tests.processes import call_flowers

from flowers.tracking.summary import SweepSummary

SMALL = (
    "experiment=cnn_scratch",
    "data=folder",
    "trainer=brief",
    "model.net.image_px=32",
    "model.net.blocks=2",
    "model.net.dense=8",
    "data.batch_size=8",
    "model.stages.0.epochs=1",
)


def sweep(cwd: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return call_flowers(cwd, "train", "-m", *SMALL, *words)


def rows(store: Path, query: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(store)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.slow
def test_sweep_is_a_parent_with_children_and_a_failure_spoils_only_itself(photographs: Path, tmp_path: Path) -> None:
    done = sweep(tmp_path, f"data.root={photographs}", "model.net.width=2,0,4")
    assert done.returncode == 2
    assert "flowers: job 1 of the sweep: 'model.net' cannot be built" in done.stderr
    assert done.stderr.count("\n") == 2, done.stderr
    assert "1 of 3 trainings failed" in done.stdout
    assert "2 trainings, best first" in done.stdout
    (file,) = tmp_path.glob("runs/sweeps/**/sweep.csv")
    table = pd.read_csv(file)
    assert list(table.columns) == ["val/acc", "overrides", "out_dir"]
    assert table["val/acc"].is_monotonic_decreasing
    assert {text.rpartition("model.net.width=")[2] for text in table["overrides"]} == {"2", "4"}
    assert f"best: {table['overrides'][0]}" in done.stdout
    assert all((Path(folder) / "model.safetensors").is_file() for folder in table["out_dir"])

    store = tmp_path / "mlflow.db"
    ((parent, status),) = rows(
        store, "SELECT run_uuid, status FROM runs JOIN tags USING (run_uuid) WHERE value='sweep'"
    )
    assert status == "FAILED"
    children = rows(store, "SELECT status, value FROM runs JOIN tags USING (run_uuid) WHERE key='mlflow.parentRunId'")
    assert [child for child in children if child[0] == "FINISHED"] == [("FINISHED", parent)] * 2
    ((best,),) = rows(store, f"SELECT value FROM tags WHERE key='best.overrides' AND run_uuid='{parent}'")
    assert best == table["overrides"][0]
    ((accuracy,),) = rows(store, f"SELECT value FROM metrics WHERE key='best/val/acc' AND run_uuid='{parent}'")
    assert accuracy == pytest.approx(table["val/acc"][0])
    ((accuracy,),) = rows(store, f"SELECT value FROM metrics WHERE key='val/acc' AND run_uuid='{parent}'")
    assert accuracy == pytest.approx(table["val/acc"][0])  # by the name that the table of runs is sorted by


@pytest.mark.slow
def test_sweep_over_models_without_tracking(photographs: Path, tmp_path: Path) -> None:
    words = [f"data.root={photographs}", "tracking.enabled=false", "seed=1,2", "model.net.width=2"]
    done = sweep(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "2 trainings, best first" in done.stdout
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_a_sweep_that_is_given_again_trains_only_what_is_missing(photographs: Path, tmp_path: Path) -> None:
    words = [f"data.root={photographs}", "model.net.width=2"]
    first = sweep(tmp_path, *words, "seed=1,2")
    assert first.stdout.startswith("MLflow: sqlite:///mlflow.db, experiment folder\n")
    (killed, *_) = tmp_path.glob("runs/trained/*.json")
    folder = tmp_path / json.loads(killed.read_text())[0]
    killed.unlink()  # as if it had been stopped before this one was ready
    again = sweep(tmp_path, *words, "seed=1,2")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("trained already: ") == again.stdout.count("trained model: ") == 1
    assert "2 trainings, best first" in again.stdout
    (file,) = set(tmp_path.glob("runs/sweeps/*/sweep.csv")) - {folder.parent / "sweep.csv"}
    for out in map(Path, pd.read_csv(file)["out_dir"]):
        before = folder.parent / out.name
        assert (out / "model.safetensors").read_bytes() == (before / "model.safetensors").read_bytes()
    store = tmp_path / "mlflow.db"
    ((parent, status),) = rows(
        store, "SELECT run_uuid, status FROM runs JOIN tags USING (run_uuid) WHERE value='sweep'"
    )
    assert status == "FINISHED"
    children = rows(store, "SELECT status, value FROM runs JOIN tags USING (run_uuid) WHERE key='mlflow.parentRunId'")
    assert children == [("FINISHED", parent)] * 3


@pytest.mark.slow
def test_other_commands_swept_are_children_too(photographs: Path, tmp_path: Path) -> None:
    done = call_flowers(tmp_path, "lr_find", "-m", *SMALL, f"data.root={photographs}", "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert "best first" not in done.stdout  # a rate is no accuracy
    assert "failed" not in done.stdout
    ((parent,),) = rows(tmp_path / "mlflow.db", "SELECT run_uuid FROM tags WHERE value='sweep'")
    query = "SELECT name, value FROM runs JOIN tags USING (run_uuid) WHERE key='mlflow.parentRunId'"
    assert rows(tmp_path / "mlflow.db", query) == [("cnn_scratch lr_find", parent)] * 2


@pytest.mark.slow
def test_mlflow_is_imported_when_something_is_recorded(tmp_path: Path) -> None:
    commands = (
        "train",
        "crossval",
        "learning_curve",
        "lr_find",
        "find_label_errors",
        "baselines",
        "data_card",
        "report",
    )
    wanted = ", ".join(f"flowers.commands.{name}" for name in commands)
    code = f"import sys, {wanted}; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "False\n"


def test_a_table_that_cannot_be_written_ends_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "file" / "sweep")}}})
    with pytest.raises(SystemExit, match="2"):  # of an error, Hydra would only warn
        SweepSummary().on_multirun_end(config)
    assert f"flowers: {tmp_path}/file/sweep/sweep.csv cannot be written" in capsys.readouterr().err
