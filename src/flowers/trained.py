"""A trained model's folder, opened again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from flowers.data.augment import normalise
from flowers.errors import UserError
from flowers.models.weights import load_weights
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
    net: nn.Module
    classes: list[str]
    settings: Settings
    run: dict[str, Any]


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


def probabilities(net: nn.Module, pixels: np.ndarray, batch_size: int = 64) -> np.ndarray:
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
