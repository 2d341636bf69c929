"""Where a network looks: Grad-CAM, guided backpropagation, gradients, occlusion."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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


# Nonlinear functions, by the autograd's name for them, at which guided backpropagation does not say what to do.
_OTHER_GATES = {
    "HardtanhBackward": "Hardtanh",
    "SiluBackward": "SiLU",
    "GeluBackward": "GELU",
    "HardswishBackward": "Hardswish",
    "LeakyReluBackward": "LeakyReLU",
    "PreluKernelBackward": "PReLU",
    "EluBackward": "ELU",
    "MishBackward": "Mish",
    "SoftplusBackward": "Softplus",
}


class _Apart(nn.Module):
    """Hands a tensor on as another one, so that a hook on its gradient sees only what comes back this way.

    Where a tensor enters a ReLU and a shortcut, captum's hook would hold back the gradients of both.
    """

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)


class _Below(nn.Module):
    """The upper half of a ReLU6: min(x, 6)."""

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor.clamp(max=6.0)


def set_rectifiers_apart(module: nn.Module) -> None:
    """Write each ReLU6 as min(ReLU, 6), for captum knows only the ReLU, and put every ReLU on a way of its own."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, nn.Sequential(_Apart(), nn.ReLU(), _Below()))
        elif isinstance(child, nn.ReLU):
            setattr(module, name, nn.Sequential(_Apart(), child))
        else:
            set_rectifiers_apart(child)


