"""Pretrained networks: any of timm's, in ordered layer groups and with a new head. No other module imports timm.

timm's networks differ in how they are built. Most convolutional ones become a row of children (stem, stage1 …, pool,
head) that are applied one after the other. Any other (a vision transformer, say) stays whole, as ``body``: its layer
groups (stem, then block1 … or stage1 …) are those of timm's own ``group_matcher``, and where one tensor passes from a
group to the next it is cut by :mod:`flowers.models.parts`. Either way it can be frozen group by group, run to a border,
and on from there. That this gives what the network itself gives is checked, on noise, before it is used.

Both ways are needed: the names of a row's tensors are those of models trained before there were others.
"""

import contextlib
import functools
import itertools
import logging
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import timm
import torch
from huggingface_hub import constants as hub
from huggingface_hub import get_session
from huggingface_hub.errors import LocalEntryNotFoundError
from timm.layers import PatchEmbed, SelectAdaptivePool2d
from timm.models import group_parameters, is_model, model_entrypoint
from torch import Tensor, nn

from flowers.config.check import dotted
from flowers.config.untrusted import loads_file
from flowers.errors import UserError, is_short_of_memory, suggestion
from flowers.models.nets import Net
from flowers.models.parts import Part, cut, members
from flowers.models.weights import differences

HEADS = ("linear", "dense")
POOLINGS = {"avg": "fastavg", "max": "fastmax", "both": "fastcatavgmax"}  # by their names in timm
# Where the features end in timm's networks and their own classifier begins.
_AFTER_FEATURES = {"global_pool", "pre_logits", "head", "head_drop", "classifier", "fc", "fc_norm"}
_PROBE_PX = 64
_PATIENCE_S = 5.0
"""Until a hub that does not answer counts as out of reach."""


