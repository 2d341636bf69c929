"""Words in a picture are whole and on white."""

import numpy as np

from flowers.tracking.hint import hint_image


def test_longest_words_fit() -> None:
    image = hint_image(["the quick brown foxes"[:20]] * 7)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == border[0]).all()
    assert image.min() < 100 < border[0].min()
