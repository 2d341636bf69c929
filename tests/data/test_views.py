"""Augmented views are what the training sees, bit by bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from flowers.api import augmented_views
from flowers.commands.train import build_training
from flowers.config.compose import instantiate
from flowers.config.schema import Settings
from flowers.data.augment import Augment


def augment_of(settings: Settings) -> Augment:
    augment = instantiate("model.augment", settings.model.augment)
    assert isinstance(augment, Augment)
    return augment


def test_views_are_what_the_training_sees(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(
        "model.augment.rotation_deg=20", "model.augment.zoom_frac=0.2", "model.augment.contrast=0.4", "seed=5"
    )
    photographs, classifier = build_training(settings)
    photographs.setup("fit")
    rows = [7, 2, 11]
    views = augmented_views(
        augment_of(settings), settings.seed, photographs.train.pixels[rows], rows, len(photographs.train), [3]
    )
    classifier.stage, classifier.border = classifier.table[0], 0
    classifier.view_draws = classifier._draw(2, len(photographs.train))  # the third epoch
    seen = classifier._augmented(photographs.train.images(rows), torch.tensor(rows))
    mean, std = (torch.tensor(value)[:, None, None] for value in (classifier.net.mean, classifier.net.std))
    pixels = ((seen * std + mean) * 255).clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert views.shape == (1, 3, 32, 32, 3)
    assert np.abs(views[0] - pixels).max() <= 0.51  # rounded


def test_without_augmentation_nothing_changes(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings("model.augment.flip=false")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    views = augmented_views(augment_of(settings), settings.seed, pixels, [0, 1], 2, [1, 2])
    assert np.array_equal(views, np.stack([pixels, pixels]))


def test_each_epoch_draws_anew(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings("model.augment.rotation_deg=20")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    first, second, again = augmented_views(augment_of(settings), settings.seed, pixels, [4], 9, [1, 2, 1])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("frac", [0.5, 1.0])
def test_erased_boxes_are_grey(make_settings: Callable[..., Settings], frac: float) -> None:
    settings = make_settings("model.augment.flip=false", f"model.augment.erase_frac={frac}")
    pixels = np.full((40, 16, 16, 3), 255, np.uint8)
    (views,) = augmented_views(augment_of(settings), settings.seed, pixels, range(40), 40, [1])
    grey = (views == 128).all(axis=-1).mean(axis=(1, 2))
    assert 0.25 < (grey > 0).mean() < 0.75  # half of the photographs
    assert grey.max() <= frac + 0.2
    assert set(np.unique(views)) == {128, 255}