class Backbone(Net):
    """One of timm's networks without its classifier, and a head of our own.

    Attributes:
        architecture: Name in timm.
        published_names: Own name of each tensor outside the head by its name in timm's files.
        no_decay: Own names of the parameters that do not decay whatever their shape: tokens, position embeddings, and
            what timm names besides.
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
            image_px: Side of the input; None: what the weights were trained with. Position embeddings of weights for
                another size are resampled.
            head: ``linear``, or ``dense`` with a hidden layer.
            pooling: Of the last maps: ``avg``, ``max`` or ``both`` (concatenated). A network of tokens takes ``avg``
                alone, and pools as timm has it (class token, mean or attention: ``options.global_pool``).
            hidden: Width of the dense head's hidden layer.
            dropout: Before the last layer.
            options: Further arguments for ``timm.create_model``.

        Raises:
            UserError: If timm has no such network, it cannot take images of this size or pool so, or the head is none
                of ours.
        """
        for key, value, known in (("head", head, HEADS), ("pooling", pooling, POOLINGS)):
            if value not in known:
                raise UserError(f"model.net.{key}='{value}': {suggestion(value, known)}")
        model = _create(name, image_px, options)
        preparation = timm.data.resolve_model_data_config(model)
        super().__init__(image_px or int(preparation["input_size"][-1]))
        self.mean, self.std = tuple(preparation["mean"]), tuple(preparation["std"])
        self.architecture = name
        row = _row(model, _PROBE_PX if self.image_px != _PROBE_PX else 2 * _PROBE_PX)
        self._label_of = _groups(model) if row is None else {}
        self._parts: list[Part] | None = None
        if row is None:
            self.body = _pooled(model, name, pooling, self.image_px)
        else:
            for label, group in row.items():
                self.add_module(label, group)
            self.pool = SelectAdaptivePool2d(pool_type=POOLINGS[pooling], flatten=True)  # (B,C,H,W) -> (B,C) or (B,2C)
        own_names = {id(tensor): own for own, tensor in self.state_dict(keep_vars=True).items()}
        published = model.state_dict(keep_vars=True).items()
        self.published_names = {name: own_names[id(tensor)] for name, tensor in published if id(tensor) in own_names}
        classifier = cast("Any", model).pretrained_cfg.get("classifier") or ()
        left_out = {classifier} if isinstance(classifier, str) else {*classifier}
        left_out |= model.state_dict().keys() - self.published_names.keys()
        self._left_out, self._options = {name.partition(".")[0] for name in left_out}, options
        self.no_decay = {self.published_names[name] for name in _without_decay(model) & self.published_names.keys()}
        features = _features(nn.Sequential(*self.children()), model, name, self.image_px)
        self.head = _head(head, features, num_classes, hidden, dropout)
        self.train()

    def layer_groups(self) -> dict[str, nn.Module]:
        """Name the layer groups; one within the body holds modules and parameters of it, under names of their own."""
        if not self._label_of:
            return super().layer_groups()
        groups = {label: nn.Module() for label in self._label_of.values()}
        for name, label in members(self.body, self._label_of).items():
            member: Any = operator.attrgetter(f"body.{name}".rstrip("."))(self)
            setattr(groups[label], name.replace(".", "_") or "body", member)
        return groups | {"head": self.head}

    def layer_parts(self) -> list[tuple[tuple[str, ...], Callable[[Tensor], Tensor]]]:
        """List what is applied in order; of a body, what lies between borders that a single tensor passes."""
        if not self._label_of:
            return super().layer_parts()
        if self._parts is None:
            self._parts = self._checked_parts()
        parts: list[tuple[tuple[str, ...], Callable[[Tensor], Tensor]]]
        parts = [(part.groups, functools.partial(part.function, self.body)) for part in self._parts]
        return [*(parts or [(tuple(dict.fromkeys(self._label_of.values())), self.body)]), (("head",), self.head)]

    def _checked_parts(self) -> list[Part]:
        """Cut the body; none if that is not possible, or its parts do not give what it gives."""
        modes = [(module, module.training) for module in self.modules()]
        found = wanted = _noise(2, self.image_px).to(next(self.body.parameters()))
        try:
            parts = cut(self.body, self._label_of, self.image_px)
            with torch.no_grad():
                wanted = self.body.eval()(wanted)
                for part in parts:
                    found = part.function(self.body, found)
        except Exception:  # what timm's networks do in Python has no bounds
            return []
        finally:
            for module, training in modes:
                module.training = training
        return parts if torch.equal(found, wanted) else []

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give published weights the names, and position embeddings the size, that they have here.

        Where they fit in no other way, timm's own conversion of the architecture's original files is tried.

        Args:
            tensors: By timm's names or ours, or by those of the architecture's authors.

        Returns:
            By our names, without the head; what has no place is among them under the name that it came with.
        """
        ours = {own: name for name, own in self.published_names.items()}
        if len(ours.keys() & tensors.keys()) > len(self.published_names.keys() & tensors.keys()):
            tensors = {ours.get(name, name): tensor for name, tensor in tensors.items()}
        state = self.state_dict()
        wanted = {name: state[own] for name, own in self.published_names.items()}
        found = self._without_head(tensors)
        if differences(found, wanted):
            converted = self._without_head(self._converted(tensors))
            found = found if differences(converted, wanted) else converted
        return {self.published_names.get(name, name): tensor for name, tensor in found.items()}

    def _without_head(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave out what belongs to timm's own head."""
        known, ends = self.published_names, self._left_out | _AFTER_FEATURES
        return {name: each for name, each in tensors.items() if name in known or name.partition(".")[0] not in ends}

    def _converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Have timm convert what the authors of an architecture published; nothing, if it cannot."""
        convert = getattr(
            sys.modules[model_entrypoint(self.architecture.partition(".")[0]).__module__], "checkpoint_filter_fn", None
        )
        if convert is None:
            return {}
        with torch.random.fork_rng(devices=[]):
            model = self.body if self._label_of else _create(self.architecture, self.image_px, self._options)
        try:
            return dict(convert(dict(tensors), model))
        except Exception:  # it takes other files for granted
            return {}

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
                model = timm.create_model(self.architecture, pretrained=True, **_size(self.architecture, self.image_px))
        except Exception as error:  # each transport fails in its own way, and all mean the same to the user
            reason = " ".join(str(error).split()).partition(". ")[0][:160].rstrip(".")
            if isinstance(error, LocalEntryNotFoundError):
                why = "HF_HUB_OFFLINE is set" if hub.HF_HUB_OFFLINE else f"{hub.ENDPOINT} cannot be reached"
                reason = f"{why}, and its cache does not have them"
            raise UserError(
                f"the published weights of {self.architecture} could not be fetched ({reason}); connect to the "
                "network, or name a file with weights=FILE."
            ) from error
        tensors: dict[str, Tensor] = model.state_dict()
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


def _size(name: str, image_px: int | None) -> dict[str, Any]:
    """Give what timm has to be told of the images' size: nothing, for most networks."""
    about = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {"img_size": image_px} if image_px and about and about.fixed_input_size else {}


