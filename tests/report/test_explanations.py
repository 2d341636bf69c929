"""The explanations on a run's page belong to the photographs that they are said to belong to."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from flowers.evaluation.result_files import read_record, write_record
from flowers.explain.explanation_set import BEST, UNSURE, WORST, ExplanationSet, explain_test
from flowers.models.inference import PixelLogits
from flowers.report.explanations import describe_explanations, explanation_figures
from flowers.report.html import open_template, picture_address

CLASSES = ["daisy", "roses", "tulips"]
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)


def answers(labels: np.ndarray) -> np.ndarray:
    """Probabilities of a network that is right on every second photograph, and ever less sure."""
    sure = np.linspace(0.95, 0.5, len(labels))
    told = np.where(np.arange(len(labels)) % 2, labels, (labels + 1) % 3)
    return (1 - sure[:, None]) / 2 * np.ones(3) + (sure - (1 - sure) / 2)[:, None] * np.eye(3)[told]


def section(found: ExplanationSet, paths: list[str]) -> tuple[str, dict[str, Figure]]:
    """The section of the page, and the figures, of a network that was tested on these photographs."""
    figures = explanation_figures(found, CLASSES, "net", "photograph")
    run = SimpleNamespace(classes=CLASSES, predictions=pd.DataFrame({"path": paths}))
    explained = describe_explanations(found, CLASSES)
    return open_template("explained.html.jinja").render(run=run, figures=figures, explained=explained), figures


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
    page, figures = section(found, paths)
    first, *others = page.split('<div class="case">')[1:]
    assert (first.count("<b>daisy</b>"), first.count("<code>daisy/0.jpg</code>")) == (1, 1)
    assert re.findall(r'<img src="(.*?)"', first)[0] == picture_address(PIXELS[0], quality=75, most_px=176)
    assert ("Not everything can be shown." in page) == (name == "linear")
    assert ("The weights of each class as a picture: daisy, roses, tulips." in page) == (name == "linear")
    assert {"gradient", "occlusion"} <= set(re.findall(r'<tr><td class="name">(.*?)</td>', page))
    cases = "".join([first, *others]).partition("Do the maps tell")[0]
    assert len(figures["explanations"].axes) == cases.count("<figure>")


def test_one_photograph_is_enough(make_net: Callable[..., Any]) -> None:
    labels = np.array([1])
    found = explain_test(PixelLogits(make_net("cnn"), 1.0).eval(), PIXELS[:1], labels, answers(labels), "net", seed=0)
    assert sum(map(len, found.kinds.values())) == 1
    assert found.chance == 1
    assert "maps of <code>" in section(found, ["roses/0.jpg"])[0]
