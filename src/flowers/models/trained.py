"""A trained model's folder, opened again; :mod:`flowers.training.checkpoints` writes it."""

import contextlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from flowers.config.check import OFFERED
from flowers.config.compose import as_dict, read_settings
from flowers.config.provenance import file_digest
from flowers.config.schema import MIN_SIDE_PX, Fit, Settings
from flowers.config.untrusted import callers_own, check_run, check_targets, read_config
from flowers.curation.split_table import read_splits
from flowers.data.pixels import open_store
from flowers.errors import UserError, reason_of
from flowers.models.inference import VALIDATION, Validation, find_device
from flowers.models.nets import build_network
from flowers.models.weights import differences, read_tensors

LARGEST_PX = 2048
"""A folder that asks for larger squares is damaged: each photograph would take gigabytes."""


@dataclass(frozen=True)
class TrainedModel:
    """What ``train`` left.

    Attributes:
        folder: Where it lies.
        net: With its trained weights, in ``eval()``; it has ``image_px``, ``mean`` and ``std``.
        classes: Names of the K logits.
        settings: What it was trained with, but for where anything is written or sent, which is the caller's own
            (:func:`flowers.config.untrusted.callers_own`).
        run: The content of ``run.json``.
        temperature: What logits are divided by before the softmax; 1 for a model of a version that fitted none.
        validation: What it makes of its validation photographs; None if a version wrote the model that did not keep it.
    """

    folder: Path
    net: Any
    classes: list[str]
    settings: Settings
    run: dict[str, Any]
    temperature: float
    validation: Validation | None

    @property
    def fit(self) -> Fit:
        """How oblong photographs became squares in its training."""
        fit: Fit = self.settings.data.get("fit", "crop")
        return fit

    def split(self) -> pd.DataFrame:
        """Read which photographs it was trained, chosen and tested with, as in ``split.csv``.

        Raises:
            UserError: If that is missing or damaged, or has classes that the model does not know.
        """
        table = read_splits(self.folder / "split.csv", "train again")
        for name in set(table["label"]) - set(self.classes):
            raise UserError(f"{self.folder}/split.csv has the class '{name}', which run.json has not; train again.")
        return table

    def photographs(self, split: pd.DataFrame, given: Path | None = None) -> Path:
        """Find the folder of the photographs that it was trained on.

        A relative folder is looked for in the working folder, so that a project can move with its models, and then
        where it was when the model was trained.

        Args:
            split: Rows of ``split.csv``; of several folders, the one that has their bytes is meant.
            given: Where they lie now; None: where they lay.

        Raises:
            UserError: If they are in none of these.
        """
        if not self.run.get("photographs"):
            raise UserError(f"{self.folder}/run.json does not say where its photographs lie; train again.")
        typed = Path(self.run["photographs"])
        whole = typed if typed.is_absolute() else Path(self.run.get("photographs_dir", typed))
        places = [typed, whole] if given is None else [given]
        here = [place for place in places if place.is_dir()]
        some = list(zip(split["path"], split["sha256"], strict=True))[:20]  # one may have changed or gone

        def holds(place: Path) -> bool:
            return any((place / path).is_file() and file_digest(place / path) == digest for path, digest in some)

        if not here:
            where = f"{given} does not exist" if given else f"they were in {whole}, which is not there now"
            raise UserError(
                f"the photographs that {self.folder} was trained on are missing: {where}; name their folder with "
                "photos=DIR."
            )
        return next(filter(holds, here), here[0])

    @property
    def min_side_px(self) -> int:
        """Below which side a photograph is refused."""
        return int(self.settings.data.get("min_side_px", MIN_SIDE_PX))

    def pixels(self, root: Path, table: pd.DataFrame) -> np.memmap:
        """Decode photographs as its training did, or find them decoded; see :func:`flowers.data.pixels.open_store`."""
        return open_store(root, table, self.net.image_px, Path(self.settings.data.cache_dir), self.fit)


