"""Find the layers of a network that can be explained, and make a copy of it that explanations can hook into."""

import copy
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from flowers.errors import listed

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
_NO_CONVOLUTION = "has no convolution"


def to_batch(pixels: NDArray[np.uint8], network: nn.Module) -> Tensor:
    """Make a batch (B,3,H,W) float32, channels-last in memory, of photographs (B,H,W,3), where a network is."""
    tensors = (*network.parameters(), *network.buffers())
    # A copy, because a store of pixels is read-only.
    return torch.from_numpy(np.array(pixels)).to(tensors[0].device if tensors else "cpu").permute(0, 3, 1, 2).float()


def finite_logits(network: Callable[[Tensor], Tensor], batch: Tensor, numbers: NDArray[np.integer]) -> Tensor:
    """Apply a network.

    Raises:
        ValueError: If a logit is not finite; it names the photograph's number.
    """
    logits = network(batch)
    bad = (~torch.isfinite(logits).all(dim=1)).nonzero()
    if len(bad):
        raise ValueError(f"the network gives a logit that is not finite for photograph {numbers[int(bad[0])]}")
    return logits


@dataclass(frozen=True)
class ExplainableNetwork:
    """Two copies of a network, and the names of the layers that explanations need.

    Attributes:
        plain: A copy for logits only, in ``eval()``.
        hookable: A copy for hooks: the same function, in ``eval()``, without operations in place, every ReLU and ReLU6
            a module of its own, no parameter with a gradient. It takes more time and memory than `plain`.
        reader: Name of the layer that reads the photograph's colours, if there is one: a convolution, the widest if
            there are several; or a fully connected layer.
        templates: What the weights of a fully connected reader are templates of: ``classes``, where it is the whole
            network, whose gradient then does not depend on the photograph; or ``units``.
        map_layers: Names of layers whose outputs are maps (B,C,H,W) of the photograph: an early one, a middle one, and
            the last that still has places. Empty if the class is not decided on maps.
        places_alike: Whether what follows the last map treats all its places alike, as a mean over them does. Then
            Grad-CAM is exact: its mean over the places (before negative values are cut) is what the map adds to the
            logit. A dense layer over all places has a weight for each of them, which Grad-CAM replaces by their mean.
        cannot: Why something cannot be shown for this network, by what it is (``Grad-CAM``, ``guided backpropagation``,
            ``first-layer filters``, ``feature maps``): sentences without their subject, the network's name.
    """

    plain: nn.Module
    hookable: nn.Module
    reader: str | None
    templates: str | None
    map_layers: tuple[str, ...]
    places_alike: bool
    cannot: dict[str, str]


class _Call(NamedTuple):
    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Tensor


def make_explainable(network: nn.Module, pixels: Tensor) -> ExplainableNetwork:
    """Copy a network and find its layers.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        pixels: A photograph, (1,3,H,W), on the device of the network.
    """
    plain = copy.deepcopy(network).eval().requires_grad_(False)
    plain.to(memory_format=torch.channels_last)  # several times faster on a processor
    hookable = copy.deepcopy(plain)
    for module in hookable.modules():
        if getattr(module, "inplace", None) is True:
            module.inplace = False  # type: ignore[assignment]  # hooks would see what has been overwritten
    calls = _record_calls(hookable, pixels)
    convolutions = [index for index, call in enumerate(calls) if isinstance(call.module, nn.Conv2d)]
    dense = [call for call in calls if isinstance(call.module, nn.Linear)]
    layers, reason = _map_layers(calls, convolutions)
    cannot = {} if layers else {"Grad-CAM": reason, "feature maps": reason}
    readers = [calls[index] for index in convolutions if calls[index].inputs[0].shape[1] == pixels.shape[1]]
    # The widest if there are several, as in a RepVGG.
    reader: Any = max(readers, key=lambda call: call.module.kernel_size, default=None)  # type: ignore[arg-type, return-value]
    templates = None
    if not convolutions:
        cannot["first-layer filters"] = _NO_CONVOLUTION
        if dense and dense[0].inputs[0].numel() == pixels.numel():
            reader, templates = dense[0], "classes" if len(dense) == 1 else "units"
    elif reader is None:
        cannot["first-layer filters"] = f"{_NO_CONVOLUTION} that reads the photograph's three colours"
    separate_relus(hookable)
    relus = sum(isinstance(call.module, nn.ReLU | nn.ReLU6) for call in calls)
    if reason := why_not_guided(hookable, pixels, relus):
        cannot["guided backpropagation"] = reason
    return ExplainableNetwork(
        plain=plain,
        hookable=hookable,
        reader=reader.name if reader else None,
        templates=templates,
        map_layers=tuple(layers),
        places_alike=bool(layers) and _places_alike(hookable, pixels, layers[-1]),
        cannot=cannot,
    )


