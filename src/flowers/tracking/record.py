"""What a training tells MLflow, from its first line to its model."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from flowers.config.provenance import split_digest
from flowers.config.schema import Settings
from flowers.curation.prepare import remembered_scan
from flowers.models.inference import Scorer
from flowers.report.confusion import ConfusionPainter
from flowers.tracking import log as tracking
from flowers.tracking.backlog import Backlog
from flowers.tracking.hint import hint_image
from flowers.training.classifier import Classifier
from flowers.training.history import METRICS, Row
from flowers.training.stages import describe_stages, rates_at, stage_at

if TYPE_CHECKING:
    from flowers.data.datamodule import PhotoDataModule


def record_start(
    settings: Settings, split: pd.DataFrame, root: Path, backlog: Backlog
) -> Callable[[Row, Classifier], None]:
    """Tell the active MLflow run what is about to be trained.

    Args:
        settings: All that decides the result.
        split: Which photograph is used for what.
        root: Where the photographs lie.
        backlog: Takes the records of the epochs.

    Returns:
        To be called with each epoch's row: it tells the epoch's figures and the confusion matrix of the validation.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        OmegaConf.save(OmegaConf.create(asdict(settings)), config)
        tracking.log_settings(config, short_params(settings))
        refused = refused_files(settings, root)
        if not refused.empty:
            file = Path(folder) / "refused.csv"
            refused.to_csv(file, index=False)
            tracking.log_file(file)
    tracking.log_tags({"stages": describe_stages(settings.stages)})
    tracking.log_split(split, name=settings.data.name, source=str(root), digest=split_digest(split))
    logged = tracking.logged_steps("val/acc")
    classes = sorted(split["label"].unique())
    painter = ConfusionPainter()
    if not logged:
        # MLflow's slider stands at step 0 first, where there is no epoch.
        hint = hint_image(["Move the slider:", "each step is", "an epoch."])
        backlog.add(lambda: tracking.log_image(hint, key="val/confusion", step=0))

    def record(row: Row, classifier: Classifier) -> None:
        epoch = int(row["epoch"])
        if epoch in logged:  # the epoch was told before the interruption, and is now repeated bit by bit
            return
        figures = {name: float(row[name]) for name in (*METRICS, "lr", "epoch_s")} | stage_figures(epoch, classifier)
        counts = classifier.val_confusion.compute().cpu().numpy()
        image = painter.paint(counts, classes, f"validation, epoch {epoch}")
        backlog.add(
            lambda: tracking.log_image(image, key="val/confusion", step=epoch),
            lambda: tracking.log_metrics(figures, step=epoch),  # last: where it is, the epoch was told whole
        )

    return record


def refused_files(settings: Settings, root: Path) -> pd.DataFrame:
    """List what the intake refused, where the training made it on the way.

    Returns:
        Columns path, label and reason; no rows where ``download`` made the intake.
    """
    data = settings.data
    if data.split_csv is not None:
        return pd.DataFrame(columns=["path", "label", "reason"])
    manifest, _ = remembered_scan(root, data.strict, Path(data.cache_dir))
    return manifest.loc[manifest["status"] == "refused", ["path", "label", "reason"]]


def stage_figures(epoch: int, classifier: Classifier) -> dict[str, float]:
    """Tell which stage an epoch, counted from 1, belongs to, and the rate of each layer group at its first step.

    Returns:
        Nothing for a training of a single stage and rate.
    """
    stages, groups = classifier.stages, classifier.groups
    steps = int(classifier.trainer.num_training_batches)
    rates = rates_at(stages, groups, (epoch - 1) * steps, steps)
    if len(stages) == 1 and len(set(rates.values())) == 1:
        return {}
    stage = stage_at(stages, epoch - 1)[0] + 1
    return {"stage": stage, **{f"lr/{group}": rate for group, rate in rates.items()}}


def short_params(settings: Settings) -> dict[str, Any]:
    """Choose what runs are told apart by, under short names: MLflow's pages repeat all of it beside each picture.

    Returns:
        The recipe's numbers by the last part of their key, without what is switched off. The whole configuration is in
        ``config.yaml``.
    """
    net = dict(settings.model)
    params: dict[str, Any] = {"net": str(net.pop("_target_")).rpartition(".")[2], "seed": settings.seed, **net}
    if settings.weights is not None:
        params["weights"] = settings.weights
    params["stages"] = ", ".join(f"{stage.name} {stage.epochs}" for stage in settings.stages)
    params["max_lr"] = ", ".join(str(stage.max_lr) for stage in settings.stages)
    chances = asdict(settings.learning) | asdict(settings.augment)
    params |= {name: value for name, value in chances.items() if value and value != "none"}
    return params | {"split_seed": settings.data.split.seed}


def record_end(
    out: Path, classifier: Classifier, photographs: "PhotoDataModule", temperature: float, backlog: Backlog
) -> None:
    """Give the active MLflow run the trained model and its record.

    Args:
        out: The trained model's folder.
        classifier: What was trained.
        photographs: Two of them become the model's input example.
        temperature: Of the model's probabilities.
        backlog: From :func:`record_start`.
    """
    examples = photographs.val.pixels[:2] if len(photographs.val) > 1 else photographs.train.pixels[:2]
    pixels = np.ascontiguousarray(examples.transpose(0, 3, 1, 2), dtype=np.float32)
    backlog.add(
        *(partial(tracking.log_file, out / name) for name in ("run.json", "history.csv", "split.csv")),
        lambda: tracking.log_model(Scorer(classifier.final_net, temperature), pixels, photographs.classes),
    )
    if backlog.missing:
        print(f"flowers: the MLflow run lacks the last {backlog.missing} records; {out} is whole.", file=sys.stderr)
