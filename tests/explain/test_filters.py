from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from flowers.explain.attribution import explain
from flowers.explain.explanation_set import MOST_FILTERS, feature_maps, filters
from flowers.models.backbones import Backbone
from flowers.models.inference import PixelLogits

PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_filters_of_a_convolution_strongest_first(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("cnn"), 1.0).eval()
    found = filters(network, PHOTOGRAPH)
    assert found is not None
    assert (found.layer, found.kind, found.of) == ("net.block1.0", "filters", 4)
    weights = network.net.block1[0].weight.detach().permute(0, 2, 3, 1).numpy()
    strength = np.square(weights).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(found.weights, weights[np.argsort(-strength)])


def test_templates_of_a_linear_network_are_in_the_classes_order(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("linear"), 1.0).eval()
    found = filters(network, PHOTOGRAPH)
    assert found is not None
    assert (found.kind, found.of, found.weights.shape) == ("classes", 3, (3, 32, 32, 3))
    prepared = (torch.from_numpy(PHOTOGRAPH).double() / 255 - 0.5) / 0.25
    logits = network(torch.from_numpy(PHOTOGRAPH).permute(2, 0, 1)[None].float())[0]
    head = network.net.head[1]
    for template, bias, logit in zip(found.weights, head.bias, logits, strict=True):
        assert float((prepared.numpy() * template).sum() + bias.detach()) == pytest.approx(
            float(logit.detach()), rel=1e-3
        )


def test_templates_of_an_mlp_are_its_units(make_net: Callable[..., nn.Module]) -> None:
    found = filters(PixelLogits(make_net("mlp", hidden=[MOST_FILTERS + 6]), 1.0).eval(), PHOTOGRAPH)
    assert found is not None
    assert (found.kind, found.of, len(found.weights)) == ("units", MOST_FILTERS + 6, MOST_FILTERS)


def test_feature_maps_from_input_to_output(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("cnn", blocks=3), 1.0).eval()
    found = feature_maps(network, PHOTOGRAPH, count=3)
    assert [layer.layer for layer in found] == ["net.block1.1", "net.block2.1", "net.block3.1"]
    assert [layer.maps.shape for layer in found] == [(3, 32, 32), (3, 16, 16), (3, 8, 8)]
    assert [layer.of for layer in found] == [4, 8, 16]
    batch = torch.from_numpy(PHOTOGRAPH).permute(2, 0, 1)[None].float()
    maps = network.net.block1[:2]((batch / 255 - 0.5) / 0.25)[0].detach().numpy()
    np.testing.assert_allclose(found[0].maps, maps[found[0].channels], rtol=1e-4, atol=1e-5)
    spread = maps.std(axis=(1, 2))
    assert set(found[0].channels) == set(np.argsort(-spread)[:3])


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_network_without_convolutions_has_none(name: str, make_net: Callable[..., nn.Module]) -> None:
    assert feature_maps(PixelLogits(make_net(name), 1.0).eval(), PHOTOGRAPH) == []


def test_vision_transformer_has_patch_filters_and_no_maps() -> None:
    network: Any = PixelLogits(
        Backbone(
            num_classes=3,
            name="test_vit",
            image_px=160,
            head="linear",
            pooling="avg",
            hidden=8,
            dropout=0.0,
            options={},
        ),
        1.0,
    ).eval()
    photograph = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    found = filters(network, photograph)
    assert found is not None
    assert found.weights.shape[1:] == (16, 16, 3)
    assert feature_maps(network, photograph) == []


class SideBySide(nn.Module):
    """Two convolutions read the photograph, and the narrow one works first."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(3, 4, 1)
        self.wide = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.narrow(pixels) + self.wide(pixels)).relu().mean(dim=(2, 3))


class Grey(nn.Module):
    """Reads no colours."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.convolution(pixels.mean(dim=1, keepdim=True)).mean(dim=(2, 3))


def test_of_filters_side_by_side_the_widest_are_shown() -> None:
    found = filters(SideBySide().eval(), PHOTOGRAPH)
    assert found is not None
    assert found.layer == "wide"


def test_network_that_reads_no_colours_has_no_filters_and_says_so() -> None:
    assert filters(Grey().eval(), PHOTOGRAPH) is None
    said = explain(Grey().eval(), PHOTOGRAPH[None], np.array([0]), "net").cannot
    assert "net has no convolution that reads the photograph's three colours" in said[0]
