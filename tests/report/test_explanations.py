"""The explanations on a run's page belong to the photographs that they are said to belong to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowers.evaluation.result_files import read_record, write_record
from flowers.explain.explanation_set import BEST, UNSURE, WORST, ExplanationSet, explain_test
from flowers.models.inference import PixelLogits
from flowers.report.explanations import PANEL_PX, PANEL_QUALITY, describe_explanations, explanation_figures
from flowers.report.html import picture_address

CLASSES = ["daisy", "roses", "tulips"]
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)


def answers(labels: np.ndarray) -> np.ndarray:
    """Probabilities of a network that is right on every second photograph, and ever less sure."""
    sure = np.linspace(0.95, 0.5, len(labels))
    told = np.where(np.arange(len(labels)) % 2, labels, (labels + 1) % 3)
    return (1 - sure[:, None]) / 2 * np.ones(3) + (sure - (1 - sure) / 2)[:, None] * np.eye(3)[told]


@pytest.mark.parametrize("name", ["cnn", "linear"])
def test_cases_are_the_chosen_photographs(name: str, make_net: Callable[..., Any], tmp_path: Path) -> None:
    labels = np.arange(24) % 3
    network = PixelLogits(make_net(name), 1.0).eval()
    found = explain_test(network, PIXELS, labels, answers(labels), "net", seed=0)
    write_record(tmp_path / "explanations.npz", found)
    found = read_record(tmp_path / "explanations.npz", ExplanationSet, "explain again")
    assert {kind: len(cases) for kind, cases in found.kinds.items()} == {
        "worst": WORST,
        "unsure": UNSURE,
        "best": BEST,
    }
    assert [case.number for case in found.of_kind("worst")] == [0, 2, 4, 6, 8]
    paths = [f"{CLASSES[label]}/{row}.jpg" for row, label in enumerate(labels)]
    told = describe_explanations(found, CLASSES, paths)
    first = told["kinds"][0]["cases"][0]
    assert (first["path"], first["truth"]) == ("daisy/0.jpg", "daisy")
    assert first["panels"][0]["address"] == picture_address(PIXELS[0], PANEL_QUALITY, PANEL_PX)
    assert bool(told["cannot"]) == (name == "linear")
    assert (told["filters"]["names"] == CLASSES) == (name == "linear")
    assert {row[0] for row in told["similarity"]} >= {"gradient", "occlusion"}
    figures = explanation_figures(found, CLASSES, "net")
    assert len(figures["explanations"].axes) == sum(
        len(case["panels"]) for kind in told["kinds"] for case in kind["cases"]
    )


def test_one_photograph_is_enough(make_net: Callable[..., Any]) -> None:
    labels = np.array([1])
    found = explain_test(PixelLogits(make_net("cnn"), 1.0).eval(), PIXELS[:1], labels, answers(labels), "net", seed=0)
    assert sum(map(len, found.kinds.values())) == 1
    assert found.chance == 1
    assert describe_explanations(found, CLASSES, ["roses/0.jpg"])["maps"]
