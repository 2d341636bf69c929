from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from flowers.config.schema import Stage
from flowers.errors import UserError
from flowers.training.stages import check_stages, one_cycle, optimizer_groups, rates_at

NETS = ("linear", "mlp", "cnn", "resnet_small")
HEAD = Stage("head", epochs=2, train="head", max_lr=1e-2)
ALL = Stage("all", epochs=3, train="all", max_lr=[1e-4, 1e-2], warmup_frac=0.4, start_div=10.0, end_div=100.0)


def cycle(total_steps: int, warmup_frac: float = 0.25) -> list[float]:
    shape = {"warmup_frac": warmup_frac, "start_div": 25.0, "end_div": 1e4}
    return [one_cycle(step, total_steps, 3e-3, **shape) for step in range(total_steps)]


@pytest.mark.parametrize(
    ("total_steps", "warmup_frac"),
    [(100, 0.25), (100, 0.3), (37, 0.1), (12, 0.5), (5, 0.25), (7, 0.6), (3, 0.9), (3, 0.5), (2, 0.75)],
)
def test_equals_torch_at_every_step(total_steps: int, warmup_frac: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=3e-3,
        total_steps=total_steps,
        pct_start=warmup_frac,
        anneal_strategy="cos",
        cycle_momentum=False,
        div_factor=25.0,
        final_div_factor=1e4,
        three_phase=False,
    )
    expected = []
    for _ in range(total_steps):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if len(expected) < total_steps:
            scheduler.step()
    assert cycle(total_steps, warmup_frac) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("total_steps", [1, 2, 3, 4])
def test_a_rise_of_no_whole_step_begins_at_the_peak(total_steps: int) -> None:
    # torch divides by zero at 4 steps, and trains the only step of 1 at the last rate, which is next to nothing.
    rates = cycle(total_steps)
    assert rates[0] == pytest.approx(3e-3)
    assert rates == sorted(rates, reverse=True)
    if total_steps > 1:
        assert rates[-1] == pytest.approx(3e-3 / 25 / 1e4)


@pytest.mark.parametrize("total_steps", [1, 2, 3, 4, 5, 8, 40])
@pytest.mark.parametrize("warmup_frac", [0.0, 0.25, 0.5, 0.99])
def test_rates_are_always_between_the_last_and_the_peak(total_steps: int, warmup_frac: float) -> None:
    rates = cycle(total_steps, warmup_frac)
    assert all(3e-3 / 25 / 1e4 * (1 - 1e-9) <= rate <= 3e-3 * (1 + 1e-9) for rate in rates)


def test_two_stages_are_two_cycles_and_frozen_groups_have_no_rate() -> None:
    groups, steps = ["stem", "body", "head"], 5
    rows = [rates_at([HEAD, ALL], groups, step, steps) for step in range(25)]
    for step, row in enumerate(rows[:10]):
        wanted = one_cycle(step, 10, 1e-2, warmup_frac=0.25, start_div=25.0, end_div=1e4)
        assert row == pytest.approx({"stem": 0, "body": 0, "head": wanted})
    for step, row in enumerate(rows[10:]):
        for name, peak in (("stem", 1e-4), ("body", 1e-3), ("head", 1e-2)):
            wanted = one_cycle(step, 15, peak, warmup_frac=0.4, start_div=10.0, end_div=100.0)
            assert row[name] == pytest.approx(wanted)
    assert [row["head"] for row in rows[10:]].index(max(row["head"] for row in rows[10:])) == 5
    assert rates_at([replace(HEAD, epochs=0), ALL], groups, 0, steps) == rows[10]
    with pytest.raises(ValueError, match="epoch 5 is not in"):
        rates_at([HEAD, ALL], groups, 25, steps)


@pytest.mark.parametrize("name", NETS)
def test_each_parameter_is_optimised_once_and_decays_where_it_is_a_weight(
    name: str, make_net: Callable[..., nn.Module]
) -> None:
    net = make_net(name)
    groups = optimizer_groups(net, 0.05)
    optimizer = torch.optim.AdamW(groups, lr=0.0)  # refuses a parameter that is in two groups
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))
    names = {parameter: name for name, parameter in net.named_parameters()}
    for group in optimizer.param_groups:
        assert group["params"]
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.05 if parameter.ndim >= 2 else 0.0)
            assert names[parameter].split(".")[0] == group["layer_group"]
    keys = [group["name"] for group in groups]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": -1}, "'head' needs epochs >= 0"),
        ({"warmup_frac": 1.0}, "'head' needs .* warmup_frac in"),
        ({"warmup_frac": -0.1}, "'head' needs .* warmup_frac in"),
        ({"start_div": 0.0}, "'head' needs .* positive start_div"),
        ({"end_div": -1.0}, "'head' needs .* positive start_div and end_div"),
        ({"train": ["haed"]}, "did you mean 'head'?"),
        ({"max_lr": 0}, "max_lr=0 must be"),
        ({"epochs": 0}, "the table has no epoch to train"),
    ],
)
def test_tables_that_cannot_be_trained(
    changes: dict[str, Any], sentence: str, make_net: Callable[..., nn.Module]
) -> None:
    net = make_net("cnn")
    check_stages([HEAD, ALL], net)
    with pytest.raises(UserError, match=sentence):
        check_stages([replace(HEAD, **changes)], net)


@pytest.mark.parametrize(
    ("name", "image_px", "said"),
    [
        ("mlp", 16, "image_px=16 of 'head' cannot be used, as MLP takes images of 32 px only"),
        ("cnn", 16, "image_px=16 of 'head' cannot be used, as CNN takes"),
        ("resnet_small", 64, "image_px=64 of 'head' must be from 1 to 32"),
        ("resnet_small", 0, "image_px=0 of 'head' must be"),
    ],
)
def test_a_size_that_a_network_cannot_be_given_is_refused(
    name: str, image_px: int, said: str, make_net: Callable[..., nn.Module]
) -> None:
    with pytest.raises(UserError, match=said):
        check_stages([replace(HEAD, image_px=image_px)], make_net(name))


def test_asking_a_network_for_a_size_leaves_it_as_it_is(make_net: Callable[..., nn.Module]) -> None:
    net = make_net("resnet_small")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    check_stages([replace(HEAD, image_px=16)], net)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_an_empty_table_is_refused(make_net: Callable[..., nn.Module]) -> None:
    with pytest.raises(UserError, match="the table has no epoch to train"):
        check_stages([], make_net("linear"))
