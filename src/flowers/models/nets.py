"""Networks from scratch, and building the one that a recipe describes.

Each maps normalised images (B,3,H,W) to logits (B,K). Two conventions make them trainable in stages and usable without
further knowledge: **the direct children of a network are its layer groups**, from the input to the last, which is
``head``; and the network says how its input is to be prepared (``image_px``, ``mean``, ``std``).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from flowers.config.compose import instantiate
from flowers.errors import UserError


class Net(nn.Module):
    """What every network has in common.

    Attributes:
        image_px: Side of the square input.
        mean: Per channel, subtracted from pixels in [0, 1].
        std: Per channel, divided by afterwards.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)

    def __init__(self, image_px: int) -> None:
        super().__init__()
        self.image_px = image_px

    def forward(self, images: Tensor) -> Tensor:
        """Apply the layer groups in order: images (B,3,H,W) to logits (B,K)."""
        activations = images
        for group in self.children():
            activations = group(activations)
        return activations

    def layer_groups(self) -> dict[str, nn.Module]:
        """Name the layer groups, from the input to the head: modules that hold what trains or is frozen together."""
        return _children(self)

    def layer_parts(self) -> list[tuple[tuple[str, ...], Callable[[Tensor], Tensor]]]:
        """List what is applied in order, each with the names of its layer groups (none for a pooling)."""
        return [((name,), child) for name, child in self.named_children()]


def _children(net: nn.Module) -> dict[str, nn.Module]:
    return {name: child for name, child in net.named_children() if any(True for _ in child.parameters())}


def layer_groups(net: nn.Module) -> dict[str, nn.Module]:
    """Name the layer groups of a network, from the input to the head.

    Returns:
        What :meth:`Net.layer_groups` gives; of another network the direct children that have parameters, in order.

    Raises:
        UserError: If a parameter belongs to no child, or there is none.
    """
    groups = net.layer_groups() if isinstance(net, Net) else _children(net)
    stray = [name for name, _ in net.named_parameters(recurse=False)]
    if stray:
        raise UserError(
            f"model.net: the parameters {stray} of {type(net).__name__} belong to none of its children, which are the "
            "layer groups; put them into a module of their own."
        )
    last = [name for name, _ in net.named_children()][-1:]
    if isinstance(net, Net) and last != ["head"]:
        raise ValueError(f"the last child of {type(net).__name__} must be `head`, not {last}")
    if not groups:
        raise UserError(f"model.net: {type(net).__name__} has no parameters, so there is nothing to train.")
    return groups


class Linear(Net):
    """Softmax regression on raw pixels, the baseline that a network has to beat."""

    def __init__(self, num_classes: int, image_px: int) -> None:
        super().__init__(image_px)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(3 * image_px**2, num_classes))


class MLP(Net):
    """Fully connected layers on raw pixels: more width and depth, no idea of space."""

    def __init__(self, num_classes: int, image_px: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__(image_px)
        widths = [3 * image_px**2, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)


class CNN(Net):
    """Blocks of convolution, ReLU and 2×2 max-pooling, then a dense layer: the network of every first lesson.

    Block i has ``width * 2**i`` channels (at most ``8 * width``) and halves the side, so ``image_px`` must be divisible
    by ``2**blocks``.
    """

    def __init__(self, num_classes: int, image_px: int, width: int, blocks: int, dense: int, dropout: float) -> None:
        super().__init__(image_px)
        if image_px % 2**blocks:
            raise ValueError(f"model.image_px={image_px} is not divisible by 2**blocks = {2**blocks}")
        channels = [3, *(width * min(2**i, 8) for i in range(blocks))]
        for i, (fan_in, fan_out) in enumerate(pairwise(channels), start=1):
            block = nn.Sequential(
                nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
            )
            self.add_module(f"block{i}", block)
        side_px = image_px // 2**blocks
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Flatten(),  # (B, channels, side, side) -> (B, channels * side * side)
            nn.Linear(channels[-1] * side_px**2, dense),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(dense, num_classes),
        )


