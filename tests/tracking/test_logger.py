"""The logger records any training of Lightning's, and leaves a script's own use of MLflow alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassConfusionMatrix

from flowers.errors import UserError
from flowers.tracking.logger import MLflowLogger
from flowers.tracking.summary import PARENT_VARIABLE

pytestmark = [
    pytest.mark.filterwarnings("ignore:::mlflow"),
    pytest.mark.filterwarnings("ignore:.*(does not have many workers|LeafSpec|number of training batches).*"),
]


class Foreign(lightning.LightningModule):
    """Somebody's own module."""

    def __init__(self, width: int = 4, optimizer: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("step_loss", loss)
        self.log("loss@epoch", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Photographs(lightning.LightningDataModule):
    """A DataModule that says which photographs it stands for."""

    classes = ("daisy", "roses")
    root = "photos"
    split = pd.DataFrame(
        [
            ("a.jpg", "daisy", "train", "1"),
            ("b.jpg", "roses", "train", "2"),
            ("c.jpg", "roses", "val", "3"),
        ],
        columns=["path", "label", "split", "sha256"],
    )

    def train_dataloader(self) -> DataLoader[Any]:
        return loader()

    def val_dataloader(self) -> DataLoader[Any]:
        return loader()


class Confusing(Foreign):
    """A module that counts confusions, and may be interrupted after an epoch."""

    fails: BaseException | None = None

    def __init__(self) -> None:
        super().__init__()
        self.val_confusion = MulticlassConfusionMatrix(2)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.val_confusion.update(self.net(batch[0]), batch[1])

    def on_train_batch_start(self, batch: list[Tensor], batch_idx: int) -> None:
        if self.fails and self.current_epoch == 1:
            raise self.fails


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(8, 3), torch.tensor([0, 1] * 4)), batch_size=2)


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    yield uri
    mlflow.set_tracking_uri(None)


def trainer(logger: MLflowLogger, **arguments: Any) -> lightning.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return lightning.Trainer(
        accelerator="cpu", logger=logger, num_sanity_val_steps=0, **{"max_epochs": 3, **quiet, **arguments}
    )


def runs(uri: str, experiment: str = "flowers") -> list[Any]:
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id]))


def steps(uri: str, run: Any, metric: str) -> list[int]:
    history = mlflow.MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, metric)
    return [point.step for point in history]


def paths(uri: str, run: Any, folder: str | None = None) -> set[str]:
    client = mlflow.MlflowClient(tracking_uri=uri)
    return {each.path for each in client.list_artifacts(run.info.run_id, folder)}


