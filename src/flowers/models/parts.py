"""A network cut at the borders of its layer groups, so that the frozen ones run by themselves and their output is kept.

The network stays as it is. Its forward pass is traced once, with torch.fx (Reed et al. 2022) and tensors of the meta
device, which have shapes and no content. Modules that lie within one layer group are not looked into, so that only what
joins them is traced, for one size of images and any number of them. Where exactly one tensor of the batch passes a
border, the network is cut there; what depends on shapes and parameters alone, as rotary position embeddings do, is
computed in each part that uses it.
"""

import copy
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

_BATCH = 1009
"""Images in the traced batch: a prime, so that each size that it divides depends on their number."""


class Part:
    """What lies between two borders.

    Attributes:
        groups: The layer groups that it consists of.
        function: Of a network, whose modules and parameters it uses, and one tensor (B,…), to another.
    """

    def __init__(self, groups: tuple[str, ...], graph: fx.Graph) -> None:
        self.groups, self._graph = groups, graph
        code = graph.python_code("self")
        scope = dict(code.globals)
        exec(code.src, scope)  # as torch.fx.GraphModule does, which would hold a network of its own
        self.function: Callable[[nn.Module, Tensor], Tensor] = scope["forward"]

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.groups, self._graph)


def cut(body: nn.Module, groups: Mapping[str, str], image_px: int) -> list[Part]:
    """Cut a network at the borders of its layer groups, wherever a single tensor passes one.

    A map passes a border as (B,C,H,W), whether the network has its channels there or last.

    Args:
        body: Images (B,3,H,W) to features (B,D).
        groups: The group of each parameter, by its name; groups from the input on.
        image_px: Side of the images.

    Returns:
        From the input to the features. A border that other tensors pass besides lies within a part.

    Raises:
        Exception: Of any kind, if the network cannot be traced, or computes something else in training.
    """
    within = members(body, groups)
    graph, constants = _trace(body, within, image_px)
    if str(graph) != str(_trace(body, within, image_px, training=True)[0]):
        raise ValueError("what joins the layer groups differs in training")
    order = list(dict.fromkeys(groups.values()))
    level: dict[fx.Node, int] = {}
    for node in graph.nodes:
        own = [group for name, group in groups.items() if f"{name}.".startswith(f"{node.target}.")]
        level[node] = max([*map(order.index, own[:1]), *(level[each] for each in node.all_input_nodes)], default=0)
    vars(body).update(constants)
    start, *_, output = graph.nodes
    features: Any = output.args[0]
    parts, first = [], 0
    for count in range(1, len(order) + 1):
        ends = (
            [features] if count == len(order) else _passing(features, {each for each in level if level[each] < count})
        )
        if len(ends) == 1 and ends[0].meta["value"].shape[0] == _BATCH:
            parts.append(Part(tuple(order[first:count]), _between(start, ends[0])))
            start, first = ends[0], count
    return parts


def members(body: nn.Module, groups: Mapping[str, str]) -> dict[str, str]:
    """List the largest modules that lie within one layer group, and single parameters, with their group.

    A module without parameters belongs to the group before it.
    """
    own = {id(body.get_parameter(name)): label for name, label in groups.items()}
    found: dict[str, str] = {}

    def visit(module: nn.Module, name: str, label: str) -> str:
        labels = {own[id(parameter)] for parameter in module.parameters()}
        if len(labels) < 2:
            found[name] = next(iter(labels), label)
            return found[name]
        prefix = f"{name}." if name else ""
        found.update((prefix + each, own[id(value)]) for each, value in module.named_parameters(recurse=False))
        for each, child in module.named_children():
            label = visit(child, prefix + each, label)
        return label

    visit(body, "", next(iter(groups.values())))
    return found


