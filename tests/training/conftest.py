"""What the tests of training share: stages, a classifier, and a fit with Lightning like that of `train`."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import nn

from flowers.config.schema import Split, Stage
from flowers.curation.manifest import scan
from flowers.curation.split_table import write_splits
from flowers.curation.splits import assign_splits
from flowers.data.augment import Augment
from flowers.data.datamodule import PhotoDataModule
from flowers.training.classifier import Classifier
from flowers.training.stages import total_epochs
from flowers.training.trainer import quiet_lightning

UNCHANGED = Augment(
    flip=False,
    rotation_deg=0,
    zoom_frac=0,
    aspect_frac=0,
    translation_frac=0,
    brightness=0,
    contrast=0,
    saturation=0,
    erase_frac=0,
    mixup_alpha=0,
    cutmix_alpha=0,
)


@pytest.fixture(scope="session")
def batches_of(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], PhotoDataModule]:
    """A function that makes the data module anew: 3 batches of 8 photographs of 32 px, and 6 for validation."""
    folder = tmp_path_factory.mktemp("pixels")
    shares = Split(val_frac=0.15, test_frac=0.15, folds=5, seed=0, near_bits=-1)
    write_splits(assign_splits(scan(photographs, strict=True), shares), folder / "split.csv")

    def make() -> PhotoDataModule:
        return PhotoDataModule(
            name="photographs",
            root=str(photographs),
            source=None,
            strict=True,
            decisions=None,
            split=shares,
            split_csv=str(folder / "split.csv"),
            cache_dir=str(folder),
            image_px=32,
            batch_size=8,
            sampling="none",
            seed=0,
        )

    return make


@pytest.fixture
def make_classifier() -> Callable[..., Classifier]:
    """A function of a network, a stage table and changes of the augmentation, the optimiser or the module."""

    def make(net: nn.Module, stages: list[Stage], seed: int = 0, **changes: Any) -> Classifier:
        of_augment = {name: changes.pop(name) for name in list(changes) if hasattr(UNCHANGED, name)}
        of_optimizer = {name: changes.pop(name, value) for name, value in OPTIMIZER.items()}
        smoothing = changes.pop("label_smoothing", 0)
        return Classifier(
            num_classes=3,
            net=net,
            loss=nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none"),
            optimizer=changes.pop("optimizer", functools.partial(torch.optim.AdamW, **of_optimizer)),
            augment=changes.pop("augment", replace(UNCHANGED, **of_augment)),
            stages=stages,
            seed=seed,
            **{**CHOICES, **changes},
        )

    return make


class StopAfter(Checkpoint):  # which Lightning calls last: to an EpochCheckpoint this is an interruption, and no end
    """Stops a training after some epochs, whatever its Trainer was told."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or trainer.current_epoch + 1 >= self.epochs


CHOICES: dict[str, Any] = {
    "ema_decay": 0,
    "class_weights": "none",
    "weights": None,
    "weights_sha256": None,
    "features_gib": 0,
    "compile": False,
    "image_px": None,
}
OPTIMIZER = {"betas": (0.9, 0.999), "weight_decay": 0.05}


@pytest.fixture
def fit(batches_of: Callable[[], PhotoDataModule]) -> Callable[..., lightning.Trainer]:
    """A function that trains a classifier for some epochs, going on from a checkpoint, with changes of the Trainer."""

    def run(
        classifier: Classifier, epochs: int, *callbacks: Callback, ckpt_path: Path | None = None, **changes: Any
    ) -> lightning.Trainer:
        with quiet_lightning():
            trainer = lightning.Trainer(
                accelerator="cpu",
                devices=1,
                # As an interruption does, and not by a shorter stage table.
                max_epochs=max(epochs, total_epochs(classifier.table)),
                callbacks=[*callbacks, StopAfter(epochs)],
                deterministic=True,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                **changes,
            )
            trainer.fit(classifier, datamodule=batches_of(), ckpt_path=ckpt_path, weights_only=True)
        return trainer

    return run
