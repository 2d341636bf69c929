"""Every recipe can be read and built; every mistake in one is named in one sentence."""

import dataclasses
import inspect
import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from flowers.config import schema as settings_module
from flowers.config.compose import CONF_DIR, compose_config, locate, read_settings
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.models.nets import build_network
from flowers.training.stages import check_stages

RECIPES = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
DATASETS = sorted(path.stem for path in (CONF_DIR / "data").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml"))
OPEN = ["name=test", "out_dir=out"]  # what only a running Hydra job can say


def read(*overrides: str) -> Settings:
    return read_settings(compose_config([*OPEN, *overrides]))


def complaint(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(*overrides)
    return str(caught.value)


# Recipes


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_composes_and_builds(recipe: str) -> None:
    config = compose_config([f"experiment={recipe}", "out_dir=out"])
    settings = read_settings(config)
    assert settings.name == recipe
    net = build_network(settings.model, num_classes=5)
    check_stages(settings.stages, net)


@pytest.mark.parametrize("data", DATASETS)
def test_data_set_composes(data: str) -> None:
    settings = read(f"data={data}", "data.root=somewhere")
    assert settings.data.name == data
    if settings.data.source is not None:
        assert callable(locate("data.source", settings.data.source, "flowers.sources."))


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_survive_being_saved(recipe: str, tmp_path: Path) -> None:
    settings = read_settings(compose_config([f"experiment={recipe}", "out_dir=out"]))
    OmegaConf.save(OmegaConf.create(dataclasses.asdict(settings)), tmp_path / "config.yaml")
    again = OmegaConf.load(tmp_path / "config.yaml")
    assert isinstance(again, DictConfig)
    assert read_settings(again) == settings


# Mistyped keys and names


@pytest.mark.parametrize(
    ("override", "key", "meant"),
    [
        ("model.net.widht=3", "model.net.widht", "width"),
        ("+model.net.widht=3", "model.net.widht", "width"),
        ("trainer.train_batchs=3", "trainer.train_batchs", "train_batches"),
        ("model.stages.0.epohcs=3", "stages[0].epohcs", "epochs"),
        ("+model.stages.0.epohcs=3", "model.stages.0.epohcs", "epochs"),
        ("model.augment.flp=true", "model.augment.flp", "flip"),
        ("+model.augment.flp=true", "model.augment.flp", "flip"),
        ("data.split.val_frc=0.1", "data.split.val_frc", "val_frac"),
        ("data.source.iluminaton=1", "data.source.iluminaton", "illumination"),
        ("+data.source.iluminaton=1", "data.source.iluminaton", "illumination"),
        ("traking.enabled=false", "traking", "tracking"),
        ("exprmnt=cnn_scratch", "exprmnt", "experiment"),
        ("+sed=3", "sed", "seed"),
    ],
)
def test_mistyped_key_is_named_with_the_nearest(override: str, key: str, meant: str) -> None:
    text = complaint(override)
    assert f"'{key}'" in text
    assert f"did you mean '{meant}'?" in text


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("experiment=cnn_scrach", "cnn_scratch"),
        ("data=sampel", "sample"),
        ("model=resnet_smal", "resnet_small"),
        ("trainer=brif", "brief"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(override: str, meant: str) -> None:
    text = complaint(override)
    group, _, name = override.partition("=")
    assert f"conf/{group} has no '{name}'" in text
    assert f"did you mean '{meant}'?" in text


@pytest.fixture
def conf_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "conf"
    shutil.copytree(CONF_DIR, folder)
    monkeypatch.setattr("flowers.config.compose.CONF_DIR", folder)
    return folder


@pytest.mark.parametrize(
    ("lines", "key", "meant"),
    [
        ("seeed: 3", "seeed", "seed"),
        ("model: {widht: 3}", "model.net.widht", "width"),
        ("augment: {flp: true}", "model.augment.flp", "flip"),
        ("learning: {bach_size: 3}", "learning.bach_size", "batch_size"),
        ("stages: [{name: a, epohcs: 1, epochs: 1, train: all, max_lr: 1}]", "model.stages.0.epohcs", "epochs"),
    ],
)
def test_mistyped_key_in_a_recipe_is_named(conf_copy: Path, lines: str, key: str, meant: str) -> None:
    (conf_copy / "experiment/mistyped.yaml").write_text(f"# @package _global_\n{lines}\n")
    text = complaint("experiment=mistyped")
    assert f"'{key}'" in text
    assert f"did you mean '{meant}'?" in text


# Values


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("data=folder", "add data.root=…"),
        ("seed=abc", "'seed' cannot be used: Value 'abc'"),
        ("data.batch_size=many", "'data.batch_size' cannot be used"),
        ("model.net.width=abc", "'model.net.width' is 'abc', but must be of type int"),
        ("model.net.width=true", "'model.net.width' is True"),
        ("model.net.dropout=[1]", "'model.net.dropout' is [1], but must be of type float"),
        ("model=mlp model.net.hidden=[1,a]", "'model.net.hidden' is [1, 'a'], but must be of type Sequence[int]"),
        ("data.source.counts={daisy: x}", "'data.source.counts' is"),
        ("model.stages=3", "'stages' must be a list"),
        ("model.stages=[3]", "'model.stages.0' is 3"),
        ("model.stages=[{name: a, train: all, max_lr: 1}]", "'model.stages.0' lacks 'epochs'"),
        ("~model.net.width", "'model' lacks 'width'"),
        (
            "model.net._target_=os.system",
            "'model.net._target_' is 'os.system', but must name something in flowers.models.",
        ),
        ("model.net._target_=flowers.models.nets.torch.load", "flowers.models.nets.torch.load"),
        ("model.net._target_=flowers.models.nets.torch", "flowers.models.nets.torch"),
        ("model.net._target_=flowers.models.nets.pairwise", "flowers.models.nets.pairwise"),
        ("model.net._target_=flowers.sources.synthetic.sample.render", "flowers.sources.synthetic.sample.render"),
        ("data.source._target_=os.system", "'data.source._target_' is 'os.system'"),
        (
            "data.source._target_=flowers.sources.synthetic.sample.shutil.rmtree",
            "flowers.sources.synthetic.sample.shutil.rmtree",
        ),
        ("seed", "missing EQUAL"),
    ],
)
def test_unusable_value_is_named(override: str, part: str) -> None:
    separate = override.split(" model.") if " model." in override else [override]
    text = complaint(separate[0], *(f"model.{rest}" for rest in separate[1:]))
    assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("model.net.blocks=99", "not divisible"),
        ("model.net.dropout=3", "dropout"),
        ("model.net.width=0", "make every size of the recipe positive"),
        ("model.net.width=-1", "'model' cannot be built"),
    ],
)
def test_network_that_cannot_be_built_is_refused(override: str, part: str) -> None:
    settings = read(override)
    with pytest.raises(UserError, match=re.escape(part)):
        build_network(settings.model, num_classes=3)


