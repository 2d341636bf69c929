"""What a network is made of, found by watching one photograph pass through it.

Nothing is assumed about a network but that it maps pixels to logits: its layers are found with hooks, in the order in
which they work. All is done on a copy, so that the network is left as it was.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowers.review.rectifiers import set_rectifiers_apart, unguided

_POOLINGS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LPPool2d,
)
_NO_CONVOLUTION = "has no convolution"


@dataclass(frozen=True)
class Anatomy:
    """A copy of a network that can be explained, and where to look in it.

    Attributes:
        whole: The copy for whom only the answers count.
        network: A copy laid open: the same function, in ``eval()``, nothing done in place, every ReLU and ReLU6 a
            module that hooks can reach, no parameter with a gradient. It takes more time and memory than `whole`.
        first_convolution: Name of the convolution that reads the photograph; of several side by side the widest.
        first_dense: Name of the first fully connected layer, if it reads the photograph itself.
        map_layers: Names of layers whose outputs are maps (B,C,H,W) of the photograph: an early one, a middle one, and
            the last before the network gives up space. Empty if what decides is no map.
        places_alike: Whether what follows the last map treats all its places alike, as a mean over them does. Then
            Grad-CAM is exact: its mean over the places (before what is negative is cut) is what the class gets from the
            map. A dense layer over all places has a weight for each of them, which Grad-CAM replaces by their mean.
        is_linear: Whether the whole network is one layer, so that its gradient does not depend on the photograph.
        cannot: What cannot be shown for this network, by method (``grad_cam``, ``guided``, ``filters``,
            ``feature_maps``), in sentences that go on from the network's name.
    """

    whole: nn.Module
    network: nn.Module
    first_convolution: str | None
    first_dense: str | None
    map_layers: tuple[str, ...]
    places_alike: bool
    is_linear: bool
    cannot: dict[str, str]

    def layer(self, name: str) -> nn.Module:
        """Find a layer of the copy."""
        return self.network.get_submodule(name)


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor


def device_of(network: nn.Module) -> torch.device:
    """Where a network's tensors lie."""
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return torch.device("cpu")


def dissect(network: nn.Module, pixels: Tensor) -> Anatomy:
    """Copy a network, and find its layers.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        pixels: A photograph, (1,3,H,W), where the network lies.
    """
    whole = copy.deepcopy(network).eval().requires_grad_(False)
    whole.to(memory_format=torch.channels_last)  # several times faster on a processor
    specimen = copy.deepcopy(whole)
    for module in specimen.modules():
        if getattr(module, "inplace", None) is True:
            module.inplace = False  # type: ignore[assignment]  # what is overwritten cannot be looked at
    calls = _watch(specimen, pixels)
    convolutions = [place for place, call in enumerate(calls) if isinstance(call.module, nn.Conv2d)]
    dense = [call for call in calls if isinstance(call.module, nn.Linear)]
    reads_pixels = bool(dense) and not convolutions and dense[0].inputs[0].numel() == pixels.numel()
    layers, reason = _map_layers(calls, convolutions)
    cannot = {} if layers else {"grad_cam": reason, "feature_maps": reason}
    first = _first_convolution([calls[place] for place in convolutions], pixels)
    if first is None:
        cannot["filters"] = (
            _NO_CONVOLUTION if not convolutions else "has no convolution that reads the photograph's three colours"
        )
    set_rectifiers_apart(specimen)
    if reason := unguided(specimen, pixels):
        cannot["guided"] = reason
    return Anatomy(
        whole=whole,
        network=specimen,
        first_convolution=first.name if first else None,
        first_dense=dense[0].name if reads_pixels else None,
        map_layers=tuple(layers),
        places_alike=bool(layers) and _places_alike(specimen, pixels, layers[-1]),
        is_linear=reads_pixels and len(dense) == 1,
        cannot=cannot,
    )


def limits(anatomy: Anatomy, name: str) -> list[str]:
    """Say what cannot be shown for a network, a sentence for each reason."""
    words = {
        "grad_cam": "Grad-CAM",
        "guided": "guided backpropagation",
        "filters": "first-layer filters",
        "feature_maps": "feature maps",
    }
    by_reason: dict[str, list[str]] = {}
    for method, reason in anatomy.cannot.items():
        by_reason.setdefault(reason, []).append(words[method])
    said = [f"{name} {reason}: {_listed(methods)} cannot be shown." for reason, methods in by_reason.items()]
    if {"grad_cam", "guided"} & anatomy.cannot.keys():
        said.append("Guided Grad-CAM needs both Grad-CAM and guided backpropagation, so there is none either.")
    return said


