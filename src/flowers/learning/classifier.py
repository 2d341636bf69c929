"""THE LightningModule: how one batch becomes one step, for every network and every stage table."""

import math
from dataclasses import asdict
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from flowers.data.augment import Draws, blend, normalise, transform
from flowers.data.datamodule import Batch
from flowers.errors import UserError, suggestion
from flowers.learning.schedule import check_stages, optimizer_groups, rates_at
from flowers.learning.stages import layer_groups, set_trainable, stage_at, trained_groups
from flowers.seeds import derive_seed
from flowers.settings import Augment, Learning, Stage

OPTIMIZERS = ("adamw", "sgd")

_LEAST = {"batch_size": 1}
_BELOW = dict.fromkeys(("momentum", "label_smoothing", "ema_decay"), 1)
"""What a number must reach where that is not 0, and what it must stay below."""


class Classifier(lightning.LightningModule):
    """Trains a network by a stage table, with cross-entropy on its logits.

    All randomness, all rates and what trains are functions of (seed, epoch, step), so the only state is what a
    checkpoint holds: weights, optimiser, averages and counters. A run resumed from an epoch's end is bit-equal to one
    that was never interrupted.

    Attributes:
        net: The network that is optimised.
        averaged: The exponential moving average of its weights and buffers, or None.
        val_confusion: (K,K) counts of the last validation, rows truth, columns prediction.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        train_count: int,
        learning: Learning,
        stages: list[Stage],
        augment: Augment,
        seed: int,
    ) -> None:
        """Take the network over.

        Args:
            net: Images (B,3,H,W) to logits (B,K), with ``mean`` and ``std`` for its input.
            num_classes: K.
            train_count: Number of training photographs.
            learning: Loss and optimiser.
            stages: The stage table.
            augment: What training images undergo.
            seed: Of augmentation and dropout.

        Raises:
            UserError: If the stage table, the optimiser's name or a number cannot be used.
        """
        super().__init__()
        check_stages(stages, net)
        _check_numbers("learning", asdict(learning))
        _check_numbers("augment", asdict(augment))
        if learning.optimizer not in OPTIMIZERS:
            raise UserError(f"learning.optimizer='{learning.optimizer}': {suggestion(learning.optimizer, OPTIMIZERS)}")
        self.net = net.to(memory_format=torch.channels_last)
        self.averaged: AveragedModel | None = None
        if learning.ema_decay > 0:
            average = get_ema_multi_avg_fn(learning.ema_decay)
            self.averaged = AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
            self.averaged.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(net.mean), persistent=False)
        self.register_buffer("std", torch.tensor(net.std), persistent=False)
        self.num_classes = num_classes
        self.train_count = train_count
        self.learning = learning
        self.stages = stages
        self.augment = augment
        self.seed = seed
        self.groups = list(layer_groups(net))
        # A batch whose loss is no number must show, not be left out of the mean.
        self.train_loss: Metric = MeanMetric(nan_strategy="disable")
        self.val_loss: Metric = MeanMetric(nan_strategy="disable")
        self.train_acc: Metric = MulticlassAccuracy(num_classes, average="micro")
        self.val_acc: Metric = MulticlassAccuracy(num_classes, average="micro")
        self.val_confusion: Metric = MulticlassConfusionMatrix(num_classes)

    @property
    def final_net(self) -> nn.Module:
        """The network that is validated and saved: the average where there is one."""
        return self.net if self.averaged is None else self.averaged.module

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser once, over all groups, with rates that every step sets anew."""
        learning = self.learning
        groups = optimizer_groups(self.net, learning.weight_decay)
        if learning.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=0.0, betas=(learning.momentum, 0.999))
        return torch.optim.SGD(groups, lr=0.0, momentum=learning.momentum, nesterov=learning.momentum > 0)

    def on_train_epoch_start(self) -> None:
        """Apply the stage that this epoch belongs to, and draw the epoch's randomness."""
        epoch = self.current_epoch
        stage = self.stages[stage_at(self.stages, epoch)[0]]
        set_trainable(self.net, trained_groups(stage.train, self.groups))
        if self.averaged is not None:
            self.averaged.eval()
        self.draws = Draws(self.train_count, seed=self.seed, epoch=epoch, mixup_alpha=self.augment.mixup_alpha)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the rates of this step, and restart dropout's random stream at it."""
        steps_per_epoch = int(self.trainer.num_training_batches)
        step = self.current_epoch * steps_per_epoch + batch_idx
        rates = rates_at(self.stages, self.groups, step, steps_per_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rates[group["layer_group"]]
        torch.manual_seed(derive_seed(self.seed, "dropout", step))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of an augmented batch."""
        rows = batch.ids.cpu()
        uniform = self.draws.uniform[rows].to(self.device)
        targets = batch.labels
        with torch.autocast(self.device.type, enabled=False):  # pixels have more levels than bfloat16 can tell apart
            images = transform(batch.images, uniform, self.augment, self.mean, self.std)
            if self.augment.mixup_alpha > 0:
                mix, partner = (draw[rows].to(self.device) for draw in (self.draws.mix, self.draws.partner))
                images, targets = blend(images, targets, mix, partner, self.num_classes)
        # A float32 batch keeps the channels-last layout of the stored pixels, whatever happened to it above.
        logits = self.net(images.contiguous(memory_format=torch.channels_last)).float()
        loss = functional.cross_entropy(logits, targets, label_smoothing=self.learning.label_smoothing)
        self.train_loss.update(loss.detach(), weight=len(rows))
        self.train_acc.update(logits.detach(), batch.labels)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Let the average follow the weights."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.net)

    def on_validation_epoch_start(self) -> None:
        """Count the confusions of this validation alone."""
        self.val_confusion.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch with the network that will be saved."""
        logits = self.final_net(normalise(batch.images, self.mean, self.std)).float()
        self.val_loss.update(functional.cross_entropy(logits, batch.labels), weight=len(batch.labels))
        self.val_acc.update(logits, batch.labels)
        self.val_confusion.update(logits, batch.labels)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True, prog_bar=True)


def _check_numbers(node: str, values: dict[str, Any]) -> None:
    """Refuse numbers with which torch would fail in words of its own, or train nonsense."""
    for name, value in values.items():
        least, below = _LEAST.get(name, 0), _BELOW.get(name, math.inf)
        if isinstance(value, int | float) and not least <= value < below:
            limit = "" if below == math.inf else f" and less than {below}"
            raise UserError(f"{node}.{name}={value} must be at least {least}{limit}; correct the recipe.")
