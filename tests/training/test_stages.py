import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from flowers.config.schema import Stage
from flowers.errors import UserError
from flowers.models.nets import layer_groups
from flowers.training.stages import (
    describe_stages,
    ended_stages,
    optimizer_groups,
    peak_rates,
    set_trainable,
    stage_at,
    total_epochs,
    trained_groups,
)

NETS = ("linear", "mlp", "cnn", "resnet_small")
GROUPS = ["stem", "stage1", "stage2", "head"]


def table(*epochs: int) -> list[Stage]:
    return [Stage(name=f"stage {i}", epochs=n, train="all", max_lr=1e-3) for i, n in enumerate(epochs)]


def test_layer_groups_that_share_a_parameter_are_refused(make_net: Callable[..., nn.Module]) -> None:
    shared = make_net("mlp")
    shared.hidden.append(shared.head)  # type: ignore[operator, union-attr]
    with pytest.raises(ValueError, match="share or miss parameters"):
        optimizer_groups(shared, 0.1)


def test_each_epoch_belongs_to_one_stage_and_skipped_stages_to_none() -> None:
    stages = table(2, 0, 3)
    assert total_epochs(stages) == 5
    assert [stage_at(stages, epoch) for epoch in range(5)] == [(0, 0), (0, 0), (2, 2), (2, 2), (2, 2)]
    for outside in (-1, 5):
        with pytest.raises(ValueError, match=f"epoch {outside} is not in a stage table of 5 epochs"):
            stage_at(stages, outside)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("all", GROUPS),
        ("head", ["head"]),
        ("last:1", ["head"]),
        ("last:3", ["stage1", "stage2", "head"]),
        ("last:4", GROUPS),
        (["head", "stem"], ["stem", "head"]),
    ],
)
def test_what_a_stage_trains(train: Any, expected: list[str]) -> None:
    assert trained_groups(train, GROUPS) == expected


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ("heads", "train='heads' is none of all, head, last:1 … last:4 or a list of stem, stage1, stage2, head"),
        ("last:0", "train='last:0' is none of"),
        ("last:5", "train='last:5' is none of"),
        ("", "train='' is none of"),
        (None, "train=None is none of"),
        (2, "train=2 is none of"),
        ([], "train=.. trains nothing; name layer groups, or set epochs to 0"),
        (["stage3", "head"], "no layer group 'stage3': did you mean 'stage[12]'?"),
        (["haed"], "no layer group 'haed': did you mean 'head'?"),
        ([1], "no layer group '1': known: head, stage1, stage2, stem"),
    ],
)
def test_what_no_stage_can_train(train: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        trained_groups(train, GROUPS)


def test_peak_rates_are_spread_geometrically_from_the_first_training_group_to_the_last() -> None:
    assert peak_rates([1e-4, 1e-2], ["stage1", "stage2", "head"]) == pytest.approx(
        {"stage1": 1e-4, "stage2": 1e-3, "head": 1e-2}, rel=1e-12
    )
    assert peak_rates([1.0, 8.0], GROUPS) == pytest.approx({"stem": 1, "stage1": 2, "stage2": 4, "head": 8}, rel=1e-12)
    assert peak_rates([8.0, 1.0], ["stem", "head"]) == pytest.approx({"stem": 8, "head": 1}, rel=1e-12)
    assert peak_rates([1e-4, 1e-2], ["head"]) == pytest.approx({"head": 1e-2}, rel=1e-12)
    assert peak_rates(3e-3, GROUPS) == pytest.approx(dict.fromkeys(GROUPS, 3e-3), rel=1e-12)


@pytest.mark.parametrize("max_lr", [0, -1e-3, [1e-3], [1e-3, 1e-3, 1e-3], [0, 1e-3], "1e", None, float("nan"), []])
def test_rates_that_cannot_be(max_lr: Any) -> None:
    with pytest.raises(UserError, match=r"stages: max_lr=.* must be a positive number or a pair"):
        peak_rates(max_lr, GROUPS)


@pytest.mark.parametrize(("name", "body"), [("mlp", "hidden"), ("cnn", "block2"), ("resnet_small", "stage2")])
def test_frozen_means_frozen(name: str, body: str, make_net: Callable[..., nn.Module]) -> None:
    net = make_net(name)
    net.train()
    optimizer = torch.optim.AdamW(optimizer_groups(net, 0.5), lr=0.1)
    graphs: list[bool] = []
    net.get_submodule(body).register_forward_hook(lambda module, _, output: graphs.append(output.requires_grad))
    images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(net(images), labels).backward()
        optimizer.step()

    step()  # so that the optimiser has a momentum that could move what is frozen next
    before = copy.deepcopy(net.state_dict())
    set_trainable(net, ["head"])
    for _ in range(3):
        step()
    assert graphs == [True, False, False, False]
    for key, tensor in net.state_dict().items():
        unchanged = torch.equal(tensor, before[key])
        assert unchanged != key.startswith("head."), key
    for key, parameter in net.named_parameters():
        assert (parameter.grad is None) != key.startswith("head."), key

    set_trainable(net, trained_groups("all", list(layer_groups(net))))
    step()
    assert all(not torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_a_frozen_group_computes_as_it_will_when_used(make_net: Callable[..., nn.Module]) -> None:
    net = make_net("resnet_small")
    images = torch.randn(4, 3, 32, 32)
    set_trainable(net, ["stage2", "head"])
    body: Tensor = net.stage1(net.stem(images))  # type: ignore[operator]
    assert torch.equal(body, net.eval().stage1(net.stem(images)))  # type: ignore[operator]


def test_a_stage_ends_with_its_last_epoch_and_takes_empty_ones_with_it() -> None:
    stages = [Stage("a", 2, "head", 1e-3), Stage("b", 0, "all", 1e-3), Stage("c", 1, "all", 1e-3)]
    assert [ended_stages(stages, epoch) for epoch in range(3)] == [[], [1, 2], [3]]
    assert describe_stages(stages) == "a: epochs 1 to 2; c: epochs 3 to 3"
