"""ReLUs where guided backpropagation can reach them (Springenberg et al. 2014).

It holds back negative gradients at each ReLU. captum does so where a ReLU is a module of class ``nn.ReLU`` and its
input goes nowhere else; here networks are brought into that form, and those that cannot be are told apart.
"""

import torch
from torch import Tensor, nn

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
