"""The same task, photographs, split and weights given to others: fastai and the plain PyTorch tutorial loop.

    python -m benchmarks.peers PHOTOS WEIGHTS

PHOTOS holds class folders; WEIGHTS is a file of ImageNet weights for timm's ``mobilenetv2_100`` (``pad_type="same"``).
Peers get an environment of their own in ``runs/peers``. Each line is a whole process, from a cold start to the accuracy
on the validation photographs, decoding included. fastai runs twice: as it comes, and with glibc told to keep freed
memory, which our trainings do by themselves.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.cold_start import wait
from flowers.config.schema import Split
from flowers.curation.manifest import scan
from flowers.curation.split_table import write_splits
from flowers.curation.splits import assign_splits

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOME = ROOT / "runs/peers"
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
VAL_PHOTOGRAPHS = 550
RECIPES = {
    "linear probe": ["experiment=linear_probe"],
    "fine-tuned": ["experiment=mobilenetv2_finetune"],
}


def main() -> None:
    """Make the environment and the split, run everybody, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of our trainings")
    parser.add_argument("--only", choices=["ours", "peers"], help="leave the others out")
    options = parser.parse_args()
    photographs, weights = options.photographs.resolve(), options.weights.resolve()
    HOME.mkdir(parents=True, exist_ok=True)
    manifest = scan(photographs, strict=False)
    fraction = VAL_PHOTOGRAPHS / (manifest["status"] == "ok").sum()
    split = assign_splits(manifest, Split(val_frac=float(fraction), test_frac=0.0, folds=5, seed=0, near_bits=-1))
    write_splits(split, HOME / "split.csv")
    print("| who | seconds | validation accuracy | peak memory (GiB) |\n|---|---|---|---|", flush=True)
    if options.only != "ours":
        python = make_environment()
        for name, script, extra in (
            ("fastai, fine_tune(3, freeze_epochs=1)", "fastai_finetune.py", {}),
            ("the same, glibc keeps memory", "fastai_finetune.py", KEEP_MEMORY),
            ("tutorial loop, all layers, 2 epochs, glibc keeps memory", "tutorial_loop.py", KEEP_MEMORY),
        ):
            command = [str(python), str(HERE / script), *map(str, (HOME / "split.csv", photographs))]
            row(name, [run([*command, str(weights)], extra)])
    if options.only != "peers":
        for name, words in RECIPES.items():
            row(name, [ours(words, seed, photographs, weights) for seed in options.seeds])


def make_environment() -> Path:
    """Install the peers, once."""
    python = HOME / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
        packages = ["fastai==2.8.12", "plum-dispatch<2.10", "timm==1.0.31", "torch==2.15.0", "torchvision==0.29.2"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def ours(words: list[str], seed: int, photographs: Path, weights: Path) -> tuple[float, float, float]:
    """Train a recipe from a cold start: nothing decoded, nothing remembered."""
    out = HOME / "ours"
    subprocess.run(["rm", "-rf", str(out), str(HOME / "pixels")], check=True)
    command = [sys.executable, "-m", "flowers", "train", *words, "data=folder", f"data.root={photographs}"]
    command += [f"weights={weights}", "model.net.options.pad_type=same", f"seed={seed}", f"out_dir={out}"]
    command += [f"data.split_csv={HOME / 'split.csv'}", f"data.cache_dir={HOME / 'pixels'}", "tracking.enabled=false"]
    seconds, _, peak_gib = run([*command, "progress=lines"], {})
    record = json.loads((out / "run.json").read_text())
    return seconds, float(record["final"]["val/acc"]), peak_gib


def run(command: list[str], extra: dict[str, str]) -> tuple[float, float, float]:
    """Time a process; a peer's last line is a JSON object with ``accuracy``.

    Returns:
        Seconds of wall clock, accuracy (NaN where it said none), and the peak of memory in GiB.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=HOME, env=os.environ | extra, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, peak_gib = wait(process)
    seconds = time.perf_counter() - start
    last = (output.strip().splitlines() or [""])[-1]
    result = json.loads(last) if last.startswith("{") else {}
    return seconds, result.get("accuracy", float("nan")), peak_gib


def row(name: str, results: list[tuple[float, float, float]]) -> None:
    """Print a line of the table."""
    seconds, accuracies, memories = zip(*results, strict=True)
    each = "" if len(results) == 1 else f" ({', '.join(f'{accuracy:.1%}' for accuracy in accuracies)})"
    line = (
        f"| {name} | {statistics.mean(seconds):.0f} | {statistics.mean(accuracies):.1%}{each} | {max(memories):.1f} |"
    )
    print(line, flush=True)


if __name__ == "__main__":
    main()
