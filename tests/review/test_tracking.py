"""What MLflow is told of a training, in a real store; and a store that fails costs no training.

The store is made once for the module, since that takes MLflow seconds; each test has an experiment of its own in it.
"""

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowers.card import card
from flowers.data.pixels import open_store
from flowers.data.split_table import read_splits
from flowers.errors import UserError
from flowers.evaluate import evaluate
from flowers.learning.history import METRICS
from flowers.recipe import compose_config, read_settings
from flowers.record import short_params
from flowers.review import tracking
from flowers.review.backlog import Backlog
from flowers.settings import Settings, Tracking
from flowers.shift import evaluate_elsewhere
from flowers.train import train
from flowers.trained import open_model, probabilities

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
    yield file
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture
def make(make_settings: Make, store: Path) -> Make:
    """Settings of a training that is tracked."""

    def make(*overrides: str) -> Settings:
        # MLflow keeps connections by address, so a relative one would lead to another test's store.
        tracked = ["tracking.enabled=true", f"tracking.uri=sqlite:///{store}", "tracking.system_metrics_s=0"]
        return make_settings(*tracked, "stages.0.epochs=2", *overrides)

    return make


def run_of(out: Path) -> Any:
    return mlflow.get_run(json.loads((out / "run.json").read_text())["mlflow_run_id"])


def history(run: Any, metric: str) -> list[tuple[int, float]]:
    points = mlflow.MlflowClient().get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in points)


def images(run: Any) -> list[int]:
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


def test_run_holds_all_that_is_promised(
    make: Make, photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "mine"))
    (root / "roses" / "cut.jpg").write_bytes((root / "roses" / "roses_00.jpg").read_bytes()[:300])
    accuracy = train(make(f"data.root={root}"))
    out = tmp_path / "out"
    run = run_of(out)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "cnn_scratch"
    for metric in METRICS:
        assert [step for step, _ in history(run, metric)] == [1, 2]
    assert run.data.metrics["val/acc"] == accuracy
    assert images(run) == [1, 2]
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
    np.testing.assert_allclose(found, probabilities(model.net, pixels), atol=1e-5)
    signature = mlflow.models.get_model_info(logged.model_uri).signature
    assert "(-1, 3, 32, 32)" in str(signature.inputs)
    assert capfd.readouterr().err == ""


def test_evaluation_continues_the_run(make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(make())
    metrics = evaluate(tmp_path / "out", tmp_path / "evaluated", corruptions=True)
    run = run_of(tmp_path / "out")
    assert len(mlflow.search_runs(experiment_names=["folder"])) == 1
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/acc"] == metrics["test/acc"]
    low, high = metrics["interval"]["test/acc"]
    assert run.data.tags["test/acc interval"] == f"{low:.3f} to {high:.3f}"
    assert "mlflow.experimentKind" in mlflow.get_experiment(run.info.experiment_id).tags
    assert [step for step, _ in history(run, "val/acc")] == [1, 2]
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "test")}
    assert {"test/confusion.png", "test/confusion.json", "test/metrics.json", "test/predictions.csv"} <= names
    assert {"test/corruptions.png", "test/corruptions.csv"} <= names
    assert [step for step, _ in history(run, "corrupted/blur/acc")] == [0, 1, 2, 3]
    assert capfd.readouterr().err == ""


def test_another_data_set_and_a_card_stand_beside_the_test(make: Make, photographs: Path, tmp_path: Path) -> None:
    settings = make()
    train(settings)
    evaluate(tmp_path / "out", tmp_path / "evaluated")
    before = run_of(tmp_path / "out").data.metrics
    for label in ("daisy", "roses"):
        (tmp_path / "garden (2)" / label).mkdir(parents=True)
        for path in sorted((photographs / label).iterdir())[:4]:
            Image.open(path).rotate(90).save(tmp_path / "garden (2)" / label / path.name)
    metrics = evaluate_elsewhere(tmp_path / "out", str(tmp_path / "garden (2)"), None)
    run = run_of(tmp_path / "out")
    assert run.data.metrics["shift/garden _2_/acc"] == metrics["test/acc"]
    assert {name: run.data.metrics[name] for name in before} == before
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "shift/garden _2_")}
    assert "shift/garden _2_/metrics.json" in names

    card(settings)
    (run,) = mlflow.search_runs(experiment_names=["folder"], filter_string="tags.kind = 'card'", output_format="list")
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "card")}
    assert names == {"card/index.html", "card/card.json"}


