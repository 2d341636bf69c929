"""The table of published networks: complete, filtered, sorted, and measured on this machine where that is asked for."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import timm

from flowers.commands.zoo import Arguments, choose, listing, main, measured, published_networks
from flowers.errors import UserError


def test_every_network_that_timm_publishes_is_listed() -> None:
    table = published_networks()
    assert set(table["name"]) == set(timm.list_models(pretrained=True))
    assert table["name"].is_unique
    assert table[["image_px", "license"]].notna().all().all()
    # From timm's own published results.
    resnet = table.set_index("name").loc["resnet50.a1_in1k"]
    assert resnet["parameters_m"] == pytest.approx(25.6, abs=0.05)
    assert resnet["multiply_adds_g"] == pytest.approx(4.11, abs=0.1)
    assert 79 < resnet["imagenet_top1"] < 82


def test_input_sizes_and_licenses_are_those_of_timm() -> None:
    table = published_networks().iloc[::40]
    for name, image_px, known in zip(table["name"], table["image_px"], table["license"], strict=True):
        settings = timm.get_pretrained_cfg(name)
        assert settings is not None
        assert settings.input_size[-1] == image_px
        assert (settings.license or "unknown") == (known or "unknown")


@pytest.mark.parametrize(
    ("arguments", "holds"),
    [
        (Arguments(["*dinov2*", "resnet50.*"]), lambda row: "dinov2" in row.name or row.name.startswith("resnet50.")),
        (Arguments(license="mit"), lambda row: row.license == "mit"),
        (Arguments(max_parameters_m=5), lambda row: row.parameters_m <= 5),
        (Arguments(max_multiply_adds_g=0.5), lambda row: row.multiply_adds_g <= 0.5),
        (Arguments(max_image_px=160), lambda row: row.image_px <= 160),
        (Arguments(min_imagenet_top1=88), lambda row: row.imagenet_top1 >= 88),
    ],
)
def test_a_key_keeps_the_networks_that_fit(arguments: Arguments, holds: Callable[[object], bool]) -> None:
    kept = set(choose(arguments)["name"])
    assert kept == {row.name for row in published_networks().itertuples() if holds(row)}
    assert kept


def test_the_best_come_first_and_the_unknown_last() -> None:
    by_accuracy = choose(Arguments())["imagenet_top1"]
    assert by_accuracy.dropna().is_monotonic_decreasing
    assert by_accuracy.iloc[0] > 89
    assert pd.isna(by_accuracy.iloc[-1])
    assert choose(Arguments(sort="multiply_adds_g"))["multiply_adds_g"].dropna().is_monotonic_increasing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (Arguments(["resnet5"]), "names=resnet5: did you mean 'resnet50'"),
        (Arguments(sort="speed"), "sort=speed: known: .*imagenet_top1"),
        (Arguments(license="apache"), "license=apache: did you mean 'apache-2.0'"),
        (Arguments(max_parameters_m=0), "no network fits"),
        (Arguments(limit=0), "limit=0 must be at least 1"),
    ],
)
def test_what_fits_nothing_is_said(arguments: Arguments, words: str) -> None:
    with pytest.raises(UserError, match=words):
        choose(arguments)


def test_the_table_shows_and_writes_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new/zoo.csv"
    monkeypatch.setattr("sys.argv", ["zoo", "names=[mobilenetv2_100.*,vit_small_*dinov2*]", "limit=2", f"out={out}"])
    main()
    shown = capsys.readouterr().out
    assert "mobilenetv2_100.ra_in1k 72.9 %      3.5 M" in shown
    assert "the first 2 of 3; limit= shows more" in shown
    assert pd.read_csv(out)["name"].tolist()[0] == "mobilenetv2_100.ra_in1k"


@pytest.mark.slow
def test_speeds_and_layer_groups_are_of_the_network_itself() -> None:
    table = measured(["test_resnet.r160_in1k", "test_efficientnet.r160_in1k"], 4)
    assert table["layer_groups"].tolist()[0].split()[-1] == "head"
    assert (table["frozen_images_s"] > table["trained_images_s"]).all()
    chosen = choose(Arguments(["test_resnet.*", "test_efficientnet.r*"], sort="name")).reset_index(drop=True)
    assert "/s" in listing(chosen.join(table), 2)
