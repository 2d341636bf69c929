"""MLflow as a logger of Lightning, which as a callback too tells all that belongs to a training."""

import atexit
import os
import re
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import mlflow
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import nn

from flowers.config.provenance import git_commit, split_digest
from flowers.curation.prepare import remembered_scan
from flowers.errors import UserError
from flowers.models.inference import Scorer
from flowers.tracking.log import PARENT, OpenRun
from flowers.tracking.naming import flat, run_name, run_note, short_params
from flowers.tracking.store import current_store, store_access
from flowers.tracking.sweep import PARENT_VARIABLE
from flowers.training.checkpoints import read_note, write_note
from flowers.training.history import History
from flowers.training.stages import describe_stages, rates_at, stage_at


class RetryQueue:
    """Records for a store, in order; while the store cannot take them they wait here, which is said once."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._waiting: list[Callable[[], object]] = []
        self.told = False

    @property
    def missing(self) -> int:
        """Number of records that the store does not have yet."""
        return len(self._waiting)

    def add(self, *records: Callable[[], object]) -> None:
        """Hand over what waits and then these, as far as the store can take them now."""
        self._waiting += records
        try:
            while self._waiting:
                with store_access(self._uri):
                    self._hand_over(self._waiting[0])
                del self._waiting[0]
        except (UserError, OSError) as error:
            if not self.told:
                print(f"flowers: {error} The training goes on; its record is kept until then.", file=sys.stderr)
                atexit.register(self.give_up, "")
            self.told = True

    def _hand_over(self, record: Callable[[], object]) -> None:
        try:
            record()
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            print(f"flowers: MLflow refused a record: {str(error).splitlines()[0]}", file=sys.stderr)

    def give_up(self, rest: str) -> None:
        """Try a last time, and say what is missing then, and something about the rest."""
        self.add()
        if self._waiting:
            print(f"flowers: the MLflow run lacks the last {self.missing} records{rest}.", file=sys.stderr)
            self._waiting.clear()


class MLflowLogger(Logger, Callback):
    """Records trainings in MLflow.

    As a logger (``Trainer(logger=MLflowLogger())``) it records hyperparameters and metrics of any LightningModule. What
    Lightning logs once an epoch is recorded at the epoch, counted from 1; what it logs more often, at the step.

    Given to ``callbacks`` too, it records the data sets, stages, rates, the rows of
    :class:`flowers.training.history.History` and the confusion matrix of each validation, as far as the module and the
    DataModule have them, and continues the run of an interrupted training, whose id it keeps in the trainer's
    ``default_root_dir``.

    Attributes:
        run_id: The run; None before there is one.
    """

    def __init__(
        self,
        uri: str = "sqlite:///mlflow.db",
        experiment: str = "flowers",
        run_name: str | None = None,
        system_metrics_s: float = 0,
        draw_confusion: Callable[[NDArray[np.integer], list[str], str], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Choose where to record; nothing is opened yet.

        Args:
            uri: The MLflow store.
            experiment: The MLflow experiment, made if it is new.
            run_name: Null: by the recipe and the command line, or as MLflow makes it up.
            system_metrics_s: Seconds between two samples of processor and memory use; 0: none.
            draw_confusion: Draws counts (K,K), the class names and a title as an image (H,W,3) uint8; null: none.
        """
        super().__init__()
        self.run_id: str | None = None
        self._uri, self._experiment, self._run_name = uri, experiment, run_name
        self._system_metrics_s, self._draw_confusion = system_metrics_s, draw_confusion
        self._queue = RetryQueue(uri)
        self._run: OpenRun | None = None
        self._trainer: lightning.Trainer | None = None
        self._config: dict[str, Any] = {}
        self._params: dict[str, Any] = {}
        self._recorded: defaultdict[str, set[int]] = defaultdict(set)  # steps by metric
        self._last_epoch: dict[str, int] = {}  # by metric

    # What Lightning asks of a logger

    @property
    def name(self) -> str:
        """The MLflow experiment."""
        return self._experiment

    @property
    def version(self) -> str:
        """The run's id. Lightning names folders by it, so the run is opened."""
        return self._open().run_id

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Record parameters: a whole configuration in short and as a file, others flat.

        Args:
            params: A configuration is known by the ``_target_`` of its ``model``.
            *args: Of other loggers.
            **kwargs: Of other loggers.
        """
        given = dict(vars(params) if isinstance(params, Namespace) else params)
        if isinstance(given.get("model"), Mapping) and "_target_" in given["model"]:
            self._config = given
            self._params |= short_params(given)
        else:
            self._params |= flat(given)
        if self._run is not None:
            self._log_params(self._run)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics at their epoch, counted from 1, if they tell one, or at the step."""
        self._open()
        epoch = metrics.get("epoch")
        for name, value in metrics.items():
            place = step or 0
            # Lightning tells the epoch always; what comes twice in one is of steps.
            if epoch is not None and self._last_epoch.get(name) != int(epoch):
                place = self._last_epoch[name] = int(epoch)
                place += 1
            if name != "epoch":
                self._log_points({name: value}, place)

    @rank_zero_only
    def save(self) -> None:
        """Open the run, if it is not open yet: Lightning calls this when parameters were logged."""
        self._open()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run.

        Args:
            status: ``success``, ``failed`` or ``aborted``.
        """
        if self._run is None:
            return
        self._queue.add()
        interrupted = isinstance(sys.exception(), KeyboardInterrupt)  # which Lightning calls failed
        failed = "KILLED" if interrupted or status == "aborted" else "FAILED"
        self._close("FINISHED" if status in ("success", "finished") else failed)

    # What it knows as a callback

    @rank_zero_only
    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Remember the trainer, by which the run of an interrupted training is found."""
        self._trainer = trainer

    @rank_zero_only
    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open or continue the run, and tell what is about to be trained, and on what."""
        run, split = self._open(), self._split()
        records: list[Callable[[], object]] = []
        stages = getattr(pl_module, "stages", None)
        if stages:
            records.append(lambda: run.log_tags({"stages": describe_stages(stages)}))
        if split is not None:
            root = getattr(_datamodule(trainer), "root", ".")
            records.append(lambda: run.client.log_inputs(run.run_id, self._data_sets(split, str(root))))
            refused = self._refused(Path(root))
            if not refused.empty:
                records.append(lambda: run.client.log_text(run.run_id, refused.to_csv(index=False), "refused.csv"))
        self._queue.add(*records)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the confusion matrix, the stage and rates, and the history's row."""
        run, epoch = self._open(), trainer.current_epoch + 1
        confusion = getattr(pl_module, "val_confusion", None)
        if self._draw_confusion and confusion is not None and epoch not in self._recorded["epoch_s"]:
            counts = confusion.compute().cpu().numpy()
            classes = getattr(_datamodule(trainer), "classes", [str(number) for number in range(len(counts))])
            image = self._draw_confusion(counts, classes, f"validation, epoch {epoch}")
            self._queue.add(lambda: run.client.log_image(run.run_id, image, key="val/confusion", step=epoch))
        self._log_points(stage_metrics(epoch, pl_module, int(trainer.num_training_batches)), epoch)
        self._log_history(trainer)

    @rank_zero_only
    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the history's last row, if it was made after this callback had its turn."""
        self._log_history(trainer)

    @rank_zero_only
    def log_trained(
        self, out: Path, net: nn.Module, temperature: float, pixels: NDArray[np.uint8], classes: list[str]
    ) -> None:
        """Record a trained model and its files, and close the run. An error here does not lose the training.

        Args:
            out: The trained model's folder.
            net: Normalised images to logits, with ``mean`` and ``std`` for its input.
            temperature: What its logits are divided by.
            pixels: (N,H,W,3) of which two become the model's input example.
            classes: Names of the K outputs.
        """
        run = self._open()
        files = [out / name for name in ("run.json", "history.csv", "split.csv")]
        records = [partial(run.client.log_artifact, run.run_id, str(file)) for file in files if file.exists()]
        try:
            self._queue.add(*records, lambda: log_model(run, Scorer(net, temperature), pixels, classes))
        except Exception as error:  # torch cannot export every network
            print(f"flowers: MLflow does not have the model ({error}); {out} is whole.", file=sys.stderr)
        self._queue.give_up(f"; {out} is whole")
        self._close("FINISHED")

    def _open(self) -> OpenRun:
        if self._run is not None:
            return self._run
        folder, split, config = self._folder(), self._split(), self._config
        commit = git_commit()
        tags = {"recipe": config.get("name"), "git_commit": commit or "unknown"}
        tags["split"] = None if split is None else split_digest(split)
        tags[PARENT] = os.environ.get(PARENT_VARIABLE)
        known = None
        if folder is not None:
            known = read_note(folder).get("run_id")
        photographs = None if split is None else int((split["split"] == "train").sum())
        self._run = run = OpenRun(
            self._uri,
            experiment=self._experiment,
            name=self._run_name or run_name(config),
            run_id=known,
            tags={key: str(value) for key, value in tags.items() if value},
            note=run_note(config, commit, photographs) if config else None,
            system_metrics_s=self._system_metrics_s,
        )
        self.run_id = run.run_id
        if folder is not None:
            write_note(folder, {"run_id": run.run_id})
        if run.before is not None:  # so that nothing is told twice
            with store_access(self._uri):
                for name in run.before.data.metrics:
                    history = run.client.get_metric_history(run.run_id, name)
                    self._recorded[name] |= {point.step for point in history}
        self._log_params(run)
        return run

    def _folder(self) -> Path | None:
        """Find where the run's id is kept; None if the trainer has no folder of its own, but the working folder."""
        if self._trainer is None or Path(self._trainer.default_root_dir).resolve() == Path.cwd():
            return None
        return Path(self._trainer.default_root_dir)

    def _split(self) -> pd.DataFrame | None:
        split = getattr(_datamodule(self._trainer), "split", None)
        wanted = {"path", "label", "split", "sha256"}
        return split if isinstance(split, pd.DataFrame) and wanted <= set(split.columns) else None

    def _close(self, status: str) -> None:
        assert self._run is not None
        error = self._run.close(status)
        if error is not None and not self._queue.told:
            print(f"flowers: {error} It is told how the run ended when it is next used.", file=sys.stderr)

    def _log_params(self, run: OpenRun) -> None:
        params = {_allowed(name): value for name, value in self._params.items()}
        self._queue.add(lambda: run.log_params(params))
        if self._config:
            text = OmegaConf.to_yaml(OmegaConf.create(self._config))
            self._queue.add(lambda: run.client.log_text(run.run_id, text, "config.yaml"))

    def _log_points(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record the metrics that are numbers and not there yet."""
        run = self._open()
        new = {_allowed(name): value for name, value in metrics.items() if not isinstance(value, str)}
        new = {name: value for name, value in new.items() if step not in self._recorded[name]}
        for name in new:
            self._recorded[name].add(step)
        if new:
            self._queue.add(lambda: run.log_metrics(new, step))

    def _log_history(self, trainer: lightning.Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for row in callback.rows if isinstance(callback, History) else ():
                self._log_points({name: row[name] for name in row if name != "epoch"}, int(row["epoch"]))

    def _data_sets(self, split: pd.DataFrame, root: str) -> list[DatasetInput]:
        name = self._config.get("data", {}).get("name", self._experiment)
        inputs = []
        for part, context in (("train", "training"), ("val", "validation")):
            rows = split.loc[split["split"] == part, ["path", "label"]].reset_index(drop=True)
            digest = split_digest(split)[:36]  # MLflow keeps no more
            origin = LocalArtifactDatasetSource(root)
            data = mlflow.data.from_pandas(rows, origin, targets="label", name=f"{name}-{part}", digest=digest)
            inputs.append(DatasetInput(Dataset(**data.to_dict()), [InputTag("mlflow.data.context", context)]))
        return inputs

    def _refused(self, root: Path) -> pd.DataFrame:
        """List the files that intake refused, where the training made it on the way."""
        data = self._config.get("data", {})
        if data.get("split_csv") is not None or not {"strict", "cache_dir"} <= data.keys():
            return pd.DataFrame()
        manifest, _ = remembered_scan(root, data["strict"], Path(data["cache_dir"]))
        return manifest.loc[manifest["status"] == "refused", ["path", "label", "reason"]]


def stage_metrics(epoch: int, module: Any, steps: int) -> dict[str, float]:
    """Tell which stage an epoch, counted from 1, belongs to, and the rate of each layer group at its first step.

    Returns:
        Nothing for a training of a single stage and rate, or a module without ``stages`` and ``groups``.
    """
    stages, groups = getattr(module, "stages", None), getattr(module, "groups", None)
    if not stages or not groups:
        return {}
    rates = rates_at(stages, groups, (epoch - 1) * steps, steps)
    if len(stages) == 1 and len(set(rates.values())) == 1:
        return {}
    return {"stage": stage_at(stages, epoch - 1)[0] + 1} | {f"lr/{group}": rate for group, rate in rates.items()}


def log_model(run: OpenRun, scorer: nn.Module, pixels: NDArray[np.uint8], classes: list[str]) -> None:
    """Record a network, with signature and input example, in a format that runs no code when it is loaded.

    Args:
        run: The run.
        scorer: Pixels (B,3,H,W) float32 in [0, 255] to probabilities (B,K).
        pixels: (N,H,W,3), of which two become the example, from which it is known that B may vary.
        classes: Names of the K outputs.
    """
    two = np.resize(pixels, (2, *pixels.shape[1:]))
    examples = np.ascontiguousarray(two.transpose(0, 3, 1, 2), dtype=np.float32)
    scorer = scorer.cpu().eval()
    with torch.inference_mode():
        probabilities = scorer(torch.from_numpy(examples)).numpy()
    experiment_id = run.client.get_run(run.run_id).info.experiment_id
    model = run.client.create_logged_model(experiment_id, name="model", source_run_id=run.run_id)
    with current_store(run.uri):
        mlflow.pytorch.log_model(
            scorer,
            model_id=model.model_id,
            run_id=run.run_id,
            serialization_format="pt2",
            signature=infer_signature(examples, probabilities),
            input_example=examples,
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
            metadata={"classes": classes},
        )


def _datamodule(trainer: lightning.Trainer | None) -> Any:
    return getattr(trainer, "datamodule", None)


def _allowed(name: str) -> str:
    """Replace the characters that MLflow does not allow in names."""
    return re.sub(r"[^\w./ :-]", "_", str(name))