@pytest.mark.slow
def test_evaluation_opens_a_run_where_the_store_is_gone(
    make: Make, store: Path, new_store: Path, tmp_path: Path
) -> None:
    train(make())
    other = shutil.copy(new_store, tmp_path / "other.db")
    config = tmp_path / "out/config.yaml"
    config.write_text(config.read_text().replace(str(store), str(other)))
    metrics = evaluate(tmp_path / "out", tmp_path / "evaluated")
    runs = mlflow.search_runs(experiment_names=["folder"], output_format="list")
    assert [run.data.metrics["test/acc"] for run in runs] == [metrics["test/acc"]]


@pytest.mark.slow
def test_interruption_leaves_one_run_without_doubles(make: Make, tmp_path: Path) -> None:
    settings = make("stages.0.epochs=3")
    train(settings, stop_after_epochs=2)
    train(make("stages.0.epochs=3", "out_dir=elsewhere"))  # a parameter that does not decide the result
    run = run_of(tmp_path / "elsewhere")
    assert len(mlflow.search_runs(experiment_names=["folder"])) == 1
    for metric in METRICS:
        assert [step for step, _ in history(run, metric)] == [1, 2, 3]
    assert images(run) == [1, 2, 3]
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (UserError, "FAILED"), (ValueError, "FAILED")]
)
def test_run_that_ends_early_says_so(
    make: Make, error: type[BaseException], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("early")

    monkeypatch.setattr("flowers.train._fit", fail)
    with pytest.raises(error):
        train(make())
    (run,) = mlflow.search_runs(experiment_names=["folder"], output_format="list")
    assert run.info.status == status


@pytest.mark.slow
def test_system_metrics_are_sampled(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = "flowers.train._fit"
    import flowers.train as verb

    whole = verb._fit

    def slow(*arguments: Any) -> Any:
        rows = whole(*arguments)
        time.sleep(2.5)
        return rows

    monkeypatch.setattr(fit, slow)
    train(make("tracking.system_metrics_s=1"))
    assert "system/cpu_utilization_percentage" in run_of(tmp_path / "out").data.metrics


# A store that fails


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.1)


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
    log = tracking.log_metrics
    with contextlib.ExitStack() as lock:

        def log_and_lock(metrics: dict[str, float], step: int | None = None) -> None:
            log(metrics, step)
            if step == 1:
                lock.enter_context(locked(store))

        monkeypatch.setattr(tracking, "log_metrics", log_and_lock)
        from flowers import record as recording

        record = recording.record_end

        def unlock_and_record(*arguments: Any) -> None:
            lock.close()
            record(*arguments)

        monkeypatch.setattr(recording, "record_end", unlock_and_record)
        train(make("stages.0.epochs=4"))
    run = run_of(tmp_path / "out")
    for metric in METRICS:
        assert [step for step, _ in history(run, metric)] == [1, 2, 3, 4]
    assert images(run) == [1, 2, 3, 4]
    assert run.info.status == "FINISHED"
    said = capfd.readouterr().err
    assert said.count("is locked by another program") == 1
    assert said.count("\n") == 1


@pytest.mark.usefixtures("_impatient")
def test_backlog_counts_what_is_missing(make: Make, store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[int] = []
    backlog = Backlog(Tracking(enabled=True, uri=f"sqlite:///{store}", system_metrics_s=0))
    with locked(store):
        backlog.add(lambda: told.append(1), lambda: told.append(2))
        backlog.add(lambda: told.append(3))
        assert backlog.missing == 3
    assert not told
    backlog.add(lambda: told.append(4))
    assert told == [1, 2, 3, 4]
    assert backlog.missing == 0
    assert capfd.readouterr().err.count("\n") == 1


def test_sweep_has_a_run_of_its_own(store: Path) -> None:
    import pandas as pd

    run_id = tracking.open_parent(
        Tracking(enabled=True, uri=f"sqlite:///{store}", system_metrics_s=0),
        experiment="folder",
        name="sweep",
        kind="sweep",
    )
    table = pd.DataFrame([(0.9, "seed=2", "b"), (0.8, "seed=1", "a")], columns=["val/acc", "overrides", "out_dir"])
    tracking.close_parent(run_id, table, failed=0)
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best/val/acc"] == 0.9
    assert run.data.tags["best.overrides"] == "seed=2"


def test_parameters_are_short_and_flat() -> None:
    params = short_params(read_settings(compose_config(["experiment=sample_finetune", "out_dir=out", "seed=7"])))
    assert params["net"] == "ResNetSmall"
    assert params["seed"] == 7
    assert params["widths"] == [32, 64, 128]
    assert params["stages"] == "head 2, all 18"
    assert params["max_lr"] == "0.01, [0.001, 0.003]"
    assert "mixup_alpha" not in params  # switched off
    assert not any("." in name for name in params)
    assert len(str(params)) < 1000  # a picture's panel repeats them all
