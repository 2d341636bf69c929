"""What a network has to beat: ``flowers baselines experiment=sample_finetune``.

Predicts the test photographs with the majority class, with the nearest training photographs by their pixels (L1 and
L2 on copies of 32 px), and with nearest neighbours and a logistic regression on embeddings: what the head of the
recipe's network is given before any training here. Those two need a recipe with ``weights``. Nothing of the recipe is
trained; what has to be chosen is chosen by cross-validation on the training photographs, in the folds of the split.

Writes for each a folder with ``metrics.json``, ``predictions.csv`` and ``confusion.csv``, as ``evaluate`` does.
"""

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from flowers.config.cli import run_command
from flowers.config.compose import read_data
from flowers.config.provenance import describe
from flowers.config.schema import Fit, Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import SPLITS
from flowers.data.pixels import check_unchanged, open_store
from flowers.errors import UserError
from flowers.evaluation.baselines import (
    Baseline,
    fit_logistic,
    fit_majority,
    fit_neighbours,
    held_out,
    nearest_directions,
    nearest_pixels,
)
from flowers.evaluation.result_files import aligned, write_results
from flowers.evaluation.scores import score
from flowers.models.inference import find_device, keep_freed_memory, predict_logits
from flowers.models.nets import build_network
from flowers.models.weights import start_from
from flowers.tracking.runs import announce_store, tracked_run

Ways = Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], Baseline]]
"""By name, functions from rows, labels and folds of the training photographs and K to what is fitted on them."""
ON_PIXELS: Ways = {
    "majority": fit_majority,
    "pixels_knn_l1": functools.partial(fit_neighbours, search=functools.partial(nearest_pixels, metric="manhattan")),
    "pixels_knn_l2": functools.partial(fit_neighbours, search=functools.partial(nearest_pixels, metric="euclidean")),
}
ON_EMBEDDINGS: Ways = {
    "embeddings_knn": functools.partial(fit_neighbours, search=nearest_directions),
    "embeddings_logistic": fit_logistic,
}
PIXELS_PX = 32
"""Side of the copies whose pixels are compared. Larger ones serve no better: on 2,569 real photographs cross-validation
finds 39 % right at 32 px and 38 % at 64 (L1; L2 37 % at both)."""
FOLDS = 5
"""Of the cross-validation, where the split has as many."""
_FILES = ("metrics.json", "predictions.csv", "confusion.csv")


class Division(NamedTuple):
    """The photographs, by their split: ``train``, ``val`` and ``test``.

    Attributes:
        root: Folder that paths are relative to.
        cache_dir: Where decoded pixels are kept.
        classes: The K class names, sorted.
        tables: Rows of the split.
        labels: Class numbers (N,).
        folds: Of the training photographs, (N,); -1: none.
        fit: How they become squares.
    """

    root: Path
    cache_dir: Path
    classes: list[str]
    tables: dict[str, pd.DataFrame]
    labels: dict[str, np.ndarray]
    folds: np.ndarray
    fit: Fit

    def pixels(self, part: str, image_px: int) -> np.ndarray:
        """Decode the photographs of a split, or find them decoded: (N,image_px,image_px,3) uint8."""
        return open_store(self.root, self.tables[part], image_px, self.cache_dir, self.fit)


