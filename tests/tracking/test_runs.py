"""What MLflow is told of a training, in a real store; and a store that fails costs no training.

The store is made once for the module, since that takes MLflow seconds; each test has an experiment of its own in it.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image
from tests.processes import call_flowers

from flowers.commands.data_card import card
from flowers.commands.evaluate import evaluate, evaluate_elsewhere
from flowers.commands.report import report
from flowers.commands.train import train
from flowers.config.compose import as_dict, compose_config, read_settings
from flowers.config.schema import Settings
from flowers.curation.split_table import read_splits
from flowers.data.pixels import open_store
from flowers.errors import UserError
from flowers.models.inference import calibrated, predict_logits
from flowers.models.trained import open_model
from flowers.tracking import store as store_module
from flowers.tracking.logger import MLflowLogger, RetryQueue
from flowers.tracking.repair import RUNNING
from flowers.tracking.runs import list_experiments, tracked_run
from flowers.tracking.store import OpenRun
from flowers.tracking.summary import PARENT_VARIABLE, SweepSummary, short_params
from flowers.training.classifier import Classifier
from flowers.training.trainer import METRICS

Make = Callable[..., Settings]

# What MLflow does with SQLAlchemy, pandas and pydantic is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


@pytest.fixture(scope="module")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs, to be copied."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    mlflow.search_experiments()
    return file


@pytest.fixture
def store(new_store: Path, tmp_path: Path) -> Iterator[Path]:
    file = Path(shutil.copy(new_store, tmp_path / "mlflow.db"))
    mlflow.set_tracking_uri(f"sqlite:///{file}")  # for what the tests look at; what they test is given the address
    yield file
    mlflow.set_tracking_uri(None)


@pytest.fixture
def make(make_settings: Make, store: Path) -> Make:
    """Settings of a training that is tracked."""

    def make(*overrides: str) -> Settings:
        # MLflow keeps connections by address, so a relative one would lead to another test's store.
        tracked = ["tracking.enabled=true", f"tracking.uri=sqlite:///{store}", "tracking.system_metrics_s=0"]
        return make_settings(*tracked, "model.stages.0.epochs=2", *overrides)

    return make


def run_of(out: Path) -> Any:
    return mlflow.get_run(json.loads((out / "run.json").read_text())["mlflow_run_id"])


def history(run: Any, metric: str) -> list[tuple[int, float]]:
    points = mlflow.MlflowClient().get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in points)


def confusions(run: Any) -> list[int]:
    """List the epochs of which the run has a confusion matrix."""
    paths = [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "images")]
    pngs = [path for path in paths if path.endswith(".png")]
    assert all("val~confusion" in path or "val#confusion" in path for path in pngs)
    return sorted(int(path.replace("%", "+").split("step+")[1].split("+")[0]) for path in pngs)


@contextlib.contextmanager
def locked(store: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


@pytest.mark.slow
def test_run_holds_all_that_is_promised(
    make: Make, store: Path, photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "mine"))
    (root / "roses" / "cut.jpg").write_bytes((root / "roses" / "roses_00.jpg").read_bytes()[:300])
    accuracy = train(make(f"data.root={root}"))
    out = tmp_path / "out"
    run = run_of(out)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "cnn_scratch"
    assert "--config-name config out_dir=again" in run.data.tags["mlflow.note.content"]
    assert not (store.parent / RUNNING).exists()
    for metric in METRICS:
        assert [step for step, _ in history(run, metric)] == [1, 2]
    assert run.data.metrics["val/acc"] == accuracy
    assert confusions(run) == [1, 2]
    assert run.data.params["width"] == "4"
    assert run.data.params["max_lr"] == "0.001"
    assert all(len(value) <= 250 for value in run.data.params.values())
    assert {"git_commit", "split", "recipe"} <= run.data.tags.keys()
    inputs = {entry.dataset.name: entry for entry in run.inputs.dataset_inputs}
    assert inputs.keys() == {"folder-train", "folder-val"}
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"config.yaml", "run.json", "history.csv", "split.csv", "refused.csv"} <= artifacts
    refused = pd.read_csv(f"{run.info.artifact_uri}/refused.csv")
    assert refused["path"].tolist() == ["roses/cut.jpg"]
    assert refused["reason"].str.startswith("truncated").all()

    model = open_model(out)
    split = read_splits(out / "split.csv")
    val = split[split["split"] == "val"].reset_index(drop=True)
    pixels = open_store(Path(model.run["photographs"]), val, 32, Path(model.settings.data.cache_dir))
    (logged,) = mlflow.search_logged_models(experiment_ids=[run.info.experiment_id], output_format="list")
    assert logged.source_run_id == run.info.run_id
    network = mlflow.pytorch.load_model(logged.model_uri)
    import torch

    with torch.inference_mode():
        found = network(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
    logits = predict_logits(model.net, pixels, val["path"].tolist()).logits
    np.testing.assert_allclose(found, calibrated(logits, model.temperature), atol=1e-5)
    signature = mlflow.models.get_model_info(logged.model_uri).signature
    assert "(-1, 3, 32, 32)" in str(signature.inputs)

    sought = [f"metrics.`val/acc` = {run.data.metrics['val/acc']!r}", "metrics.`train/loss` > 0"]
    for condition in sought:
        (each,) = mlflow.search_logged_models([run.info.experiment_id], condition, output_format="list")
        assert each.model_id == logged.model_id
    (measured,) = [metric for metric in each.metrics if metric.key == "val/acc"]
    assert (measured.dataset_name, measured.step) == ("folder-val", 2)
    assert measured.dataset_digest == inputs["folder-val"].dataset.digest
    assert each.params["width"] == "4"
    served = mlflow.pyfunc.load_model(logged.model_uri)
    answers = served.predict([(root / path).read_bytes() for path in val["path"]])
    np.testing.assert_allclose(answers[model.classes], found, atol=1e-5)
    assert answers["prediction"].tolist() == [model.classes[number] for number in found.argmax(axis=1)]
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_evaluation_continues_the_run(make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(make())
    trained = run_of(tmp_path / "out").info.end_time
    metrics = evaluate(tmp_path / "out", tmp_path / "evaluated", corruptions=True)
    report(tmp_path / "evaluated", tmp_path / "evaluated")
    run = run_of(tmp_path / "out")
    assert run.info.end_time == trained  # or the table would show hours of training where there were minutes
    assert len(mlflow.search_runs(experiment_names=["folder"])) == 1
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/acc"] == metrics["test/acc"]
    (logged,) = mlflow.search_logged_models(
        [run.info.experiment_id], f"metrics.`test/acc` = {metrics['test/acc']!r}", output_format="list"
    )
    assert {metric.dataset_name for metric in logged.metrics if metric.key == "test/acc"} == {"folder-test"}
    low, high = metrics["interval"]["test/acc"]
    assert run.data.tags["test/acc interval"] == f"{low:.3f} to {high:.3f}"
    assert "mlflow.experimentKind" in mlflow.get_experiment(run.info.experiment_id).tags
    assert [step for step, _ in history(run, "val/acc")] == [1, 2]
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "test")}
    assert {"test/confusion.png", "test/confusion.json", "test/metrics.json", "test/predictions.csv"} <= names
    assert {"test/corruptions.png", "test/corruptions.csv"} <= names
    figures = {f"test/{name}.png" for name in ("attack", "coverage", "curves", "explanations", "reliability")}
    assert {"test/report.html", *figures} <= names
    assert [step for step, _ in history(run, "corrupted/blur/acc")] == [0, 1, 2, 3]
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_another_data_set_and_a_card_stand_beside_the_test(make: Make, photographs: Path, tmp_path: Path) -> None:
    settings = make()
    train(settings)
    evaluate(tmp_path / "out", tmp_path / "evaluated", explanations=False)
    report(tmp_path / "evaluated", tmp_path / "evaluated")
    before = run_of(tmp_path / "out").data.metrics
    for label in ("daisy", "roses"):
        (tmp_path / "garden (2)" / label).mkdir(parents=True)
        for path in sorted((photographs / label).iterdir())[:4]:
            Image.open(path).rotate(90).save(tmp_path / "garden (2)" / label / path.name)
    metrics = evaluate_elsewhere(tmp_path / "out", str(tmp_path / "garden (2)"), None)
    report(tmp_path / "out/shift-garden (2)", tmp_path / "out/shift-garden (2)")
    run = run_of(tmp_path / "out")
    assert run.data.metrics["shift/garden _2_/acc"] == metrics["test/acc"]
    assert {name: run.data.metrics[name] for name in before} == before
    evaluate(tmp_path / "out", tmp_path / "evaluated", explanations=False)  # a second time
    report(tmp_path / "evaluated", tmp_path / "evaluated")
    confusion = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/test/confusion.json")
    assert [row[0] for row in confusion["data"]] == ["daisy", "roses", "sunflowers"]
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "shift/garden _2_")}
    assert "shift/garden _2_/metrics.json" in names

    card(settings)
    (run,) = mlflow.search_runs(experiment_names=["folder"], filter_string="tags.kind = 'card'", output_format="list")
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "card")}
    assert names == {"card/index.html", "card/card.json"}


@pytest.mark.slow
def test_evaluation_opens_a_run_where_the_store_is_gone(
    make: Make, new_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make())
    other = shutil.copy(new_store, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    metrics = evaluate(tmp_path / "out", tmp_path / "evaluated", explanations=False)
    report(tmp_path / "evaluated", tmp_path / "evaluated")
    mlflow.set_tracking_uri(f"sqlite:///{other}")
    runs = mlflow.search_runs(experiment_names=["folder"], output_format="list")
    assert [run.data.metrics["test/acc"] for run in runs] == [metrics["test/acc"]]


@pytest.mark.slow
def test_interruption_leaves_one_run_without_doubles(make: Make, tmp_path: Path) -> None:
    settings = make("model.stages.0.epochs=3")
    train(settings, stop_after_epochs=2)
    train(make("model.stages.0.epochs=3", "out_dir=elsewhere"))  # a parameter that does not decide the result
    run = run_of(tmp_path / "elsewhere")
    assert len(mlflow.search_runs(experiment_names=["folder"])) == 1
    for metric in METRICS:
        assert [step for step, _ in history(run, metric)] == [1, 2, 3]
    assert confusions(run) == [1, 2, 3]
    assert run.info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (UserError, "FAILED"), (ValueError, "FAILED")]
)
def test_run_that_ends_early_says_so(
    make: Make, error: type[BaseException], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("early")

    monkeypatch.setattr(Classifier, "on_train_epoch_start", fail)
    with pytest.raises(error):
        train(make())
    (run,) = mlflow.search_runs(experiment_names=["folder"], output_format="list")
    assert run.info.status == status


@pytest.mark.slow
def test_system_metrics_are_sampled(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Classifier.on_train_epoch_start

    def slow(self: Classifier) -> None:
        time.sleep(1.5)
        begin(self)

    monkeypatch.setattr(Classifier, "on_train_epoch_start", slow)
    train(make("tracking.system_metrics_s=1"))
    assert "system/cpu_utilization_percentage" in run_of(tmp_path / "out").data.metrics


# What a person reads


def tracked(store: Path) -> Any:
    return SimpleNamespace(tracking=SimpleNamespace(uri=f"sqlite:///{store}"), data=SimpleNamespace(name="folder"))


@pytest.mark.slow
def test_run_has_the_name_that_its_caller_gives(make: Make, tmp_path: Path) -> None:
    train(make("model.stages.0.epochs=1"), logged={"run_name": "fold 1", "tags": {"fold": "1"}})
    run = run_of(tmp_path / "out")
    assert (run.info.run_name, run.data.tags["fold"]) == ("fold 1", "1")


def test_note_is_the_command_where_there_is_no_other(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["flowers lr_find", "data.root=my photos", "seed=1"])
    with tracked_run(tracked(store), "x", {}) as run:
        pass
    note = mlflow.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert note == "```\nflowers lr_find \\\n  'data.root=my photos' \\\n  seed=1\n```"


def test_what_a_person_wrote_stays(store: Path) -> None:
    with tracked_run(tracked(store), "x", {}) as ours:
        pass
    mlflow.MlflowClient().update_run(ours.run_id, name="mine")
    mlflow.MlflowClient().set_tag(ours.run_id, "mlflow.note.content", "theirs")
    with tracked_run(tracked(store), "x", {}, ours.run_id):
        pass
    run = mlflow.get_run(ours.run_id)
    assert (run.info.run_name, run.data.tags["mlflow.note.content"]) == ("mine", "theirs")


# A store that was moved or copied


@pytest.mark.slow
def test_copied_project_reads_and_writes_its_own_files(
    make: Make, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    train(make())
    run_id = run_of(tmp_path / "out").info.run_id
    copy = tmp_path.with_name("copy of " + tmp_path.name)
    copy.mkdir()
    shutil.copytree(tmp_path / "mlruns", copy / "mlruns")
    shutil.copy(store, copy)
    before = store.read_bytes()
    files = sorted((tmp_path / "mlruns").rglob("*"))
    monkeypatch.chdir(copy)
    with tracked_run(tracked(copy / "mlflow.db"), "x", {}) as new:
        new.log_table(pd.DataFrame({"a": [1]}), "table.json")
    mlflow.set_tracking_uri(f"sqlite:///{copy / 'mlflow.db'}")
    assert str(copy / "mlruns") in capfd.readouterr().out
    assert (copy / "mlruns").samefile(Path(mlflow.get_run(new.run_id).info.artifact_uri).parents[2])
    assert store.read_bytes() == before
    assert sorted((tmp_path / "mlruns").rglob("*")) == files

    shutil.rmtree(tmp_path / "mlruns")  # what is read now lies in the copy
    client = mlflow.MlflowClient()
    table = pd.read_csv(client.download_artifacts(run_id, "history.csv", str(copy)))
    assert len(table) == 2
    assert confusions(mlflow.get_run(run_id)) == [1, 2]
    mlflow.pytorch.load_model(f"runs:/{run_id}/model")


# A process that is killed


def runs_by_name(store: Path) -> dict[str, Any]:
    mlflow.set_tracking_uri(f"sqlite:///{store}")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return {run.info.run_name.split()[0]: run for run in runs}


@pytest.mark.slow
def test_killed_training_and_its_sweep_are_marked_and_go_on(photographs: Path, store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowers", "train"]
    small = [
        "experiment=cnn_scratch",
        "model.net.image_px=32",
        "model.net.width=4",
        "model.net.blocks=2",
        "model.net.dense=8",
    ]
    small += ["data=folder", f"data.root={photographs}", f"data.cache_dir={tmp_path / 'pixels'}", "trainer=brief"]
    small += ["data.batch_size=8", "model.stages.0.epochs=25"]
    sweep = subprocess.Popen([*command, "-m", *small, "seed=1,2"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert sweep.stdout is not None
    assert any(line.startswith("epoch   5/25") for line in sweep.stdout)
    sweep.kill()
    sweep.communicate()
    killed_ms = time.time() * 1000
    runs = runs_by_name(store)
    assert {name: run.info.status for name, run in runs.items()} == {"cnn_scratch": "RUNNING", "sweep": "RUNNING"}

    time.sleep(2)
    list_experiments(f"sqlite:///{store}")
    runs = runs_by_name(store)
    assert {run.info.status for run in runs.values()} == {"KILLED"}
    run = runs["cnn_scratch"]
    assert run.info.start_time < run.info.end_time <= killed_ms + 500  # its last sign of life, not when it was found
    assert "was killed" in run.data.tags["ended"]
    assert run.info.run_name == "cnn_scratch seed=1"
    assert not (tmp_path / RUNNING).exists()

    done = call_flowers(tmp_path, "train", *small, "seed=1", "out_dir=out")
    assert "going on from the checkpoint" in done.stdout, done.stderr
    runs = runs_by_name(store)
    assert runs["cnn_scratch"].info.run_id == run.info.run_id
    assert runs["cnn_scratch"].info.status == "FINISHED"
    assert "ended" not in runs["cnn_scratch"].data.tags
    assert runs["sweep"].info.status == "KILLED"
    assert [step for step, _ in history(run, "val/acc")] == list(range(1, 26))


# A store that fails


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("_impatient")
def test_locked_store_is_one_sentence(make: Make, store: Path, tmp_path: Path) -> None:
    with locked(store), pytest.raises(UserError, match=r"mlflow\.db is locked by another program; close"):
        train(make())
    assert not (tmp_path / "out/model.safetensors").exists()
    train(make())
    assert len(mlflow.search_runs(experiment_names=["folder"])) == 1


def schema(store: Path, version: str) -> None:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [version])
        connection.commit()


@pytest.mark.parametrize("version", ["ffffffffffff", "451aebb31d03"], ids=["newer", "older"])
def test_store_of_another_schema_is_one_sentence(make: Make, store: Path, version: str) -> None:
    schema(store, version)
    with pytest.raises(UserError, match="was written by another version of MLflow; back it up and run `mlflow db up"):
        train(make())


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///garbage.db", "is not a readable database"),
        ("foo://bar", "cannot be used"),
    ],
)
def test_store_that_is_none_is_one_sentence(make: Make, uri: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "garbage.db").write_bytes(b"garbage" * 100)
    with pytest.raises(UserError) as caught:
        train(make(f"tracking.uri={uri}"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.slow
def test_store_locked_for_a_while_costs_nothing(
    make: Make, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log, end = OpenRun.log_metrics, MLflowLogger.log_trained
    with contextlib.ExitStack() as lock:

        def log_and_lock(self: OpenRun, metrics: dict[str, float], step: int | None = None) -> None:
            log(self, metrics, step)
            if step == 1 and "epoch_s" in metrics:
                lock.enter_context(locked(store))

        def unlock_and_end(self: MLflowLogger, *arguments: Any) -> None:
            lock.close()
            end(self, *arguments)

        monkeypatch.setattr(OpenRun, "log_metrics", log_and_lock)
        monkeypatch.setattr(MLflowLogger, "log_trained", unlock_and_end)
        train(make("model.stages.0.epochs=4"))
    run = run_of(tmp_path / "out")
    for metric in METRICS:
        assert [step for step, _ in history(run, metric)] == [1, 2, 3, 4]
    assert confusions(run) == [1, 2, 3, 4]
    assert run.info.status == "FINISHED"
    said = capfd.readouterr().err
    assert said.count("is locked by another program") == 1
    assert said.count("\n") == 1


@pytest.mark.usefixtures("_impatient")
def test_records_wait_for_a_locked_store_in_order(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[int] = []
    backlog = RetryQueue(f"sqlite:///{store}")
    with locked(store):
        backlog.add(lambda: told.append(1), lambda: told.append(2))
        backlog.add(lambda: told.append(3))
        assert len(backlog.waiting) == 3
    assert not told
    backlog.add(lambda: told.append(4))
    assert told == [1, 2, 3, 4]
    assert not backlog.waiting
    assert capfd.readouterr().err.count("\n") == 1


def test_sweep_has_a_run_of_its_own(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = OmegaConf.create(
        {
            "tracking": {"enabled": True, "uri": f"sqlite:///{store}"},
            "data": {"name": "folder"},
            "hydra": {"overrides": {"task": ["seed=1,2"]}, "sweep": {"dir": str(tmp_path / "sweep")}},
        }
    )
    sweep = SweepSummary()
    sweep.on_multirun_start(config)
    run_id = os.environ[PARENT_VARIABLE]
    for score, seed, out in ((0.8, "seed=1", "a"), (0.9, "seed=2", "b")):
        job: Any = SimpleNamespace(_return_value=score, overrides=[seed])
        sweep.on_job_end(OmegaConf.create({"out_dir": out}), job)
    sweep.on_multirun_end(config)
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "sweep seed=1,2"
    assert run.data.metrics["best/val/acc"] == run.data.metrics["val/acc"] == 0.9
    assert run.data.tags["best.overrides"] == "seed=2"
    assert PARENT_VARIABLE not in os.environ
    assert "best: seed=2" in capsys.readouterr().out


FOREIGN = """
import lightning, torch
from flowers.tracking.logger import MLflowLogger