def open_model(folder: Path, allow: Sequence[str] = (), device: str | None = None) -> TrainedModel:
    """Open what ``train`` wrote.

    Args:
        folder: Where it lies. It may come from elsewhere: see :mod:`flowers.config.untrusted` for what it may not say.
        allow: Further packages whose classes it may name, such as your own.
        device: Where its network goes, see :func:`flowers.models.inference.find_device`; None: to the processor if it
            was trained with ``trainer.accelerator=cpu``, else to what ``auto`` finds, as another machine may have
            another one.

    Raises:
        UserError: If the folder, or a file in it, is missing or does not fit the others, or there is no such device.
    """
    for name in ("config.yaml", "run.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} is no trained model, for it has no {name}; "
                "name a folder that `flowers train` wrote (out_dir)."
            )
    try:
        config = read_config(folder / "config.yaml")
        run = check_run(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    except Exception as error:  # whatever the YAML and JSON readers find wrong
        reason = reason_of(error)
        raise UserError(f"{folder} holds an unreadable config.yaml or run.json ({reason}); train again.") from error
    classes: list[str] = run["classes"]
    try:
        described = {key: value for key, value in as_dict(config).items() if key not in ("callbacks", "logger")}
        check_targets(described, allow)
        settings = callers_own(read_settings(config, (*OFFERED, *allow)))
    except UserError as error:
        raise UserError(f"{folder}/config.yaml does not fit this version of flowers ({error}); train again.") from error
    net = _build(settings, folder / "model.safetensors", len(classes))
    validation = _read_validation(folder / VALIDATION, len(classes))
    place = find_device(device or ("cpu" if settings.trainer.get("accelerator") == "cpu" else "auto"), "device")
    net = net.to(place).eval()
    return TrainedModel(folder, net, classes, settings, run, float(run.get("temperature", 1.0)), validation)


def _build(settings: Settings, weights: Path, num_classes: int) -> nn.Module:
    """Build the network that a folder describes, no larger than its weights, and give it these.

    Raises:
        UserError: If one does not fit the other, or this package.
    """
    image_px = settings.data.get("image_px") or settings.model.get("image_px")
    tensors = read_tensors(weights)
    numbers, count = 4 * sum(tensor.numel() for tensor in tensors.values()) + 2**24, 4 * len(tensors) + 1000

    def spend(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        """Stop before the memory of a tensor is touched, which happens when it is first written to."""
        nonlocal numbers, count
        numbers, count = numbers - (0 if tensor is None else tensor.numel()), count - 1
        if min(numbers, count) < 0:
            raise ValueError("it describes a network that is larger than its weights")

    with contextlib.ExitStack() as hooks:
        for register in (register_module_parameter_registration_hook, register_module_buffer_registration_hook):
            hooks.callback(register(spend).remove)
        try:
            if "net" not in settings.model or not (image_px is None or 0 < image_px <= LARGEST_PX):
                raise ValueError("it has no model.net, or its image_px is none that a photograph is brought to")
            net = build_network(settings.model.net, num_classes, image_px)
            if not 0 < (side_px := cast("int", net.image_px)) <= LARGEST_PX:
                raise ValueError(f"its image_px is {side_px}")
        except UserError:
            raise
        except Exception as error:  # whatever a class makes of numbers that no training had
            place = f"{weights.parent}/config.yaml"
            raise UserError(f"{place} cannot be used ({reason_of(error)}); train again.") from error
    load_weights(net, weights, tensors)
    return net


def load_weights(net: nn.Module, path: Path, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
    """Read a network that was saved whole; `tensors` are what the file holds, where it was read already.

    Raises:
        UserError: If the file is missing, damaged or of another architecture.
    """
    tensors = read_tensors(path) if tensors is None else tensors
    if wrong := differences(tensors, net.state_dict()):
        raise UserError(
            f"{path} holds another architecture than its config.yaml describes ({wrong}); "
            "put the two files of one training side by side again."
        )
    net.load_state_dict(tensors, strict=False)  # counters of batch-norm may be missing


def _read_validation(file: Path, num_classes: int) -> Validation | None:
    """Read what the network made of its validation photographs.

    Raises:
        UserError: If the file is damaged.
    """
    if not file.is_file():
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(part.file_size for part in archive.infolist()) > file.stat().st_size:
                raise ValueError("it is compressed, which a training does not do")
        with np.load(file, allow_pickle=False) as arrays:
            validation = Validation(arrays["logits"], arrays["features"], arrays["labels"])
        count, kinds = len(validation.labels), "".join(array.dtype.kind for array in validation)
        if validation.logits.shape != (count, num_classes) or validation.features.shape[:1] != (count,):
            raise ValueError(f"its arrays do not fit {num_classes} classes")
        if kinds != "ffi" or validation.features.ndim != 2 or not all(np.isfinite(each).all() for each in validation):
            raise ValueError("its arrays are not all of finite numbers")
        if not np.isin(validation.labels, range(num_classes)).all():
            raise ValueError(f"it has labels beyond {num_classes} classes")
    except Exception as error:  # whatever numpy's readers find wrong
        raise UserError(f"{file} is damaged ({reason_of(error)}); train again.") from error
    return validation
