"""What a network has to beat: ``flowers baselines experiment=sample_finetune``.

Predicts the test photographs with the majority class, with the nearest training photographs by their pixels (L1 and
L2 on copies of 32 px), and with nearest neighbours and a logistic regression on embeddings: what the head of the
recipe's network is given before any training here. Those two need a recipe with ``weights``. Nothing of the recipe is
trained; what has to be chosen is chosen by cross-validation on the training photographs, in the folds of the split.

Writes for each a folder with ``metrics.json``, ``predictions.csv`` and ``confusion.csv``, as ``evaluate`` does.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from flowers.config.cli import run_command
from flowers.config.provenance import describe
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.evaluation.baseline_inputs import (
    ON_EMBEDDINGS,
    ON_PIXELS,
    divide,
    embedding_network,
    fit_on_embeddings,
    fit_on_pixels,
)
from flowers.evaluation.predictions import write_results
from flowers.evaluation.scores import confusion, score

_FILES = ("metrics.json", "predictions.csv", "confusion.csv")


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

    root, split = photographs_of(settings)
    photographs = divide(root, split, Path(settings.data.cache_dir))
    net = embedding_network(settings, len(photographs.classes))
    out = Path(settings.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    fitted = fit_on_pixels(photographs, say)
    if net is not None:
        fitted |= fit_on_embeddings(photographs, net, settings.name, say)

    about = describe(split)
    origin = {"seed": settings.seed, **{key: about[key] for key in ("git_commit", "data_sha256", "split_sha256")}}
    labels, classes = photographs.labels["test"], photographs.classes
    metrics: dict[str, dict[str, Any]] = {}
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
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _record(settings: Settings, out: Path, metrics: dict[str, dict[str, Any]]) -> None:
    """Put the results into one MLflow run."""
    from flowers.tracking import log as tracking

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
    with tracking.result_run(settings, "baseline", "baselines", settings.name):
        tracking.log_metrics(figures)
        tracking.log_table(pd.DataFrame(rows), "baselines.json")
        for name in metrics:
            for file in _FILES:
                tracking.log_file(out / name / file, name)


def main() -> None:
    """Measure the baselines on the photographs that the command line names."""
    run_command(baselines)