def describe(network: ExplainableNetwork, name: str) -> tuple[list[str], list[str]]:
    """Say in sentences what cannot be shown for a network, and what to keep in mind when reading its maps."""
    by_reason: dict[str, list[str]] = {}
    for what, reason in network.cannot.items():
        by_reason.setdefault(reason, []).append(what)
    cannot = [f"{name} {reason}: {listed(what)} cannot be shown." for reason, what in by_reason.items()]
    if {"Grad-CAM", "guided backpropagation"} & network.cannot.keys():
        cannot.append("Guided Grad-CAM needs both Grad-CAM and guided backpropagation, so there is none either.")
    notes = []
    if network.map_layers and not network.places_alike:
        notes.append(
            f"{name} weighs each place of its last map by itself, where Grad-CAM takes one weight for all places: its "
            "map is a rough guide here (Draelos and Carin 2020), so trust the occlusion more."
        )
    if network.templates:
        what = "the template of a class" if network.templates == "classes" else "the template of a unit"
        notes.append(f"{name} has a weight for each colour of each pixel, which are shown as images: {what} each.")
    if network.templates == "classes":
        notes.append(f"{name} is linear: its gradient is the same for every photograph, the template of the class.")
    return cannot, notes


def _record_calls(network: nn.Module, pixels: Tensor) -> list[_Call]:
    """List the inputs and the output of each module, in the order in which they finish."""
    calls: list[_Call] = []
    names = {id(module): name for name, module in network.named_modules()}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and id(module) in names:
            calls.append(_Call(names[id(module)], module, inputs, output))

    with register_module_forward_hook(record), torch.no_grad():
        network(pixels)
    return calls


