"""timm's networks become rows of layer groups that compute the same, and take weights from where they come."""

import argparse
import copy
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants as hub
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from flowers.config.schema import Stage
from flowers.errors import UserError
from flowers.models import backbones
from flowers.models.backbones import Backbone
from flowers.models.nets import layer_groups
from flowers.models.trained import load_weights
from flowers.models.weights import save_weights, start_from
from flowers.training.feature_bank import apply_part
from flowers.training.stages import check_stages, optimizer_groups, set_trainable

SHARED = Path(__file__).parents[3] / "shared/weights/mobilenetv2_100.tf_in1k.safetensors"


def build(name: str = "test_resnet", **changes: Any) -> Backbone:
    arguments: dict[str, Any] = {
        "image_px": 64,
        "head": "linear",
        "pooling": "avg",
        "hidden": 8,
        "dropout": 0.0,
        "options": {},
    }
    return Backbone(3, name, **(arguments | changes))


def published(name: str = "test_resnet") -> nn.Module:
    """A network as timm builds it, with weights that no other has."""
    torch.manual_seed(1)
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def call(model: nn.Module, method: str, *arguments: Tensor, **named: bool) -> Tensor:
    """Call one of the methods that timm's networks share."""
    result: Tensor = getattr(model, method)(*arguments, **named)
    return result


def images(count: int = 2, side_px: int = 64) -> Tensor:
    return torch.randn(count, 3, side_px, side_px, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("test_resnet", ["stem", "stage1", "stage2", "stage3", "stage4"]),
        ("mobilenetv2_035", ["stem", *(f"stage{i}" for i in range(1, 8))]),
        ("convnext_atto", ["stem", "stage1", "stage2", "stage3", "stage4"]),
        ("test_vit", ["stem", *(f"block{i}" for i in range(1, 7))]),
    ],
)
def test_the_groups_in_order_are_the_network(name: str, groups: list[str], tmp_path: Path) -> None:
    model = published(name).eval()
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, tmp_path / "w.safetensors")
    side_px = 160 if name == "test_vit" else 64  # what its position embeddings are for
    net = build(name, image_px=side_px).eval()
    assert list(layer_groups(net)) == [*groups, "head"]
    taken = start_from(net, str(tmp_path / "w.safetensors"), None)
    assert len(taken) == len([key for key in net.state_dict() if not key.startswith("head.")])
    batch = images(side_px=side_px)
    with torch.no_grad():
        wanted = call(model, "forward_features", batch)
        if name == "test_vit":  # whose pooling is part of its body
            wanted = call(model, "forward_head", wanted, pre_logits=True)
        parts, found = net.layer_parts(), batch
        for label, (names, part) in zip(groups, parts, strict=False):
            assert names == (label,)
            found = part(found)
        assert torch.equal(found, wanted)
        assert net(batch).shape == (2, 3)


TINY_SWIN = {"embed_dim": 12, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_vit", {}),
        ("swin_tiny_patch4_window7_224", TINY_SWIN),
        ("eva02_tiny_patch14_224", {"depth": 2}),
    ],
)
def test_at_any_border_it_goes_on_as_the_whole_network(name: str, options: dict[str, Any]) -> None:
    net = build(name, image_px=56 if "eva" in name else 64, options=options)
    groups, batch = list(layer_groups(net)), images(3, net.image_px)
    for number in (1, 2, len(groups) - 1):
        set_trainable(net, groups[number:])
        with torch.no_grad():
            found = apply_part(net, 0, number, batch)
        assert found.ndim != 4 or found.shape[2] == found.shape[3]  # as a bank keeps maps, and CutMix cuts them
        for version in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            torch.manual_seed(0)  # some blocks are left out by chance
            wanted = version(batch)
            torch.manual_seed(0)
            logits = apply_part(version, number, None, found)
            assert torch.equal(logits, wanted)
            version.zero_grad()
            logits.sum().backward()
            trained = {id(p) for label in groups[number:] for p in layer_groups(version)[label].parameters()}
            assert {id(p) for p in version.parameters() if p.grad is not None} == trained


def test_weights_of_tokens_and_places_do_not_decay() -> None:
    net = build("test_vit")
    decaying = {id(p) for group in optimizer_groups(net, 0.1) if group["weight_decay"] for p in group["params"]}
    kept = {name for name, p in net.named_parameters() if p.ndim > 1 and id(p) not in decaying}
    assert kept == {"body.cls_token", "body.pos_embed"}


