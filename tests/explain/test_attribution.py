import copy
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from flowers.explain.adversarial import attack
from flowers.explain.attribution import OCCLUDED_FRAC, Explanation, explain, randomised_similarity
from flowers.explain.explanation_set import feature_maps, filters
from flowers.models.backbones import Backbone
from flowers.models.inference import PixelLogits

RNG = np.random.default_rng(0)
MAPS = ("gradient", "guided", "cam", "cam_truth", "guided_cam", "occlusion")


def noise(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def backbone(name: str, side: int) -> nn.Module:
    return PixelLogits(
        Backbone(
            num_classes=3,
            name=name,
            image_px=side,
            head="linear",
            pooling="avg",
            hidden=8,
            dropout=0.1,
            options={},
        ),
        1.0,
    ).eval()


def shown(explanation: Explanation) -> set[str]:
    return {name for name in MAPS if getattr(explanation, name) is not None}


def snapshot(network: nn.Module) -> dict[str, Any]:
    """All that could be changed about a network."""
    return {
        "tensors": {name: tensor.clone() for name, tensor in network.state_dict().items()},
        "modules": [(name, type(module)) for name, module in network.named_modules()],
        "training": [module.training for module in network.modules()],
        "inplace": [getattr(module, "inplace", None) for module in network.modules()],
        "momentum": [getattr(module, "momentum", None) for module in network.modules()],
        "requires_grad": [parameter.requires_grad for parameter in network.parameters()],
        "grad": [parameter.grad for parameter in network.parameters()],
        "strides": [parameter.stride() for parameter in network.parameters()],
        "hooks": [
            len(hooks)
            for module in network.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        ],
    }


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "resnet_small", "test_resnet"])
def test_network_is_not_changed(name: str, make_net: Callable[..., nn.Module]) -> None:
    network = backbone(name, 64) if name.startswith("test_") else PixelLogits(make_net(name), 1.0).eval()
    for parameter in list(network.parameters())[::2]:
        parameter.requires_grad_(False)
    pixels, labels = noise(3, 64 if name.startswith("test_") else 32), np.array([0, 1, 2])
    before = snapshot(network)
    found = explain(network, pixels, labels, name)
    filters(network, pixels[0])
    feature_maps(network, pixels[0])
    attack(network, pixels, labels, examples=2, seed=0)
    randomised_similarity(network, found.each, seed=0, count=2)
    after = snapshot(network)
    tensors = before.pop("tensors")
    for key, tensor in after.pop("tensors").items():
        assert torch.equal(tensors[key], tensor), key
    assert before == after


@pytest.mark.parametrize(
    ("name", "maps", "layer"),
    [
        ("linear", {"gradient", "occlusion"}, None),
        ("mlp", {"gradient", "guided", "occlusion"}, None),
        ("cnn", {"gradient", "guided", "cam", "guided_cam", "occlusion"}, "net.block2.1"),  # before the last pooling
        ("resnet_small", {"gradient", "guided", "cam", "guided_cam", "occlusion"}, "net.stage2"),
    ],
)
def test_each_network_shows_what_it_can(
    name: str, maps: set[str], layer: str | None, make_net: Callable[..., nn.Module]
) -> None:
    pixels = noise(9)  # more than a batch
    network: Any = PixelLogits(make_net(name), 1.0).eval()
    truths = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).argmax(dim=1).numpy()
    found = explain(network, pixels, truths, name)
    assert found.cam_layer == layer
    for explanation in found.each:
        assert explanation.is_right
        assert shown(explanation) == maps
        for method in maps:
            values = getattr(explanation, method)
            assert values.shape[:2] == (32, 32)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
    assert [explanation.number for explanation in found.each] == list(range(9))
    wrong = explain(network, pixels[:1], (truths[:1] + 1) % 3, name, numbers=np.array([41])).each[0]
    assert wrong.number == 41
    assert shown(wrong) == maps | ({"cam_truth"} if layer else set())


@pytest.mark.parametrize(
    ("name", "side", "maps", "layer", "said"),
    [
        ("test_resnet", 64, {"gradient", "guided", "cam", "guided_cam", "occlusion"}, "net.stage4", []),
        ("mobilenetv2_050", 64, {"gradient", "guided", "cam", "guided_cam", "occlusion"}, "net.stage7", []),
        ("test_efficientnet", 64, {"gradient", "cam", "occlusion"}, None, ["SiLU", "Guided Grad-CAM needs both"]),
        ("test_convnext", 64, {"gradient", "cam", "occlusion"}, None, ["GELU", "Guided Grad-CAM needs both"]),
        (
            "test_vit",
            160,
            {"gradient", "occlusion"},
            None,
            [
                "to cut the photograph into patches of 16 × 16 pixels but decides on tokens",
                "GELU",
                "Guided Grad-CAM needs both",
            ],
        ),
    ],
)
def test_any_backbone_shows_what_it_can_and_says_what_it_cannot(
    name: str, side: int, maps: set[str], layer: str | None, said: list[str]
) -> None:
    network = backbone(name, side)
    pixels = noise(1, side)
    predicted = int(network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).argmax())
    found = explain(network, pixels, np.array([predicted]), "the net")
    assert shown(found.each[0]) == maps
    assert len(found.cannot) == len(said)
    for part, sentence in zip(said, found.cannot, strict=True):
        assert part in sentence
    assert (found.cam_layer is not None) == ("cam" in maps)
    assert layer is None or found.cam_layer == layer


