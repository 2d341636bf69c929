"""Pretrained networks: any of timm's, as an ordered row of layer groups with a new head. No other module imports timm.

timm's networks differ in how they are built; here each becomes a row of children (stem, stage1 …, pool, head) that are
applied one after the other, so that it can be frozen, cut and cached at any border. That the row computes what the
network itself computes is checked when it is built. A network that is no such row (a vision transformer, say) has two
groups, ``body`` and ``head``.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from huggingface_hub import constants as hub
from huggingface_hub import get_session
from huggingface_hub.errors import LocalEntryNotFoundError
from timm.layers import SelectAdaptivePool2d
from timm.models import is_model
from torch import Tensor, nn

from flowers.config.check import dotted
from flowers.config.untrusted import loads_file
from flowers.errors import UserError, is_short_of_memory, suggestion
from flowers.models.nets import Net

HEADS = ("linear", "dense")
POOLINGS = {"avg": "fastavg", "max": "fastmax", "both": "fastcatavgmax"}  # by their names in timm
# Where the features end in timm's networks and their own classifier begins.
_AFTER_FEATURES = {"global_pool", "pre_logits", "head", "head_drop", "classifier", "fc", "fc_norm"}
_PROBE_PX = 64
_PATIENCE_S = 5.0
"""Until a hub that does not answer counts as out of reach."""


def published_networks() -> pd.DataFrame:
    """List the networks with published weights, by what timm publishes of them.

    Returns:
        `name` with the tag of the weights; `image_px`, the input that they were trained for; `imagenet_top1`, accuracy
        on ImageNet's validation at that size in %, empty for weights without its classes; `parameters_m`, in millions;
        `multiply_adds_g` of one image, in thousand millions; `license` of the weights, empty if unknown.
    """
    # From the names and settings of timm 1.0.31, and results/ of its repository at aa4b5850 (2026-08-08).
    return pd.read_csv(Path(__file__).with_name("zoo.csv")).fillna({"license": ""})


class Backbone(Net):
    """One of timm's networks without its classifier, and a head of our own.

    Attributes:
        architecture: Name in timm.
        published_names: Own name of each tensor outside the head by its name in timm's files.
    """

    def __init__(
        self,
        num_classes: int,
        name: str,
        image_px: int | None,
        head: str,
        pooling: str,
        hidden: int,
        dropout: float,
        options: dict[str, Any],
    ) -> None:
        """Build the network with random weights.

        Args:
            num_classes: K.
            name: Architecture in timm, with or without the tag of its weights (``resnet34.a1_in1k``).
            image_px: Side of the input; None: what the weights were trained with.
            head: ``linear``, or ``dense`` with a hidden layer.
            pooling: ``avg``, ``max`` or ``both`` (concatenated).
            hidden: Width of the dense head's hidden layer.
            dropout: Before the last layer.
            options: Further arguments for ``timm.create_model``.

        Raises:
            UserError: If timm has no such network, or the head is none of ours.
        """
        for key, value, known in (("head", head, HEADS), ("pooling", pooling, POOLINGS)):
            if value not in known:
                raise UserError(f"model.net.{key}='{value}': {suggestion(value, known)}")
        model = _create(name, options)
        preparation = timm.data.resolve_model_data_config(model)
        super().__init__(image_px or int(preparation["input_size"][-1]))
        self.mean, self.std = tuple(preparation["mean"]), tuple(preparation["std"])
        self.architecture = name
        groups = _row(model)
        if groups is None:
            self.body = model
        else:
            for label, group in groups.items():
                self.add_module(label, group)
            self.pool = SelectAdaptivePool2d(pool_type=POOLINGS[pooling], flatten=True)  # (B,C,H,W) -> (B,C) or (B,2C)
        own_names = {id(tensor): own for own, tensor in self.state_dict(keep_vars=True).items()}
        published = model.state_dict(keep_vars=True).items()
        self.published_names = {name: own_names[id(tensor)] for name, tensor in published if id(tensor) in own_names}
        with torch.no_grad():
            features = _probe(nn.Sequential(*self.children()), self.image_px).shape[1]
        self.head = _head(head, features, num_classes, hidden, dropout)
        self.train()

    def pretrained_tensors(self) -> dict[str, Tensor]:
        """Fetch the published weights of the architecture (downloaded and verified by timm, then kept on disk).

        Returns:
            By their names in timm.

        Raises:
            UserError: If there are none, or they cannot be fetched.
        """
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it repeats what the sentence below says
        try:
            with _cache_alone_if_offline():
                tensors: dict[str, Tensor] = timm.create_model(self.architecture, pretrained=True).state_dict()
        except Exception as error:  # each transport fails in its own way, and all mean the same to the user
            reason = " ".join(str(error).split()).partition(". ")[0][:160].rstrip(".")
            if isinstance(error, LocalEntryNotFoundError):
                why = "HF_HUB_OFFLINE is set" if hub.HF_HUB_OFFLINE else f"{hub.ENDPOINT} cannot be reached"
                reason = f"{why}, and its cache does not have them"
            raise UserError(
                f"the published weights of {self.architecture} could not be fetched ({reason}); connect to the "
                "network, or name a file with weights=FILE."
            ) from error
        return tensors


@contextlib.contextmanager
def _cache_alone_if_offline() -> Iterator[None]:
    """Have the hub's client, which asks an unreachable hub for a minute, look into its cache alone in that case."""
    before = hub.HF_HUB_OFFLINE
    if not before:
        try:
            get_session().head(hub.ENDPOINT, timeout=_PATIENCE_S)
        except Exception:  # each transport fails in its own way
            hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _head(kind: str, features: int, num_classes: int, hidden: int, dropout: float) -> nn.Sequential:
    if kind == "linear":
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
    )


