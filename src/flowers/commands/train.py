"""Train one recipe: ``flowers train experiment=cnn_scratch``.

Writes a folder with ``model.safetensors``, ``config.yaml`` (what was trained), ``run.json`` (where it came from) and
``history.csv`` (what happened in each epoch), and ``stage-N.ckpt`` for each stage. Never reads the test photographs.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from flowers.config.cli import run_command
from flowers.config.compose import as_dict, instantiate
from flowers.config.provenance import derive_seed, split_digest
from flowers.config.schema import Settings
from flowers.config.store_address import announce, shown
from flowers.data.datamodule import PhotoDataModule
from flowers.errors import UserError
from flowers.training import checkpoints
from flowers.training.classifier import Classifier
from flowers.training.stages import describe_stages, scaled_stages, total_epochs
from flowers.training.trainer import Bar, History, ended_by, make_trainer, quiet_lightning, shows_bar


def train(settings: Settings, stop_after_epochs: int | None = None, logged: Mapping[str, Any] | None = None) -> float:
    """Train, and write the trained model's folder.

    Args:
        settings: All that decides the result.
        stop_after_epochs: Stop there as if interrupted, leaving a checkpoint and no model; None trains to the end.
        logged: Arguments for the MLflow logger, for example `run_name`, beside those of the settings.

    Returns:
        The validation accuracy of the saved epoch, in [0, 1]. NaN if stopped before the end. What a sweep has trained
        to the end, a sweep does not train again.

    Raises:
        UserError: If something that the user gave cannot be used.
        KeyboardInterrupt: If interrupted; the same call goes on from the last whole epoch.
    """
    out, speaks = Path(settings.out_dir), settings.progress != "none"
    if settings.trainer.get("max_epochs") == 0:
        raise UserError("trainer.max_epochs=0 trains nothing; give 1 or more, or leave it out for the recipe's epochs.")
    announce(settings)
    checkpoints.check_free(out, settings)
    start = checkpoints.start_checkpoint(out, settings)
    loggers = _make_loggers(settings, logged or {})
    datamodule, model = build_training(settings)
    if speaks and getattr(datamodule, "summary", None):
        print(datamodule.summary, flush=True)
    out.mkdir(parents=True, exist_ok=True)  # now, not after hours, is the time to learn that it cannot be made
    split = getattr(datamodule, "split", None)  # which a DataModule from elsewhere does not have
    folder = Path("runs/resume") / checkpoints.resume_key(settings, "" if split is None else split_digest(split), start)
    # The trainings of a series are for the series to remember.
    in_sweep = logged is None and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if in_sweep and (record := _trained_earlier(folder.name, out, loggers)):
        return float(record["final"]["val/acc"])
    checkpoint = checkpoints.EpochCheckpoint(folder, stop_after_epochs)
    bar = shows_bar(settings.progress)
    history = History(speaks and not bar, settings.get("save_best"))
    callbacks = [instantiate(f"callbacks.{name}", node) for name, node in settings.callbacks.items() if node]
    for each in callbacks:
        if isinstance(each, ModelCheckpoint) and each.dirpath is None:  # Lightning's default is deleted at the end
            each.dirpath = str((out / "checkpoints").resolve())
    with checkpoints.locked(folder, "training"), _advised(checkpoint, loggers):
        watching = [logger for logger in loggers if isinstance(logger, Callback)]
        with quiet_lightning():
            trainer = make_trainer(
                settings.trainer,
                folder,
                max_epochs=settings.trainer.get("max_epochs") or total_epochs(model.table),
                callbacks=[history, *callbacks, *watching, checkpoint, *([Bar()] if bar else [])],
                logger=loggers or False,
                enable_progress_bar=bar,
            )
            datamodule.setup("fit")
            begun = checkpoint.found() or start
            if speaks:
                _announce(settings, datamodule, model, trainer, begun)
            for logger in loggers:
                logger.log_hyperparams(as_dict(settings))
            trainer.fit(model, datamodule=datamodule, ckpt_path=begun, weights_only=True)
        if stop_after_epochs is not None:
            return float("nan")
        tracked = next((logger for logger in loggers if getattr(logger, "run_id", None)), None)
        epochs, saved_epoch = total_epochs(model.stages), len(history.rows)
        noted = {
            "ended_by": ended_by(trainer, epochs),
            "mlflow_run_id": getattr(tracked, "run_id", None),
            "mlflow_uri": shown(uri) if (uri := getattr(tracked, "uri", None)) else None,
        }
        if history.best is not None:
            saved_epoch = history.best["epoch"]
            model.final_net.load_state_dict(history.best["weights"])
        model.final_net.to(trainer.strategy.root_device)  # Lightning has brought it back to the processor
        record = checkpoints.write_model(out, settings, model.final_net, datamodule, history.rows, saved_epoch, noted)
        for logger in loggers:
            if hasattr(logger, "log_trained"):
                pixels, *_ = next(checkpoints.validation_batches(datamodule))
                about = (record["temperature"], pixels[:2], record["classes"], saved_epoch)
                logger.log_trained(out, model.final_net, *about)
        checkpoints.finish(folder, out)
        if in_sweep:
            checkpoints.remember(folder.name, out)
    if record["ended_by"]:
        print(f"ended by {record['ended_by']} in epoch {record['epochs']} of {epochs}, before the rates had come down")
    chosen = ""
    if history.save_best:
        chosen = f" in epoch {saved_epoch}, the best of {record['epochs']} by {history.save_best}, so a little too high"
        chosen = chosen if history.best else " in the last epoch, as none was validated"
    print(f"trained model: {out}  (val/acc {record['final']['val/acc']:.3f}{chosen})", flush=True)
    return float(record["final"]["val/acc"])


def build_training(settings: Settings) -> tuple[PhotoDataModule, Classifier]:
    """Make what is trained, and what it is trained on.

    Args:
        settings: All that decides the result.
    """
    datamodule = instantiate("data", settings.data)
    datamodule.prepare_data()
    lightning.seed_everything(derive_seed(settings.seed, "weights") % 2**32, verbose=False)
    classes = getattr(datamodule, "classes", None)
    if not classes:
        raise UserError(
            f"{settings.data['_target_']} does not name its classes after prepare_data; give it an attribute `classes`."
        )
    model = instantiate("model", settings.model, num_classes=len(classes), _recursive_=False)
    image_px = getattr(datamodule, "image_px", None) or model.image_px
    if image_px != model.image_px:
        raise UserError(f"data.image_px={image_px}, but model.image_px={model.image_px}; leave out one of the two.")
    datamodule.image_px = image_px
    return datamodule, model


def _trained_earlier(key: str, out: Path, loggers: Sequence[Any]) -> dict[str, Any] | None:
    """Take over what an earlier sweep has trained to the end, with its MLflow run; None if there is nothing."""
    if (found := checkpoints.find_trained(key)) is None:
        return None
    earlier, record = found
    if not all(logger.adopt(record["mlflow_run_id"]) for logger in loggers if hasattr(logger, "adopt")):
        return None  # another store's
    checkpoints.take_over(earlier, out)
    print(f"trained already: {earlier}  (val/acc {record['final']['val/acc']:.3f})", flush=True)
    return record


def _make_loggers(settings: Settings, logged: Mapping[str, Any]) -> list[Any]:
    """Make the loggers; those that can tell are asked whether they can record."""
    loggers = [
        instantiate(f"logger.{name}", node, **(logged if name == "mlflow" else {}))
        for name, node in settings.logger.items()
        if node and (name != "mlflow" or settings.tracking.enabled)
    ]
    for logger in loggers:
        if hasattr(logger, "check"):
            logger.check()
    return loggers


@contextlib.contextmanager
def _advised(checkpoint: checkpoints.EpochCheckpoint, loggers: Sequence[Any]) -> Iterator[None]:
    """Tell the loggers how a training ended early, and say of an interruption what the same command will do."""
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        for logger in loggers:
            logger.finalize("aborted" if interrupted else "failed")
        if not interrupted:
            raise
        whole = checkpoint.found() is not None
        advice = "goes on from the last whole epoch" if whole else "starts anew, as no epoch was whole yet"
        raise KeyboardInterrupt(f"interrupted; the same command {advice}.") from error


def _announce(
    settings: Settings, datamodule: PhotoDataModule, model: Classifier, trainer: lightning.Trainer, begun: Path | None
) -> None:
    """Say what is about to be trained, for how long, and from where it goes on."""
    stages = scaled_stages(model.table, trainer.max_epochs or -1)
    parameters = sum(parameter.numel() for parameter in model.net.parameters())
    counts = ""
    if hasattr(datamodule, "train"):
        counts = f"{len(datamodule.train)} training and {len(datamodule.val)} validation photographs of "
    print(
        f"{settings.name}: {counts}{len(datamodule.classes)} classes, {parameters:,} parameters, "
        f"epochs: {total_epochs(stages)}, {trainer.precision}"
    )
    if stages != model.table:
        print(f"trainer.max_epochs={trainer.max_epochs} instead of the recipe's epochs: {describe_stages(stages)}")
    if isinstance(datamodule, PhotoDataModule):
        for note in datamodule.notes():
            print(f"note: {note}")
    if begun is not None:
        print(f"going on from the checkpoint {begun}")
    sys.stdout.flush()


def main() -> None:
    """Train the recipe that the command line names."""
    run_command(train)
