from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowers.errors import UserError
from flowers.models.nets import CNN, MLP, Linear, ResidualBlock, layer_groups

NETS = ("linear", "mlp", "cnn", "resnet_small")
Make = Callable[..., Any]


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "image_px"), [(name, px) for name in NETS for px in (32, 44)] + [("linear", 7), ("resnet_small", 33)]
)
def test_images_to_logits_of_any_fitting_size(name: str, image_px: int, make_net: Make) -> None:
    net = make_net(name, num_classes=5, image_px=image_px).eval()
    assert net.image_px == image_px
    for batch in (1, 3):
        logits = net(torch.randn(batch, 3, image_px, image_px))
        assert logits.shape == (batch, 5)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


def test_parameters_are_as_many_as_counted_by_hand() -> None:
    assert count(Linear(5, image_px=64)) == 3 * 64 * 64 * 5 + 5
    mlp = MLP(5, image_px=64, hidden=[256, 128], dropout=0.3)
    assert count(mlp) == (12288 * 256 + 256) + (256 * 128 + 128) + (128 * 5 + 5)
    cnn = CNN(5, image_px=128, width=32, blocks=4, dense=128, dropout=0.3)
    blocks = (27 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128) + (9 * 128 * 256 + 256)
    assert count(cnn) == blocks + (256 * 8 * 8 * 128 + 128) + (128 * 5 + 5)


def test_the_width_of_blocks_stops_growing() -> None:
    cnn = CNN(5, image_px=64, width=2, blocks=6, dense=4, dropout=0)
    widths = [module.out_channels for module in cnn.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [2, 4, 8, 16, 16, 16]


@pytest.mark.parametrize(("image_px", "blocks"), [(100, 3), (30, 2), (8, 4)])
def test_a_side_that_cannot_be_halved_so_often_is_refused(image_px: int, blocks: int) -> None:
    with pytest.raises(ValueError, match=rf"image_px={image_px} is not divisible by 2\*\*blocks = {2**blocks}"):
        CNN(5, image_px=image_px, width=4, blocks=blocks, dense=8, dropout=0)


@pytest.mark.parametrize("name", NETS)
def test_used_twice_it_answers_alike_and_without_chance(name: str, make_net: Make) -> None:
    net, images = make_net(name), torch.randn(4, 3, 32, 32)
    net.eval()
    kept = images.clone()
    first = net(images)
    assert torch.equal(first, net(images))
    assert torch.equal(images, kept)
    assert torch.allclose(first, torch.cat([net(images[:1]), net(images[1:])]), atol=1e-5)
    if name != "linear":
        net.train()
        assert not torch.equal(net(images), net(images))


@pytest.mark.parametrize("name", NETS)
def test_the_layout_in_memory_does_not_matter(name: str, make_net: Make) -> None:
    net, images = make_net(name).eval(), torch.randn(4, 3, 32, 32)
    first = net(images)
    net = net.to(memory_format=torch.channels_last)
    assert torch.allclose(first, net(images.contiguous(memory_format=torch.channels_last)), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_starts_as_its_shortcut(training: bool) -> None:
    images = torch.randn(4, 6, 8, 8)
    same = ResidualBlock(6, 6, stride=1).train(training)
    assert torch.equal(same(images), images.relu())
    shrinking = ResidualBlock(6, 10, stride=2).train(training)
    output: Tensor = shrinking(images)
    assert output.shape == (4, 10, 4, 4)
    assert torch.equal(output, shrinking.shortcut(images).relu())
    assert ResidualBlock(6, 6, stride=2)(torch.randn(4, 6, 7, 5)).shape == (4, 6, 4, 3)


def test_the_gradient_reaches_every_parameter_but_those_behind_a_zero(make_net: Make) -> None:
    net = make_net("resnet_small")
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    idle = {name for name, parameter in net.named_parameters() if not parameter.grad.any()}
    blocks = {
        name.removesuffix(".norm2.weight") for name in dict(net.named_parameters()) if name.endswith("norm2.weight")
    }
    behind = ("conv1.weight", "norm1.weight", "norm1.bias", "conv2.weight")
    assert idle == {f"{block}.{name}" for block in blocks for name in behind}


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_is_in_exactly_one_layer_group(name: str, make_net: Callable[..., nn.Module]) -> None:
    net = make_net(name)
    groups = layer_groups(net)
    grouped = [id(parameter) for group in groups.values() for parameter in group.parameters()]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in net.parameters()}
    assert list(groups)[-1] == "head"


def test_a_network_that_cannot_be_trained_in_stages_is_refused(make_net: Callable[..., nn.Module]) -> None:
    headless = make_net("mlp")
    headless.add_module("tail", nn.Identity())
    with pytest.raises(ValueError, match=r"last child of MLP must be `head`, not \['tail'\]"):
        layer_groups(headless)
    stray = make_net("mlp")
    stray.register_parameter("temperature", nn.Parameter(torch.ones(1)))
    with pytest.raises(UserError, match=r"\['temperature'\] of MLP belong to none of its children"):
        layer_groups(stray)
