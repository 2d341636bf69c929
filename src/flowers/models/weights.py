"""Weights of networks on disk: written as safetensors, and read, without running code, as other people have them."""

import argparse
from collections.abc import Collection, Mapping
from itertools import accumulate
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

_WRAPPERS = ("model_ema", "state_dict_ema", "state_dict", "model")
"""Keys below which training programs keep the weights; an average before what it is of."""


def save_weights(net: nn.Module, path: Path) -> None:
    """Write all parameters and buffers; equal weights give equal bytes."""
    # Channels-last tensors are written in the standard layout, so that a file does not depend on how a network was run.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    path.write_bytes(save(tensors))


def start_from(net: Any, source: str, sha256: str | None) -> list[str]:
    """Give a network the weights of another training, for transfer.

    All layer groups must match but the head, ``head.*``, which keeps its random weights, since it is for other classes.
    What stands before all names (``module.``, Lightning's ``model.``) is taken away.

    Args:
        net: The network to be changed. Where it has ``own_tensors``, that renames and converts what others published.
        source: A file that :func:`save_weights` wrote, or a checkpoint of this package's trainings, or what others
            published for this architecture (safetensors, or a PyTorch file of plain tensors); ``hub``: the published
            weights, fetched.
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
        tensors = read_tensors(Path(source))
        if sha256 is not None and (found := file_digest(Path(source))) != sha256:
            raise UserError(
                f"{source} has the digest {found[:12]}… where weights_sha256 says {sha256[:12]}…; name the "
                "file that is meant, or leave weights_sha256 out (in the pipeline `dvc repro compose`)."
            )
    head = list(layer_groups(net))[-1] + "."
    own = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(head)}
    if not own:
        raise UserError(
            f"the network of this recipe is nothing but a head, which {source} cannot give it; set weights=null."
        )
    tensors = _without_prefix(tensors, own.keys() | getattr(net, "published_names", {}).keys())
    if hasattr(net, "own_tensors"):
        tensors = net.own_tensors(tensors)
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(head)}
    if wrong := differences(body, own):
        raise UserError(
            f"{source} does not fit the network of this recipe ({wrong}); `weights` must come from a training with the "
            "same `model`, or be published for it."
        )
    net.load_state_dict(body, strict=False)
    return sorted(body)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or one of PyTorch without running what it may contain.

    Raises:
        UserError: If the file is missing or damaged.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(
            f"the weights file {path} {problem}; name a file, such as model.safetensors of a training (`dvc repro "
            "pretrain` makes the one of sample_finetune)."
        )
    if path.suffix not in (".pth", ".pt", ".bin", ".ckpt", ".tar"):
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a readable safetensors file ({error}); copy or train it again.") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's programs keep their arguments in one
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything, with words that help nobody
        raise UserError(
            f"{path} is not a file of plain tensors: it holds no weights, or a part of them, or objects besides; copy "
            "it again, or convert it to safetensors."
        ) from error
    while isinstance(content, dict) and (keys := [key for key in _WRAPPERS if isinstance(content.get(key), dict)]):
        content = content[keys[0]]
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no named tensors; name a file with a state_dict.")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _without_prefix(tensors: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Take what lies below the prefix that leaves most known names, of several such the shortest.

    An average, which is what is validated, goes before what it is of.
    """
    prefixes = {""}.union(*(accumulate(f"{part}." for part in name.split(".")[:-1][:3]) for name in tensors))

    def rank(prefix: str) -> tuple[int, bool, int, str]:
        count = sum(name[len(prefix) :] in known for name in tensors if name.startswith(prefix))
        return -count, not prefix.startswith("averaged."), len(prefix), prefix

    best = min(prefixes, key=rank)
    return {name[len(best) :]: tensor for name, tensor in tensors.items() if name.startswith(best)}


def differences(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Say where weights do not fit a network, with the first names of each kind; nothing if they do.

    The counters of batch-norm, which PyTorch did not write before 0.4.1 and other tools do not write, may be missing.
    """
    common = tensors.keys() & own.keys()
    kinds = {
        "missing": [name for name in own.keys() - tensors.keys() if not name.endswith("num_batches_tracked")],
        "unexpected": list(tensors.keys() - own.keys()),
        "of another size": [name for name in common if tensors[name].shape != own[name].shape],
    }
    names = sorted(name for each in kinds.values() for name in each)
    if not names:
        return ""
    words = [f"first difference: '{names[0]}'"]
    for kind, each in kinds.items():
        shown = [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}" if name in common else name
            for name in sorted(each)[:3]
        ]
        more = f" and {len(each) - 3} more" if len(each) > 3 else ""
        words += [f"{kind}: {', '.join(shown)}{more}"] if each else []
    return "; ".join(words)