class Fitted(NamedTuple):
    """A baseline that is ready for the test.

    Attributes:
        predict: Maps what a baseline is given of M photographs to probabilities (M,K).
        rows_of: From a split's name to what a baseline is given of its photographs.
        notes: For ``metrics.json``: ``val/acc``; ``train_s``, the seconds that choosing and fitting took, and the
            network's pass over the training photographs; ``settings``, which were chosen, and on what.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    rows_of: Callable[[str], np.ndarray]
    notes: dict[str, Any]


def baselines(settings: Settings) -> dict[str, dict[str, Any]]:
    """Fit the baselines on the training photographs and score them on the test, which is read once, at the end.

    Returns:
        By name, what each ``metrics.json`` holds.

    Raises:
        UserError: If something that the user gave cannot be used, or there is no test, or there are no folds.
    """

    def say(line: str) -> None:
        if settings.progress != "none":
            print(line, flush=True)

    announce_store(settings)
    root, split = photographs_of(settings)
    data = read_data(settings)
    photographs = divide(root, split, Path(data.cache_dir), data.fit)
    check_unchanged(root, photographs.tables["test"])
    net = embedding_network(settings, len(photographs.classes))
    out = Path(settings.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    pixels = functools.partial(photographs.pixels, image_px=PIXELS_PX)
    fitted = fit(ON_PIXELS, pixels, photographs, {"image_px": PIXELS_PX}, 0.0, say)
    if net is not None:
        fitted |= fit_on_embeddings(photographs, net, settings.name, say)

    about = describe(split)
    origin = {"seed": settings.seed, **{key: about[key] for key in ("git_commit", "data_sha256", "split_sha256")}}
    test, labels, classes = photographs.tables["test"], photographs.labels["test"], photographs.classes
    metrics: dict[str, dict[str, Any]] = {}
    for name, each in fitted.items():
        predicted = each.predict(each.rows_of("test"))
        metrics[name] = {**score(labels, predicted, classes, test["group"]), **each.notes, **origin}
        write_results(out / name, metrics[name], test, predicted, classes)
    for name in {*ON_PIXELS, *ON_EMBEDDINGS} - metrics.keys():
        for file in _FILES:  # of an earlier call with other settings, which would be ranked beside these
            (out / name / file).unlink(missing_ok=True)
    if settings.tracking.enabled:
        _record(settings, out, metrics)
    print(f"{table(metrics)}\n{out}: {len(labels)} test photographs", flush=True)
    return metrics


def divide(root: Path, split: pd.DataFrame, cache_dir: Path, fit: Fit = "crop") -> Division:
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
            "divide them with data.split.folds=5, or fill in the column fold of data.split_csv."
        ) from error
    return Division(root, cache_dir, classes, tables, labels, folds, fit)


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
    return net.to(find_device(settings.trainer.get("accelerator", "auto"), "trainer.accelerator"))


def fit_on_embeddings(photographs: Division, net: Any, recipe: str, say: Callable[[str], None]) -> dict[str, Fitted]:
    """Fit those that see what the head of a recipe's network is given, by name; ``say`` is told how it goes."""
    keep_freed_memory()
    photographs.pixels("train", net.image_px)  # decoded now, so that it is not in the seconds

    @functools.cache  # for both
    def embed(part: str) -> np.ndarray:
        names = photographs.tables[part]["path"].tolist()
        return predict_logits(net, photographs.pixels(part, net.image_px), names, head_is_new=True).features

    begin = time.perf_counter()
    width = embed("train").shape[1]
    seconds = time.perf_counter() - begin
    say(f"embeddings: {width} features of each photograph, {seconds:.1f} s")
    notes = {"image_px": net.image_px, "features": width, "recipe": recipe}
    return fit(ON_EMBEDDINGS, embed, photographs, notes, seconds, say)


def fit(
    ways: Ways,
    rows_of: Callable[[str], np.ndarray],
    photographs: Division,
    notes: dict[str, Any],
    before_s: float,
    say: Callable[[str], None],
) -> dict[str, Fitted]:
    """Choose and fit, and measure on the validation photographs.

    Args:
        ways: What is fitted.
        rows_of: From a split's name to what a baseline is given of its photographs, (N,…).
        photographs: The photographs.
        notes: Added to the settings that were chosen.
        before_s: Seconds that went before, added to those of each fit.
        say: Told how it goes.
    """
    rows, labels, folds = rows_of("train"), photographs.labels, photographs.folds
    fitted = {}
    for name, way in ways.items():
        begin = time.perf_counter()
        baseline = way(rows, labels["train"], folds, len(photographs.classes))
        seconds = before_s + time.perf_counter() - begin
        accuracy = float((baseline.predict(rows_of("val")).argmax(axis=1) == labels["val"]).mean())
        say(f"{name}: val/acc {accuracy:.3f}, {seconds:.1f} s")
        found = {"val/acc": accuracy, "train_s": round(seconds, 2), "settings": {**baseline.settings, **notes}}
        fitted[name] = Fitted(baseline.predict, rows_of, found)
    return fitted


def table(metrics: dict[str, dict[str, Any]]) -> str:
    """Lay out the results for a terminal: aligned lines of plain ASCII, the best first."""
    lines = [("baseline", "test acc", "95 % interval", "val acc", "log loss", "chosen", "fitted in")]
    for name, each in sorted(metrics.items(), key=lambda item: -float(item[1]["test/acc"])):
        low, high = each["interval"]["test/acc"]
        chosen = ", ".join(f"{key} {each['settings'][key]:g}" for key in ("k", "C") if key in each["settings"])
        lines.append(
            (
                name,
                f"{100 * each['test/acc']:.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f} %",
                f"{100 * each['val/acc']:.1f} %",
                f"{each['test/loss']:.3f}",
                chosen,
                f"{each['train_s']:.1f} s",
            )
        )
    return aligned(lines, left=1)


def _record(settings: Settings, out: Path, metrics: dict[str, dict[str, Any]]) -> None:
    """Put the results into one MLflow run, and by the names that trainings have them by those of the best."""
    figures = {
        f"baseline/{name}/{key.removeprefix('test/').replace('/', '_')}": value
        for name, each in metrics.items()
        for key, value in each.items()
        if key.startswith(("test/", "val/"))
    }
    rows = [
        {"baseline": name, **{key: value for key, value in each.items() if isinstance(value, float)}}
        for name, each in metrics.items()
    ]
    best = max(metrics, key=lambda name: float(metrics[name]["val/acc"]))
    tags = {"kind": "baseline", "recipe": settings.name, "best": best}
    with tracked_run(settings, "baselines", tags) as run:
        run.log_metrics(figures | {key: value for key, value in metrics[best].items() if "/" in key})
        run.log_table(pd.DataFrame(rows), "baselines.json")
        for name in metrics:
            for file in _FILES:
                run.log_file(out / name / file, name)


def main() -> None:
    """Measure the baselines on the photographs that the command line names."""
    run_command(baselines)