def _map_layers(calls: list[_Call], convolutions: list[int]) -> tuple[list[str], str]:
    """Choose the layers to show, the last of which is for Grad-CAM; or none, and say why.

    `convolutions` holds their indices in `calls`.
    """
    if not convolutions:
        return [], _NO_CONVOLUTION
    # A pooled map is the same at half the side: Grad-CAM's weights would differ by a factor only.
    pooled = {id(call.output) for call in calls if isinstance(call.module, _POOLINGS)}
    maps = [index for index, call in enumerate(calls) if _gives_map(call) and id(call.output) not in pooled]
    if not maps:
        return [], "has convolutions, but none gives a map of more than one pixel"
    if any(_gives_tokens(call) for call in calls[maps[-1] + 1 :]):
        kernel = " × ".join(str(side) for side in calls[convolutions[0]].module.kernel_size)  # type: ignore[union-attr]
        what = (
            f"uses its one convolution to cut the photograph into patches of {kernel} pixels"
            if len(convolutions) == 1
            else "has convolutions"
        )
        return [], f"{what} but decides on tokens, which are no maps, since each may hold what it read elsewhere"
    # Of each convolution the last map before the next one: after the norm and the ReLU, if there are any.
    after = [
        max((index for index in maps if begin <= index < end), default=None)
        for begin, end in itertools.pairwise([*convolutions, len(calls)])
    ]
    middle = [index for index in after[len(convolutions) // 2 :] if index is not None]
    # Maps after a ReLU are easier to read than those before it.
    rectified = [index for index in middle if calls[index].output.min() >= 0]
    chosen = {index for index in (after[0], *(rectified or middle)[:1], maps[-1]) if index is not None}
    return [calls[index].name for index in sorted(chosen)], ""


def _gives_map(call: _Call) -> bool:
    """Whether a module gives maps (B,C,H,W) of more than one pixel that convolutions made."""
    if call.output.ndim != 4 or min(call.output.shape[2:]) < 2:
        return False
    if isinstance(call.module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm):
        return True
    if type(call.module).__module__ in ("torch.nn.modules.activation", "timm.layers.activations"):
        return True
    return any(isinstance(part, nn.Conv2d) for part in call.module.modules())


def _gives_tokens(call: _Call) -> bool:
    """Whether a module gives features (…,D) for each of several places, (B,N,D) or (B,H,W,D)."""
    shape = call.output.shape
    if call.output.ndim == 3:
        return shape[1] > 1
    return call.output.ndim == 4 and isinstance(call.module, nn.Linear)


def _places_alike(network: nn.Module, pixels: Tensor, layer: str) -> bool:
    """Whether the gradient of a logit is the same at all places of a layer's maps."""
    held: list[Tensor] = []

    def hold(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[-1]

    with network.get_submodule(layer).register_forward_hook(hold), torch.enable_grad():
        logit = network(pixels)[0].max()
    (gradient,) = torch.autograd.grad(logit, held[-1:])
    return bool(gradient.std(dim=(2, 3)).max() <= 1e-3 * gradient.abs().max())


_OTHER_NONLINEARITIES = {
    name.lower(): name
    for name in ("Hardtanh", "SiLU", "GELU", "Hardswish", "LeakyReLU", "PReLU", "ELU", "Mish", "Softplus")
}
"""Functions that guided backpropagation is not defined for, by their names in autograd."""


class _OwnReLU(nn.Module):
    """A ReLU, or min(ReLU, 6) for a ReLU6, that captum can hook.

    It works on a new view of its input, so that a hook on the gradient sees only the gradient of this path: where a
    tensor enters a ReLU and a shortcut, captum's hook would hold back the gradients of both.
    """

    def __init__(self, most: float | None) -> None:
        super().__init__()
        self.relu, self.most = nn.ReLU(), most

    def forward(self, tensor: Tensor) -> Tensor:
        positive: Tensor = self.relu(tensor.view_as(tensor))
        return positive if self.most is None else positive.clamp(max=self.most)


def separate_relus(module: nn.Module) -> None:
    """Replace each ReLU6 by min(ReLU, 6), since captum knows only the ReLU, and give every ReLU an input of its own."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU | nn.ReLU6):
            setattr(module, name, _OwnReLU(6.0 if isinstance(child, nn.ReLU6) else None))
        else:
            separate_relus(child)


def why_not_guided(network: nn.Module, pixels: Tensor, relus: int) -> str:
    """Say why guided backpropagation is not possible; the text is empty if it is.

    The graph of a forward pass says which functions ran, as a module or not.

    Args:
        network: The network.
        pixels: A photograph, (1,3,H,W).
        relus: How many calls of ReLUs that are modules such a pass takes.
    """
    with torch.enable_grad():
        logits = network(pixels.clone().requires_grad_())
    functions = [re.sub(r"(Kernel)?Backward\d*$", "", type(node).__name__).lower() for node in _graph(logits.grad_fn)]
    others = sorted({_OTHER_NONLINEARITIES[name] for name in functions if name in _OTHER_NONLINEARITIES})
    if others:
        return (
            f"has {' and '.join(others)} for a nonlinearity, and guided backpropagation is defined for the ReLU alone "
            "(it holds back negative gradients there)"
        )
    if functions.count("relu") > relus:
        return "calls ReLU as a function, which cannot be hooked for guided backpropagation"
    if not relus:
        return "has no ReLU, so guided backpropagation would be the plain gradient"
    return ""


def _graph(node: torch.autograd.graph.Node | None) -> list[torch.autograd.graph.Node]:
    """List all nodes of an autograd graph, each once."""
    found: dict[torch.autograd.graph.Node, None] = {}
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in found:
            found[each] = None
            waiting += [below for below, _ in each.next_functions]
    return list(found)
