"""Weights on disk: safetensors only, which cannot run code when read."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from flowers.digests import file_digest
from flowers.errors import UserError


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


def start_from(net: nn.Module, path: Path, sha256: str | None) -> list[str]:
    """Give a network the weights of another training, for transfer.

    The layer groups must match; the head, ``head.*``, keeps its random weights, since it is for other classes.

    Args:
        net: The network to be changed.
        path: A file that :func:`save_weights` wrote.
        sha256: The file's expected digest, or None.

    Returns:
        Names of the tensors that were taken over.

    Raises:
        UserError: If the file is missing, has another digest, or does not fit.
    """
    tensors = _read(path)
    if sha256 is not None and (found := file_digest(path)) != sha256:
        raise UserError(
            f"{path} has the digest {found[:12]}… where weights_sha256 says {sha256[:12]}…; run compose again, or name "
            "the file that is meant."
        )
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    own = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("head.")}
    if wrong := _first_difference(body, own):
        raise UserError(
            f"{path} does not fit the network of this recipe (first difference: '{wrong}'); `weights` must come from a "
            "training with the same `model`."
        )
    if not body:
        raise UserError(
            f"the network of this recipe is nothing but a head, which {path} cannot give it; set weights=null."
        )
    net.load_state_dict(body, strict=False)
    return sorted(body)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(
            f"the weights file {path} does not exist; name one that does, or make the project's own with "
            "`dvc repro pretrain`."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); copy or train it again.") from error


def _first_difference(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> str | None:
    """Find a name that only one side has, or that has another shape there."""
    for name in sorted(tensors.keys() | own.keys()):
        if name not in tensors or name not in own or tensors[name].shape != own[name].shape:
            return name
    return None
