"""The main job: from a folder of photographs to a tested model, `resnet_small_scratch` over three seeds."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ordering import SEEDS, spread

EXPERIMENT = "resnet_small_scratch"


def measure(photographs: Path) -> list[tuple[str, str]]:
    """Train and test on class folders, each seed with a split and a network of its own."""
    accuracies, times, memories = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            out = f"{folder}/{seed}"
            words = [f"experiment={EXPERIMENT}", "data=folder", f"data.root={photographs.resolve()}", f"seed={seed}"]
            split = [f"data.split.seed={seed}", f"data.cache_dir={folder}/pixels"]
            call("train", *words, *split, f"out_dir={out}", "tracking.enabled=false", "trainer.progress=lines")
            call("evaluate", f"model={out}", f"out_dir={out}/test")
            record = json.loads(Path(out, "run.json").read_text())
            times.append(record["train_s"] / 60)
            memories.append(record["peak_memory_bytes"] / 2**30)
            accuracies.append(json.loads(Path(out, "test/metrics.json").read_text())["test/acc"])
    return [
        (f"`{EXPERIMENT}`, test accuracy", spread(accuracies)),
        ("training", f"{statistics.median(times):.1f} min (median of {len(SEEDS)})"),
        ("peak memory", f"{max(memories):.1f} GiB"),
    ]


def call(verb: str, *words: str) -> None:
    """Run a command in a process of its own, so that its peak memory is its own."""
    subprocess.run([sys.executable, "-m", f"flowers.{verb}", *words], check=True)
