"""How much accuracy a model loses on spoilt photographs."""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from flowers.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from flowers.data.pixels import open_store
from flowers.evaluation.predictions import training_run
from flowers.evaluation.scores import score
from flowers.models.inference import probabilities
from flowers.models.trained import TrainedModel
from flowers.report.robustness import corruptions_figure

AT_ONCE = 64
"""Photographs that are spoilt at a time, which bounds the memory."""


def evaluate_spoilt(model: TrainedModel, test: pd.DataFrame, out: Path) -> None:
    """Score a model on spoilt photographs, and write and record the results.

    Args:
        model: The model.
        test: Its test photographs: `path`, `label`, `sha256`.
        out: Folder for `corruptions.csv` and `figures/corruptions.png`; it is there.
    """
    pixels = open_store(Path(model.run["photographs"]), test, model.net.image_px, Path(model.settings.data.cache_dir))
    table = measure_corruptions(model, pixels, test)
    chance = float(test["label"].value_counts(normalize=True).iloc[0])
    title = f"{model.settings.name}: {len(test)} test photographs, spoilt"
    figure = corruptions_figure(table, examples(pixels[0], test["sha256"][0]), chance, title)
    table.to_csv(out / "corruptions.csv", index=False, float_format="%.6f")
    figure.savefig(out / "figures/corruptions.png", dpi=150)
    spoilt = table[table["strength"] > 0]
    for name, rows in spoilt.groupby("corruption", sort=False):
        print(f"{name}: " + ", ".join(f"{row.acc:.3f} ({row.setting})" for row in rows.itertuples()))
    mean = float(spoilt["acc"].mean())
    print(f"{out}/figures/corruptions.png: mean accuracy {mean:.3f} over all corruptions", flush=True)
    if model.settings.tracking.enabled:
        from flowers.tracking import log as tracking

        with training_run(model, {}):
            for name, strength, acc in table[["corruption", "strength", "acc"]].itertuples(index=False, name=None):
                # The photographs as they are begin the curve of every corruption.
                names = [name] if strength else list(CORRUPTIONS)
                tracking.log_metrics({f"corrupted/{each}/acc": acc for each in names}, step=strength)
            tracking.log_metrics({"corrupted/acc": mean})
            tracking.log_figure(figure, "test/corruptions.png")
            tracking.log_file(out / "corruptions.csv", "test")


def measure_corruptions(model: TrainedModel, pixels: np.ndarray, test: pd.DataFrame) -> pd.DataFrame:
    """Test a model on photographs in each corruption of :mod:`flowers.data.corruptions`.

    The corruption is applied to what the network would see, at its size.

    Args:
        model: The model.
        pixels: (N,H,H,3) uint8.
        test: The N photographs: `path`, `label`, `sha256`.

    Returns:
        A row for the photographs as they are (`corruption` none, `strength` 0) and for each corruption and strength:
        `corruption`, `strength`, `setting` (in words), `acc`, `acc_low`, `acc_high` (95 % interval, as in
        :func:`flowers.evaluation.scores.score`), `loss` in nats, `photographs`.
    """
    labels = test["label"].map(model.classes.index).to_numpy()
    paths, digests = test["path"].tolist(), test["sha256"].tolist()
    cases = [("none", 0, "as it is")]
    cases += [(name, level, CORRUPTIONS[name][1][level - 1]) for name in CORRUPTIONS for level in STRENGTHS]
    rows = []
    for name, strength, setting in tqdm(cases, desc="spoiling", unit=" ways", disable=None, leave=False):
        parts = []
        for first in range(0, len(pixels), AT_ONCE):
            batch = np.asarray(pixels[first : first + AT_ONCE])
            if strength:
                batch = np.stack(
                    [
                        corrupt(photograph, name, strength, digest)
                        for photograph, digest in zip(batch, digests[first : first + AT_ONCE], strict=True)
                    ]
                )
            parts.append(probabilities(model, batch, paths[first : first + AT_ONCE]))
        scores = score(labels, np.concatenate(parts), model.classes)
        low, high = scores["interval"]["test/acc"]
        rows.append((name, strength, setting, scores["test/acc"], low, high, scores["test/loss"], len(labels)))
    names = ["corruption", "strength", "setting", "acc", "acc_low", "acc_high", "loss", "photographs"]
    return pd.DataFrame(rows, columns=names)


def examples(photograph: np.ndarray, digest: str) -> dict[str, list[np.ndarray]]:
    """Spoil one photograph in every way: for each corruption itself and the three strengths, (H,H,3) uint8 each."""
    return {
        name: [photograph, *(corrupt(photograph, name, strength, digest) for strength in STRENGTHS)]
        for name in CORRUPTIONS
    }
