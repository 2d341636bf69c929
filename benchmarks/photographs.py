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
    start = [] if weights is None else [f"weights={weights.resolve()}", "model.net.options.pad_type=same"]
    accuracies, times, memories = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            out = f"{folder}/{seed}"
            words = [f"experiment={experiment}", *start, f"seed={seed}"]
            data = ["data=folder", f"data.root={photographs.resolve()}", f"data.split.seed={seed}"]
            data += [f"data.cache_dir={folder}/pixels"]
            call("train", *words, *data, f"out_dir={out}", "tracking.enabled=false", "progress=lines")
            call("evaluate", f"model={out}", f"out_dir={out}/test")
            record = json.loads(Path(out, "run.json").read_text())
            times.append(record["train_s"] / 60)
            memories.append(record["peak_memory_bytes"] / 2**30)
            accuracies.append(json.loads(Path(out, "test/metrics.json").read_text())["test/acc"])
    return [
        (f"`{experiment}`, test accuracy", spread(accuracies)),
        ("training", f"{statistics.median(times):.1f} min (median of {len(SEEDS)})"),
        ("peak memory", f"{max(memories):.1f} GiB"),
    ]


def call(verb: str, *words: str) -> None:
    """Run a command in a process of its own, so that its peak memory is its own."""
    subprocess.run([sys.executable, "-m", f"flowers.{verb}", *words], check=True)
