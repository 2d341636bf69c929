"""The main job: from a folder of photographs to a tested model, over three seeds, from nothing or from weights."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ordering import SEEDS, spread

FROM_NOTHING = "resnet_small_scratch"
FROM_WEIGHTS = "mobilenetv2_finetune"


def measure(photographs: Path, weights: Path | None) -> list[tuple[str, str]]:
    """Train and test on class folders, each seed with a split and a network of its own.

    Args:
        photographs: Class folders.
        weights: For timm's ``mobilenetv2_100`` with ``pad_type="same"``; None: a network from nothing.
    """
    experiment = FROM_NOTHING if weights is None else FROM_WEIGHTS
    with tempfile.TemporaryDirectory() as folder:
        outs = [train_and_test(experiment, seed, photographs, weights, Path(folder)) for seed in SEEDS]
        records = [json.loads((out / "run.json").read_text()) for out in outs]
        accuracies = [json.loads((out / "test/metrics.json").read_text())["test/acc"] for out in outs]
    minutes = statistics.median(record["train_s"] / 60 for record in records)
    memory_gib = max(record["peak_memory_bytes"] / 2**30 for record in records)
    return [
        (f"`{experiment}`, test accuracy", spread(accuracies)),
        ("training", f"{minutes:.1f} min (median of {len(SEEDS)})"),
        ("peak memory", f"{memory_gib:.1f} GiB"),
    ]


def train_and_test(
    experiment: str, seed: int, photographs: Path, weights: Path | None, folder: Path, *test: str
) -> Path:
    """Train on class folders with a split of the seed's own, and test.

    Args:
        experiment: The recipe.
        seed: Of the split and the network.
        photographs: Class folders.
        weights: See :func:`measure`.
        folder: Where models and decoded photographs are kept.
        test: Keys of ``evaluate``.

    Returns:
        The model's folder; the test's is ``test`` in it.
    """
    out = folder / f"{experiment}-{seed}"
    start = [] if weights is None else [f"weights={weights.resolve()}", "model.net.options.pad_type=same"]
    data = ["data=folder", f"data.root={photographs.resolve()}", f"data.split.seed={seed}"]
    data += [f"data.cache_dir={folder}/pixels"]
    words = [f"experiment={experiment}", *start, f"seed={seed}", *data, f"out_dir={out}"]
    call("train", *words, "tracking.enabled=false", "progress=lines")
    call("evaluate", f"model={out}", f"out_dir={out}/test", *test)
    return out


def call(verb: str, *words: str) -> None:
    """Run a command in a process of its own, so that its peak memory is its own."""
    subprocess.run([sys.executable, "-m", "flowers", verb, *words], check=True)
