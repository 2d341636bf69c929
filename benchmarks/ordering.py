"""The default data set's difficulty: pixels < convolutions < transfer, over three seeds.

Each seed renders its own photographs, splits them its own way and initialises its own networks.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flowers.commands.evaluate import evaluate
from flowers.commands.train import train
from flowers.config.compose import change, compose_config, read_settings

EXPERIMENTS = ("linear_scratch", "mlp_scratch", "cnn_scratch", "sample_finetune")
SEEDS = (0, 1, 2)
QUIET = ("tracking.enabled=false", "progress=none")


def measure() -> list[tuple[str, str]]:
    """Pretrain once per seed, then train and test each experiment."""
    found: dict[str, list[float]] = {name: [] for name in EXPERIMENTS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            pretrained = Path(folder) / f"pretrain{seed}"
            run("species_pretrain", seed, pretrained, folder, "data.source.seed", seed + 100)
            for name in EXPERIMENTS:
                out = Path(folder) / f"{name}{seed}"
                weights = [f"weights={pretrained}/model.safetensors"] if name == "sample_finetune" else []
                run(name, seed, out, folder, "data.source.seed", seed, weights)
                found[name].append(float(evaluate(out, out / "test")["test/acc"]))
    return [(f"`{name}`, test accuracy", spread(figures)) for name, figures in found.items()]


def run(
    experiment: str, seed: int, out: Path, folder: str, key: str, value: int, overrides: Sequence[str] = ()
) -> None:
    """Train one experiment."""
    words = [f"experiment={experiment}", f"seed={seed}", f"out_dir={out}", f"data.split.seed={seed}", f"{key}={value}"]
    settings = read_settings(compose_config([*words, *QUIET, *overrides]))
    train(change(settings, {"data.root": f"{folder}/{settings.data.name}", "data.cache_dir": f"{folder}/pixels"}))


def spread(figures: Sequence[float]) -> str:
    """Write a mean with its standard deviation and the single figures."""
    each = ", ".join(f"{figure:.1%}" for figure in figures)
    return f"{statistics.mean(figures):.1%} ± {statistics.stdev(figures):.1%} ({each})"