def test_a_stage_of_fewer_pixels_is_for_networks_that_take_any_size() -> None:
    fewer = Stage("small", 1, "head", 1e-3, image_px=96)
    check_stages([fewer], build("test_mambaout", image_px=128))
    with pytest.raises(
        UserError, match="image_px=96 of 'small' cannot be used, as Backbone takes images of 128 px only"
    ):
        check_stages([fewer], build("test_vit", image_px=128))


@pytest.mark.parametrize("pooling", ["avg", "max", "both"])
def test_maps_with_their_channels_last_are_pooled_too(pooling: str) -> None:
    net = build("swin_tiny_patch4_window7_224", pooling=pooling, options=TINY_SWIN).eval()
    with torch.no_grad():
        maps = call(net.body, "forward_features", images())  # (B,H,W,C)
        found = net.body(images())
    parts = {"avg": [maps.mean((1, 2))], "max": [maps.amax((1, 2))]}
    parts["both"] = parts["avg"] + parts["max"]
    torch.testing.assert_close(found, torch.cat(parts[pooling], 1))


@pytest.mark.slow
def test_vgg_is_divided_at_its_poolings() -> None:
    net = build("vgg11")
    assert list(layer_groups(net)) == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    for name in ("stem", "stage1", "stage2", "stage3", "stage4"):
        poolings = [module for module in net.get_submodule(name).modules() if isinstance(module, nn.MaxPool2d)]
        assert len(poolings) == 1


def test_the_network_says_how_photographs_are_prepared() -> None:
    net = build("mobilenetv2_035", image_px=None)
    assert net.image_px == 224
    assert net.mean == pytest.approx((0.485, 0.456, 0.406))
    assert net.std == pytest.approx((0.229, 0.224, 0.225))
    assert build("mobilenetv2_035", image_px=96).image_px == 96


@pytest.mark.parametrize(
    ("name", "image_px", "mean"),
    [
        ("vit_small_patch16_224.augreg_in21k", 224, 0.5),
        ("vit_small_patch16_224.dino", 224, 0.485),
        ("vit_small_patch14_dinov2.lvd142m", 518, 0.485),
    ],
)
def test_the_tag_of_the_weights_says_it_too(name: str, image_px: int, mean: float) -> None:
    net = build(name, image_px=None, options={"depth": 1})
    assert (net.image_px, net.mean[0]) == (image_px, mean)


@pytest.mark.parametrize("pooling", ["avg", "max", "both"])
@pytest.mark.parametrize("head", ["linear", "dense"])
def test_heads_pool_and_classify(head: str, pooling: str) -> None:
    net = build(head=head, pooling=pooling).eval()
    with torch.no_grad():
        maps = nn.Sequential(*(child for name, child in net.named_children() if name.startswith("s")))(images())
    pooled = net.get_submodule("pool")(maps)
    parts = {"avg": [maps.mean((2, 3))], "max": [maps.amax((2, 3))]}
    parts["both"] = parts["avg"] + parts["max"]
    assert torch.equal(pooled, torch.cat(parts[pooling], 1))
    assert net.get_submodule("head")(pooled).shape == (2, 3)
    assert sum(isinstance(module, nn.Linear) for module in net.get_submodule("head").modules()) == 1 + (head == "dense")


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3},
        lambda state: {"model": {"state_dict": prefixed(state, "module.")}, "args": argparse.Namespace(lr=0.1)},
        lambda state: {"state_dict": prefixed(state, "model.") | {"loss.weight": torch.ones(3)}},
        lambda state: {"model": prefixed(state, "module.net."), "model_ema": prefixed(state, "module.")},
        lambda state: {name: each for name, each in state.items() if not name.endswith("num_batches_tracked")},
        lambda state: state | {"fc.weight": torch.ones(7, 256), "fc.bias": torch.ones(7)},
    ],
    ids=["plain", "state_dict", "model", "nested", "lightning", "average", "no counters", "other classes"],
)
def test_pytorch_files_are_taken_as_people_have_them(wrap: Any, tmp_path: Path) -> None:
    model = published()
    torch.save(wrap(model.state_dict()), tmp_path / "w.pth")
    net = build()
    head = copy.deepcopy(net.get_submodule("head").state_dict())
    start_from(net, str(tmp_path / "w.pth"), None)
    theirs, ours = model.state_dict(), net.state_dict()
    assert all(torch.equal(ours[own], theirs[name]) for name, own in net.published_names.items())
    assert all(torch.equal(ours[f"head.{name}"], tensor) for name, tensor in head.items())


