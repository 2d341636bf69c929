"""The folder of a trained model, as it is written."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from torch import nn

from flowers.config.provenance import describe
from flowers.config.schema import Settings
from flowers.curation.split_table import write_splits
from flowers.errors import UserError
from flowers.models.inference import Answers
from flowers.models.trained import VALIDATION
from flowers.models.weights import save_weights


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
            same = _comparable(there, settings) == _comparable(asdict(settings), settings)
        except Exception:  # unreadable is different
            same = False
        if not same:
            raise UserError(
                f"out_dir={out} holds another training's model; choose another out_dir, or delete that one."
            )


def _comparable(node: Any, settings: Settings) -> Any:
    """Leave out of a configuration what may differ."""
    stage = settings.trainer.from_stage
    if stage == 1:
        return node
    return {**node, "stages": node["stages"][: stage - 1], "trainer": None, "tracking": None}


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
        OmegaConf.save(OmegaConf.create(asdict(settings)), whole / "config.yaml")
        write_splits(split, whole / "split.csv")
        np.savez(whole / VALIDATION, **validation._asdict(), labels=labels)
        pd.DataFrame(rows).to_csv(whole / "history.csv", index=False, float_format="%.6g")
        (whole / "run.json").write_text(json.dumps(record, indent=2) + "\n")
        for name in ("model.safetensors", "config.yaml", "split.csv", VALIDATION, "history.csv", "run.json"):
            (whole / name).replace(out / name)