def test_no_default_stands_in_yaml_and_in_a_signature() -> None:
    schemas = {name: schema for name, schema in vars(settings_module).items() if dataclasses.is_dataclass(schema)}
    defaults = {
        name: {field.name: field.default for field in fields(schema) if field.default is not dataclasses.MISSING}
        for name, schema in schemas.items()
    }
    assert {name for name, given in defaults.items() if given} <= {"Stage", "Split", "Learning"}
    for recipe in RECIPES:
        config = compose_config([f"experiment={recipe}", "out_dir=out"])
        for node, schema in ((config.learning, "Learning"), (config.data.split, "Split")):
            repeated = [key for key, default in defaults[schema].items() if key in node and node[key] == default]
            assert not repeated, f"{recipe} repeats the defaults of {repeated}"
        for node, package in ((config.model, "flowers.models."), (config.data.source, "flowers.sources.")):
            target = locate("node", node, package)
            for name, parameter in inspect.signature(target).parameters.items():
                assert name not in node or parameter.default is inspect.Parameter.empty, f"{recipe}: {name}"
    for name in MODELS:
        for stage in compose_config([f"model={name}", *OPEN]).stages:
            for key, value in stage.items():
                default = defaults["Stage"].get(str(key), dataclasses.MISSING)
                assert value != default, f"conf/model/{name}.yaml repeats the default of {key}"
