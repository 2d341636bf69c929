import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from flowers.config.provenance import file_digest
from flowers.errors import UserError
from flowers.models.trained import load_weights
from flowers.models.weights import save_weights, start_from

NETS = ("linear", "mlp", "cnn", "resnet_small")
Make = Callable[..., Any]


def randomise(net: nn.Module) -> nn.Module:
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1)
        else:
            tensor.fill_(7)
    return net


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", NETS)
def test_a_round_trip_is_bit_equal(name: str, tmp_path: Path, make_net: Make) -> None:
    net, again = randomise(make_net(name)), make_net(name)
    save_weights(net, tmp_path / "model.safetensors")
    load_weights(again, tmp_path / "model.safetensors")
    assert same(net.state_dict(), again.state_dict())


def test_equal_weights_are_equal_bytes_whatever_their_layout_or_mode(tmp_path: Path, make_net: Make) -> None:
    net = randomise(make_net("resnet_small"))
    other = copy.deepcopy(net).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    for path, version in ((tmp_path / "a", net), (tmp_path / "b", other)):
        save_weights(version, path)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with torch.no_grad():
        net.get_parameter("head.3.bias")[0] += 1e-6
    save_weights(net, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_nothing_in_the_file_is_pickled(tmp_path: Path, make_net: Make) -> None:
    save_weights(make_net("cnn"), tmp_path / "model")
    with safe_open(tmp_path / "model", framework="numpy") as file:
        assert set(file.keys()) == set(make_net("cnn").state_dict())
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "model").read_bytes())


@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "cut", "header", "pickle"])
@pytest.mark.parametrize("read", [load_weights, lambda net, path: start_from(net, str(path), None)])
def test_an_unreadable_file_has_its_sentence_and_changes_nothing(
    damage: str, read: Callable[[nn.Module, Path], Any], tmp_path: Path, make_net: Make
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(randomise(make_net("cnn")), path)
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pickle":
        torch.save(make_net("cnn").state_dict(), path)
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:-1], "header": b"\xff" * 8 + content[8:]}[damage])
    net = make_net("cnn")
    before = copy.deepcopy(net.state_dict())
    sentences = {"missing": "does not exist", "folder": "is a folder"}
    sentence = sentences.get(damage, "is not a readable safetensors file")
    with pytest.raises(UserError, match=rf"model\.safetensors {sentence}"):
        read(net, path)
    assert same(net.state_dict(), before)


def test_another_architecture_is_named_by_its_first_difference_and_changes_nothing(
    tmp_path: Path, make_net: Make
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(randomise(make_net("cnn", width=8)), path)
    net = make_net("cnn")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError, match=r"another architecture .*first difference: 'block1\.0\.bias'"):
        load_weights(net, path)
    with pytest.raises(UserError, match=r"does not fit .*first difference: 'block1\.0\.bias'.*same `model`"):
        start_from(net, str(path), None)
    save_weights(make_net("cnn", num_classes=4), path)
    with pytest.raises(UserError, match=r"first difference: 'head\.5\.bias'"):
        load_weights(net, path)
    save_weights(make_net("cnn", blocks=3), path)
    with pytest.raises(UserError, match=r"first difference: 'block3\.0\.bias'"):
        start_from(net, str(path), None)
    assert same(net.state_dict(), before)


READERS = [load_weights, lambda net, path: start_from(net, str(path), None)]


@pytest.mark.parametrize("read", READERS)
def test_counters_of_batch_norm_may_be_missing(read: Callable[..., Any], tmp_path: Path, make_net: Make) -> None:
    content = randomise(make_net("resnet_small")).state_dict()
    kept = {name: tensor for name, tensor in content.items() if not name.endswith("num_batches_tracked")}
    assert len(kept) < len(content)
    save_file(kept, tmp_path / "old.safetensors")
    net = make_net("resnet_small")
    read(net, tmp_path / "old.safetensors")
    for name, tensor in net.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(tensor, kept.get(name, torch.tensor(0))), name


@pytest.mark.parametrize("read", READERS)
def test_what_does_not_fit_is_named_by_its_first_names(
    read: Callable[..., Any], tmp_path: Path, make_net: Make
) -> None:
    content = make_net("resnet_small").state_dict()
    del content["stem.1.running_mean"]
    content["stem.0.weight"] = content["stem.0.weight"][:, :2].contiguous()
    content |= {f"stem.extra{number}": torch.zeros(1) for number in range(5)}
    save_file(content, tmp_path / "other.safetensors")
    wanted = (
        r"first difference: 'stem\.0\.weight'; missing: stem\.1\.running_mean; "
        r"unexpected: stem\.extra0, stem\.extra1, stem\.extra2 and 2 more; "
        r"of another size: stem\.0\.weight \(4, 2, 3, 3\) instead of \(4, 3, 3, 3\)"
    )
    with pytest.raises(UserError, match=wanted):
        read(make_net("resnet_small"), tmp_path / "other.safetensors")


@pytest.mark.parametrize("suffix", ["pth", "ckpt", "tar"])
def test_a_pytorch_file_that_is_cut_off_or_a_folder_has_its_sentence(
    suffix: str, tmp_path: Path, make_net: Make
) -> None:
    path = tmp_path / f"model.{suffix}"
    torch.save(make_net("cnn").state_dict(), path)
    start_from(make_net("cnn"), str(path), None)
    for content in (path.read_bytes()[:-100], b"hi", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"model\.{suffix} is not a file of plain tensors: it holds no weights"):
            start_from(make_net("cnn"), str(path), None)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=rf"model\.{suffix} is a folder; name a file"):
        start_from(make_net("cnn"), str(path), None)


def test_a_transfer_takes_the_body_with_its_buffers_and_keeps_the_head(tmp_path: Path, make_net: Make) -> None:
    path = tmp_path / "model.safetensors"
    pretrained = randomise(make_net("resnet_small", num_classes=9))
    save_weights(pretrained, path)
    net = make_net("resnet_small")
    head = copy.deepcopy(net.head.state_dict())
    names = start_from(net, str(path), file_digest(path))
    assert same(net.head.state_dict(), head)
    assert names == sorted(name for name in net.state_dict() if not name.startswith("head."))
    assert all(torch.equal(net.state_dict()[name], pretrained.state_dict()[name]) for name in names)
    assert "stem.1.running_mean" in names


def test_weights_other_than_those_composed_with_are_refused(tmp_path: Path, make_net: Make) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(randomise(make_net("cnn")), path)
    net = make_net("cnn")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError, match=rf"digest {file_digest(path)[:12]}… where weights_sha256 says 0{{12}}…"):
        start_from(net, str(path), "0" * 64)
    assert same(net.state_dict(), before)


def test_a_network_that_is_only_a_head_cannot_be_transferred(tmp_path: Path, make_net: Make) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(make_net("linear"), path)
    with pytest.raises(UserError, match="nothing but a head"):
        start_from(make_net("linear"), str(path), None)
