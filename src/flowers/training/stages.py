"""The stage table: what trains in which epoch.

A training is a list of :class:`flowers.config.schema.Stage`. What trains is a pure function of that list and the epoch,
so that a run resumed anywhere trains what an uninterrupted one would. Nothing here keeps state.
"""

import functools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from flowers.config.schema import Stage
from flowers.errors import UserError, reason_of, suggestion
from flowers.models.nets import Net, layer_groups


def total_epochs(stages: Sequence[Stage]) -> int:
    """Add up the epochs of all stages."""
    return sum(stage.epochs for stage in stages)


def scaled_stages(stages: Sequence[Stage], max_epochs: int) -> list[Stage]:
    """Make a stage table longer or shorter, in proportion, so that it fills a number of epochs.

    Args:
        stages: The stage table.
        max_epochs: As of ``lightning.Trainer``; -1: as long as the table is.

    Returns:
        The table, its epochs rounded so that they add up (by the largest remainders).
    """
    total = total_epochs(stages)
    if max_epochs in (-1, total):
        return list(stages)
    exact = [stage.epochs * max_epochs / total for stage in stages]
    epochs = [int(each) for each in exact]
    by_rest = sorted(range(len(stages)), key=lambda i: (epochs[i] - exact[i], -i))
    for i in by_rest[: max_epochs - sum(epochs)]:
        epochs[i] += 1
    return [replace(stage, epochs=each) for stage, each in zip(stages, epochs, strict=True)]


def stage_at(stages: Sequence[Stage], epoch: int) -> tuple[int, int]:
    """Find the stage that an epoch belongs to.

    Args:
        stages: The stage table.
        epoch: In [0, total_epochs).

    Returns:
        The stage's index and its first epoch.

    Raises:
        ValueError: If the epoch is outside the table.
    """
    ends = _ends(stages)
    if not 0 <= epoch < ends[-1]:
        raise ValueError(f"epoch {epoch} is not in a stage table of {ends[-1]} epochs")
    index = bisect_right(ends, epoch)
    return index, ends[index] - stages[index].epochs


def _ends(stages: Sequence[Stage]) -> list[int]:
    """Add up: how many epochs are done at the end of each stage."""
    return list(accumulate(stage.epochs for stage in stages))


def describe_stages(stages: Sequence[Stage]) -> str:
    """Say in words which epochs, counted from 1, belong to which stage."""
    ended = zip(stages, _ends(stages), strict=True)
    return "; ".join(f"{stage.name}: epochs {end - stage.epochs + 1} to {end}" for stage, end in ended if stage.epochs)


def ended_stages(stages: Sequence[Stage], epoch: int) -> list[int]:
    """Number the stages, from 1, that end with an epoch: one that has epochs, and such as follow it and have none."""
    return [number for number, end in enumerate(_ends(stages), start=1) if end == epoch + 1]


def trained_groups(train: str | Sequence[str], groups: Sequence[str]) -> list[str]:
    """Resolve a stage's `train` entry to group names.

    Args:
        train: ``all``, ``head``, ``last:N``, or a list of names.
        groups: The network's layer groups, from the input to the head.

    Returns:
        The groups that train, in the network's order.

    Raises:
        UserError: If the entry is none of these or names a group that does not exist.
    """
    if isinstance(train, str) or not isinstance(train, Sequence):
        counts = {"all": len(groups), "head": 1} | {f"last:{n}": n for n in range(1, len(groups) + 1)}
        count = counts.get(str(train))
        if count is None:
            raise UserError(
                f"stages: train={train!r} is none of all, head, last:1 … last:{len(groups)} or a list of "
                f"{', '.join(groups)}; correct the recipe, or give model.stages.N.train=… (the first stage is 0)."
            )
        return list(groups[-count:])
    for name in train:
        if name not in groups:
            raise UserError(f"stages: the network has no layer group '{name}': {suggestion(str(name), groups)}")
    if not train:
        raise UserError("stages: train=[] trains nothing; name layer groups, or set epochs to 0 to skip the stage.")
    return [name for name in groups if name in train]


def peak_rates(max_lr: float | Sequence[float], trained: Sequence[str]) -> dict[str, float]:
    """Give each training group the peak of its one-cycle.

    Args:
        max_lr: One rate for all, or a pair: that of the first training group and that of the last, with the groups
            between spread geometrically (Howard & Ruder 2018 call it discriminative fine-tuning).
        trained: Names of the training groups, from the input to the head.

    Returns:
        A rate for each name.

    Raises:
        UserError: If it is neither, or a rate is not positive.
    """
    ends = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr, max_lr]
    if len(ends) != 2 or not all(isinstance(rate, int | float) and rate > 0 for rate in ends):
        raise UserError(f"stages: max_lr={max_lr!r} must be a positive number or a pair of them; correct the recipe.")
    low, high = ends
    steps = max(len(trained) - 1, 1)
    # With a single training group, the pair's upper end is meant: the head's rate.
    positions = range(len(trained)) if len(trained) > 1 else [1]
    return {name: low * (high / low) ** (i / steps) for name, i in zip(trained, positions, strict=True)}


def set_trainable(net: nn.Module, trained: Sequence[str]) -> None:
    """Train the named groups and freeze the others, wholly.

    A frozen group has ``requires_grad=False`` and is in ``eval()``: its batch-norms use and keep their running
    statistics, its dropout is off, and no autograd graph is made for it.
    """
    for name, group in layer_groups(net).items():
        trains = name in trained
        group.requires_grad_(trains)
        group.train(trains)