class _Tracer(fx.Tracer):
    """Traces while it computes, so that a network may ask for sizes, compare and unpack them.

    Sizes are numbers, but for those that depend on the number of images.
    """

    proxy_buffer_attributes = True

    def __init__(self, within: Collection[str], images: Tensor) -> None:
        super().__init__()
        self.within, self.images, self.computing = within, images, False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        path = module_qualified_name.split(".")  # a list of modules is not called, but its items are
        return any(".".join(path[:depth]) in self.within for depth in range(1, len(path) + 1))

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.computing else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Known(node, self)

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        proxy = super().create_proxy(*args, **kwargs)
        value = proxy.node.meta["value"] = self._value(proxy.node)
        if isinstance(value, tuple | list):
            return tuple(
                self.create_proxy("call_function", operator.getitem, (proxy, i), {}) for i in range(len(value))
            )
        is_open = isinstance(value, Tensor | torch.device | torch.dtype) or _counts_images(value)
        return proxy if is_open else value

    def _value(self, node: fx.Node) -> Any:
        """Compute a node."""
        if "value" in node.meta:
            return node.meta["value"]
        if node.op == "placeholder":  # the images, or what else may be given and is not
            return node.args[0] if node.args else self.images
        args: Any
        kwargs: Any
        args, kwargs = (
            fx.node.map_aggregate(each, lambda each: self._value(each) if isinstance(each, fx.Node) else each)
            for each in (node.args, node.kwargs)
        )
        self.computing = True
        try:
            if node.op == "get_attr":
                return operator.attrgetter(str(node.target))(self.root)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            called: Any = node.target if node.op == "call_function" else self.root.get_submodule(str(node.target))
            return called(*args, **kwargs)
        finally:
            self.computing = False


class _Known(fx.Proxy):
    """Stands for a tensor of which all is known but the content."""

    def __getattr__(self, name: str) -> Any:
        if callable(getattr(self.node.meta["value"], name)):
            return super().__getattr__(name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __len__(self) -> int:
        return len(self.node.meta["value"])


def _trace(
    body: nn.Module, within: Collection[str], image_px: int, training: bool = False
) -> tuple[fx.Graph, dict[str, Tensor]]:
    """Trace a copy of a network that has no content; give also what it makes of numbers alone, by its name."""
    empty = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in body.buffers()}
    for parameter in body.parameters():
        empty[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"))
    copied = copy.deepcopy(body, empty).train(training)
    with torch.no_grad():
        graph = _Tracer(within, torch.empty(_BATCH, 3, image_px, image_px, device="meta")).trace(copied)
    return graph, {name: value for name, value in vars(copied).items() if name.startswith("_tensor_constant")}


def _counts_images(value: Any) -> bool:
    return type(value) is int and value > 0 and value % _BATCH == 0


def _is_of_batch(node: fx.Node) -> bool:
    return isinstance(value := node.meta.get("value"), Tensor) and any(map(_counts_images, value.shape))


def _is_told(node: fx.Node) -> bool:
    """Whether a node is something that any tensor of the batch tells: the number of images, or the device."""
    value = node.meta.get("value")
    return isinstance(value, torch.device) or (_counts_images(value) and value == _BATCH)


def _passing(end: fx.Node, before: set[fx.Node]) -> list[fx.Node]:
    """List the tensors of the batch from before a border that a later node depends on."""
    found: list[fx.Node] = []
    seen, waiting = set(), [end]
    while waiting:
        node = waiting.pop()
        if node not in seen and not _is_told(node):
            seen.add(node)
            if node in before and _is_of_batch(node):
                found.append(node)
            else:
                waiting += node.all_input_nodes
    return found


def _between(start: fx.Node, end: fx.Node) -> fx.Graph:
    """Copy what leads from one tensor of the batch to another."""
    needed, waiting = {start}, [end]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += [] if _is_told(node) else node.all_input_nodes
    graph = fx.Graph()
    activations = graph.placeholder("activations")
    copies = {
        start: graph.call_method("permute", (activations, 0, 2, 3, 1)) if _is_channels_last(start) else activations
    }
    for node in start.graph.nodes:
        if node in needed and node is not start:
            if isinstance(node.meta.get("value"), torch.device):
                copies[node] = graph.call_function(getattr, (activations, "device"))
            elif _is_told(node):
                copies[node] = graph.call_method("size", (activations, 0))
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
                copies[node].meta = {}
    result = copies[end]
    graph.output(graph.call_method("permute", (result, 0, 3, 1, 2)) if _is_channels_last(end) else result)
    return graph


def _is_channels_last(node: fx.Node) -> bool:
    """Whether a tensor at a border is a square map (B,H,W,C)."""
    shape = node.meta["value"].shape
    return len(shape) == 4 and shape[1] == shape[2] != shape[3]
