"""A trained model's folder: how it is written, and how it is opened again."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from flowers.review.temperature import calibrated, fit_temperature
from flowers.settings import Settings

VALIDATION = "validation.npz"
WIDEST_FEATURES = 4096
"""A linear layer that is given more sees the photograph itself, or all places of a map."""


class Answers(NamedTuple):
    """What a network makes of N photographs."""

    logits: np.ndarray
    """(N,K) float32."""
    features: np.ndarray
    """What its last linear layer is given, (N,D) float32; see :func:`answer`."""


class Validation(NamedTuple):
    """What a network makes of its M validation photographs, in the order of ``split.csv``."""

    logits: np.ndarray
    """(M,K) float32."""
    features: np.ndarray
    """(M,D) float32, see :class:`Answers`."""
    labels: np.ndarray
    """(M,) int64 true classes."""


@dataclass(frozen=True)
class TrainedModel:
    """What ``train`` left.

    Attributes:
        folder: Where it lies.
        net: With its trained weights, in ``eval()``.
        classes: Names of the K logits.
        settings: What it was trained with.
        run: The content of ``run.json``.
        temperature: What logits are divided by before the softmax; 1 for a model of a version that fitted none.
        validation: What it makes of its validation photographs; None if a version wrote the model that did not keep it.
    """

    folder: Path
    net: Net
    classes: list[str]
    settings: Settings
    run: dict[str, Any]
    temperature: float
    validation: Validation | None


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
) -> float:
    """Write a trained model's folder: each file whole, ``run.json`` last.

    The temperature is fitted here, on the validation photographs, and goes into ``run.json``.

    Args:
        out: The folder.
        settings: What was trained with.
        net: Its final weights.
        root: Where the photographs lie.
        split: Which of them were used for what.
        rows: The history, a row for each epoch.
        validation: What the network makes of the validation photographs, in the split's order.
        run_id: The MLflow run, if there is one.

    Returns:
        The temperature.
    """
    out.mkdir(parents=True, exist_ok=True)
    classes = sorted(split["label"].unique())
    labels = split.loc[split["split"] == "val", "label"].map(classes.index).to_numpy(int)
    temperature = fit_temperature(validation.logits, labels)
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
    return temperature


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
    validation = _read_validation(folder / VALIDATION, len(classes))
    return TrainedModel(folder, net.eval(), classes, settings, run, float(run.get("temperature", 1.0)), validation)


def _read_validation(file: Path, num_classes: int) -> Validation | None:
    """Read what the network made of its validation photographs.

    Raises:
        UserError: If the file is damaged.
    """
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            validation = Validation(arrays["logits"], arrays["features"], arrays["labels"])
        count = len(validation.labels)
        if validation.logits.shape != (count, num_classes) or validation.features.shape[:1] != (count,):
            raise ValueError(f"its arrays do not fit {num_classes} classes")
    except Exception as error:  # whatever numpy's readers find wrong
        raise UserError(f"{file} is damaged ({error}); train again.") from error
    return validation


def answer(
    net: nn.Module, pixels: np.ndarray, names: Sequence[str], batch_size: int = 64, head_is_new: bool = False
) -> Answers:
    """Apply a network to decoded photographs, in float32 whatever precision it was trained in.

    Features are what the last linear layer is given if that is at most :data:`WIDEST_FEATURES` wide, else what the head
    is given, averaged over places.

    Args:
        net: Normalised images to logits; its last child is the head.
        pixels: (N,H,W,3) uint8.
        names: What the N photographs are called in an error.
        batch_size: Photographs in a forward pass; it bounds the memory.
        head_is_new: The head was not trained, so that features are taken before all of it.

    Raises:
        UserError: If a logit is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device).to(memory_format=torch.channels_last).eval()
    mean, std = (torch.tensor(value, device=device) for value in (net.mean, net.std))
    logits: list[Tensor] = []
    features: list[Tensor] = []
    layer = list(net.children())[-1] if head_is_new else _last_layer(net)
    hook = layer.register_forward_pre_hook(lambda _, inputs: features.append(_flat(inputs[0])))
    try:
        with torch.inference_mode():
            for first in range(0, len(pixels), batch_size):
                # A copy: the store is read-only.
                batch = torch.from_numpy(np.array(pixels[first : first + batch_size]))
                images = batch.to(device).permute(0, 3, 1, 2)  # (B,H,W,3) -> (B,3,H,W), channels-last in memory
                logits.append(net(normalise(images, mean, std)).float().cpu())
    finally:
        hook.remove()
    answers = Answers(torch.cat(logits).numpy(), torch.cat(features).numpy())
    broken = np.flatnonzero(~np.isfinite(answers.logits).all(axis=1))
    if len(broken):
        raise UserError(
            f"the network's answer to {names[broken[0]]} (and {len(broken) - 1} others of {len(pixels)}) is no number: "
            "its weights are damaged or diverged; train again with a lower max_lr."
        )
    return answers


def _last_layer(net: nn.Module) -> nn.Module:
    """Find the layer whose input is a photograph's description."""
    head = list(net.children())[-1]
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return linear[-1] if linear and linear[-1].in_features <= WIDEST_FEATURES else head


def _flat(activations: Tensor) -> Tensor:
    """Average maps (B,D,H,W) over their places; flatten others to (B,D)."""
    return (activations.mean(dim=(2, 3)) if activations.ndim == 4 else activations.flatten(1)).float().cpu()


def probabilities(model: TrainedModel, pixels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Classify decoded photographs.

    Args:
        model: The model.
        pixels: (N,H,W,3) uint8.
        names: What the N photographs are called in an error.

    Returns:
        Calibrated probabilities, (N,K) float32; rows sum to 1.

    Raises:
        UserError: If a logit is not finite.
    """
    return calibrated(answer(model.net, pixels, names).logits, model.temperature)
