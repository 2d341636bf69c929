"""The baselines, fitted on the photographs of a split: on pixels, and on what a network makes of them."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from flowers.config.schema import Settings
from flowers.curation.split_table import SPLITS
from flowers.data.pixels import open_store
from flowers.errors import UserError
from flowers.evaluation.baselines import (
    Baseline,
    Search,
    fit_logistic,
    fit_majority,
    fit_neighbours,
    held_out,
    nearest_directions,
    nearest_pixels,
)
from flowers.models.inference import keep_freed_memory, predict_logits
from flowers.models.nets import build_network
from flowers.models.weights import start_from

ON_PIXELS = ("majority", "pixels_knn_l1", "pixels_knn_l2")
ON_EMBEDDINGS = ("embeddings_knn", "embeddings_logistic")
PIXELS_PX = 32
"""Side of the copies whose pixels are compared. Larger ones serve no better: on 2,569 real photographs cross-validation
finds 39 % right at 32 px and 38 % at 64 (L1; L2 37 % at both)."""
FOLDS = 5
"""Of the cross-validation, where the split has as many."""


class Division(NamedTuple):
    """The photographs, by their split: ``train``, ``val`` and ``test``.

    Attributes:
        root: Folder that paths are relative to.
        cache_dir: Where decoded pixels are kept.
        classes: The K class names, sorted.
        tables: Rows of the split.
        labels: Class numbers (N,).
        folds: Of the training photographs, (N,); -1: none.
    """

    root: Path
    cache_dir: Path
    classes: list[str]
    tables: dict[str, pd.DataFrame]
    labels: dict[str, np.ndarray]
    folds: np.ndarray

    def pixels(self, part: str, image_px: int) -> np.ndarray:
        """Decode the photographs of a split, or find them decoded: (N,image_px,image_px,3) uint8."""
        return open_store(self.root, self.tables[part], image_px, self.cache_dir)


class Fitted(NamedTuple):
    """A baseline that is ready for the test.

    Attributes:
        baseline: What was fitted.
        describe: What it is given of the photographs of a split.
        notes: For ``metrics.json``: ``val/acc``; ``train_s``, the seconds that choosing and fitting took, and the
            network's pass over the training photographs; ``settings``, which were chosen, and on what.
    """

    baseline: Baseline
    describe: Callable[[str], np.ndarray]
    notes: dict[str, Any]


def divide(root: Path, split: pd.DataFrame, cache_dir: Path) -> Division:
    """Divide the photographs as the split says, and find before any work what would end it.

    Raises:
        UserError: If there are no test photographs, or the training photographs lie in less than two folds.
    """
    tables = {part: split[split["split"] == part].reset_index(drop=True) for part in SPLITS}
    if tables["test"].empty:
        raise UserError("the split has no test photographs; split with data.split.test_frac above 0.")
    classes = sorted(split["label"].unique())
    labels = {part: pd.Index(classes).get_indexer(pd.Index(rows["label"])) for part, rows in tables.items()}
    folds = tables["train"]["fold"].to_numpy()
    folds = np.where(folds < 0, -1, folds % FOLDS)  # where there are more, several are put together
    try:
        held_out(folds)
    except ValueError as error:
        raise UserError(
            "the training photographs lie in less than two folds, so that nothing can be chosen by cross-validation; "
            "run split again, with data.split.folds=5."
        ) from error
    return Division(root, cache_dir, classes, tables, labels, folds)


def embedding_network(settings: Settings, num_classes: int) -> nn.Module | None:
    """Build the network that embeds; None, after a line that says so, if the recipe starts from random weights.

    Raises:
        UserError: If its weights cannot be used.
    """
    if settings.weights is None:
        print(
            f"{settings.name} starts from random weights, whose embeddings mean nothing: {' and '.join(ON_EMBEDDINGS)} "
            "are left out; choose a recipe with `weights` for them.",
            flush=True,
        )
        return None
    net = build_network(settings.model.net, num_classes, settings.data.image_px)
    start_from(net, settings.weights, settings.weights_sha256)
    return net


def fit_on_pixels(photographs: Division, say: Callable[[str], None]) -> dict[str, Fitted]:
    """Fit those that need no network, by name; ``say`` is told how it goes."""

    def search(metric: str) -> Search:
        return lambda queries, references, k: nearest_pixels(queries, references, k, metric)

    def pixels(part: str) -> np.ndarray:
        return photographs.pixels(part, PIXELS_PX)

    labels, folds, classes = photographs.labels["train"], photographs.folds, len(photographs.classes)
    rows = pixels("train")
    ways: dict[str, Callable[[], Baseline]] = {
        "majority": lambda: fit_majority(labels, classes),
        "pixels_knn_l1": lambda: fit_neighbours(rows, labels, folds, classes, search("manhattan")),
        "pixels_knn_l2": lambda: fit_neighbours(rows, labels, folds, classes, search("euclidean")),
    }
    notes = {"image_px": PIXELS_PX}
    return {name: _fit(name, way, pixels, photographs.labels["val"], notes, 0, say) for name, way in ways.items()}


def fit_on_embeddings(photographs: Division, net: Any, recipe: str, say: Callable[[str], None]) -> dict[str, Fitted]:
    """Fit those that see what the head of a recipe's network is given, by name; ``say`` is told how it goes."""
    keep_freed_memory()
    photographs.pixels("train", net.image_px)  # decoded now, so that it is not in the seconds

    @functools.cache  # for both
    def embed(part: str) -> np.ndarray:
        names = photographs.tables[part]["path"].tolist()
        return predict_logits(net, photographs.pixels(part, net.image_px), names, head_is_new=True).features

    begin = time.perf_counter()
    features = embed("train")
    seconds = time.perf_counter() - begin
    say(f"embeddings: {features.shape[1]} features of each photograph, {seconds:.1f} s")
    labels, folds, classes = photographs.labels["train"], photographs.folds, len(photographs.classes)
    ways: dict[str, Callable[[], Baseline]] = {
        "embeddings_knn": lambda: fit_neighbours(features, labels, folds, classes, nearest_directions),
        "embeddings_logistic": lambda: fit_logistic(features, labels, folds, classes),
    }
    notes = {"image_px": net.image_px, "features": features.shape[1], "recipe": recipe}
    return {name: _fit(name, way, embed, photographs.labels["val"], notes, seconds, say) for name, way in ways.items()}


def _fit(
    name: str,
    way: Callable[[], Baseline],
    describe: Callable[[str], np.ndarray],
    val_labels: np.ndarray,
    notes: dict[str, Any],
    before_s: float,
    say: Callable[[str], None],
) -> Fitted:
    """Choose and fit, and measure on the validation photographs; add the seconds that went before to the fit's."""
    begin = time.perf_counter()
    baseline = way()
    seconds = before_s + time.perf_counter() - begin
    accuracy = float((baseline.predict(describe("val")).argmax(axis=1) == val_labels).mean())
    say(f"{name}: val/acc {accuracy:.3f}, {seconds:.1f} s")
    chosen = {**baseline.settings, **notes}
    return Fitted(baseline, describe, {"val/acc": accuracy, "train_s": round(seconds, 2), "settings": chosen})