def _create(name: str, options: dict[str, Any]) -> nn.Module:
    architecture = name.partition(".")[0]
    if not is_model(architecture):
        raise UserError(
            f"model.net.name='{name}' is no network of timm: {suggestion(architecture, timm.list_models())}"
        )
    for key, value in dotted(dict(options)).items():
        if loads_file(key, value):
            raise UserError(
                f"model.net.options.{key}={value} would load a file, or fetch one, whenever the model is opened; name "
                "what to start from with weights=FILE or weights=hub."
            )
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (TypeError, RuntimeError, ValueError) as error:
        if is_short_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"timm cannot build model.net.name='{name}' with model.net.options={options} ({reason}); correct one."
        ) from error
    return model


def _row(model: nn.Module) -> dict[str, nn.Module] | None:
    """Arrange a network's feature layers as groups to be applied in order; None if they are no such row."""
    children = itertools.takewhile(lambda named: named[0] not in _AFTER_FEATURES, model.named_children())
    modules = [child for _, child in children]
    sequences = [module for module in modules[1:] or modules if isinstance(module, nn.Sequential)]
    if len(sequences) == 1:  # one row holds the stages: what precedes it is the stem, what follows ends the last stage
        place = modules.index(sequences[0])
        stages = _stages(list(sequences[0]))
        groups = [modules[:place], *stages] if place else stages
        groups[-1] = [*groups[-1], *modules[place + 1 :]]
    else:
        first = next((i for i, module in enumerate(modules[1:], start=1) if isinstance(module, nn.Sequential)), 1)
        groups = [modules[:first]]
        for module in modules[first:]:
            if any(True for _ in module.parameters()):
                groups.append([module])
            else:
                groups[-1].append(module)
    groups = [group for group in groups if group]
    if len(groups) < 2:
        return None
    labels = ["stem", *(f"stage{i}" for i in range(1, len(groups)))]
    row: dict[str, nn.Module] = {label: nn.Sequential(*group) for label, group in zip(labels, groups, strict=True)}
    return row if _is_equal(model, row) else None


def _stages(modules: list[nn.Module]) -> list[list[nn.Module]]:
    """Divide a row of modules: each block is a stage; single layers belong to what precedes them, up to a pooling."""
    stages: list[list[nn.Module]] = []
    closed = True
    for module in modules:
        is_block = any(True for _ in module.children())
        if is_block or closed:
            stages.append([module])
        else:
            stages[-1].append(module)
        closed = isinstance(module, nn.MaxPool2d | nn.AvgPool2d)
    return stages


def _is_equal(model: nn.Module, row: dict[str, nn.Module]) -> bool:
    """Check on noise that the row gives the network's features, as maps (B,C,H,W)."""
    with torch.no_grad():
        try:
            wanted = _probe(model, _PROBE_PX, "forward_features")
            found = _probe(nn.Sequential(*row.values()), _PROBE_PX)
        except Exception:  # it is built for one size alone, or is called in another way: no row
            return False
    is_map = wanted.ndim == 4 and wanted.shape[1] == model.num_features
    return is_map and found.shape == wanted.shape and torch.equal(found, wanted)


def _probe(module: nn.Module, side_px: int, method: str = "forward") -> Tensor:
    """Apply a method of a network to noise; the network is in ``eval()`` afterwards."""
    noise = torch.randn(1, 3, side_px, side_px, generator=torch.Generator().manual_seed(0))
    return getattr(module.eval(), method)(noise)