@pytest.mark.slow
def test_plain_script_with_a_foreign_module(uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = MLflowLogger(uri, run_name="mine")
    assert logger.run_id is None
    module = Foreign(optimizer={"name": "sgd", "rates": {"head": 0.1}, "words": "x" * 300})
    trainer(logger, log_every_n_steps=1).fit(module, loader(), loader())
    (run,) = runs(uri)
    assert run.info.run_id == logger.run_id == logger.version
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert steps(uri, run, "val_loss") == [1, 2, 3]
    assert steps(uri, run, "loss_epoch") == [1, 2, 3]
    assert len(steps(uri, run, "step_loss")) == 12
    assert "epoch" not in run.data.metrics
    assert run.data.params["width"] == "4"
    assert run.data.params["optimizer/rates/head"] == "0.1"
    assert run.data.params["optimizer/words"] == "x" * 250
    assert {"git_commit", "mlflow.user"} <= run.data.tags.keys()
    assert "recipe" not in run.data.tags
    assert not (tmp_path / "mlruns/.running").exists()
    assert not (tmp_path / "note.json").exists()  # the working folder belongs to no training
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_scripts_own_run_and_store_are_not_disturbed(uri: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/own.db")
    mlflow.set_experiment("own")
    with mlflow.start_run() as own:
        logger = MLflowLogger(uri)
        trainer(logger, max_epochs=1).fit(Foreign(), loader(), loader())
        net: Any = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        net.mean, net.std = (0.0,) * 3, (1.0,) * 3
        (tmp_path / "run.json").write_text("{}")
        logger.log_trained(tmp_path, net, 1.0, np.zeros((1, 2, 2, 3), np.uint8), ["a", "b"], 1)
        assert mlflow.active_run().info.run_id == own.info.run_id
        mlflow.log_metric("x", 1)
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/own.db"
    assert mlflow.get_run(own.info.run_id).data.metrics == {"x": 1}
    assert mlflow.get_run(own.info.run_id).info.status == "FINISHED"
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    assert paths(uri, run) == {"run.json"}
    client = mlflow.MlflowClient(tracking_uri=uri)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, model.source_run_id) == ("model", run.info.run_id)
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pytorch.load_model(model.model_uri)
    assert loaded(torch.zeros(5, 3, 2, 2)).shape == (5, 2)
    with pytest.raises(mlflow.exceptions.MlflowException):
        client.get_run(own.info.run_id)
    mlflow.set_experiment(experiment_id="0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (ValueError("early"), "FAILED"), (UserError("no"), "FAILED")]
)
def test_as_a_callback_it_goes_on_where_it_was(
    uri: str, tmp_path: Path, error: BaseException, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, "series")
    config = {"name": "net_how", "seed": 1, "out_dir": "out", "data": {"name": "garden", "batch_size": 2}}
    config["model"] = {"_target_": "here.Confusing", "net": {"_target_": "torch.nn.Sequential"}}
    drawn = []

    def draw(counts: np.ndarray, classes: list[str], title: str) -> np.ndarray:
        drawn.append((counts.sum(), tuple(classes), title))
        return np.zeros((4, 4, 3), np.uint8)

    def fit(fails: BaseException | None, epochs: int = 3) -> MLflowLogger:
        logger = MLflowLogger(uri, "garden", tags={"fold": "2"}, draw_confusion=draw)
        logger.log_hyperparams(config)
        assert logger.run_id is None
        module = Confusing()
        module.fails = fails
        whole = trainer(logger, callbacks=[logger], default_root_dir=tmp_path / "training", max_epochs=epochs)
        whole.fit(module, datamodule=Photographs())
        return logger

    with pytest.raises((type(error), SystemExit)):
        fit(error)
    (run,) = runs(uri, "garden")
    assert run.info.status == status
    again = fit(None)
    (run,) = runs(uri, "garden")
    assert run.info.run_id == again.run_id
    assert (run.info.run_name, run.info.status) == ("net_how", "FINISHED")
    assert sorted(steps(uri, run, "val_loss")) == [1, 2, 3]
    assert {"recipe": "net_how", "mlflow.parentRunId": "series", "fold": "2"}.items() <= run.data.tags.items()
    assert len(run.data.tags["split"]) == 64
    assert "on 2 photographs of `garden`" in run.data.tags["mlflow.note.content"]
    assert "--config-name config out_dir=again" in run.data.tags["mlflow.note.content"]
    assert run.data.params["net"] == "Sequential"
    assert "config.yaml" in paths(uri, run)
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"garden-train", "garden-val"}
    assert drawn[0] == (8, ("daisy", "roses"), "validation, epoch 1")
    assert any("confusion" in path for path in paths(uri, run, "images"))
    fit(None, epochs=1)  # from the start, in the folder of a training that has finished: another one
    assert len(runs(uri, "garden")) == 2


@pytest.mark.slow
def test_what_cannot_be_recorded_does_not_lose_the_training(
    uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = MLflowLogger(uri)
    trainer(logger, max_epochs=1).fit(Foreign(), loader(), loader())
    logger.log_trained(tmp_path / "out", nn.Linear(1, 1), 1.0, np.zeros((2, 2, 2, 3), np.uint8), ["a", "b"], 1)
    said = capfd.readouterr().err
    assert said.startswith("flowers: the MLflow run lacks the model: ")
    assert said.endswith("out is whole.\n")
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"


def test_a_refused_record_does_not_hold_up_the_others(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    logger = MLflowLogger(uri)
    logger.log_hyperparams({"../up": 1})
    logger.log_metrics({"x": 1.0}, step=3)
    logger.finalize("aborted")
    (run,) = runs(uri)
    assert (run.data.metrics, run.info.status) == ({"x": 1.0}, "KILLED")
    assert steps(uri, run, "x") == [3]
    assert "MLflow refused a record: " in capfd.readouterr().err


def test_store_that_is_none_is_one_sentence(uri: str) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        trainer(MLflowLogger("foo://bar")).fit(Foreign(), loader(), loader())
