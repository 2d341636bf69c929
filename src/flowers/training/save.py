"""The folder of a trained model, as it is written."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import nn

from flowers.config.compose import as_dict
from flowers.config.provenance import describe
from flowers.config.schema import Settings
from flowers.curation.split_table import write_splits
from flowers.errors import UserError
from flowers.models.inference import Answers
from flowers.models.trained import VALIDATION
from flowers.models.weights import save_weights

TEMPERATURES = (0.05, 20.0)
"""Between these a temperature is looked for."""


def check_free(out: Path, settings: Settings) -> None:
    """Refuse to put a training where a different one lies.

    One that goes on from an earlier stage of the training there may differ in what follows that stage.

    Raises:
        UserError: If the folder holds a model that was trained with other settings.
    """
    config = out / "config.yaml"
    if (out / "model.safetensors").exists() and config.exists():
        try:
            there = OmegaConf.to_container(OmegaConf.load(config))
            same = _comparable(there, settings) == _comparable(as_dict(settings), settings)
        except Exception:  # unreadable is different
            same = False
        if not same:
            raise UserError(
                f"out_dir={out} holds another training's model; choose another out_dir, or delete that one."
            )


def _comparable(node: Any, settings: Settings) -> Any:
    """Leave out of a configuration what may differ."""
    stage = settings.from_stage
    if stage == 1:
        return node
    model = {**node["model"], "stages": node["model"]["stages"][: stage - 1]}
    return {**node, "model": model, "from_stage": None, "trainer": None, "logger": None, "tracking": None}


def write_model(
    out: Path,
    settings: Settings,
    net: nn.Module,
    root: Path,
    split: pd.DataFrame,
    rows: Sequence[dict[str, Any]],
    validation: Answers,
    run_id: str | None,
    temperature: float,
) -> None:
    """Write a trained model's folder: each file whole, ``run.json`` last.

    Args:
        out: The folder.
        settings: What was trained with.
        net: Its final weights.
        root: Where the photographs lie.
        split: Which of them were used for what.
        rows: The history, a row for each epoch.
        validation: What the network makes of the validation photographs, in the split's order.
        run_id: The MLflow run, if there is one.
        temperature: Fitted on the validation photographs; it goes into ``run.json``.
    """
    out.mkdir(parents=True, exist_ok=True)
    classes = sorted(split["label"].unique())
    labels = split.loc[split["split"] == "val", "label"].map(classes.index).to_numpy(int)
    record = {
        "name": settings.name,
        "dataset": settings.data.name,
        "photographs": str(root),
        "classes": classes,
        "temperature": temperature,
        "seed": settings.seed,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "epochs": len(rows),
        "train_s": round(sum(float(row["epoch_s"]) for row in rows), 2),
        "final": {name: value for name, value in rows[-1].items() if name.startswith(("train/", "val/"))},
        **describe(split),
        "mlflow_run_id": run_id,
    }
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
        whole = Path(folder)
        save_weights(net, whole / "model.safetensors")
        OmegaConf.save(settings, whole / "config.yaml")
        write_splits(split, whole / "split.csv")
        np.savez(whole / VALIDATION, **validation._asdict(), labels=labels)
        pd.DataFrame(rows).to_csv(whole / "history.csv", index=False, float_format="%.6g")
        (whole / "run.json").write_text(json.dumps(record, indent=2) + "\n")
        for name in ("model.safetensors", "config.yaml", "split.csv", VALIDATION, "history.csv", "run.json"):
            (whole / name).replace(out / name)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Find the temperature at which the probabilities of known photographs fit best (Guo et al. 2017).

    It minimises the mean log loss, with the weight of half a photograph pulling its logarithm towards 0: where a
    network makes no mistake, the loss alone would fall for ever as the temperature approaches 0.

    Args:
        logits: (N, K) of photographs that were not trained on; N may be 0.
        labels: (N,) true classes.

    Returns:
        The temperature, in :data:`TEMPERATURES`; above 1 if the network is too sure of itself.
    """
    if not len(labels):
        return 1.0
    wide = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        of_truth = np.take_along_axis(log_softmax(wide / np.exp(log_temperature), axis=1), labels[:, None], axis=1)
        return float(-of_truth.sum() + 0.5 * log_temperature**2)

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x))