def notes(anatomy: Anatomy, name: str) -> list[str]:
    """Say what to mind when reading the maps of a network."""
    said = []
    if anatomy.map_layers and not anatomy.places_alike:
        said.append(
            f"{name} weighs each place of its last map by itself, where Grad-CAM takes one weight for all places: its "
            "map is a rough guide here (Draelos and Carin 2020), and occlusion is the one to trust."
        )
    if anatomy.first_dense:
        what = "the template of a class" if anatomy.is_linear else "the template of a unit"
        said.append(f"{name} has a weight for each colour of each pixel, which are shown as images: {what} each.")
    if anatomy.is_linear:
        said.append(
            f"{name} is linear: its gradient is the same for every photograph, for it is the template of the class."
        )
    return said


def _watch(network: nn.Module, pixels: Tensor) -> list[_Call]:
    """List what each module is given and gives, in the order in which they finish."""
    calls: list[_Call] = []
    names = {id(module): name for name, module in network.named_modules()}

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            tensors = tuple(each for each in inputs if isinstance(each, Tensor))
            calls.append(_Call(names[id(module)], module, tensors, output))

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _first_convolution(convolutions: list[_Call], pixels: Tensor) -> _Call | None:
    """Find the convolution that reads the photograph's colours; of several (as in a RepVGG) the widest."""
    readers = [call for call in convolutions if call.inputs[0].shape[1] == pixels.shape[1]]
    return max(readers, key=lambda call: call.module.kernel_size, default=None)  # type: ignore[arg-type, return-value]


def _map_layers(calls: list[_Call], convolutions: list[int]) -> tuple[list[str], str]:
    """Choose layers to show and the last for Grad-CAM; or none, and why."""
    if not convolutions:
        return [], _NO_CONVOLUTION
    # What a pooling gives is the same map at half the side: Grad-CAM's weights would be the same but for a factor.
    pooled = {id(call.output) for call in calls if isinstance(call.module, _POOLINGS)}
    places = [place for place, call in enumerate(calls) if _gives_map(call) and id(call.output) not in pooled]
    if not places:
        return [], "has convolutions, but none gives a map of more than one pixel"
    if any(_gives_tokens(call) for call in calls[places[-1] + 1 :]):
        kernel = " × ".join(str(side) for side in calls[convolutions[0]].module.kernel_size)  # type: ignore[union-attr]
        what = (
            f"uses its one convolution to cut the photograph into patches of {kernel} pixels"
            if len(convolutions) == 1
            else "has convolutions"
        )
        return (
            [],
            f"{what} but decides on tokens, which are no maps, for each may hold what it read elsewhere",
        )
    behind = [_last_behind(places, convolutions, number, len(calls)) for number in range(len(convolutions))]
    middle = [place for place in behind[len(convolutions) // 2 :] if place is not None]
    # What a ReLU has cut is easier to read than what comes before it.
    cut = [place for place in middle if calls[place].output.min() >= 0]
    chosen = {place for place in (behind[0], *(cut or middle)[:1], places[-1]) if place is not None}
    names = [calls[place].name for place in sorted(chosen)]
    return names, ""


def _last_behind(places: list[int], convolutions: list[int], number: int, end: int) -> int | None:
    """Find the last map before the next convolution: behind the norm and the ReLU, if they follow."""
    until = convolutions[number + 1] if number + 1 < len(convolutions) else end
    return max((place for place in places if convolutions[number] <= place < until), default=None)


def _gives_map(call: _Call) -> bool:
    """Whether a module gives maps (B,C,H,W) of more than one pixel that convolutions made."""
    if call.output.ndim != 4 or min(call.output.shape[2:]) < 2:
        return False
    module = call.module
    if isinstance(module, nn.Conv2d | nn.modules.batchnorm._BatchNorm | nn.GroupNorm):
        return True
    if type(module).__module__ in ("torch.nn.modules.activation", "timm.layers.activations"):
        return True
    return any(isinstance(part, nn.Conv2d) for part in module.modules())


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

    handle = network.get_submodule(layer).register_forward_hook(hold)
    try:
        with torch.enable_grad():
            logit = network(pixels)[0].max()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logit, held[-1:])
    return bool(gradient.std(dim=(2, 3)).max() <= 1e-3 * gradient.abs().max())


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
