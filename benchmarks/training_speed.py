"""How fast fine-tuning is, beside the same network on a batch that never changes, and what memory it takes.

    python -m benchmarks.training_speed PHOTOS WEIGHTS

PHOTOS holds class folders; WEIGHTS is a file of ImageNet weights for timm's ``mobilenetv2_100`` (``pad_type="same"``).
Where torch finds a GPU, everything runs there.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional

from flowers.commands.train import build_training
from flowers.config.compose import change, compose_config, read_settings
from flowers.config.schema import Settings, Split, Stage
from flowers.curation.manifest import scan
from flowers.curation.split_table import write_splits
from flowers.curation.splits import assign_splits
from flowers.data.augment import normalise
from flowers.data.datamodule import PhotoDataModule
from flowers.models.nets import build_network
from flowers.training.classifier import Classifier
from flowers.training.trainer import make_trainer, quiet_lightning, resolve_precision

PAIRS = 3
STEPS, WARM_STEPS = 40, 3
BATCH = 32
HEAD_BATCH = 128  # as in the recipe
HEAD_EPOCHS = 20
GROWTH = 4
"""Times as many photographs, when it is measured whether memory grows with them."""


class AlternatingClock(Callback):
    """After each training step, takes one of a bare loop on a batch that stays where it is, and times both.

    Step by step in turn, what else the machine does hits both alike.

    Attributes:
        ours_s: Seconds of each training step, with all that Lightning does between two of them.
        bare_s: Seconds of forward, backward and optimiser on the constant batch.
    """

    def __init__(self, net: Any, data: PhotoDataModule) -> None:
        device = training_device()
        self.net = net.to(device).to(memory_format=torch.channels_last).train()
        mean, std = (torch.tensor(value, device=device) for value in (net.mean, net.std))
        images = normalise(data.train.images(list(range(BATCH))).to(device), mean, std)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = data.train.labels[:BATCH].to(device)
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=in_half_precision())
        self.ours_s: list[float] = []
        self.bare_s: list[float] = []
        self._begin = now()

    def on_train_batch_end(self, *_: object) -> None:
        """Take the bare step."""
        middle = now()
        with self.autocast:
            logits = self.net(self.images)
        self.optimizer.zero_grad()
        functional.cross_entropy(logits.float(), self.labels).backward()
        self.optimizer.step()
        end = now()
        self.ours_s.append(middle - self._begin)
        self.bare_s.append(end - middle)
        self._begin = end


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photographs", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--memory", type=int, metavar="TIMES", help=argparse.SUPPRESS)  # for the processes started here
    options = parser.parse_args()
    manifest = scan(options.photographs, strict=False)
    split = assign_splits(manifest, Split(val_frac=0.2, test_frac=0.0, folds=5, seed=0, near_bits=-1))
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            table = pd.concat([split] * options.memory, ignore_index=True)
            print(json.dumps(memory(options.photographs, options.weights, table, Path(folder))))
            return
        print("| what | measured |\n|---|---|")
        steps(options.photographs, options.weights, split, Path(folder))
        head_epochs(options.photographs, options.weights, split, Path(folder))
    for times in (1, GROWTH):
        command = [sys.executable, "-m", "benchmarks.training_speed", str(options.photographs), str(options.weights)]
        output = subprocess.check_output([*command, "--memory", str(times)], text=True)
        peak = json.loads(output.splitlines()[-1])
        print(f"| peak memory, all layers, batch {BATCH}, {peak['photographs']} photographs | {peak['gib']:.2f} GiB |")


def recipe(experiment: str, stage: Stage, weights: Path, batch_size: int) -> Settings:
    """Compose a recipe with another stage table, without an average of the weights."""
    words = [f"experiment={experiment}", f"weights={weights}", "model.net.options.pad_type=same", "data=folder"]
    words += ["data.root=unused", "out_dir=unused", f"data.batch_size={batch_size}", "model.ema_decay=0"]
    return change(read_settings(compose_config(words)), {"model.stages": [vars(stage)]})


def prepared(settings: Settings, photographs: Path, split: pd.DataFrame, folder: Path) -> tuple[Any, Classifier]:
    """Make what is trained and what it is trained on, decoded."""
    write_splits(split, folder / "split.csv")
    placed = {"root": str(photographs), "split_csv": str(folder / "split.csv"), "cache_dir": str(folder)}
    data, classifier = build_training(change(settings, {f"data.{name}": value for name, value in placed.items()}))
    data.setup("fit")
    return data, classifier


def steps(photographs: Path, weights: Path, split: pd.DataFrame, folder: Path) -> None:
    """Time training steps of all layers, alternately from the store and on a constant batch."""
    stage = Stage(name="all", epochs=1, train="all", max_lr=1e-3)
    settings = recipe("mobilenetv2_finetune", stage, weights, BATCH)
    data, classifier = prepared(settings, photographs, split, folder)
    twin = build_network(settings.model.net, len(data.classes))
    clock = AlternatingClock(twin, data)
    fit(settings, classifier, data, epochs=1, callbacks=[clock], train_batches=WARM_STEPS + STEPS + 1)
    pairs = list(zip(clock.ours_s, clock.bare_s, strict=False))[WARM_STEPS:]
    ours_s, bare_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    low, middle, high = statistics.quantiles((bare / ours for ours, bare in pairs), n=4)
    print(f"| all layers, a constant batch of {BATCH} | {BATCH / bare_s:.1f} images/s |")
    print(f"| all layers, from the store to the optimiser step, with augmentation | {BATCH / ours_s:.1f} images/s |")
    print(f"| ratio of the two, median of {len(pairs)} steps in turn (quartiles) | {middle:.2f}", end="")
    print(f" ({low:.2f}, {high:.2f}) |", flush=True)


def head_epochs(photographs: Path, weights: Path, split: pd.DataFrame, folder: Path) -> None:
    """Time many epochs of a head beside one pass of the photographs through the frozen layers."""
    stage = Stage(name="head", epochs=HEAD_EPOCHS, train="head", max_lr=1e-3, views=1)
    settings = recipe("linear_probe", stage, weights, HEAD_BATCH)
    ratios = []
    for _ in range(PAIRS):
        data, classifier = prepared(settings, photographs, split, folder)
        device = training_device()
        net = classifier.net.to(device).eval()
        mean, std = (torch.tensor(value, device=device) for value in (net.mean, net.std))
        start = now()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=in_half_precision()):
            for dataset in (data.train, data.val):
                for first in range(0, len(dataset), HEAD_BATCH):
                    rows = list(range(first, min(first + HEAD_BATCH, len(dataset))))
                    net(normalise(dataset.images(rows).to(device), mean, std))
        one_pass_s = now() - start
        net.train()
        start = now()
        fit(settings, classifier, data, epochs=HEAD_EPOCHS, callbacks=[])
        ratios.append((now() - start) / one_pass_s)
    each = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(f"| {HEAD_EPOCHS} epochs of the head, as a multiple of one frozen pass |", end="")
    print(f" {statistics.median(ratios):.2f} ({each}) |", flush=True)


def memory(photographs: Path, weights: Path, split: pd.DataFrame, folder: Path) -> dict[str, float]:
    """Train all layers for a few steps, having read every photograph once, and read this process's peak."""
    settings = recipe("mobilenetv2_finetune", Stage(name="all", epochs=1, train="all", max_lr=1e-3), weights, BATCH)
    data, classifier = prepared(settings, photographs, split, folder)
    for first in range(0, len(data.train), BATCH):
        data.train.images(list(range(first, min(first + BATCH, len(data.train)))))
    fit(settings, classifier, data, epochs=1, callbacks=[], train_batches=10)
    status = Path("/proc/self/status").read_text()
    peak_kib = int(re.search(r"VmHWM:\s*(\d+)", status)[1])  # type: ignore[index]
    return {"photographs": len(split), "gib": peak_kib / 2**20}


def fit(
    settings: Settings,
    classifier: Classifier,
    data: PhotoDataModule,
    *,
    epochs: int,
    callbacks: list[Callback],
    train_batches: int | None = None,
) -> None:
    """Train as ``flowers train`` does; with a limit on batches, without validation."""
    limits = {} if train_batches is None else {"limit_train_batches": train_batches, "limit_val_batches": 0}
    with quiet_lightning(), tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            settings.trainer,
            Path(folder),
            max_epochs=epochs,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            **limits,
        )
        trainer.fit(classifier, datamodule=data)


def in_half_precision() -> bool:
    """Say whether trainings here use bfloat16."""
    return resolve_precision("auto", "auto") == "bf16-mixed"


def training_device() -> torch.device:
    """Name the device that Lightning would choose."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now() -> float:
    """Read the clock when the device has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
