from dataclasses import replace

import numpy as np
import pytest

from flowers.explain.attribution import Explanation
from flowers.report.image_grid import heat, magnitude, map_pictures, montage, signed, strip, two_sided, weight_pictures

GREY = np.full((4, 4, 3), 90, dtype=np.uint8)
PEAK = np.zeros((4, 4), dtype=np.float32)
PEAK[1, 2] = 2
LESS = (PEAK / 2).astype(np.float32)


def explanation(**changes: object) -> Explanation:
    colours = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)
    whole = Explanation(
        number=5,
        photograph=GREY,
        truth=0,
        predicted=1,
        confidence=0.8,
        confidence_truth=0.1,
        gradient=colours,
        guided=colours,
        cam=PEAK,
        cam_truth=LESS,
        cams_compare=True,
        guided_cam=colours,
        occlusion=PEAK,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_strip_has_all_that_there_is() -> None:
    panels = {panel.method: panel for panel in strip(explanation(), ["daisy", "roses"])}
    assert list(panels) == ["photograph", "cam", "cam_truth", "guided_cam", "guided", "gradient", "occlusion"]
    assert panels["photograph"].caption == "daisy, taken for roses (80% sure)"
    assert strip(explanation(truth=1), ["daisy", "roses"])[0].caption == "roses, recognised (80% sure)"
    assert panels["cam"].caption == "Grad-CAM for roses (predicted)"
    assert panels["cam_truth"].caption == "Grad-CAM for daisy (true)"
    assert panels["occlusion"].caption == "occlusion: hiding costs up to 2.0 nats"
    assert all(panel.picture.shape == (4, 4, 3) and panel.picture.dtype == np.uint8 for panel in panels.values())
    bare = explanation(cam=None, cam_truth=None, guided=None, guided_cam=None)
    assert [panel.method for panel in strip(bare, ["daisy", "roses"])] == ["photograph", "gradient", "occlusion"]


def test_two_cams_are_on_one_scale_only_if_they_compare() -> None:
    together = {panel.method: panel.picture for panel in strip(explanation(), ["a", "b"])}
    apart = {panel.method: panel.picture for panel in strip(explanation(cams_compare=False), ["a", "b"])}
    assert np.array_equal(apart["cam"], apart["cam_truth"])
    assert np.array_equal(together["cam"], apart["cam"])
    assert together["cam_truth"].max() < together["cam"].max()


def test_nothing_to_see_is_said_and_leaves_the_photograph_grey() -> None:
    panels = {panel.method: panel for panel in strip(explanation(cam=0 * PEAK, occlusion=-PEAK), ["a", "b"])}
    assert panels["cam"].caption == "Grad-CAM for b (predicted): nothing speaks for it"
    assert panels["occlusion"].caption == "occlusion: hiding nothing costs anything"
    assert np.array_equal(heat(0 * PEAK, GREY, 0.0), GREY)
    assert np.array_equal(two_sided(0 * PEAK, GREY), GREY)


def test_heat_is_brightest_at_the_peak_and_lets_the_photograph_through() -> None:
    picture = heat(PEAK, GREY, 2.0).astype(int)
    assert picture.sum(axis=2).argmax() == PEAK.argmax()
    picture[1, 2] = 90
    assert (picture == 90).all()


def test_signs_have_their_colours() -> None:
    values = np.zeros((2, 2), dtype=np.float32)
    values[0, 0], values[1, 1] = 1, -1
    picture = two_sided(values, GREY[:2, :2]).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2]  # orange
    assert picture[1, 1, 2] > picture[1, 1, 0]  # violet
    gradient = np.zeros((2, 2, 3), dtype=np.float32)
    gradient[0, 0], gradient[0, 1] = 1, -1
    assert signed(gradient)[:, :, 0].tolist() == [[255, 1], [128, 128]]
    assert (signed(0 * gradient) == 128).all()
    size = magnitude(gradient).astype(int)
    assert np.array_equal(size[0, 0], size[0, 1])
    assert size[0, 0].sum() > size[1, 1].sum()
    assert len(np.unique(magnitude(0 * gradient).reshape(-1, 3), axis=0)) == 1


def test_each_filter_and_map_is_scaled_by_itself() -> None:
    weights = np.zeros((2, 1, 2, 3), dtype=np.float32)
    weights[0, 0, 0], weights[1, 0, 0] = 5, -0.01
    bright, dark = weight_pictures(weights)
    assert bright[0].tolist() == [[255] * 3, [128] * 3]
    assert dark[0].tolist() == [[1] * 3, [128] * 3]
    maps = np.stack([PEAK, 100 * PEAK + 7, np.full((4, 4), 3.0)])
    first, second, flat = map_pictures(maps)
    assert np.array_equal(first, second)
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize(("count", "shape"), [(1, (8, 8)), (5, (18, 28))])
def test_montage(count: int, shape: tuple[int, int]) -> None:
    pictures = [np.full((4, 4, 3), 10 * i, dtype=np.uint8) for i in range(count)]
    sheet = montage(pictures, columns=3, side_px=8)
    assert sheet.shape == (*shape, 3)
    assert (sheet[:8, :8] == 0).all()
    if count > 1:
        assert (sheet[10:18, 10:18] == 40).all()
        assert (sheet[8:10] == 255).all()
        assert (sheet[10:, 20:] == 255).all()
