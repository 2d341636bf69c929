"""Labels do not overlap, and texts fit."""

import numpy as np
import pytest

from flowers.report.style import LABEL_PT, cut_text, spread_out, text_width_in


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([0.3], [0.3]),
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
        ([0.0, 0.5, 0.56], [0.0, 0.48, 0.58]),
        ([0.56, 0.0, 0.5], [0.58, 0.0, 0.48]),
        ([0.96, 0.98], [0.9, 1.0]),
    ],
)
def test_labels_move_as_little_as_they_can(heights: list[float], expected: list[float]) -> None:
    assert np.allclose(spread_out(heights, 0.1), expected)


def test_a_text_is_cut_to_a_width() -> None:
    assert cut_text("daisy", 1, LABEL_PT) == "daisy"
    cut = cut_text("daisy of the meadows", 1, LABEL_PT)
    assert cut.startswith("daisy")
    assert cut.endswith("…")
    assert text_width_in(cut, LABEL_PT) <= 1
