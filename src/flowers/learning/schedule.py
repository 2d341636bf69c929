"""Optimiser groups, fixed from the first step, and the rates they get at each step."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from flowers.errors import UserError
from flowers.learning.stages import layer_groups, peak_rates, stage_at, trained_groups
from flowers.settings import Stage


def optimizer_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Put each parameter into exactly one group, (layer group) × (decays or not).

    Weights with two or more dimensions decay; biases, and the scales and offsets of normalisations, do not.

    Args:
        net: A network whose children are its layer groups.
        weight_decay: Of the decaying groups.

    Returns:
        Arguments for a torch optimiser; each has ``layer_group`` and ``name`` besides ``params``, ``weight_decay``.
        Groups without parameters are left out.
    """
    groups: list[dict[str, Any]] = []
    for name, module in layer_groups(net).items():
        for kind, decay in (("decay", weight_decay), ("plain", 0.0)):
            params = [p for p in module.parameters() if (p.ndim >= 2) == (kind == "decay")]
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
    factor = one_cycle(
        step - first_epoch * steps_per_epoch,
        stage.epochs * steps_per_epoch,
        1.0,
        warmup_frac=stage.warmup_frac,
        start_div=stage.start_div,
        end_div=stage.end_div,
    )
    return {name: peaks.get(name, 0.0) * factor for name in groups}


def check_stages(stages: Sequence[Stage], net: nn.Module) -> None:
    """Refuse a stage table that cannot be trained, before any time is spent.

    Raises:
        UserError: Naming the stage and what is wrong with it.
    """
    groups = list(layer_groups(net))
    for stage in stages:
        if stage.epochs < 0 or not 0 <= stage.warmup_frac < 1 or stage.start_div <= 0 or stage.end_div <= 0:
            raise UserError(
                f"stages: '{stage.name}' needs epochs >= 0, warmup_frac in [0, 1) and positive start_div and end_div; "
                "correct the recipe."
            )
        if stage.views < 0 or (stage.weight_decay or 0) < 0 or not 0 <= (stage.dropout or 0) < 1:
            raise UserError(
                f"stages: '{stage.name}' needs views >= 0, weight_decay >= 0 and dropout in [0, 1); correct the recipe."
            )
        peak_rates(stage.max_lr, trained_groups(stage.train, groups))
    if not any(stage.epochs for stage in stages):
        raise UserError("stages: the table has no epoch to train; give a stage epochs >= 1.")
