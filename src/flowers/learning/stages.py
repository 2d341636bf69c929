"""The stage table: what trains in which epoch.

A training is a list of :class:`flowers.settings.Stage`. What trains is a pure function of that list and the epoch, so
that a run resumed anywhere trains what an uninterrupted one would. Nothing here keeps state.
"""

import re
from collections.abc import Sequence

from torch import nn

from flowers.errors import UserError, suggestion
from flowers.settings import Stage


def layer_groups(net: nn.Module) -> dict[str, nn.Module]:
    """Name the layer groups of a network, from the input to the head.

    Returns:
        The direct children that have parameters, in order.

    Raises:
        ValueError: If a parameter belongs to no child, or the last child is not ``head``.
    """
    groups = {name: child for name, child in net.named_children() if any(True for _ in child.parameters())}
    last = [name for name, _ in net.named_children()][-1:]
    if last != ["head"]:
        raise ValueError(f"the last child of {type(net).__name__} must be `head`, not {last}")
    stray = [name for name, _ in net.named_parameters(recurse=False)]
    if stray:
        raise ValueError(f"parameters {stray} of {type(net).__name__} are in no layer group")
    return groups


def total_epochs(stages: Sequence[Stage]) -> int:
    """Add up the epochs of all stages."""
    return sum(stage.epochs for stage in stages)


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
    first = 0
    for index, stage in enumerate(stages):
        if first <= epoch < first + stage.epochs:
            return index, first
        first += stage.epochs
    raise ValueError(f"epoch {epoch} is not in a stage table of {first} epochs")


def describe_stages(stages: Sequence[Stage]) -> str:
    """Say in words which epochs, counted from 1, belong to which stage."""
    words, first = [], 1
    for stage in stages:
        if stage.epochs:
            words.append(f"{stage.name}: epochs {first} to {first + stage.epochs - 1}")
        first += stage.epochs
    return "; ".join(words)


def ended_stages(stages: Sequence[Stage], epoch: int) -> list[int]:
    """Number the stages, from 1, that end with an epoch: one that has epochs, and such as follow it and have none."""
    index, first = stage_at(stages, epoch)
    if epoch + 1 < first + stages[index].epochs:
        return []
    ended = [index + 1]
    while ended[-1] < len(stages) and stages[ended[-1]].epochs == 0:
        ended.append(ended[-1] + 1)
    return ended


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
    if train == "all":
        return list(groups)
    if train == "head":
        return list(groups[-1:])
    if isinstance(train, str) or not isinstance(train, Sequence):
        last = re.fullmatch(r"last:(\d+)", str(train))
        if last and 1 <= int(last[1]) <= len(groups):
            return list(groups[-int(last[1]) :])
        raise UserError(
            f"stages: train={train!r} is none of all, head, last:1 … last:{len(groups)} or a list of "
            f"{', '.join(groups)}; correct the recipe."
        )
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