def test_linear_network_says_what_it_cannot_show(make_net: Callable[..., nn.Module]) -> None:
    found = explain(PixelLogits(make_net("linear"), 1.0).eval(), noise(1), np.array([0]), "linear_scratch")
    assert found.cannot == [
        "linear_scratch has no convolution: Grad-CAM, feature maps and first-layer filters cannot be shown.",
        "linear_scratch has no ReLU, so guided backpropagation would be the plain gradient: guided backpropagation "
        "cannot be shown.",
        "Guided Grad-CAM needs both Grad-CAM and guided backpropagation, so there is none either.",
    ]
    assert "its gradient is the same for every photograph" in found.notes[-1]


def test_gradient_of_a_linear_network_is_its_template(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("linear"), 1.0).eval()
    found = explain(network, noise(2), np.array([0, 0]), "net", targets=np.array([2, 1])).each
    weights = network.net.head[1].weight.detach().reshape(3, 3, 32, 32) / (255 * 0.25)
    for explanation, target in zip(found, (2, 1), strict=True):
        assert explanation.predicted == target
        np.testing.assert_allclose(explanation.gradient, weights[target].permute(1, 2, 0).numpy(), rtol=1e-5)


class Averaging(nn.Module):
    """A convolution at full size, its mean, a dense layer: class activation maps are known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.pool(self.features(pixels / 255)).flatten(1))


def test_grad_cam_is_the_classes_share_of_the_map() -> None:
    network = Averaging().eval()
    pixels = noise(2, 16)
    found = explain(network, pixels, np.array([0, 0]), "net", targets=np.array([1, 2]))
    maps = network.features(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).detach()
    for explanation, target, channels in zip(found.each, (1, 2), maps, strict=True):
        for cam, wanted in ((explanation.cam, target), (explanation.cam_truth, 0)):
            shares = torch.einsum("k,khw->hw", network.head.weight.detach()[wanted] / 256, channels)
            assert cam is not None
            np.testing.assert_allclose(cam, shares.clamp(min=0).numpy(), rtol=1e-4, atol=1e-8)
    assert found.each[0].cams_compare
    assert not found.notes


def test_note_warns_of_a_dense_layer_over_places(make_net: Callable[..., nn.Module]) -> None:
    found = explain(PixelLogits(make_net("cnn"), 1.0).eval(), noise(1), np.array([0]), "cnn_scratch")
    assert not found.each[0].cams_compare
    assert "cnn_scratch weighs each place of its last map by itself" in found.notes[0]


class _Guided(torch.autograd.Function):
    """Guided backpropagation as its authors define it, written without captum."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, most: float) -> Tensor:
        context.save_for_backward((tensor > 0) & (tensor < most))
        return tensor.clamp(0, most)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (passes,) = context.saved_tensors
        return gradient.clamp(min=0) * passes, None


class PreActivated(nn.Module):
    """The input of a ReLU enters a shortcut too, and one ReLU is used twice."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = relu
        self.head = nn.Linear(6, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        before = self.conv1(pixels / 10)
        after = before + self.conv2(self.relu(before))
        return self.head(self.relu(after).mean(dim=(2, 3)))


class _Reference(nn.Module):
    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, tensor: Tensor) -> Tensor:
        result: Tensor = _Guided.apply(tensor, self.most)
        return result


@pytest.mark.parametrize(("relu", "most"), [(nn.ReLU(), float("inf")), (nn.ReLU6(), 6.0)])
def test_guided_backpropagation_equals_its_definition(relu: nn.Module, most: float) -> None:
    network = PreActivated(relu).eval()
    pixels = noise(2, 16)
    found = explain(network, pixels, np.array([0, 0]), "net", targets=np.array([1, 2])).each
    wanted = copy.deepcopy(network)
    wanted.relu = _Reference(most)
    for i, target in enumerate((1, 2)):
        batch = torch.from_numpy(pixels[i : i + 1]).permute(0, 3, 1, 2).float().requires_grad_()
        (gradient,) = torch.autograd.grad(wanted(batch)[0, target], batch)
        guided = found[i].guided
        assert guided is not None
        np.testing.assert_allclose(guided, gradient[0].permute(1, 2, 0).numpy(), rtol=1e-4, atol=1e-8)
        assert not np.allclose(guided, found[i].gradient)


class Functional(Averaging):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(functional.relu(self.features(pixels / 255)).mean(dim=(2, 3)))


def test_relu_that_no_hook_reaches_is_named() -> None:
    found = explain(Functional().eval(), noise(1, 16), np.array([0]), "net")
    assert found.each[0].guided is None
    assert found.cannot[0].startswith("net calls ReLU as a function, which cannot be hooked")
    assert found.each[0].cam is not None


class Corner(nn.Module):
    """Looks at the upper left 4 × 4 pixels only: their mean is class 0's logit."""

    def forward(self, pixels: Tensor) -> Tensor:
        seen = pixels[:, :, :4, :4].mean(dim=(1, 2, 3)) / 10
        return torch.stack([seen, torch.zeros_like(seen)], dim=1)


