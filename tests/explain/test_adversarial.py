import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.robust import FGSM
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor, nn

from flowers.explain.adversarial import NOISE_STRENGTHS, STRENGTHS, attack
from flowers.models.inference import PixelLogits
from flowers.report.explanations import attack_figure, fooled_panels


class Brightness(nn.Module):
    """Predicts class 1 if the mean level is above 100."""

    def forward(self, pixels: Tensor) -> Tensor:
        mean = pixels.mean(dim=(1, 2, 3))
        return torch.stack([100 - mean, mean - 100], dim=1)


def grey(*levels: int) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), level, dtype=np.uint8) for level in levels])


def test_accuracy_is_known_in_closed_form() -> None:
    # Distances from 100 in levels: 0.25 < 1, 3, 5 and 20, which no strength bridges.
    pixels, labels = grey(99, 97, 105, 120), np.array([0, 0, 1, 1])
    found = attack(Brightness(), pixels, labels, examples=9, seed=0)
    gradient = found.table[found.table["change"] == "gradient"]
    assert gradient["strength"].tolist() == list(STRENGTHS)
    assert gradient["acc"].tolist() == [1, 1, 1, 1, 0.75, 0.5, 0.25, 0.25]  # at 1 the first is a tie: class 0
    noise = found.table[found.table["change"] == "noise"]
    assert noise["strength"].tolist() == [0, *NOISE_STRENGTHS]
    assert noise["acc"].iloc[0] == 1
    assert noise["acc"].iloc[1] == 1
    assert found.strength == 8
    assert [example.number for example in found.fooled] == [0, 2, 1]  # class 1's before class 0's second
    example = found.fooled[1]
    assert (example.changed == 97).all()
    assert (example.change == -8).all()
    assert (example.truth, example.after) == (1, 0)
    assert (found.table["acc_low"] <= found.table["acc"]).all()
    assert (found.table["acc"] <= found.table["acc_high"]).all()


def test_levels_stay_in_range() -> None:
    pixels = grey(0, 255)
    pixels[0, 0] = 250
    found = attack(Brightness(), pixels, np.array([0, 1]), examples=2, seed=0)
    assert found.strength == 0  # nothing is fooled
    assert not found.fooled
    assert (found.table["acc"] == 1).all()


def test_direction_and_not_size_does_the_harm(learned: nn.Module, squares: Any) -> None:
    found = attack(learned, squares.pixels, squares.labels, examples=3, seed=0)
    table = found.table.set_index(["change", "strength"])["acc"]
    clean = table["gradient", 0.0]
    assert clean > 0.9
    assert table["noise", 16.0] > clean - 0.1
    assert table["gradient", 16.0] <= table["noise", 16.0]


def test_equals_captums(make_net: Callable[..., nn.Module], squares: Any) -> None:
    network = PixelLogits(make_net("cnn", image_px=48), 1.0).eval()
    labels = squares.labels
    found = attack(network, squares.pixels, labels, examples=24, seed=0)
    method = FGSM(network, nn.CrossEntropyLoss(reduction="none"), lower_bound=0, upper_bound=255)
    method.zero_thresh = 0.0  # by default it does not change pixels with a gradient below 1e-6
    batch = torch.from_numpy(squares.pixels).permute(0, 3, 1, 2).float()
    changed = method.perturb(batch.clone().requires_grad_(), found.strength, torch.from_numpy(labels))
    assert found.fooled
    for example in found.fooled:
        wanted = changed[example.number].permute(1, 2, 0).detach().numpy() - example.photograph
        assert np.mean(wanted == example.change) > 0.999  # a gradient of almost 0 may round to either side


class Sure(Brightness):
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) * 1000


def test_sure_network_does_not_hide_its_gradient() -> None:
    found = attack(Sure(), grey(97, 103), np.array([0, 1]), examples=2, seed=0)
    assert found.strength == 4
    assert len(found.fooled) == 2
    assert found.fooled[0].confidence == 1


def test_no_photograph_is_refused() -> None:
    with pytest.raises(ValueError, match="no photograph"):
        attack(Brightness(), grey(1)[:0], np.array([], dtype=int), examples=1, seed=0)


def test_figure_keeps_its_words_inside_and_apart() -> None:
    found = attack(Brightness(), grey(99, 97, 105, 120), np.array([0, 0, 1, 1]), examples=0, seed=0)
    figure = attack_figure(found.table, 0.3, "Photographs, changed")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width = figure.bbox.width
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 3
    assert all(box.x1 < width for box in boxes)
    tops = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] <= above[0] for below, above in itertools.pairwise(tops))


def test_example_has_three_panels() -> None:
    found = attack(Brightness(), grey(99, 97, 105), np.array([0, 0, 1]), examples=1, seed=0)
    panels = fooled_panels(found.fooled[0], found.strength, ["dark", "bright"])
    assert [panel.method for panel in panels] == ["photograph", "change", "changed"]
    assert panels[1].caption == "what is added, × 15"
    assert panels[2].caption.startswith("bright: ")
    assert all(panel.picture.shape == (8, 8, 3) and panel.picture.dtype == np.uint8 for panel in panels)
    assert (panels[1].picture == 128 + 8 * 15).all()
