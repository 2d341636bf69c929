from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from flowers.explain.attribution import METHODS, explain, randomised_similarity, rank_correlation, shuffled, verdict
from flowers.explain.layers import to_batch
from flowers.models.inference import PixelLogits


def test_maps_change_when_the_weights_do(learned: nn.Module, squares: Any) -> None:
    found = explain(learned, squares.pixels[:6], squares.labels[:6], "net").each
    similar = randomised_similarity(learned, found, seed=0, count=6)
    assert similar.keys() == METHODS.keys()
    for method, value in similar.items():
        assert abs(value) < 0.6, method
    again = explain(learned, squares.pixels[:6], squares.labels[:6], "net").each
    for method in METHODS:  # the measure itself sees maps that are the same
        values = [(getattr(a, method), getattr(b, method)) for a, b in zip(found, again, strict=True)]
        assert np.mean([rank_correlation(a, b) for a, b in values]) == pytest.approx(1)


def test_seed_and_count_decide_the_result(learned: nn.Module, squares: Any) -> None:
    found = explain(learned, squares.pixels[:3], squares.labels[:3], "net").each
    first, second = (randomised_similarity(learned, found, seed=3, count=2) for _ in range(2))
    assert first == second
    assert first == randomised_similarity(learned, found[:2], seed=3, count=9)
    assert first != randomised_similarity(learned, found, seed=4, count=2)
    assert randomised_similarity(learned, [], seed=0, count=2) == {}


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "resnet_small"])
def test_shuffled_network_keeps_its_values_but_not_their_places(name: str, make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net(name), 1.0).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    other: Any = shuffled(network, to_batch(pixels, network), seed=0)
    for before, after in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        if before.ndim > 1:
            assert not torch.equal(before, after)
    assert not any(module.training for module in other.modules())


def test_shuffled_batch_norms_fit_what_reaches_them(make_net: Callable[..., nn.Module]) -> None:
    network: Any = PixelLogits(make_net("resnet_small"), 1.0).eval()
    pixels = to_batch(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), network)
    other: Any = shuffled(network, pixels, seed=0)
    seen: list[torch.Tensor] = []
    norm = other.net.stage2[0].norm1
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    other(pixels)
    assert torch.allclose(norm.running_mean, seen[0].mean(dim=(0, 2, 3)), atol=1e-2)


def test_rank_correlation_of_known_maps() -> None:
    rising = np.arange(12.0).reshape(3, 4)
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert rank_correlation(rising, np.zeros((3, 4))) == 0


def test_verdict() -> None:
    assert verdict(0.9).startswith("hardly changes")
    assert verdict(0.1).startswith("changes")
