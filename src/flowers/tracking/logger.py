"""MLflow as a logger of Lightning, and as a callback: parameters, metrics, tags and files of a training's run."""

import atexit
import contextlib
import importlib.metadata
import json
import os
import re
import sys
import tempfile
import warnings
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import nn

from flowers.config.provenance import git_commit, split_digest
from flowers.config.store_address import PARENT_VARIABLE, find_address, store_uri
from flowers.curation.prepare import refused_files
from flowers.data.datamodule import PhotoDataModule
from flowers.errors import UserError
from flowers.models import served
from flowers.models.inference import PixelLogits
from flowers.tracking.store import OpenRun, check_store, find_run, open_client, read_note, store_access, write_note
from flowers.tracking.summary import data_set, flat, run_name, run_note, short_params
from flowers.training.stages import describe_stages, optimizer_steps, stage_metrics
from flowers.training.trainer import METRICS, History


class RetryQueue:
    """Records for a store, in order; while the store cannot take them they are `waiting`, which is said once."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.waiting: list[Callable[[], object]] = []
        self.told = False

    def add(self, *records: Callable[[], object]) -> None:
        """Hand over what waits and then these, as far as the store can take them now."""
        self.waiting += records
        while self.waiting:
            try:
                with store_access(self._uri):
                    self.waiting[0]()
            except (UserError, OSError) as error:
                if getattr(error.__cause__, "error_code", None) != "INVALID_PARAMETER_VALUE":
                    if not self.told:
                        print(f"flowers: {error} The training goes on; its record is kept until then.", file=sys.stderr)
                        atexit.register(self.give_up)
                    self.told = True
                    return
                # Waiting would not help.
                print(f"flowers: MLflow refused a record: {error.__cause__}", file=sys.stderr)
            del self.waiting[0]

    def give_up(self, rest: str = "") -> None:
        """Try a last time, and say what is missing then."""
        self.add()
        if self.waiting:
            print(f"flowers: the MLflow run lacks the last {len(self.waiting)} records{rest}.", file=sys.stderr)
            self.waiting.clear()


class MLflowLogger(Logger, Callback):
    """Records trainings in MLflow.

    As a logger (``Trainer(logger=MLflowLogger())``) it records hyperparameters and metrics of any LightningModule. What
    Lightning logs once an epoch is recorded at the epoch, counted from 1; what it logs more often, at the step.

    Given to ``callbacks`` too, it records the data sets, stages, rates, the rows of
    :class:`flowers.training.trainer.History` and the confusion matrix of each validation, as far as the module and the
    DataModule have them, and continues the run of an interrupted training. The trainer's ``default_root_dir`` keeps the
    run's id, unless it is the working folder.

    Attributes:
        uri: The store.
        run_id: The run; None before there is one.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        system_metrics_s: float = 0,
        draw_confusion: Callable[[NDArray[np.integer], list[str], str], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Choose where to record; nothing is opened yet.

        Args:
            uri: The MLflow store; null: ``MLFLOW_TRACKING_URI`` if it is set, else ``mlflow.db`` in the working folder.
            experiment: The MLflow experiment, made if it is new; null: ``MLFLOW_EXPERIMENT_NAME`` or
                ``MLFLOW_EXPERIMENT_ID`` if one is set, else the data set's name, or ``flowers``.
            run_name: Null: by the recipe and the command line, or as MLflow makes it up.
            tags: Of the run, beside those that are made here.
            system_metrics_s: Seconds between two samples of processor and memory use; 0: none.
            draw_confusion: Draws counts (K,K), the class names and a title as an image (H,W,3) uint8; null: none.
        """
        super().__init__()
        self.run_id: str | None = None
        self._given, self._run_name, self._tags = (uri, experiment), run_name, tags or {}
        self._system_metrics_s, self._draw_confusion = system_metrics_s, draw_confusion
        self.uri = store_uri(uri)
        self._queue = RetryQueue(self.uri)
        self._run: OpenRun | None = None
        self._trainer: Trainer | None = None
        self._closed = False
        self._config: dict[str, Any] = {}
        self._recorded: defaultdict[str, set[int]] = defaultdict(set)  # steps by metric
        self._last_epoch: dict[str, float | None] = {}  # by metric
        self._of_steps: set[str] = set()

    @property
    def name(self) -> str:
        """The MLflow experiment; empty if it is known by its number alone."""
        return find_address(*self._given, self._data.get("name")).experiment or ""

    @property
    def version(self) -> str:
        """The run's id, or nothing before there is a run."""
        return self.run_id or ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Record parameters: flat; or of a whole configuration, which has a ``model._target_``, the short ones."""
        given = dict(vars(params) if isinstance(params, Namespace) else params)
        if "model/_target_" in flat(given) and self._run is None:
            self._config = given  # recorded when the run is opened, which is named by it
        else:
            params = {_allowed(key): value for key, value in flat(given).items()}
            self._queue.add(partial(self._open().log_params, params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics at their epoch, counted from 1, if they tell one, or at the step."""
        epoch, run = metrics.get("epoch"), self._open()
        values = {_allowed(name): value for name, value in metrics.items() if name != "epoch"}
        # Lightning always tells the epoch; what comes twice in one is of steps.
        self._of_steps |= {name for name in values if epoch is None or self._last_epoch.get(name) == epoch}
        self._last_epoch |= dict.fromkeys(values, epoch)
        if of_steps := {name: values[name] for name in values if name in self._of_steps}:
            self._queue.add(partial(run.log_metrics, of_steps, step))
        if epoch is not None:
            self._log_new({name: values[name] for name in values if name not in self._of_steps}, int(epoch) + 1)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run, with Lightning's ``success``, ``failed`` or ``aborted``."""
        if self._run is not None:
            self._log_history()
            self._queue.add()
            killed = status == "aborted" or isinstance(sys.exception(), KeyboardInterrupt)  # called failed by Lightning
            self._close("FINISHED" if status == "success" else "KILLED" if killed else "FAILED")

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open or continue the run, and tell what is about to be trained, and on what."""
        self._trainer = trainer
        if self._closed:  # by an earlier fit, whose run goes on
            self._run, self._closed = None, False
        run, split, stages = self._open(), self._split(), getattr(pl_module, "stages", None)
        photographs = self._photographs
        if stages:
            self._queue.add(partial(run.client.set_tag, run.run_id, "stages", describe_stages(stages)))
        if split is not None:
            root = Path(getattr(photographs, "root", "."))
            self._queue.add(lambda: run.client.log_inputs(run.run_id, data_sets(split, root, self._data_name)))
        if isinstance(photographs, PhotoDataModule):
            refused = refused_files(photographs.data, photographs.root)
            if not refused.empty:
                self._queue.add(partial(run.client.log_text, run.run_id, refused.to_csv(index=False), "refused.csv"))

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the confusion matrix, the stage and its rates, and what the history has that was not told yet."""
        run, epoch = self._open(), trainer.current_epoch + 1
        confusion = getattr(pl_module, "val_confusion", None)
        if self._draw_confusion and confusion is not None and epoch not in self._recorded["epoch_s"]:
            counts = confusion.compute().cpu().numpy()
            classes = getattr(self._photographs, "classes", [str(label) for label in range(len(counts))])
            image = self._draw_confusion(counts, classes, f"validation, epoch {epoch}")
            self._queue.add(lambda: run.client.log_image(run.run_id, image, key="val/confusion", step=epoch))
        self._log_new(stage_metrics(epoch, pl_module, optimizer_steps(trainer)), epoch)
        self._log_history()

    @rank_zero_only
    def log_trained(
        self, out: Path, net: nn.Module, temperature: float, pixels: NDArray[np.uint8], classes: list[str], epoch: int
    ) -> None:
        """Record a trained model and its files, and close the run. What goes wrong is said and does not lose the model.

        Args:
            out: The trained model's folder.
            net: Normalised images to logits, with ``mean`` and ``std`` for its input.
            temperature: What its logits are divided by.
            pixels: (N,H,W,3) of which two become the model's input example.
            classes: Names of the K outputs.
            epoch: From 1, whose weights these are.
        """
        try:
            run = self._open()
            files = [out / name for name in ("run.json", "history.csv", "split.csv")]
            records = [partial(run.log_file, file) for file in files if file.exists()]
            scorer = nn.Sequential(PixelLogits(net, temperature), nn.Softmax(dim=1))
            split = self._split()
            fit = self._photographs.data.fit if isinstance(self._photographs, PhotoDataModule) else None
            about = {"classes": classes, "image_px": int(pixels.shape[1]), "fit": fit}
            digest = None if split is None else split_digest(split)
            self._queue.add(*records, partial(log_model, run, scorer, pixels, about, self._data_name, digest, epoch))
            self._queue.give_up(f"; {out} is whole")
        except Exception as error:  # torch cannot export every network
            print(f"flowers: the MLflow run lacks the model: {error}; {out} is whole.", file=sys.stderr)
        self._close("FINISHED")

    def check(self) -> None:
        """Find out whether the store can be used, before there is anything to record; nothing is opened."""
        check_store(self.uri)

    def adopt(self, run_id: str | None) -> bool:
        """Make a finished training's run a child of the sweep that this is; False if the store does not have it."""
        parent = os.environ.get(PARENT_VARIABLE)
        with store_access(self.uri):
            client = open_client(self.uri)
            found = run_id is not None and find_run(client, run_id) is not None
            if found and parent:
                client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
        return found

    def _open(self) -> OpenRun:
        """Open or continue the run, unless it is open."""
        if self._run is not None:
            return self._run
        config, split, folder, known = self._config, self._split(), self._folder(), self.run_id
        if folder is not None:
            note = read_note(folder)
            # In a folder whose training has finished, only a checkpoint means that the same one goes on.
            if getattr(self._trainer, "ckpt_path", None) or not note.get("finished"):
                known = known or note.get("run_id")
        commit, count = git_commit(), None
        tags = {"recipe": config.get("name"), "git_commit": commit or "unknown", **self._tags}
        if split is not None:
            tags["split"], count = split_digest(split), int((split["split"] == "train").sum())
        self._run = run = OpenRun(
            *find_address(*self._given, self._data.get("name")),
            self._run_name or run_name(config),
            {key: str(value) for key, value in tags.items() if value},
            run_id=known,
            note=run_note(config, commit, count) if config else None,
            system_metrics_s=self._system_metrics_s,
        )
        self.run_id = run.run_id
        if folder is not None:
            write_note(folder, {"run_id": run.run_id})
        if run.before is not None:
            self._queue.add(partial(self._remember, run, run.before.data.metrics))
        if config:
            text = OmegaConf.to_yaml(OmegaConf.create(config))
            self._queue.add(partial(run.client.log_text, run.run_id, text, "config.yaml"))
            self._queue.add(partial(run.log_params, short_params(config)))
        return run

    def _remember(self, run: OpenRun, names: Iterable[str]) -> None:
        """Read what a continued run has, so that nothing is told twice."""
        for name in names:
            self._recorded[name] |= {point.step for point in run.client.get_metric_history(run.run_id, name)}

    def _folder(self) -> Path | None:
        """Find the folder that keeps the run's id; Lightning's default, the working folder, belongs to no training."""
        folder = None if self._trainer is None else Path(self._trainer.default_root_dir)
        return None if folder is None or folder.resolve() == Path.cwd() else folder

    @property
    def _data(self) -> dict[str, Any]:
        return self._config.get("data") or {}

    @property
    def _data_name(self) -> str:
        return self._data.get("name") or self.name or "data"

    @property
    def _photographs(self) -> Any:
        return getattr(self._trainer, "datamodule", None)

    def _split(self) -> pd.DataFrame | None:
        split = getattr(self._photographs, "split", None)
        wanted = {"path", "label", "split", "sha256"}
        return split if isinstance(split, pd.DataFrame) and wanted <= set(split.columns) else None

    def _close(self, status: str) -> None:
        if self._run is not None:
            self._run.close(status, quiet=self._queue.told)
            self._closed = True
        if (folder := self._folder()) is not None:
            with contextlib.suppress(UserError):
                write_note(folder, {"run_id": self.run_id, "finished": status == "FINISHED"})

    def _log_new(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record the metrics that are numbers and not there yet."""
        numbers = {name: value for name, value in metrics.items() if not isinstance(value, str)}
        new = {name: numbers[name] for name in numbers if step not in self._recorded[name]}
        for name in new:
            self._recorded[name].add(step)
        if new:
            self._queue.add(partial(self._open().log_metrics, new, step))

    def _log_history(self) -> None:
        for callback in self._trainer.callbacks if self._trainer is not None else ():  # type: ignore[attr-defined]
            for row in callback.rows if isinstance(callback, History) else ():
                self._log_new({name: row[name] for name in row if name != "epoch"}, int(row["epoch"]))


def _allowed(name: str) -> str:
    """Replace the characters that MLflow does not allow in names."""
    return re.sub(r"[^\w./ :-]", "_", name)[:250]


def data_sets(split: pd.DataFrame, root: Path, name: str) -> list[DatasetInput]:
    """Describe the training and the validation photographs for MLflow."""
    inputs, source = [], LocalArtifactDatasetSource(str(root))
    for part, context in (("train", "training"), ("val", "validation")):
        rows = split.loc[split["split"] == part, ["path", "label"]].reset_index(drop=True)
        called, digest = data_set(name, part, split_digest(split))
        data = mlflow.data.from_pandas(rows, source, targets="label", name=called, digest=digest)
        inputs.append(DatasetInput(Dataset(**data.to_dict()), [InputTag("mlflow.data.context", context)]))
    return inputs


def log_model(
    run: OpenRun,
    scorer: nn.Module,
    pixels: NDArray[np.uint8],
    about: dict[str, Any],
    data: str,
    digest: str | None,
    epoch: int,
) -> None:
    """Record a network as a model of MLflow, and its run's figures of the epoch, or before, as the model's.

    Its files are a graph of torch, which runs no code when it is loaded, and what :mod:`flowers.models.served` needs to
    know beside it, which MLflow calls with photographs.

    Args:
        run: The training's.
        scorer: From pixels (B,3,H,W) float32 in [0, 255] to probabilities (B,K).
        pixels: (N,H,W,3); two of them become the example, from which it is known that B may vary.
        about: For :class:`flowers.models.served.PhotographModel`.
        data: The data set's name.
        digest: Of its split; None: unknown.
        epoch: From 1, whose weights these are.
    """
    two = np.resize(pixels, (2, *pixels.shape[1:]))
    examples = np.ascontiguousarray(two.transpose(0, 3, 1, 2), dtype=np.float32)
    scorer, client = scorer.cpu().eval(), run.client
    answers = served.PhotographModel(scorer, **about).predict(two)
    signature = mlflow.models.infer_signature(examples, answers)
    signature._is_signature_from_type_hint = True  # so that MLflow leaves it to the model to look at its input
    versions = [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in ("torch", "numpy", "pillow")]
    known = client.get_run(run.run_id).data
    model = client.create_logged_model(run.experiment_id, "model", run.run_id, params=known.params)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # About weights that are not on the processor, which these are.
            warnings.filterwarnings("ignore", message="No complete tensor found in the group")
            path = Path(folder) / "model"
            flavors = mlflow.models.Model(run_id=run.run_id, model_id=model.model_id, metadata=about)
            mlflow.pytorch.save_model(
                scorer,
                path,
                mlflow_model=flavors,
                serialization_format="pt2",
                signature=signature,
                input_example=examples,
                pip_requirements=versions,
            )
            (path / "data" / served.ABOUT).write_text(json.dumps(about))
            flavors.flavors["python_function"]["loader_module"] = served.__name__
            flavors.save(path / "MLmodel")
            client.log_model_artifacts(model.model_id, str(path))
    except BaseException:
        client.delete_logged_model(model.model_id)
        raise
    client.finalize_logged_model(model.model_id, "READY")
    curves = [client.get_metric_history(run.run_id, name) for name in METRICS if name in known.metrics]
    points = [([point for point in curve if point.step <= epoch] or curve)[-1] for curve in curves]
    client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, max((each.step for each in points), default=0))])
    sets = [data_set(data, each.key.partition("/")[0], digest) if digest else (None, None) for each in points]
    of_model = [(each.key, each.value, each.timestamp, each.step, model.model_id) for each in points]
    client.log_batch(run.run_id, [Metric(*point, *name) for point, name in zip(of_model, sets, strict=True)])
