"""A trained model's folder: how it is written, and how it is opened again."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from flowers.data.augment import normalise
from flowers.data.split_table import write_splits
from flowers.errors import UserError
from flowers.models.nets import Net
from flowers.models.weights import load_weights, save_weights
from flowers.provenance import describe
from flowers.recipe import build_network, read_settings
from flowers.settings import Settings


@dataclass(frozen=True)
class TrainedModel:
    """What ``train`` left.

    Attributes:
        folder: Where it lies.
        net: With its trained weights, in ``eval()``.
        classes: Names of the K logits.
        settings: What it was trained with.
        run: The content of ``run.json``.
    """

    folder: Path
    net: Net
    classes: list[str]
    settings: Settings
    run: dict[str, Any]


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
    run_id: str | None,
) -> None:
    """Write a trained model's folder: each file whole, ``run.json`` last.

    Args:
        out: The folder.
        settings: What was trained with.
        net: Its final weights.
        root: Where the photographs lie.
        split: Which of them were used for what.
        rows: The history, a row for each epoch.
        run_id: The MLflow run, if there is one.
    """
    out.mkdir(parents=True, exist_ok=True)
    record = {
        "name": settings.name,
        "dataset": settings.data.name,
        "photographs": str(root),
        "classes": sorted(split["label"].unique()),
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
        pd.DataFrame(rows).to_csv(whole / "history.csv", index=False, float_format="%.6g")
        (whole / "run.json").write_text(json.dumps(record, indent=2) + "\n")
        for name in ("model.safetensors", "config.yaml", "split.csv", "history.csv", "run.json"):
            (whole / name).replace(out / name)


def open_model(folder: Path) -> TrainedModel:
    """Open what ``train`` wrote.

    Raises:
        UserError: If the folder, or a file in it, is missing or does not fit the others.
    """
    for name in ("config.yaml", "run.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} is no trained model, for it has no {name}; name a folder that flowers.train wrote (out_dir)."
            )
    try:
        config = OmegaConf.load(folder / "config.yaml")
        if not isinstance(config, DictConfig):
            raise ValueError("config.yaml is no mapping")
        run = json.loads((folder / "run.json").read_text())
        classes = [str(name) for name in run["classes"]]
    except Exception as error:  # whatever the YAML and JSON readers find wrong
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds an unreadable config.yaml or run.json ({reason}); train again.") from error
    try:
        settings = read_settings(config)
    except UserError as error:
        raise UserError(f"{folder}/config.yaml does not fit this version of flowers ({error}); train again.") from error
    net = build_network(settings.model, len(classes))
    load_weights(net, folder / "model.safetensors")
    return TrainedModel(folder, net.eval(), classes, settings, run)


def probabilities(net: Net, pixels: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Classify decoded photographs, in float32 whatever precision the network was trained in.

    Args:
        net: Normalised images to logits.
        pixels: (N,H,W,3) uint8.
        batch_size: Photographs in a forward pass; it bounds the memory.

    Returns:
        (N,K) float32; rows sum to 1.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device).to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(value, device=device) for value in (net.mean, net.std))
    parts: list[Tensor] = []
    with torch.inference_mode():
        for first in range(0, len(pixels), batch_size):
            batch = torch.from_numpy(np.array(pixels[first : first + batch_size]))  # a copy: the store is read-only
            images = batch.to(device).permute(0, 3, 1, 2)  # (B,H,W,3) -> (B,3,H,W), channels-last in memory
            parts.append(net(normalise(images, mean, std)).softmax(dim=1).cpu())
    return torch.cat(parts).numpy()
