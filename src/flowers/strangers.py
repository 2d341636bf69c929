"""Does a model notice photographs of what it was never taught?"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.loose import answer_folder
from flowers.measure import outlier_scores, training_run
from flowers.review.outliers import separation
from flowers.shift import find_folder
from flowers.trained import TrainedModel

ALARM = 0.95
"""Strangeness above which a photograph counts as noticed: of ordinary ones, one in twenty is."""


def evaluate_strangers(model: TrainedModel, data: str, out: Path) -> dict[str, Any]:
    """Score photographs that are of none of the classes, beside the test photographs that were just evaluated.

    Args:
        model: The model.
        data: A name of ``conf/data``, or a folder with photographs anywhere in it. All of them count as strangers.
        out: The evaluation's folder, with `metrics.json` and `outliers/test.csv`; `outliers/strangers.csv` is added.

    Returns:
        What is added to `metrics.json` under `strangers`: `data`, `root`, `photographs`; `separation`, for each score
        the chance that a stranger's is higher than a test photograph's (0.5: no better than a lot); `noticed_frac` of
        the strangers and `alarmed_frac` of the test photographs (strangeness above :data:`ALARM`; null where the model
        kept no validation features); `refused`, files that could not be read.

    Raises:
        UserError: If there are no such photographs.
    """
    name, root, _ = find_folder(data, "outliers")
    names, answers, refused = answer_folder(model, root, key="outliers")
    table = outlier_scores(model, names, answers)
    table.insert(1, "prediction", [model.classes[i] for i in answers.logits.argmax(axis=1)])
    ordinary = pd.read_csv(out / "outliers/test.csv")
    known = model.validation is not None
    scores = {
        "outlier": 1.0 if known else None,
        "distance": 1.0 if known else None,
        "energy": 1.0,
        "confidence": -1.0,  # the less sure, the stranger
    }
    apart = {
        score: separation(sign * ordinary[score].to_numpy(), sign * table[score].to_numpy())
        for score, sign in scores.items()
        if sign is not None
    }
    found = {
        "data": name,
        "root": str(root),
        "photographs": len(table),
        "separation": apart,
        "noticed_frac": _alarmed(table) if known else None,
        "alarmed_frac": _alarmed(ordinary) if known else None,
        "refused": refused,
    }
    table.to_csv(out / "outliers/strangers.csv", index=False, float_format="%.6f")
    metrics_json = out / "metrics.json"
    metrics = json.loads(metrics_json.read_text()) | {"strangers": found}
    metrics_json.write_text(json.dumps(metrics, indent=2) + "\n")
    best = apart.get("outlier", apart["energy"])
    print(
        f"{out}/outliers/strangers.csv: {len(table)} photographs of {name}, told from test ones in {best:.1%} of pairs"
    )
    if model.settings.tracking.enabled:
        from flowers.review import tracking

        with training_run(model, {}):
            tracking.log_metrics({f"strangers/{score}": value for score, value in apart.items()})
            tracking.log_file(out / "outliers/strangers.csv", "test")
    return found


def _alarmed(table: pd.DataFrame) -> float:
    """Count the share of photographs above :data:`ALARM`."""
    return float(np.mean(table["strangeness"].to_numpy() > ALARM))