def test_occlusion_costs_only_where_the_network_looks() -> None:
    pixels = np.zeros((1, 50, 50, 3), dtype=np.uint8)
    pixels[:, :4, :4] = 200
    mean = 200 * 16 / 2500
    explanation = explain(Corner(), pixels, np.array([0]), "net").each[0]
    # The square is 10 px wide and moves by 5, so that only the first of each row and column hides the corner.
    fall = explanation.occlusion
    assert fall[0, 0] == pytest.approx((200 - mean) / 10, rel=1e-4)  # log-odds of two classes: difference of logits
    assert not fall[10:].any()
    assert not fall[:, 10:].any()


class LastPixel(nn.Module):
    """Looks at the lower right pixel only."""

    def forward(self, pixels: Tensor) -> Tensor:
        seen = pixels[:, :, -1, -1].mean(dim=1) / 10
        return torch.stack([seen, torch.zeros_like(seen)], dim=1)


@pytest.mark.parametrize("side", [1, 7, 32, 50, 128])
def test_the_last_square_ends_at_the_edge_and_is_whole(side: int) -> None:
    pixels = np.zeros((1, side, side, 3), dtype=np.uint8)
    pixels[0, -1, -1] = 200
    fall = explain(LastPixel(), pixels, np.array([0]), "net").each[0].occlusion
    hidden = max(round(side * OCCLUDED_FRAC), 1)
    assert (fall[-hidden:, -hidden:] != 0).all() or side == 1  # one pixel is its own mean
    assert np.isfinite(fall).all()
    assert not fall[:-hidden].any()
    assert not fall[:, :-hidden].any()


def test_finds_the_object_that_decides(learned: nn.Module, squares: Any) -> None:
    found = explain(learned, squares.pixels, squares.labels, "net").each
    assert np.mean([explanation.is_right for explanation in found]) > 0.9
    for method in ("cam", "guided_cam", "occlusion"):
        hits = 0
        for index, explanation in enumerate(found):
            values = getattr(explanation, method)
            values = values if values.ndim == 2 else np.abs(values).max(axis=2)
            hits += squares.holds(index, *np.unravel_index(values.argmax(), values.shape))
        assert hits / len(found) > 0.8, method


def test_explanation_does_not_depend_on_the_batch(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("resnet_small"), 1.0).eval()
    pixels, labels = noise(3), np.array([0, 1, 2])
    alone, among = (
        explain(network, pixels[2:], labels[2:], "net").each[0],
        explain(network, pixels, labels, "net").each[2],
    )
    for field in fields(Explanation):
        one, other = getattr(alone, field.name), getattr(among, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6 * float(np.abs(one).max() or 1))


def test_same_maps_every_time(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("cnn"), 1.0).eval()
    first, second = (explain(network, noise(1), np.array([1]), "net").each[0] for _ in range(2))
    for method in MAPS:
        one, other = getattr(first, method), getattr(second, method)
        assert (one is None and other is None) or np.array_equal(one, other)


def test_works_where_gradients_are_switched_off(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("cnn"), 1.0).eval()
    wanted = explain(network, noise(1), np.array([1]), "net").each[0]
    with torch.no_grad():
        found = explain(network, noise(1), np.array([1]), "net").each[0]
        table = attack(network, noise(1), np.array([1]), examples=1, seed=0).table
    assert np.array_equal(found.gradient, wanted.gradient)
    assert np.abs(wanted.gradient).max() > 0
    assert len(table)


def test_no_photograph(make_net: Callable[..., nn.Module]) -> None:
    found = explain(PixelLogits(make_net("cnn"), 1.0).eval(), noise(0), np.array([], dtype=int), "net")
    assert not found.each


class Broken(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        bad = pixels[:, 0, 0, 0] == 13
        return torch.where(bad, torch.nan, 1.0)[:, None] * pixels.mean(dim=(2, 3))


def test_logit_that_is_not_finite_names_the_photograph() -> None:
    pixels = np.full((10, 16, 16, 3), 5, dtype=np.uint8)
    pixels[9, 0, 0, 0] = 13
    labels = np.zeros(10, dtype=int)
    with pytest.raises(ValueError, match=r"photograph 9$"):
        explain(Broken(), pixels, labels, "net")
    with pytest.raises(ValueError, match=r"photograph 109$"):
        attack(Broken(), pixels, labels, examples=1, seed=0, numbers=np.arange(100, 110))
