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

from flowers.config.schema import Augment, Learning, Stage
from flowers.config.seeds import derive_seed
from flowers.data.augment import Draws, erase, mix_up, normalise, transform
from flowers.data.datamodule import Batch, class_weights
from flowers.errors import UserError, suggestion
from flowers.training.feature_bank import NO_BANK, BankPlace, FeatureBank, apply_part, compile_part, frozen_border
from flowers.training.stages import (
    check_stages,
    layer_groups,
    optimizer_groups,
    rates_at,
    set_trainable,
    stage_at,
    trained_groups,
)

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
        last_losses: (B,) loss of each photograph of the batch that was just seen.
    """

    mean: Tensor
    std: Tensor
    class_weights: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        train_labels: Tensor,
        learning: Learning,
        stages: list[Stage],
        augment: Augment,
        seed: int,
        features: BankPlace = NO_BANK,
        compiled: bool = False,
    ) -> None:
        """Take the network over.

        Args:
            net: Images (B,3,H,W) to logits (B,K), with ``mean`` and ``std`` for its input.
            num_classes: K.
            train_labels: (N,) int64, of the training photographs.
            learning: Loss and optimiser.
            stages: The stage table.
            augment: What training images undergo.
            seed: Of augmentation and dropout.
            features: Where the outputs of frozen layers are kept.
            compiled: Compile the part that trains.

        Raises:
            UserError: If the stage table, the optimiser's name or a number cannot be used.
        """
        super().__init__()
        check_stages(stages, net)
        _check_numbers("learning", asdict(learning))
        _check_numbers("augment", asdict(augment))
        if augment.mixup_alpha and augment.cutmix_alpha:
            raise UserError("augment.mixup_alpha and augment.cutmix_alpha exclude each other; set one of them to 0.")
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
        self.train_count = len(train_labels)
        by_class = class_weights("learning.class_weights", learning.class_weights, train_labels, num_classes)
        self.register_buffer("class_weights", by_class, persistent=False)
        self.learning = learning
        self.stages = stages
        self.augment = augment
        self.seed = seed
        self.groups = list(layer_groups(net))
        self.features = features
        self.trained_part = compile_part() if compiled else apply_part
        self.border = 0
        self.view = 0
        self.last_losses = torch.empty(0)
        self.bank: FeatureBank | None = None
        self.val_bank: FeatureBank | None = None
        self._bank_stage = -1
        self._dropouts = [(module, module.p) for module in net.modules() if isinstance(module, nn.Dropout)]
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
        index, first_epoch = stage_at(self.stages, epoch)
        self.stage = self.stages[index]
        trained = trained_groups(self.stage.train, self.groups)
        set_trainable(self.net, trained)
        if self.averaged is not None:
            self.averaged.eval()
        for module, dropout in self._dropouts:
            module.p = dropout if self.stage.dropout is None else self.stage.dropout
        self.border = frozen_border(self.net, trained)
        self.draws = self.view_draws = self._draw(epoch)
        if self.border and self.stage.views:
            self.view = (epoch - first_epoch) % self.stage.views
            self.view_draws = self._draw(first_epoch + self.view)
        self._use_bank(index)

    def _draw(self, epoch: int) -> Draws:
        alpha = self.augment.mixup_alpha or self.augment.cutmix_alpha
        return Draws(self.train_count, seed=self.seed, epoch=epoch, mixup_alpha=alpha)

    def _use_bank(self, index: int) -> None:
        """Fill the bank with what this epoch needs of it, and have the loaders leave out what it stands for."""
        photographs = self.trainer.datamodule  # type: ignore[attr-defined]
        if index != self._bank_stage:  # also after a restart: what a bank holds can always be computed again
            self._bank_stage = index
            self.bank = self.val_bank = None
            if self.border and self.stage.views and self.features.limit_bytes:
                self.bank = FeatureBank(self.train_count, self.stage.views, self.features)
                # While an average still follows the frozen layers, its own outputs of them change.
                if self.final_net is self.net or _equal_parts(self.final_net, self.net, self.border):
                    self.val_bank = FeatureBank(len(photographs.val), 1, self.features)
        photographs.train.with_images = self.bank is None
        photographs.val.with_images = self.val_bank is None
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            if self.bank is not None:
                self.bank.fill(self.view, lambda rows: self._frozen(photographs.train.images(rows), torch.tensor(rows)))
            if self.val_bank is not None:
                self.val_bank.fill(0, lambda rows: self._frozen_val(photographs.val.images(rows)))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the rates of this step, and restart dropout's random stream at it."""
        steps_per_epoch = int(self.trainer.num_training_batches)
        step = self.current_epoch * steps_per_epoch + batch_idx
        rates = rates_at(self.stages, self.groups, step, steps_per_epoch)
        decay = self.learning.weight_decay if self.stage.weight_decay is None else self.stage.weight_decay
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rates[group["layer_group"]]
            group["weight_decay"] = decay if group["name"].endswith("/decay") else 0.0
        torch.manual_seed(derive_seed(self.seed, "dropout", step))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of an augmented batch."""
        rows = batch.ids.cpu()
        if self.bank is not None:
            activations = self.bank.take(self.view, rows).to(self.device)
        elif self.border:
            with torch.no_grad():
                activations = self._frozen(batch.images, rows)
        else:
            activations = self._augmented(batch.images, rows)
        # Photographs are blended where training begins, so that the bank can hold each by itself.
        activations, targets = mix_up(activations, batch.labels, self.draws, rows, self.augment, self.num_classes)
        logits = self.trained_part(self.net, self.border, None, activations).float()
        losses = functional.cross_entropy(
            logits, targets, self.class_weights, reduction="none", label_smoothing=self.learning.label_smoothing
        )
        loss = losses.mean()
        self.last_losses = losses.detach()
        self.train_loss.update(loss.detach(), weight=len(rows))
        self.train_acc.update(logits.detach(), batch.labels)
        if batch_idx == 0:
            self._log_at_epoch_end("train/loss", self.train_loss)
            self._log_at_epoch_end("train/acc", self.train_acc)
        return loss

    def _log_at_epoch_end(self, name: str, metric: Metric) -> None:
        """Have Lightning compute a metric when the epoch is over.

        Once an epoch is enough, and what Lightning does on each call takes as long as a step of a linear head.
        """
        self.log(name, metric, on_step=False, on_epoch=True, prog_bar=True)

    def _augmented(self, images: Tensor, rows: Tensor) -> Tensor:
        """Augment photographs (B,3,H,W) uint8, given their rows, to (B,3,H,W) float32."""
        images = images.to(self.device)
        with torch.autocast(self.device.type, enabled=False):  # pixels have more levels than bfloat16 can tell apart
            if self.border and self.stage.views == 1:
                images = normalise(images, self.mean, self.std)
            else:
                uniform = self.view_draws.uniform[rows].to(self.device)
                images = transform(images, uniform, self.augment, self.mean, self.std)
                if self.augment.erase_frac:
                    images = erase(images, self.view_draws.box[rows].to(self.device), self.augment.erase_frac)
        # A float32 batch keeps the channels-last layout of the stored pixels, whatever happened to it above.
        return images.contiguous(memory_format=torch.channels_last)

    def _frozen(self, images: Tensor, rows: Tensor) -> Tensor:
        return apply_part(self.net, 0, self.border, self._augmented(images, rows))

    def _frozen_val(self, images: Tensor) -> Tensor:
        return apply_part(self.final_net, 0, self.border, normalise(images.to(self.device), self.mean, self.std))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Let the average follow the weights."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.net)

    def on_validation_epoch_start(self) -> None:
        """Count the confusions of this validation alone."""
        self.val_confusion.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch with the network that will be saved."""
        if self.val_bank is None:
            logits = self.final_net(normalise(batch.images, self.mean, self.std)).float()
        else:
            features = self.val_bank.take(0, batch.ids.cpu()).to(self.device)
            logits = apply_part(self.final_net, self.border, None, features).float()
        self.last_losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        self.val_loss.update(self.last_losses.mean(), weight=len(batch.labels))
        self.val_acc.update(logits, batch.labels)
        self.val_confusion.update(logits, batch.labels)
        if batch_idx == 0:
            self._log_at_epoch_end("val/loss", self.val_loss)
            self._log_at_epoch_end("val/acc", self.val_acc)


def _equal_parts(net: nn.Module, other: nn.Module, border: int) -> bool:
    """Compare the first children of two networks of one architecture, weights and buffers."""
    ours, theirs = (nn.Sequential(*list(each.children())[:border]).state_dict() for each in (net, other))
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def _check_numbers(node: str, values: dict[str, Any]) -> None:
    """Refuse numbers with which torch would fail in words of its own, or train nonsense."""
    for name, value in values.items():
        least, below = _LEAST.get(name, 0), _BELOW.get(name, math.inf)
        if isinstance(value, int | float) and not least <= value < below:
            limit = "" if below == math.inf else f" and less than {below}"
            raise UserError(f"{node}.{name}={value} must be at least {least}{limit}; correct the recipe.")
