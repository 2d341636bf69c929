"""What a network has to beat: ``python -m flowers.baselines experiment=sample_finetune``.

Answers the test photographs with the majority class, with the nearest training photographs by their pixels (L1 and L2
on small copies), and with nearest neighbours and a logistic regression on embeddings: what the head of the recipe's
network is given before any training here. Those two need a recipe with ``weights``. Nothing of the recipe is trained;
what has to be chosen is chosen by cross-validation on the training photographs, in the folds of the split.

Writes for each a folder with ``metrics.json``, ``predictions.csv`` and ``confusion.csv``, as ``evaluate`` does.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flowers.commands import run_command
from flowers.errors import UserError
from flowers.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from flowers.models.baselines import Baseline

ON_PIXELS = ("majority", "pixels_knn_l1", "pixels_knn_l2")
ON_EMBEDDINGS = ("embeddings_knn", "embeddings_logistic")
PIXELS_PX = 32
"""Side of the copies whose pixels are compared: at this size a flower is still one, and a shift of a pixel is none."""
FOLDS = 5
"""Of the cross-validation, where the split has as many."""
_FILES = ("metrics.json", "predictions.csv", "confusion.csv")


class Division(NamedTuple):
    """The photographs, by their split: ``train``, ``val`` and ``test``.

    Attributes:
        root: Folder that paths are relative to.
        classes: The K class names, sorted.
        tables: Rows of the split.
        labels: Class numbers (N,).
        folds: Of the training photographs, (N,); -1: none.
    """

    root: Path
    classes: list[str]
    tables: "dict[str, pd.DataFrame]"
    labels: "dict[str, np.ndarray]"
    folds: "np.ndarray"


class Fitted(NamedTuple):
    """A baseline that is ready for the test."""

    baseline: "Baseline"
    describe: "Callable[[str], np.ndarray]"
    """What it is given of the photographs of a split."""
    notes: dict[str, Any]
    """For ``metrics.json``: ``val/acc``, ``settings``, and ``train_s``, the seconds that choosing and fitting took; on
    embeddings, with those of the network's pass over the training photographs."""


