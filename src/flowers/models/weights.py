"""Weights on disk: read without running code, written as safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from flowers.config.provenance import file_digest
from flowers.config.schema import HUB
from flowers.errors import UserError
from flowers.models.nets import layer_groups


def save_weights(net: nn.Module, path: Path) -> None:
    """Write all parameters and buffers; equal weights give equal bytes."""
    # Channels-last tensors are written in the standard layout, so that a file does not depend on how a network was run.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    path.write_bytes(save(tensors))


def load_weights(net: nn.Module, path: Path) -> None:
    """Read a network that was saved whole.

    Raises:
        UserError: If the file is missing, damaged or of another architecture.
    """
    tensors = _read(path)
    if wrong := _first_difference(tensors, net.state_dict()):
        raise UserError(
            f"{path} holds another architecture than its config.yaml describes (first difference: '{wrong}'); "
            "put the two files of one training side by side again."
        )
    net.load_state_dict(tensors)


def start_from(net: Any, source: str, sha256: str | None) -> list[str]:
    """Give a network the weights of another training, for transfer.

    The layer groups must match; the head, ``head.*``, keeps its random weights, since it is for other classes.

    Args:
        net: The network to be changed.
        source: A file that :func:`save_weights` wrote, or that others published for this architecture (safetensors, or
            a PyTorch file of plain tensors); ``hub``: the published weights, fetched.
        sha256: The file's expected digest, or None.

    Returns:
        Names of the tensors that were taken over.

    Raises:
        UserError: If the weights are missing, have another digest, or do not fit.
    """
    if source == HUB:
        if not hasattr(net, "pretrained_tensors"):
            raise UserError(
                f"weights=hub, but nobody publishes weights of {type(net).__name__}; name a file, or set weights=null."
            )
        tensors = net.pretrained_tensors()
    else:
        tensors = _read(Path(source))
        if sha256 is not None and (found := file_digest(Path(source))) != sha256:
            raise UserError(
                f"{source} has the digest {found[:12]}… where weights_sha256 says {sha256[:12]}…; run compose again, "
                "or name the file that is meant."
            )
    names: Mapping[str, str] = getattr(net, "published_names", {})
    head = list(layer_groups(net))[-1] + "."
    own = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(head)}
    if not own:
        raise UserError(
            f"the network of this recipe is nothing but a head, which {source} cannot give it; set weights=null."
        )
    if len(names.keys() & tensors.keys()) > len(own.keys() & tensors.keys()):
        # What has no place here is the published classifier.
        tensors = {names[name]: tensor for name, tensor in tensors.items() if name in names}
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(head)}
    if wrong := _first_difference(body, own):
        raise UserError(
            f"{source} does not fit the network of this recipe (first difference: '{wrong}'); `weights` must come from "
            "a training with the same `model`, or be published for it."
        )
    net.load_state_dict(body, strict=False)
    return sorted(body)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(
            f"the weights file {path} does not exist; name one that does, or make the project's own with "
            "`dvc repro pretrain`."
        )
    if path.suffix in (".pth", ".pt", ".bin"):
        return _read_pytorch(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); copy or train it again.") from error


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch file without running what it may contain."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path} is not a file of plain tensors ({reason}); copy it again, or convert it to safetensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no named tensors; name a file with a state_dict.")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _first_difference(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Find a name that only one side has, or that has another shape there."""
    theirs, ours = ({(name, tensor.shape) for name, tensor in each.items()} for each in (tensors, own))
    return min((name for name, _ in theirs ^ ours), default=None)