def test_an_average_is_taken_rather_than_what_it_is_of(tmp_path: Path) -> None:
    model, average = published().state_dict(), {name: each + 1 for name, each in published().state_dict().items()}
    torch.save(
        {"state_dict": prefixed(model, "net.") | prefixed(average, "averaged.module.")}, tmp_path / "stage-1.ckpt"
    )
    torch.save({"model": model, "model_ema": average}, tmp_path / "checkpoint.pth")
    for file in ("stage-1.ckpt", "checkpoint.pth"):
        net = build()
        start_from(net, str(tmp_path / file), None)
        assert torch.equal(net.state_dict()[net.published_names["conv1.0.weight"]], average["conv1.0.weight"])


def test_a_larger_network_and_a_foreign_scheme_are_refused_with_their_names(tmp_path: Path) -> None:
    state = published().state_dict()
    save_file(state | {"layer4.1.conv1.weight": torch.ones(1)}, tmp_path / "larger.safetensors")
    with pytest.raises(UserError, match=r"does not fit .*unexpected: layer4\.1\.conv1\.weight\)"):
        start_from(build(), str(tmp_path / "larger.safetensors"), None)
    foreign = {name.replace("layer", "encoder.stages."): each.contiguous() for name, each in state.items()}
    save_file(foreign, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match=r"missing: \S+, \S+, \S+ and \d+ more; unexpected: \S+, \S+, \S+ and"):
        start_from(build(), str(tmp_path / "foreign.safetensors"), None)