def optimizer_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Put each parameter into exactly one group, (layer group) × (decays or not).

    Weights with two or more dimensions decay, unless ``net.no_decay`` names them; biases, and the scales and offsets of
    normalisations, do not.

    Args:
        net: A network in layer groups.
        weight_decay: Of the decaying groups.

    Returns:
        Arguments for a torch optimiser; each has ``layer_group`` and ``name`` besides ``params``, ``weight_decay``.
        Groups without parameters are left out.
    """
    groups: list[dict[str, Any]] = []
    plain = {id(net.get_parameter(name)) for name in getattr(net, "no_decay", ())}
    for name, module in layer_groups(net).items():
        for kind, decay in (("decay", weight_decay), ("plain", 0.0)):
            params = [p for p in module.parameters() if (p.ndim >= 2 and id(p) not in plain) == (kind == "decay")]
            if params:
                groups.append({"params": params, "weight_decay": decay, "layer_group": name, "name": f"{name}/{kind}"})
    assigned = [id(p) for group in groups for p in group["params"]]
    if sorted(assigned) != sorted(id(p) for p in net.parameters()):
        raise ValueError(f"the layer groups of {type(net).__name__} share or miss parameters")
    return groups


def one_cycle(
    step: int, total_steps: int, peak: float, *, warmup_frac: float, start_div: float, end_div: float
) -> float:
    """Evaluate the one-cycle rate in closed form (Smith 2018, cosine-shaped as in fastai and PyTorch).

    A rise of one step or less is left out: the first step then has the peak. (PyTorch's would begin within the fall, or
    divide by zero.)

    Args:
        step: In [0, total_steps).
        total_steps: At least 1.
        peak: The highest rate.
        warmup_frac: Share of the steps that rise, in [0, 1).
        start_div: The first rate is ``peak / start_div``.
        end_div: The last rate is ``peak / start_div / end_div``.

    Returns:
        The rate of that step.
    """
    start = peak / start_div
    end = start / end_div
    top_step = warmup_frac * total_steps - 1
    if step <= top_step:
        return _cosine(start, peak, step / top_step if top_step > 0 else 1.0)
    rise = max(top_step, 0.0)
    fall_steps = (total_steps - 1) - rise
    return _cosine(peak, end, (step - rise) / fall_steps if fall_steps > 0 else 0.0)


def _cosine(start: float, end: float, done_frac: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done_frac)) / 2


def optimizer_steps(trainer: Any) -> int:
    """Count the optimiser's steps in an epoch of a ``lightning.Trainer``.

    With ``accumulate_grad_batches=N`` there is one for N batches, and one for what is left over at the epoch's end.
    """
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def rates_at(stages: Sequence[Stage], groups: Sequence[str], step: int, steps_per_epoch: int) -> dict[str, float]:
    """Evaluate every layer group's rate: a pure function of the step.

    Args:
        stages: The stage table.
        groups: All layer groups, from the input to the head.
        step: Optimiser steps done since the run began.
        steps_per_epoch: The same in every epoch.

    Returns:
        A rate for each group, 0 for frozen ones.
    """
    index, first_epoch = stage_at(stages, step // steps_per_epoch)
    stage = stages[index]
    peaks = peak_rates(stage.max_lr, trained_groups(stage.train, groups))
    done, all_steps = step - first_epoch * steps_per_epoch, stage.epochs * steps_per_epoch
    shape = {"warmup_frac": stage.warmup_frac, "start_div": stage.start_div, "end_div": stage.end_div}
    factor = one_cycle(done, all_steps, 1.0, **shape)
    return {name: peaks.get(name, 0.0) * factor for name in groups}


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


def check_stages(stages: Sequence[Stage], net: nn.Module) -> None:
    """Refuse a stage table that cannot be trained, before any time is spent.

    Raises:
        UserError: Naming the stage and what is wrong with it.
    """
    groups = list(layer_groups(net))
    for stage in stages:
        counts, shares = (stage.epochs, stage.views, stage.weight_decay or 0), (stage.warmup_frac, stage.dropout or 0)
        divisors = (stage.start_div, stage.end_div)
        if min(counts) < 0 or min(divisors) <= 0 or not all(0 <= share < 1 for share in shares):
            raise UserError(
                f"stages: '{stage.name}' needs epochs >= 0, views >= 0, weight_decay >= 0, warmup_frac in [0, 1), "
                "dropout in [0, 1) and positive start_div and end_div; correct the recipe."
            )
        peak_rates(stage.max_lr, trained_groups(stage.train, groups))
        if stage.image_px is not None:
            _check_size(stage.name, stage.image_px, net)
    if not any(stage.epochs for stage in stages):
        raise UserError("stages: the table has no epoch to train; give a stage epochs >= 1.")


def _check_size(stage: str, image_px: int, net: nn.Module) -> None:
    """Refuse a size of images that the network, or its parts one after the other, cannot be given."""
    own_px, where = getattr(net, "image_px", None), f"stages: image_px={image_px} of '{stage}'"
    if image_px < 1 or image_px > (own_px or image_px):
        raise UserError(f"{where} must be from 1 to {own_px}, the network's own; correct the recipe.")
    training, parameter = net.training, next(net.parameters())
    try:
        with torch.no_grad():
            images = torch.linspace(-1, 1, 3 * image_px**2).view(1, 3, image_px, image_px).to(parameter)
            wanted = found = net.eval()(images)
            if isinstance(net, Net):
                found = functools.reduce(lambda activations, part: part[1](activations), net.layer_parts(), images)
            if not torch.equal(found, wanted):
                raise ValueError("its parts are for one size")
    except Exception as error:  # whatever its layers say of a shape
        raise UserError(
            f"{where} cannot be used, as {type(net).__name__} takes images of {own_px} px only, or none so small "
            f"({reason_of(error)}); leave image_px out of the stage."
        ) from error
    finally:
        net.train(training)
