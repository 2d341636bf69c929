"""How much accuracy a model loses on corrupted photographs."""

import numpy as np
import pandas as pd
from tqdm import tqdm

from flowers.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from flowers.evaluation.scores import score
from flowers.models.inference import probabilities
from flowers.models.trained import TrainedModel

AT_ONCE = 64
"""Photographs that are corrupted at a time, which bounds the memory."""


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
    for name, strength, setting in tqdm(cases, desc="corrupting", unit=" ways", disable=None, leave=False):
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
    """Corrupt one photograph in every way: for each corruption itself and the three strengths, (H,H,3) uint8 each."""
    return {
        name: [photograph, *(corrupt(photograph, name, strength, digest) for strength in STRENGTHS)]
        for name in CORRUPTIONS
    }
