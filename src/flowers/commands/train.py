"""Train one recipe: ``flowers train experiment=cnn_scratch``.

Writes a folder with ``model.safetensors``, ``config.yaml`` (what was trained), ``run.json`` (where it came from) and
``history.csv`` (what happened in each epoch), and ``stage-N.ckpt`` for each stage. Never reads the test photographs.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.config.cli import run_command
from flowers.config.schema import Settings
from flowers.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from flowers.data.datamodule import PhotoDataModule
    from flowers.tracking.logger import MLflowLogger
    from flowers.training.classifier import Classifier
    from flowers.training.history import Row


def train(settings: Settings, stop_after_epochs: int | None = None, called: str | None = None) -> float:
    """Train, and write the trained model's folder.

    Args:
        settings: All that decides the result.
        stop_after_epochs: Stop there as if interrupted, leaving a checkpoint and no model; null trains to the end.
        called: What its MLflow run is called; null: by the recipe and the command line.

    Returns:
        The validation accuracy of the last epoch, in [0, 1]. NaN if stopped before the end.

    Raises:
        UserError: If something that the user gave cannot be used.
        KeyboardInterrupt: If interrupted; the same call goes on from the last whole epoch.
    """
    from filelock import FileLock, Timeout

    from flowers.config.provenance import split_digest
    from flowers.curation.prepare import find_photographs
    from flowers.training import checkpoints as resume
    from flowers.training.save import check_free

    out = Path(settings.out_dir)
    check_free(out, settings)
    start = resume.start_checkpoint(out, settings)
    root, split = find_photographs(settings)
    out.mkdir(parents=True, exist_ok=True)  # now, not after hours, is the time to learn that it cannot be made
    folder = Path("runs/resume") / resume.resume_key(settings, split_digest(split), start)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            return _train(settings, root, split, folder, out, start, stop_after_epochs, called)
    except Timeout as error:
        raise UserError(
            "this very training is running already in another process; wait for it, or change seed or a setting."
        ) from error
    except KeyboardInterrupt as error:
        whole = resume.EpochCheckpoint(folder).found() is not None
        advice = "goes on from the last whole epoch" if whole else "starts anew, as no epoch was whole yet"
        raise KeyboardInterrupt(f"interrupted; the same command {advice}.") from error


def build_training(
    settings: Settings, root: Path, split: "pd.DataFrame", folder: Path
) -> "tuple[PhotoDataModule, Classifier]":
    """Make what is trained, and what it is trained on.

    Args:
        settings: All that decides the result.
        root: Where the photographs lie.
        split: Which of them is used for what.
        folder: For large intermediate files.
    """
    import lightning

    from flowers.config.seeds import derive_seed
    from flowers.data.datamodule import PhotoDataModule
    from flowers.models.nets import build_network
    from flowers.models.weights import start_from
    from flowers.training.classifier import Classifier
    from flowers.training.feature_bank import BankPlace
    from flowers.training.trainer import keep_freed_memory

    keep_freed_memory()
    classes = sorted(split["label"].unique())
    lightning.seed_everything(derive_seed(settings.seed, "weights") % 2**32, verbose=False)
    net = build_network(settings.model, len(classes))
    if settings.weights is not None:
        start_from(net, settings.weights, settings.weights_sha256)
    photographs = PhotoDataModule(
        split,
        root,
        image_px=net.image_px,
        batch_size=settings.learning.batch_size,
        seed=settings.seed,
        cache_dir=Path(settings.data.cache_dir),
        sampling=settings.learning.sampling,
    )
    classifier = Classifier(
        net,
        num_classes=len(classes),
        train_labels=photographs.train.labels,
        learning=settings.learning,
        stages=settings.stages,
        augment=settings.augment,
        seed=settings.seed,
        features=BankPlace(int(settings.trainer.features_gib * 2**30), folder),
        compiled=settings.trainer.compile,
    )
    return photographs, classifier


def _train(
    settings: Settings,
    root: Path,
    split: "pd.DataFrame",
    folder: Path,
    out: Path,
    start: Path | None,
    stop_after_epochs: int | None,
    called: str | None,
) -> float:
    from flowers.evaluation.calibration import fit_temperature
    from flowers.models.inference import answer
    from flowers.training import checkpoints as resume
    from flowers.training.save import write_model

    photographs, classifier = build_training(settings, root, split, folder)
    logger = None
    if settings.tracking.enabled:
        from flowers.report.curves import ConfusionPainter
        from flowers.tracking.logger import MLflowLogger

        logger = MLflowLogger(
            settings.tracking.uri,
            settings.data.name,
            called,
            settings.tracking.system_metrics_s,
            draw_confusion=ConfusionPainter().paint,
        )
        logger.log_hyperparams(_nested(settings))
        photographs.split, photographs.root = split, root  # type: ignore[attr-defined]
    rows = _fit(settings, classifier, photographs, folder, start, logger, stop_after_epochs)
    if stop_after_epochs is not None:
        return float("nan")
    validation = answer(classifier.final_net, photographs.val.pixels, photographs.val.paths)
    temperature = fit_temperature(validation.logits, photographs.val.labels.numpy())
    run_id = None if logger is None else logger.run_id
    write_model(out, settings, classifier.final_net, root, split, rows, validation, run_id, temperature)
    if logger is not None:
        pixels = photographs.val.pixels if len(photographs.val) > 1 else photographs.train.pixels
        logger.log_trained(out, classifier.final_net, temperature, pixels[:2], photographs.classes)
    resume.keep_stages(folder, out)
    resume.discard(folder)
    print(f"trained model: {out}  (val/acc {rows[-1]['val/acc']:.3f})", flush=True)
    return float(rows[-1]["val/acc"])


def _nested(settings: Settings) -> dict[str, Any]:
    """Write the settings in the layout that the logger reads."""
    config = asdict(settings)
    learning = config.pop("learning")
    config["data"] |= {name: learning.pop(name) for name in ("batch_size", "sampling")}
    config["model"] = {"_target_": "Classifier", "net": config["model"], **learning, "augment": config.pop("augment")}
    config["model"]["stages"] = config.pop("stages")
    return config


def _fit(
    settings: Settings,
    classifier: "Classifier",
    photographs: "PhotoDataModule",
    folder: Path,
    start: Path | None,
    logger: "MLflowLogger | None",
    stop_after_epochs: int | None,
) -> "list[Row]":
    """Run Lightning from the start or from the last whole epoch."""
    from flowers.training.checkpoints import EpochCheckpoint
    from flowers.training.history import Bar, History, print_row, shows_bar
    from flowers.training.stages import total_epochs
    from flowers.training.trainer import check_trainer, make_trainer, quiet_lightning

    trainer_settings = settings.trainer
    bar = shows_bar(trainer_settings.progress)
    history = History([print_row] if not bar and trainer_settings.progress != "none" else [])
    checkpoint = EpochCheckpoint(folder)
    precision = check_trainer(trainer_settings)
    epochs = total_epochs(settings.stages)
    if trainer_settings.progress != "none":
        parameters = sum(parameter.numel() for parameter in classifier.net.parameters())
        print(
            f"{settings.name}: {len(photographs.train)} training and {len(photographs.val)} validation photographs of "
            f"{len(photographs.classes)} classes, {parameters:,} parameters, epochs: {epochs}, {precision}",
            flush=True,
        )
    with quiet_lightning():
        trainer = make_trainer(
            trainer_settings,
            precision,
            epochs=min(epochs, stop_after_epochs or epochs),
            clip_norm=settings.learning.clip_norm,
            callbacks=[history, *([] if logger is None else [logger]), checkpoint, *([Bar()] if bar else [])],
        )
        if logger is not None:
            trainer.logger = logger
        trainer._default_root_dir = str(folder)  # type: ignore[attr-defined]
        found = checkpoint.found() or start
        if found is not None and trainer_settings.progress != "none":
            print(f"going on from the checkpoint {found}", flush=True)
        trainer.fit(classifier, datamodule=photographs, ckpt_path=found, weights_only=True)
    return history.rows


def main() -> None:
    """Train the recipe that the command line names."""
    run_command(train)