def _convolution(fan_in: int, fan_out: int, kernel_px: int, stride: int) -> nn.Conv2d:
    # The batch-norm that follows has its own offset, so the convolution has none.
    return nn.Conv2d(fan_in, fan_out, kernel_px, stride=stride, padding=kernel_px // 2, bias=False)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch-norm beside a shortcut (He et al. 2015, the "basic" block).

    The shortcut averages before its 1×1 convolution where the block shrinks the side, instead of dropping three pixels
    of four ("ResNet-D", He et al. 2018). The last batch-norm starts at zero, so that each block starts as the identity
    (Goyal et al. 2017).
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(fan_in, fan_out, 3, stride)
        self.norm1 = nn.BatchNorm2d(fan_out)
        self.relu1 = nn.ReLU()  # modules, not functions: guided backpropagation hooks into them
        self.conv2 = _convolution(fan_out, fan_out, 3, 1)
        self.norm2 = nn.BatchNorm2d(fan_out)
        self.relu2 = nn.ReLU()
        nn.init.zeros_(self.norm2.weight)
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
        if fan_in != fan_out:
            shortcut += [_convolution(fan_in, fan_out, 1, 1), nn.BatchNorm2d(fan_out)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, images: Tensor) -> Tensor:
        """Map activations (B,C,H,W) to (B,C',⌈H/stride⌉,⌈W/stride⌉)."""
        residual = self.relu1(self.norm1(self.conv1(images)))
        residual = self.norm2(self.conv2(residual))
        return self.relu2(residual + self.shortcut(images))


class ResNetSmall(Net):
    """A residual network sized for two processor cores.

    The stem (two convolutions and a pooling) brings 128 px down to 32 before the wide layers begin: the side costs
    quadratically, and at this size it is where most of the arithmetic of a full ResNet goes.
    """

    def __init__(
        self, num_classes: int, image_px: int, stem_width: int, widths: Sequence[int], depth: int, dropout: float
    ) -> None:
        super().__init__(image_px)
        self.stem = nn.Sequential(
            _convolution(3, stem_width, 3, 2),
            nn.BatchNorm2d(stem_width),
            nn.ReLU(inplace=True),
            _convolution(stem_width, widths[0], 3, 1),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        fan_in = widths[0]
        for i, fan_out in enumerate(widths, start=1):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 1 and j == 0 else 1
                blocks.append(ResidualBlock(fan_in, fan_out, stride))
                fan_in = fan_out
            self.add_module(f"stage{i}", nn.Sequential(*blocks))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(fan_in, num_classes)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build_network(node: Mapping[str, Any], num_classes: int, image_px: int | None = None) -> nn.Module:
    """Build the network that a recipe describes, with what says how its input is prepared.

    Args:
        node: The recipe's ``model.net``.
        num_classes: K.
        image_px: Side of the images, for a network that does not say it.

    Raises:
        UserError: If the parameters do not fit each other, or nobody knows the size of the images, or two are said.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")  # said better below
        network: nn.Module = instantiate("model.net", node, num_classes=num_classes)
    for name, parameter in network.named_parameters():
        if parameter.numel() == 0:
            raise UserError(
                f"'model.net' cannot be built: {name} would be empty; make every size of the recipe positive."
            )
    own_px = getattr(network, "image_px", None)
    if image_px is not None and own_px is not None and own_px != image_px:
        raise UserError(
            f"data.image_px={image_px}, but the network takes images of {own_px} px; leave data.image_px out, or set "
            f"model.net.image_px={image_px} where the network has that key."
        )
    size = own_px or image_px
    if size is None:
        raise UserError(
            f"{node['_target_']} does not say which images it wants (image_px); add data.image_px=128, say, to the "
            "command."
        )
    for name, value in (("image_px", size), ("mean", Net.mean), ("std", Net.std)):
        if getattr(network, name, None) is None:
            setattr(network, name, value)
    return network
