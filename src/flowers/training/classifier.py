"""THE LightningModule: how one batch becomes one step, for every network and every stage table."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from flowers.config.compose import instantiate
from flowers.config.provenance import derive_seed
from flowers.config.schema import Stage
from flowers.data.augment import Augment, AugmentParams, as_pixels, mix_batch, normalise, reduced, transform
from flowers.data.datamodule import UNBALANCED, Batch, PhotoDataModule, PhotoDataset, class_weights
from flowers.errors import UserError
from flowers.models.inference import photographs_at_once
from flowers.models.nets import Net, build_network, layer_groups
from flowers.models.weights import start_from
from flowers.training.feature_bank import FeatureBank, apply_part, frozen_border
from flowers.training.stages import (
    check_stages,
    optimizer_groups,
    optimizer_steps,
    rates_at,
    scaled_stages,
    set_trainable,
    stage_at,
    total_epochs,
    trained_groups,
)

Part = nn.Module | Mapping[str, Any]
"""A module, or the ``_target_`` and arguments of one."""


class Classifier(lightning.LightningModule):
    """Trains a network by a stage table.

    All randomness, all rates and what trains are functions of (seed, epoch, step), so the only state is what a
    checkpoint holds: weights, optimiser, averages and counters. A run resumed from an epoch's end is bit-equal to one
    that was never interrupted.

    A batch is (images, labels, rows): (B,3,H,W) uint8, (B,) int64, and the photographs' places in the training split;
    or (images, labels) from a DataModule of your own, with images uint8, or float in [0, 1].

    Attributes:
        net: The network that is optimised.
        averaged: The exponential moving average of its weights and buffers, or None.
        stages: The stage table, as long as the Trainer's ``max_epochs``.
        val_confusion: (K,K) counts of the last validation, rows truth, columns prediction.
        last_losses: (B,) loss of each photograph of the batch that was just seen.
        image_px: Side of the images that the network wants; None if it does not say.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        num_classes: int,
        net: Part,
        loss: Part,
        optimizer: Callable[..., torch.optim.Optimizer] | Mapping[str, Any],
        augment: Callable[[Tensor], Tensor] | Mapping[str, Any],
        stages: list[Stage],
        ema_decay: float,
        class_weights: str,
        weights: str | None,
        weights_sha256: str | None,
        features_gib: float,
        compile: bool,
        image_px: int | None,
        seed: int,
    ) -> None:
        """Make or take the parts.

        What is given as a ``_target_`` with arguments is made here, and kept in checkpoints, so that
        ``load_from_checkpoint`` needs nothing but the file; what is given as an object has to be given to it again.

        Args:
            num_classes: K.
            net: Images (B,3,H,W) to logits (B,K), made with ``num_classes``. Its direct children are the layer groups,
                the last is the head; ``mean``, ``std`` and ``image_px`` say how its input is prepared, where it has
                them. A :class:`flowers.models.nets.Net` can also be cut where it is frozen.
            loss: Logits (B,K) and labels (B,), or with MixUp probabilities (B,K), to a loss for each (B,) or for all.
            optimizer: Makes an optimiser of parameter groups.
            augment: Strengths of our own augmentation, or anything that changes one image (3,H,W) uint8 at a time.
            stages: The stage table.
            ema_decay: Decay of the weights' exponential moving average, which is then what is validated and saved, in
                [0, 1); 0: none.
            class_weights: For classes of unequal size, what a photograph counts in the loss: the same (`none`), so much
                that each class counts the same (`inverse`), or half way there (`sqrt`).
            weights: What the network starts from, its head excepted: a file, or `hub`; None: random weights.
            weights_sha256: Digest that the file must have.
            features_gib: Memory for the outputs of frozen layers; what is larger goes to a memory-mapped file in the
                Trainer's ``default_root_dir``. 0: keep none and run the frozen layers each time, with the same result.
            compile: Compile the part that trains with `torch.compile`; where that fails, go on without, after a
                warning.
            image_px: Side of the images, for a network that does not say it.
            seed: Of augmentation and dropout.

        Raises:
            UserError: If the stage table, the weights or a number cannot be used.
        """
        super().__init__()
        parts = {"net": net, "loss": loss, "optimizer": optimizer, "augment": augment}
        self.save_hyperparameters(ignore=[name for name in parts if not isinstance(parts[name], Mapping)], logger=False)
        self.table = [stage if isinstance(stage, Stage) else Stage(**stage) for stage in stages]
        # As a checkpoint may hold them; what the training started from is no longer needed.
        self.hparams.update(stages=[vars(stage).copy() for stage in self.table], weights=None, weights_sha256=None)
        built = net if isinstance(net, nn.Module) else build_network(net, num_classes, image_px)
        check_stages(self.table, built)
        self.net: nn.Module = built.to(memory_format=torch.channels_last)
        self.loss: nn.Module = loss if isinstance(loss, nn.Module) else instantiate("model.loss", loss)
        self.optimizer = instantiate("model.optimizer", optimizer) if isinstance(optimizer, Mapping) else optimizer
        self.augment = instantiate("model.augment", augment) if isinstance(augment, Mapping) else augment
        for name, value, below in (
            ("ema_decay", ema_decay, 1),
            ("loss.label_smoothing", getattr(self.loss, "label_smoothing", 0), 1),
            ("features_gib", features_gib, math.inf),
        ):
            if not 0 <= value < below:
                limit = " and less than 1" if below == 1 else ""
                raise UserError(f"model.{name}={value} must be at least 0{limit}; correct the recipe.")
        try:  # now, not after the photographs are decoded, is the time to learn that it does not take its arguments
            self.optimizer([nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise UserError(f"'model.optimizer' cannot be built: {error}; correct the recipe.") from error
        if weights is not None:  # after all checks, as they may have to be fetched
            start_from(built, weights, weights_sha256)
        self.weight_decay = float(getattr(self.optimizer, "keywords", {}).get("weight_decay", 0))
        self.averaged: AveragedModel | None = None
        if ema_decay > 0:
            average = get_ema_multi_avg_fn(ema_decay)
            self.averaged = AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
            self.averaged.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(getattr(built, "mean", Net.mean)), persistent=False)
        self.register_buffer("std", torch.tensor(getattr(built, "std", Net.std)), persistent=False)
        self.num_classes, self.class_weights, self.seed = num_classes, class_weights, seed
        self.image_px: int | None = getattr(built, "image_px", image_px)
        self.stages, self.groups = self.table, list(layer_groups(built))
        self.features_bytes = int(features_gib * 2**30)
        self.apply_trained = torch.compile(apply_part) if compile else apply_part
        self.by_class: Tensor | None = None
        self.last_losses = torch.empty(0)
        self.photographs: tuple[PhotoDataset, PhotoDataset] | None = None
        self.border = self.view = 0
        self.bank: FeatureBank | None = None
        self.val_bank: FeatureBank | None = None
        self._dropouts = [(module, module.p) for module in built.modules() if isinstance(module, nn.Dropout)]
        self.measures = nn.ModuleDict()
        for split in ("train", "val", "test"):
            # A batch whose loss is no number must show, not be left out of the mean.
            self.measures[f"{split}/loss"] = MeanMetric(nan_strategy="disable")
            self.measures[f"{split}/acc"] = MulticlassAccuracy(num_classes, average="micro")
        self.val_confusion: Metric = MulticlassConfusionMatrix(num_classes)

    @property
    def final_net(self) -> nn.Module:
        """The network that is validated and saved: the average where there is one."""
        return self.net if self.averaged is None else self.averaged.module

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser once, over all groups, with rates that every step sets anew."""
        return self.optimizer(optimizer_groups(self.net, self.weight_decay))

    def on_fit_start(self) -> None:
        """Fit the stage table to the Trainer's epochs, and the loss to the classes' sizes."""
        self.stages = scaled_stages(self.table, self.trainer.max_epochs or -1)
        # What an earlier fit, of other photographs perhaps, left when it was interrupted.
        self._bank_stage, self.bank, self.val_bank = -1, None, None
        found = getattr(self.trainer, "datamodule", None)
        self.photographs = (found.train, found.val) if isinstance(found, PhotoDataModule) else None
        if self.class_weights != UNBALANCED:
            tried = torch.zeros(2, self.num_classes, device=self.device)
            if self.photographs is None or self.loss(tried, tried[:, 0].long()).shape != (2,):
                raise UserError(
                    f"model.class_weights={self.class_weights} needs a loss for each photograph (reduction: none) and "
                    "this package's DataModule; set it to none."
                )
            labels = self.photographs[0].labels
            by_class = class_weights("model.class_weights", self.class_weights, labels, self.num_classes)
            self.by_class = by_class.to(self.device)

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
        count = 0 if self.photographs is None else len(self.photographs[0])
        self.border = frozen_border(self.net, trained) if count else 0
        self.draws = self.view_draws = self._draw(epoch, count)
        if self.border and self.stage.views:
            self.view = (epoch - first_epoch) % self.stage.views
            self.view_draws = self._draw(first_epoch + self.view, count)
        self._use_bank(index)

    def _draw(self, epoch: int, count: int) -> AugmentParams:
        alpha = getattr(self.augment, "mixup_alpha", 0) or getattr(self.augment, "cutmix_alpha", 0)
        return AugmentParams(count, seed=self.seed, epoch=epoch, mixup_alpha=alpha)

    def _use_bank(self, index: int) -> None:
        """Fill the bank with what this epoch needs of it, and have the loaders leave out what it stands for."""
        if self.photographs is None:
            return
        train, val = self.photographs
        if index != self._bank_stage:  # also after a restart: what a bank holds can always be computed again
            self._bank_stage = index
            self.bank = self.val_bank = None
            if self.border and self.stage.views and self.features_bytes:
                folder, at_once = Path(self.trainer.default_root_dir), photographs_at_once(self.device)
                self.bank = FeatureBank(len(train), self.stage.views, self.features_bytes, folder, at_once)
                # While an average still follows the frozen layers, its own outputs of them change.
                if self.final_net is self.net or _equal_parts(self.final_net, self.net, self.border):
                    self.val_bank = FeatureBank(len(val), 1, self.features_bytes, folder, at_once)
        train.with_images, val.with_images = self.bank is None, self.val_bank is None
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            if self.bank is not None:
                self.bank.fill(self.view, lambda rows: self._frozen(train.images(rows), torch.tensor(rows)))
            if self.val_bank is not None:
                self.val_bank.fill(0, lambda rows: self._frozen_val(val.images(rows)))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the rates of the step that this batch belongs to, and restart dropout's random stream at the batch."""
        if batch_idx == self.current_epoch == 0 and self.photographs is None:
            self._compare_with_predict(batch[0])
        steps = optimizer_steps(self.trainer)
        step = self.current_epoch * steps + batch_idx // self.trainer.accumulate_grad_batches
        rates = rates_at(self.stages, self.groups, step, steps)
        decay = self.weight_decay if self.stage.weight_decay is None else self.stage.weight_decay
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rates[group["layer_group"]]
            group["weight_decay"] = decay if group["name"].endswith("/decay") else 0.0
        self.steps_done = self.trainer.global_step
        batch_number = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        torch.manual_seed(derive_seed(self.seed, "dropout", batch_number))

    def _compare_with_predict(self, images: Tensor) -> None:
        """Say on stderr if somebody else's images (B,3,H,W) are others than the network will be given later."""
        (height_px, width_px), levels = images.shape[-2:], as_pixels(images) / 255
        low, high = float(levels.min()), float(levels.max())
        if self.image_px is not None and not height_px == width_px == self.image_px:
            print(
                f"flowers: the batches hold images of {width_px} × {height_px} px, but predict will give this network "
                f"{self.image_px} × {self.image_px} px; see model.net.image_px, or model.image_px.",
                file=sys.stderr,
            )
        if low < -0.5 or high > 1.5:  # resampling may overshoot by a little
            print(
                f"flowers: the batches hold numbers from {low:.3g} to {high:.3g}, but images are uint8, or float in "
                "[0, 1], which the network normalises itself; predict will give it others than these.",
                file=sys.stderr,
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of an augmented batch."""
        images, labels, *others = batch
        if others:
            rows = others[0].cpu()
        else:  # somebody else's batches, whose images have no number of their own
            rows = torch.arange(len(labels))
            number = derive_seed(self.seed, "batch", self.current_epoch, batch_idx)
            self.draws = self.view_draws = self._draw(number, len(labels))
        if self.bank is not None:
            activations = self.bank.take(self.view, rows).to(self.device)
        elif self.border:
            with torch.no_grad():
                activations = self._frozen(images, rows)
        else:
            activations = self._augmented(images, rows)
        targets = labels
        if isinstance(self.augment, Augment):
            # Photographs are blended where training begins, so that the bank can hold each by itself.
            activations, targets = mix_batch(activations, labels, self.draws, rows, self.augment, self.num_classes)
        logits = self._trained(activations)
        losses = self.loss(logits, targets)
        if self.by_class is not None:
            losses = losses * weights_of(targets, self.by_class)
        self._measure("train", losses, logits, labels, batch_idx)
        return losses.mean()

    def _trained(self, activations: Tensor) -> Tensor:
        """Apply the part that trains, compiled or not; where the compiler fails, warn once and go on without."""
        try:
            return self.apply_trained(self.net, self.border, None, activations).float()
        except Exception as error:  # no C++ compiler, an operator it does not know …
            if self.apply_trained is apply_part:
                raise
            reason = " ".join(str(error).split())[:160]
            print(f"flowers: torch.compile failed ({reason}); training goes on without it.", file=sys.stderr)
            self.apply_trained = apply_part
            return self._trained(activations)

    def _measure(self, split: str, losses: Tensor, logits: Tensor, labels: Tensor, batch_idx: int) -> None:
        """Count a batch in the loss and the accuracy of its split."""
        self.last_losses = losses.detach()
        measures: dict[str, Any] = {name: self.measures[name] for name in (f"{split}/loss", f"{split}/acc")}
        measures[f"{split}/loss"].update(self.last_losses.mean(), weight=len(labels))
        measures[f"{split}/acc"].update(logits.detach(), labels)
        # Lightning computes them when the epoch is over. To say so once is enough, and what it does on each call takes
        # as long as a step of a linear head.
        if batch_idx == 0:
            self.log_dict(measures, on_step=False, on_epoch=True, prog_bar=True)

    def _augmented(self, images: Tensor, rows: Tensor) -> Tensor:
        """Augment and normalise images (B,3,H,W), given their rows, to the stage's size, float32."""
        images = as_pixels(images).to(self.device)
        if self.stage.image_px is not None and self.stage.image_px != images.shape[-1]:
            images = reduced(images, self.stage.image_px)
        with torch.autocast(self.device.type, enabled=False):  # pixels have more levels than bfloat16 can tell apart
            if self.border and self.stage.views == 1:
                images = normalise(images, self.mean, self.std)
            elif not isinstance(self.augment, Augment):
                images = normalise(self._change_each(images, rows), self.mean, self.std)
            else:
                uniform, box, worse = (each.to(self.device) for each in self.view_draws.of(rows))
                images = transform(images, uniform, box, worse, self.augment, self.mean, self.std)
        # A float32 batch keeps the channels-last layout of the stored pixels, whatever happened to it above.
        return images.contiguous(memory_format=torch.channels_last)

    def _change_each(self, images: Tensor, rows: Tensor) -> Tensor:
        """Apply somebody else's augmentation to each image by itself, with chances of (seed, epoch, image) alone."""
        changed = []
        with torch.random.fork_rng(devices=[]):
            for image, row in zip(images, rows.tolist(), strict=True):
                torch.manual_seed(derive_seed(self.seed, "image", self.view_draws.epoch, row))
                changed.append(as_pixels(self.augment(image)))
        return torch.stack(changed)

    def _frozen(self, images: Tensor, rows: Tensor) -> Tensor:
        return apply_part(self.net, 0, self.border, self._augmented(images, rows))

    def _frozen_val(self, images: Tensor) -> Tensor:
        return apply_part(self.final_net, 0, self.border, normalise(images.to(self.device), self.mean, self.std))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Let the average follow the weights, where the batch ended a step of the optimiser."""
        if self.averaged is not None and self.trainer.global_step > self.steps_done:
            self.averaged.update_parameters(self.net)

    def on_validation_epoch_start(self) -> None:
        """Count the confusions of this validation alone."""
        self.val_confusion.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch with the network that will be saved."""
        labels = batch[1]
        if self.val_bank is None:
            logits = self(batch[0])
        else:
            features = self.val_bank.take(0, batch.ids.cpu()).to(self.device)
            logits = apply_part(self.final_net, self.border, None, features).float()
        self._measure("val", functional.cross_entropy(logits, labels, reduction="none"), logits, labels, batch_idx)
        self.val_confusion.update(logits, labels)

    def on_train_epoch_end(self) -> None:
        """Stop where the stage table ends, if the Trainer was told of no end."""
        if self.current_epoch + 1 >= total_epochs(self.stages):
            self.trainer.should_stop = True

    def on_fit_end(self) -> None:
        """Leave nothing behind that stands for photographs: what is validated next may be others."""
        self.bank = self.val_bank = None
        for photographs in self.photographs or ():
            photographs.with_images = True

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B,3,H,W), uint8 or float in [0, 1], to logits (B,K) of the network that is saved."""
        return self.final_net(normalise(as_pixels(images).to(self.device), self.mean, self.std)).float()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch of the test, without calibration."""
        logits, labels = self(batch[0]), batch[1]
        self._measure("test", functional.cross_entropy(logits, labels, reduction="none"), logits, labels, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Classify a batch, or images alone: probabilities (B,K), without calibration."""
        return self(batch if isinstance(batch, Tensor) else batch[0]).softmax(dim=1)


def weights_of(targets: Tensor, by_class: Tensor) -> Tensor:
    """Weigh examples by their true classes, those of which two are blended by both.

    The weights that torch's losses take would weigh what label smoothing gives to the other classes by *their* weights:
    the rarest class would then win everywhere.

    Args:
        targets: Labels (B,) int64, or probabilities (B,K).
        by_class: (K,) float32.

    Returns:
        (B,) float32.
    """
    return by_class[targets] if targets.ndim == 1 else (targets * by_class).sum(dim=1)


def _equal_parts(net: Any, other: nn.Module, border: int) -> bool:
    """Compare the first parts of two networks of one architecture, weights and buffers."""
    frozen = {name for names, _ in net.layer_parts()[:border] for name in names}
    pairs = zip(layer_groups(net).items(), layer_groups(other).values(), strict=True)
    compared = [(ours.state_dict(), theirs.state_dict()) for (name, ours), theirs in pairs if name in frozen]
    return all(torch.equal(tensor, theirs[name]) for ours, theirs in compared for name, tensor in ours.items())
