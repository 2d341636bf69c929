"""A network is cut where one tensor passes a border, and computes in parts what it computes whole."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowers.models.parts import cut


class Toy(nn.Module):
    """Three layers of one width, and what a network may do between them."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))
        self.offset = nn.Parameter(torch.ones(1, 8))
        self.between = between

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map images (B,3,H,W) to features (B,8)."""
        assert mask is None
        activations = self.first(images.flatten(1)[:, :8])
        kept = activations
        activations = self.second(activations)
        if self.between == "sizes":
            count, width = activations.shape
            places = torch.arange(width, device=images.device).expand(count, -1)
            activations = (
                torch.cat([activations.view(count, 1, -1), self.offset.expand(count, 1, -1)], 1).mean(1) + places
            )
        elif self.between == "shortcut":
            activations = activations + kept
        elif self.between == "chance":
            activations = nn.functional.dropout(activations, training=self.training)
        elif self.between == "contents" and activations.sum() > 0:
            activations = -activations
        result: Tensor = self.third(activations)
        return result


def parts_of(between: str) -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    toy = Toy(between).eval()
    layers = ("first", "second", "third")
    groups = {"offset": "second"} | {f"{layer}.{name}": layer for layer in layers for name in ("weight", "bias")}
    order = ("first", "second", "third")
    return toy, cut(toy, dict(sorted(groups.items(), key=lambda item: order.index(item[1]))), 4)


@pytest.mark.parametrize(
    ("between", "groups"),
    [
        ("", [("first",), ("second",), ("third",)]),
        ("sizes", [("first",), ("second",), ("third",)]),
        ("shortcut", [("first",), ("second",), ("third",)]),
    ],
)
def test_parts_give_what_the_whole_gives_for_any_number_of_images(between: str, groups: list[tuple[str, ...]]) -> None:
    toy, parts = parts_of(between)
    assert [part.groups for part in parts] == groups
    for count in (1, 5):
        images = torch.randn(count, 3, 4, 4)
        found = images
        for part in parts:
            found = part.function(toy, found)
        assert torch.equal(found, toy(images))


@pytest.mark.parametrize("between", ["chance", "contents"])
def test_what_depends_on_contents_or_on_training_is_not_cut(between: str) -> None:
    with pytest.raises(Exception, match=r"differs in training|control flow|meta"):
        parts_of(between)
