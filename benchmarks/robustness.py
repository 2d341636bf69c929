"""What augmentation by poor photographs is worth: test photographs as they are, at 32 px and back, and corrupted."""

import json
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.ordering import SEEDS, spread
from benchmarks.photographs import FROM_WEIGHTS, train_and_test

EXPERIMENTS = (FROM_WEIGHTS, "mobilenetv2_robust")


def measure(photographs: Path, weights: Path) -> list[tuple[str, str]]:
    """Fine-tune by both recipes on class folders, each seed with a split of its own, and test on corrupted photographs.

    Args:
        photographs: Class folders.
        weights: For timm's ``mobilenetv2_100`` with ``pad_type="same"``.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for experiment in EXPERIMENTS:
            test = ("corruptions=true", "explanations=false")
            outs = [train_and_test(experiment, seed, photographs, weights, Path(folder), *test) for seed in SEEDS]
            tables = [pd.read_csv(out / "test/corruptions.csv") for out in outs]
            for case in [("none", "as it is"), *(("resolution", f"{side_px} px") for side_px in (64, 48, 32))]:
                found = (table.loc[(table[["corruption", "setting"]] == case).all(axis=1), "acc"] for table in tables)
                figures = [float(accuracy.iloc[0]) for accuracy in found]
                rows.append((f"`{experiment}`, {' '.join(case)}", spread(figures)))
            means = [json.loads((out / "test/metrics.json").read_text())["corrupted/acc"] for out in outs]
            rows.append((f"`{experiment}`, mean over all corruptions", spread(means)))
    return rows