class Foreign(lightning.LightningModule):
    def __init__(self, width):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

loader = torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=4)
logger = MLflowLogger(uri="sqlite:///mlflow.db", experiment="foreign")
trainer = lightning.Trainer(max_epochs=2, logger=logger, accelerator="cpu", enable_checkpointing=False)
trainer.fit(Foreign(width=3), loader)
print(logger.run_id)
"""


@pytest.mark.slow
def test_anybody_may_log_with_it(store: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", FOREIGN]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = mlflow.get_run(done.stdout.split()[-1])
    assert run.info.status == "FINISHED"
    assert run.data.params["width"] == "3"
    assert [step for step, _ in history(run, "train/loss")] == [1, 2]


def test_parameters_are_short_and_flat() -> None:
    params = short_params(
        as_dict(read_settings(compose_config(["experiment=sample_finetune", "out_dir=out", "seed=7"])))
    )
    assert params["net"] == "ResNetSmall"
    assert params["seed"] == 7
    assert params["widths"] == [32, 64, 128]
    assert params["stages"] == "head 2, all 18"
    assert params["max_lr"] == "0.01, [0.001, 0.003]"
    assert not {"mixup_alpha", "class_weights", "sampling"} & params.keys()  # switched off
    assert not any("." in name for name in params)
    assert len(str(params)) < 1000  # MLflow's pages repeat them all