@pytest.mark.parametrize("scheme", ["timm", "ours"])
def test_position_embeddings_are_resampled_to_another_size(scheme: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    small, net = build("test_vit", image_px=64), build("test_vit", image_px=96)
    state = (
        small.state_dict() if scheme == "ours" else prefixed(small.body.state_dict(), "") | {"head.bias": torch.ones(9)}
    )
    save_file({name: each.contiguous() for name, each in state.items()}, tmp_path / "w.safetensors")
    start_from(net, str(tmp_path / "w.safetensors"), None)
    places = resample_abs_pos_embed(small.get_parameter("body.pos_embed"), [6, 6], [4, 4], num_prefix_tokens=1)
    assert torch.equal(net.get_parameter("body.pos_embed"), places)
    assert torch.equal(net.get_parameter("body.cls_token"), small.get_parameter("body.cls_token"))


def test_files_of_the_authors_are_converted_by_timm(tmp_path: Path) -> None:
    torch.manual_seed(1)
    options = {"depth": 1, "embed_dim": 12, "num_heads": 1}
    first, net = (build("vit_small_patch14_reg4_dinov2", image_px=px, options=options) for px in (56, 28))
    theirs = {name.replace("reg_token", "register_tokens"): each for name, each in first.body.state_dict().items()}
    places = torch.cat([torch.ones(1, 1, 12), theirs["pos_embed"]], 1)  # their class token has one
    torch.save(theirs | {"pos_embed": places, "mask_token": torch.zeros(1, 12)}, tmp_path / "dinov2.pth")
    start_from(net, str(tmp_path / "dinov2.pth"), None)
    for name in ("body.reg_token", "body.blocks.0.ls1.gamma", "body.patch_embed.proj.weight"):
        assert torch.equal(net.get_parameter(name), first.get_parameter(name))
    assert net.get_parameter("body.pos_embed").shape == (1, 4, 12)


class Stranger:
    """What a file could run when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Stranger()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth is not a file of plain tensors"):
        start_from(build(), str(tmp_path / "w.pth"), None)
    torch.save([1], tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds no named tensors"):
        start_from(build(), str(tmp_path / "w.pth"), None)


def test_own_weights_are_taken_and_others_refused(tmp_path: Path) -> None:
    first, second = build(), build()
    weight = next(name for name, _ in first.named_parameters() if name.startswith("stage1"))
    save_weights(first, tmp_path / "own.safetensors")
    start_from(second, str(tmp_path / "own.safetensors"), None)
    assert torch.equal(second.get_parameter(weight), first.get_parameter(weight))
    assert not torch.equal(second.get_parameter("head.1.weight"), first.get_parameter("head.1.weight"))
    load_weights(second, tmp_path / "own.safetensors")
    assert torch.equal(second.get_parameter("head.1.weight"), first.get_parameter("head.1.weight"))
    with pytest.raises(UserError, match=r"does not fit the network of this recipe \(first difference"):
        start_from(build("mobilenetv2_035"), str(tmp_path / "own.safetensors"), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "resnet43"}, r"model\.net\.name='resnet43' is no network of timm: did you mean 'resnet\d+'"),
        (
            {"options": {"colour": 1}},
            r"timm cannot build model\.net\.name='test_resnet' with model\.net\.options=.*colour",
        ),
        ({"head": "linnear"}, r"model\.net\.head='linnear': did you mean 'linear'"),
        ({"pooling": "mean"}, r"model\.net\.pooling='mean'"),
        ({"name": "test_vit", "pooling": "max"}, r"pooling=max is not possible for timm's test_vit \(it has tokens"),
        ({"name": "test_vit", "image_px": 100}, r"image_px=100: .* patches of 16 px; set it to 96 or 112"),
        ({"name": "test_coatnet", "image_px": 72}, r"image_px=72: timm's test_coatnet cannot take .* made for 160 px"),
    ],
)
def test_what_does_not_exist_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(**changes)


@pytest.fixture(params=["refused", "silent"])
def no_hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Without a network: nobody listens at the hub's address, or nobody answers; the cache is empty."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if request.param == "refused":
            server.close()
        monkeypatch.setattr(hub, "ENDPOINT", address)
        monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(backbones, "_PATIENCE_S", 0.2)
        yield address


def test_without_a_network_the_sentence_comes_at_once(no_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    with pytest.raises(
        UserError, match=rf"test_resnet could not be fetched \({no_hub} cannot be reached.*weights=FILE"
    ):
        start_from(build(), "hub", None)
    assert not hub.HF_HUB_OFFLINE  # the next call asks again
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"\(HF_HUB_OFFLINE is set, and its cache .*weights=FILE"):
        start_from(build(), "hub", None)


@pytest.mark.parametrize("name", ["test_resnet", "test_resnet.r160_in1k"])
@pytest.mark.parametrize("no_hub", ["refused"], indirect=True)
def test_without_a_network_the_hubs_cache_is_used(name: str, no_hub: str, tmp_path: Path) -> None:
    model, folder = published(), tmp_path / "cache/models--timm--test_resnet.r160_in1k"
    for path in (folder / "refs", folder / "snapshots/0"):
        path.mkdir(parents=True)
    (folder / "refs/main").write_text("0")
    save_file(
        {key: tensor.contiguous() for key, tensor in model.state_dict().items()},
        folder / "snapshots/0/model.safetensors",
    )
    net = build(name)
    start_from(net, "hub", None)
    theirs, ours = model.state_dict(), net.state_dict()
    assert all(torch.equal(ours[own], theirs[name]) for name, own in net.published_names.items())


@pytest.mark.parametrize("no_hub", ["refused"], indirect=True)
def test_weights_that_cannot_be_fetched_are_a_sentence(no_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def without_network(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise ConnectionError("no route to host")
        model: nn.Module = create(name, pretrained=False, **options)
        return model

    monkeypatch.setattr(timm, "create_model", without_network)
    with pytest.raises(UserError, match=r"could not be fetched \(no route to host\); connect .* weights=FILE"):
        start_from(build(), "hub", None)


def test_the_hub_has_nothing_of_ours(make_net: Any) -> None:
    with pytest.raises(UserError, match="weights=hub, but nobody publishes weights of CNN"):
        start_from(make_net("cnn"), "hub", None)


@pytest.mark.skipif(not SHARED.is_file(), reason="needs the shared MobileNetV2 weights beside the project")
def test_real_weights_fit() -> None:
    net = build("mobilenetv2_100", options={"pad_type": "same"})
    assert len(start_from(net, str(SHARED), None)) == 312