def baselines(settings: Settings) -> dict[str, dict[str, Any]]:
    """Fit the baselines on the training photographs and score them on the test.

    Returns:
        By name, what each ``metrics.json`` holds.

    Raises:
        UserError: If something that the user gave cannot be used, or there is no test, or there are no folds.
    """
    from flowers.measure import write_results
    from flowers.provenance import describe
    from flowers.review.scores import confusion, score
    from flowers.train import find_photographs

    root, split = find_photographs(settings)
    photographs = divide(root, split)
    out = Path(settings.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    fitted = {**_on_pixels(settings, photographs), **_on_embeddings(settings, photographs)}
    about = describe(split)
    origin = {"seed": settings.seed, **{key: about[key] for key in ("git_commit", "data_sha256", "split_sha256")}}
    metrics: dict[str, dict[str, Any]] = {}
    labels, classes = photographs.labels["test"], photographs.classes
    for name, each in fitted.items():
        predicted = each.baseline.predict(each.describe("test"))
        metrics[name] = {**score(labels, predicted, classes), **each.notes, **origin}
        counts = confusion(labels, predicted.argmax(axis=1), len(classes))
        write_results(out / name, metrics[name], photographs.tables["test"], predicted, counts, classes)
    for name in {*ON_PIXELS, *ON_EMBEDDINGS} - metrics.keys():
        for file in _FILES:  # of an earlier call with other settings, which would be ranked beside these
            (out / name / file).unlink(missing_ok=True)
    if settings.tracking.enabled:
        _record(settings, out, metrics)
    print(f"{table(metrics)}\n{out}: {len(labels)} test photographs", flush=True)
    return metrics


def divide(root: Path, split: "pd.DataFrame") -> Division:
    """Divide the photographs as the split says, and find before any work what would end it.

    Raises:
        UserError: If there are no test photographs, or the training photographs lie in less than two folds.
    """
    import pandas as pd

    from flowers.data.split_table import SPLITS
    from flowers.models.baselines import held_out

    tables = {part: split[split["split"] == part].reset_index(drop=True) for part in SPLITS}
    if tables["test"].empty:
        raise UserError("the split has no test photographs; split with data.split.test_frac above 0.")
    classes = sorted(split["label"].unique())
    labels = {part: pd.Index(classes).get_indexer(pd.Index(rows["label"])) for part, rows in tables.items()}
    folds = tables["train"]["fold"].to_numpy()
    folds = folds % FOLDS * (folds >= 0) - (folds < 0)  # more of them are put together; -1 stays
    try:
        held_out(folds)
    except ValueError as error:
        raise UserError(
            "the training photographs lie in less than two folds, so that nothing can be chosen by cross-validation; "
            "run split again, with data.split.folds=5."
        ) from error
    return Division(root, classes, tables, labels, folds)


def table(metrics: dict[str, dict[str, Any]]) -> str:
    """Lay out the results for a terminal: aligned lines of plain ASCII, the best last, where the eye is."""
    lines = [("baseline", "test acc", "95 % interval", "val acc", "log loss", "chosen", "fitted in")]
    for name, each in sorted(metrics.items(), key=lambda item: float(item[1]["test/acc"])):
        low, high = each["interval"]["test/acc"]
        chosen = ", ".join(f"{key} {each['settings'][key]:g}" for key in ("k", "C") if key in each["settings"])
        lines.append(
            (
                name,
                f"{each['test/acc']:.1%}",
                f"{low:.1%} to {high:.1%}",
                f"{each['val/acc']:.1%}",
                f"{each['test/loss']:.3f}",
                chosen,
                f"{each['train_s']:.1f} s",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _on_pixels(settings: Settings, photographs: Division) -> dict[str, Fitted]:
    """Fit those that need no network."""
    from flowers.models.baselines import Search, fit_majority, fit_neighbours
    from flowers.models.neighbours import nearest

    def search(metric: str) -> Search:
        return lambda queries, references, k: nearest(queries, references, k, metric)[0]

    def pixels(part: str) -> "np.ndarray":
        return _pixels(settings, photographs, part, PIXELS_PX)

    labels, folds, classes = photographs.labels["train"], photographs.folds, len(photographs.classes)
    rows = pixels("train")
    ways: dict[str, Callable[[], Baseline]] = {
        "majority": lambda: fit_majority(labels, classes),
        "pixels_knn_l1": lambda: fit_neighbours(rows, labels, folds, classes, search("l1")),
        "pixels_knn_l2": lambda: fit_neighbours(rows, labels, folds, classes, search("l2")),
    }
    notes = {"image_px": PIXELS_PX}
    return {name: _fit(settings, photographs, name, way, pixels, notes, 0) for name, way in ways.items()}


def _on_embeddings(settings: Settings, photographs: Division) -> dict[str, Fitted]:
    """Fit those that see what the recipe's network sees; none if the recipe starts from random weights."""
    from flowers.embeddings import head_inputs
    from flowers.learning.precision import keep_freed_memory
    from flowers.models.baselines import fit_logistic, fit_neighbours, nearest_directions
    from flowers.models.weights import start_from
    from flowers.recipe import build_network

    if settings.weights is None:
        print(
            f"{settings.name} starts from random weights, whose embeddings mean nothing: {' and '.join(ON_EMBEDDINGS)} "
            "are left out; choose a recipe with `weights` for them.",
            flush=True,
        )
        return {}
    net = build_network(settings.model, len(photographs.classes))
    start_from(net, settings.weights, settings.weights_sha256)

    @functools.cache  # for both
    def embed(part: str) -> "np.ndarray":
        return head_inputs(net, _pixels(settings, photographs, part, net.image_px))

    keep_freed_memory()
    _pixels(settings, photographs, "train", net.image_px)  # decoded now, so that it is not in the seconds
    begin = time.perf_counter()
    features = embed("train")
    seconds = time.perf_counter() - begin
    if settings.trainer.progress != "none":
        print(f"embeddings: {features.shape[1]} features of each photograph, {seconds:.1f} s", flush=True)
    labels, folds, classes = photographs.labels["train"], photographs.folds, len(photographs.classes)
    ways: dict[str, Callable[[], Baseline]] = {
        "embeddings_knn": lambda: fit_neighbours(features, labels, folds, classes, nearest_directions),
        "embeddings_logistic": lambda: fit_logistic(features, labels, folds, classes),
    }
    notes = {"image_px": net.image_px, "features": features.shape[1], "recipe": settings.name}
    return {name: _fit(settings, photographs, name, way, embed, notes, seconds) for name, way in ways.items()}


def _pixels(settings: Settings, photographs: Division, part: str, image_px: int) -> "np.ndarray":
    """Decode the photographs of a split, or find them decoded: (N,image_px,image_px,3) uint8."""
    from flowers.data.pixels import open_store

    return open_store(photographs.root, photographs.tables[part], image_px, Path(settings.data.cache_dir))


def _fit(
    settings: Settings,
    photographs: Division,
    name: str,
    way: "Callable[[], Baseline]",
    describe: "Callable[[str], np.ndarray]",
    notes: dict[str, Any],
    before_s: float,
) -> Fitted:
    """Choose and fit, and measure on the validation photographs; add the seconds that went before to the fit's."""
    begin = time.perf_counter()
    baseline = way()
    seconds = before_s + time.perf_counter() - begin
    answers = baseline.predict(describe("val")).argmax(axis=1)
    accuracy = float((answers == photographs.labels["val"]).mean())
    if settings.trainer.progress != "none":
        print(f"{name}: val/acc {accuracy:.3f}, {seconds:.1f} s", flush=True)
    chosen = {**baseline.settings, **notes}
    return Fitted(baseline, describe, {"val/acc": accuracy, "train_s": round(seconds, 2), "settings": chosen})


def _record(settings: Settings, out: Path, metrics: dict[str, dict[str, Any]]) -> None:
    """Put the results into one MLflow run."""
    import pandas as pd

    from flowers.review import tracking

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
    with tracking.tracked_run(
        settings.tracking,
        experiment=settings.data.name,
        name="baselines",
        run_id=None,
        tags={"recipe": settings.name, "kind": "baseline"},
        system_metrics=False,
    ):
        tracking.log_metrics(figures)
        tracking.log_table(pd.DataFrame(rows), "baselines.json")
        for name in metrics:
            for file in _FILES:
                tracking.log_file(out / name / file, name)


if __name__ == "__main__":
    run_command(baselines)
