"""Figures of confidence agree with the tables that they are drawn from."""

import numpy as np
from matplotlib.patches import Rectangle

from flowers.report.reliability import reliability_figure


def test_points_and_bars_of_a_reliability_diagram_are_of_the_same_photographs() -> None:
    confidence = np.array([0.8, 0.8, 0.8, 0.75, 0.85, 1.0])  # 0.8 ends a bin
    right = np.array([True, False, True, True, False, True])
    accuracy, counts = reliability_figure(confidence, right, "title", "photograph").axes
    bars = [bar for bar in counts.patches if isinstance(bar, Rectangle) and bar.get_height()]
    heights: dict[float, list[float]] = {}
    for bar in bars:
        heights.setdefault(round(bar.get_x() + bar.get_width() / 2, 2), []).append(bar.get_height())
    assert heights == {0.75: [3, 1], 0.85: [1], 0.95: [1]}
    points = np.asarray(accuracy.lines[1].get_xydata())
    assert points[:, 1].tolist() == [0.75, 0, 1]