def _create(name: str, image_px: int | None, options: dict[str, Any]) -> nn.Module:
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
        arguments = _size(name, image_px) | options
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    except (TypeError, RuntimeError, ValueError) as error:
        if is_short_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            f"timm cannot build model.net.name='{name}' with model.net.options={options} ({reason}); correct one."
        ) from error
    return model


def _pooled(model: nn.Module, name: str, pooling: str, image_px: int) -> nn.Module:
    """Have a network that is no row pool its last maps in a certain way."""
    if pooling != "avg":
        try:
            if _probe(model, image_px, "forward_features").ndim != 4:
                raise ValueError("it has tokens, no maps, at its end")
            cast("Any", model).reset_classifier(0, POOLINGS[pooling])
            _probe(model, image_px)
        except (TypeError, RuntimeError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise UserError(
                f"model.net.pooling={pooling} is not possible for timm's {name} ({reason}); leave pooling=avg, with "
                "which it pools as timm has it, or set model.net.options.global_pool."
            ) from error
    return model


def _features(layers: nn.Module, model: Any, name: str, image_px: int) -> int:
    """Count the features that layers give, and refuse images of a size that they cannot take."""
    patches = getattr(model, "patch_embed", None)
    patch_px = patches.patch_size[0] if isinstance(patches, PatchEmbed) and not patches.dynamic_img_pad else 1
    if image_px % patch_px:
        nearest = image_px // patch_px * patch_px
        raise UserError(
            f"model.net.image_px={image_px}: timm's {name} cuts images into patches of {patch_px} px; set it to "
            f"{nearest or patch_px} or {nearest + patch_px}, which are the nearest sizes."
        )
    try:
        return _probe(layers, image_px).shape[1]
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        if is_short_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:160].rstrip(".") or "it says no more"
        raise UserError(
            f"model.net.image_px={image_px}: timm's {name} cannot take images of this size ({reason}); it is made for "
            f"{model.pretrained_cfg['input_size'][-1]} px (image_px=null)."
        ) from error


def _row(model: nn.Module, probe_px: int) -> dict[str, nn.Module] | None:
    """Arrange a network's feature layers as groups to be applied in order; None if they are no such row.

    It is tried on noise of a side that the network is not built for, so that the answer, and with it the names of the
    tensors, does not depend on the size of the images.
    """
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
    return row if _is_equal(model, row, probe_px) else None


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


def _groups(model: nn.Module) -> dict[str, str]:
    """Give the label of each parameter's layer group by its name, from the input on; all ``body`` if timm has none."""
    parameters = dict(model.named_parameters())
    try:
        found = group_parameters(model, cast("Any", model).group_matcher(coarse=True))
    except (AttributeError, AssertionError):
        return dict.fromkeys(parameters, "body")
    groups: list[list[str]] = []
    for names in found.values():
        if groups and all(parameters[name].ndim < 2 for name in names):  # a normalisation ends the group before it
            groups[-1] += names
        else:
            groups.append(names)
    blocks = sum("block" in names[0].partition(".")[0] for names in groups[1:])
    kind = "block" if 2 * blocks >= len(groups) - 1 else "stage"
    labels = ["stem", *(f"{kind}{number}" for number in range(1, len(groups)))]
    return {name: label for label, names in zip(labels, groups, strict=True) for name in names}


def _without_decay(model: nn.Module) -> set[str]:
    named = set(cast("Any", model).no_weight_decay()) if hasattr(model, "no_weight_decay") else set()
    return named | {name for name, _ in model.named_parameters() if re.search(r"(token|pos_embed)[^.]*$", name)}


def _is_equal(model: nn.Module, row: dict[str, nn.Module], probe_px: int) -> bool:
    """Check on noise that the row gives the network's features, as maps (B,C,H,W)."""
    try:
        wanted = _probe(model, probe_px, "forward_features")
        found = _probe(nn.Sequential(*row.values()), probe_px)
    except Exception:  # it is built for one size alone, or is called in another way: no row
        return False
    is_map = wanted.ndim == 4 and wanted.shape[1] == model.num_features
    return is_map and found.shape == wanted.shape and torch.equal(found, wanted)


def _probe(module: nn.Module, side_px: int, method: str = "forward") -> Tensor:
    """Apply a method of a network to noise; the network is in ``eval()`` afterwards."""
    with torch.no_grad():
        return getattr(module.eval(), method)(_noise(1, side_px))


def _noise(count: int, side_px: int) -> Tensor:
    return torch.randn(count, 3, side_px, side_px, generator=torch.Generator().manual_seed(0))