def unguided(network: nn.Module, pixels: Tensor) -> str:
    """Say why guided backpropagation is not possible; nothing if it is.

    The graph of a forward pass says which functions ran, as a module or not.
    """
    reached = 0

    def count(*_: object) -> None:
        nonlocal reached
        reached += 1

    handles = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.ReLU)]
    try:
        with torch.enable_grad():
            logits = network(pixels.clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    functions = [type(node).__name__.rstrip("0123456789") for node in _graph(logits.grad_fn)]
    others = sorted({_OTHER_GATES[name] for name in functions if name in _OTHER_GATES})
    if others:
        return (
            f"has {' and '.join(others)} for a nonlinearity, and guided backpropagation is defined for the ReLU alone "
            "(it holds back what is negative there)"
        )
    if functions.count("ReluBackward") > reached:
        return "calls ReLU as a function, which cannot be hooked for guided backpropagation"
    if not reached:
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


OCCLUDED_FRAC = 0.2
"""Side of the square that hides a part of the photograph, as a share of the photograph's."""
OCCLUSION_STEPS = 10
"""Places of the square along each side."""
_AT_ONCE = 4
_SQUARES_AT_ONCE = 20

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """Maps of one photograph; those that the network does not allow are None.

    Attributes:
        number: The photograph's, as the caller counts.
        photograph: (H,W,3) uint8.
        truth: Its class.
        predicted: The most probable class, or the one that was asked for. All maps are its, but `cam_truth`.
        confidence: Probability of `predicted`.
        confidence_truth: Probability of `truth`.
        gradient: (H,W,3): change of the logit per pixel level (Simonyan et al. 2013).
        guided: (H,W,3): the same with negative gradients held back at each ReLU (Springenberg et al. 2014).
        cam: (H,W), not negative: how much each place speaks for the class (Grad-CAM, Selvaraju et al. 2017), in logits
            times the number of pixels of the layer's map where a mean over the places follows it.
        cam_truth: The same for the true class, if the photograph was mistaken.
        cams_compare: Whether the two may be compared in size, see `Anatomy.places_alike`.
        guided_cam: (H,W,3): `guided` times `cam`.
        occlusion: (H,W): by how many nats the log-odds of the class fall where a square hides the photograph (Zeiler
            and Fergus 2013); mean over the squares that cover a pixel. Negative: hiding it helps.
    """

    number: int
    photograph: NDArray[np.uint8]
    truth: int
    predicted: int
    confidence: float
    confidence_truth: float
    gradient: Map
    guided: Map | None
    cam: Map | None
    cam_truth: Map | None
    cams_compare: bool
    guided_cam: Map | None
    occlusion: Map

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.predicted == self.truth


@dataclass(frozen=True)
class Explanations:
    """What was found about some photographs.

    Attributes:
        each: One for each photograph.
        cannot: What this network does not allow to be shown, in sentences.
        notes: What to mind when reading the maps, in sentences.
        cam_layer: Name of the layer whose maps Grad-CAM weighs.
    """

    each: list[Explanation]
    cannot: list[str]
    notes: list[str]
    cam_layer: str | None


def explain(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    name: str,
    numbers: NDArray[np.integer] | None = None,
    targets: NDArray[np.integer] | None = None,
) -> Explanations:
    """Explain what a network says to some photographs.

    The network itself is left as it is. A photograph costs about 105 forward passes, 100 of them for the occlusion.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K).
        pixels: (N,H,W,3).
        labels: True classes, (N,).
        name: What the network is called in sentences.
        numbers: What the caller calls the photographs, (N,); None: 0, 1, ….
        targets: Classes to explain, (N,); None: the most probable ones.

    Raises:
        ValueError: If a logit is not finite; it names the photograph's number.
    """
    numbers = np.arange(len(pixels)) if numbers is None else numbers
    if not len(pixels):
        return Explanations([], [], [], None)
    device = device_of(network)
    anatomy = dissect(network, to_network(pixels[:1], device))
    found: list[Explanation] = []
    for first in range(0, len(pixels), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        asked = None if targets is None else targets[part]
        found += _explain_batch(anatomy, pixels[part], labels[part], numbers[part], asked, device)
    last = anatomy.map_layers[-1] if anatomy.map_layers else None
    return Explanations(found, limits(anatomy, name), notes(anatomy, name), last)


def to_network(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Make a batch (B,3,H,W) float32, channels-last in memory, of photographs (B,H,W,3)."""
    # A copy, for a store of pixels is read-only.
    return torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float()


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


def _explain_batch(
    anatomy: Anatomy,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    numbers: NDArray[np.integer],
    targets: NDArray[np.integer] | None,
    device: torch.device,
) -> list[Explanation]:
    batch = to_network(pixels, device)
    with torch.no_grad():
        chances = finite_logits(anatomy.whole, batch, numbers).softmax(dim=1).cpu().numpy()
    predicted = chances.argmax(axis=1) if targets is None else np.asarray(targets)
    gradient, guided = _gradients(anatomy, batch, predicted)
    cam, cam_truth = _cam(anatomy, batch, predicted), None
    if cam is not None and not np.array_equal(predicted, labels):
        cam_truth = _cam(anatomy, batch, labels)
    found = []
    for i in range(len(pixels)):
        is_mistake = predicted[i] != labels[i]
        found.append(
            Explanation(
                number=int(numbers[i]),
                photograph=np.asarray(pixels[i]),
                truth=int(labels[i]),
                predicted=int(predicted[i]),
                confidence=float(chances[i, predicted[i]]),
                confidence_truth=float(chances[i, labels[i]]),
                gradient=gradient[i],
                guided=None if guided is None else guided[i],
                cam=None if cam is None else cam[i],
                cam_truth=cam_truth[i] if cam_truth is not None and is_mistake else None,
                cams_compare=anatomy.places_alike,
                guided_cam=None if guided is None or cam is None else guided[i] * cam[i][..., None],
                occlusion=_occlusion(anatomy.whole, batch[i : i + 1], int(predicted[i])),
            )
        )
    return found


def _gradients(anatomy: Anatomy, batch: Tensor, targets: NDArray[np.integer]) -> tuple[Map, Map | None]:
    """Compute the gradients (B,H,W,3) of the targets' logits, plain and guided."""
    from captum.attr import GuidedBackprop, Saliency

    classes = torch.from_numpy(np.asarray(targets, dtype=np.int64)).to(batch.device)
    plain = Saliency(anatomy.network).attribute(batch.clone().requires_grad_(), classes, abs=False)
    guided = None
    if "guided" not in anatomy.cannot:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks")  # captum's, which we asked it for
            guided = GuidedBackprop(anatomy.network).attribute(batch.clone().requires_grad_(), classes)
    return _channels_last(plain), None if guided is None else _channels_last(guided)


def _cam(anatomy: Anatomy, batch: Tensor, targets: NDArray[np.integer]) -> Map | None:
    """Compute Grad-CAM (B,H,W) of the last map, brought to the size of the photograph."""
    from captum.attr import LayerAttribution, LayerGradCam

    if "grad_cam" in anatomy.cannot:
        return None
    classes = torch.from_numpy(np.asarray(targets, dtype=np.int64)).to(batch.device)
    method = LayerGradCam(anatomy.network, anatomy.layer(anatomy.map_layers[-1]))
    coarse = method.attribute(batch, classes, relu_attributions=True).detach()
    fine = LayerAttribution.interpolate(coarse, tuple(batch.shape[2:]), interpolate_mode="bilinear")
    maps: Map = fine[:, 0].cpu().numpy()
    return maps


def _occlusion(network: nn.Module, photograph: Tensor, target: int) -> Map:
    """Hide parts of a photograph (1,3,H,W) behind a square of its mean colour; see `Explanation.occlusion`."""
    from captum.attr import Occlusion

    def log_odds(batch: Tensor) -> Tensor:
        # Unlike a probability, which stays near 1, log-odds of a sure answer still tell more from less.
        logits = network(batch).double()
        others = logits.clone()
        others[:, target] = -torch.inf
        return (logits[:, target] - others.logsumexp(dim=1)).float()

    sides = [max(round(side * OCCLUDED_FRAC), 1) for side in photograph.shape[2:]]
    steps = [
        max(-(-(side - hidden) // (OCCLUSION_STEPS - 1)), 1)
        for side, hidden in zip(photograph.shape[2:], sides, strict=True)
    ]
    drop = Occlusion(log_odds).attribute(
        photograph,
        sliding_window_shapes=(3, *sides),
        strides=(3, *steps),
        baselines=photograph.mean(dim=(2, 3), keepdim=True).expand_as(photograph),
        perturbations_per_eval=_SQUARES_AT_ONCE,
    )
    fall: Map = drop[0, 0].cpu().numpy()  # (1,3,H,W): the square hides all three channels, which are equal
    return fall


def _channels_last(maps: Tensor) -> Map:
    array: Map = maps.detach().permute(0, 2, 3, 1).float().cpu().numpy()  # (B,3,H,W) -> (B,H,W,3)
    return array
