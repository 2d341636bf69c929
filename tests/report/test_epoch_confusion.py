import numpy as np
import pytest
from matplotlib.colors import to_rgb

from flowers.report import epoch_confusion as module
from flowers.report.epoch_confusion import epoch_confusion
from flowers.report.style import RIGHT, WRONG


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def test_colours_are_those_of_the_pages() -> None:
    for ours, theirs in ((module.BLUE, RIGHT), (module.VERMILION, WRONG)):
        assert [channel / 255 for channel in ours] == pytest.approx(to_rgb(theirs))


def test_what_is_right_is_blue_and_what_is_wrong_vermilion() -> None:
    right = colours(epoch_confusion(np.diag([3, 5]), ["daisy", "roses"], "validation, epoch 1"))
    wrong = colours(epoch_confusion(np.array([[0, 3], [5, 0]]), ["daisy", "roses"], "validation, epoch 1"))
    assert module.BLUE in right - wrong
    assert module.VERMILION in wrong - right


def test_rows_are_the_truth() -> None:
    picture = epoch_confusion(np.array([[0, 7], [0, 0]]), ["daisy", "roses"], "validation, epoch 1")
    rows, columns = np.nonzero((picture == module.VERMILION).all(axis=-1))
    height, width = picture.shape[:2]
    assert rows.mean() < height / 2
    assert columns.mean() > width / 2


@pytest.mark.parametrize("num_classes", [1, 2, 17, 102])
def test_any_number_of_classes_fits_a_screen(num_classes: int) -> None:
    names = [f"the longest name of any class, number {label}" for label in range(num_classes)]
    picture = epoch_confusion(np.zeros((num_classes, num_classes), int), names, "validation, epoch 100")
    assert picture.dtype == np.uint8
    assert max(picture.shape[:2]) < 900
    assert (picture[:, -1] == 255).all()
