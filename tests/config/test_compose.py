"""Every recipe can be read and built; every mistake in one is named in one sentence."""

import inspect
import re
import shutil
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from flowers.config.check import OFFERED, locate
from flowers.config.compose import CONF_DIR, change, compose_config, find_source, instantiate, names_in, read_settings
from flowers.config.schema import Configuration, Data, Settings, Split, Stage, Tracking
from flowers.errors import UserError
from flowers.models.nets import build_network
from flowers.training.stages import check_stages

EXPERIMENTS = CONF_DIR / "experiment"
RECIPES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
DATASETS = names_in("data")
MODELS = names_in("model")
HARM = {"_target_": "shutil.rmtree", "path": "nowhere"}
OPEN = ["name=test", "out_dir=out"]  # what only a running Hydra job can say


def read(*overrides: str) -> Settings:
    return read_settings(compose_config([*OPEN, *overrides]))


def complaint(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(*overrides)
    return str(caught.value)


def test_a_folder_whose_name_is_not_utf8_is_named() -> None:
    said = complaint("data=folder", "data.root=caf\udce9")
    assert said == "'data.root' is 'caf\\udce9', which is not UTF-8: rename that file or folder."


# Recipes


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_composes_and_builds(recipe: str) -> None:
    config = compose_config([f"experiment={recipe}", "out_dir=out"])
    settings = read_settings(config)
    assert settings.name == recipe
    net = build_network(settings.model.net, num_classes=5)
    check_stages([Stage(**stage) for stage in settings.model.stages], net)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
@pytest.mark.parametrize(
    "recipe", [name for name in RECIPES if "backbone" in (EXPERIMENTS / f"{name}.yaml").read_text()]
)
def test_recipe_takes_any_network_of_timm(recipe: str, name: str) -> None:
    settings = read_settings(compose_config([f"experiment={recipe}", "out_dir=out", f"model.net.name={name}"]))
    if name == "test_vit" and settings.model.net.pooling != "avg":
        with pytest.raises(UserError, match=r"model\.net\.pooling=.* has tokens, no maps"):
            build_network(settings.model.net, num_classes=5)
        return
    net = build_network(settings.model.net, num_classes=5)
    assert net.architecture == name
    check_stages([Stage(**stage) for stage in settings.model.stages], net)


def schema_words() -> list[str]:
    """Give every key of the schema a value of its type."""
    values: dict[object, str] = {str: "x", int: "2", float: "0.5", bool: "true"}
    kinds: list[tuple[str, Any]] = [("", Configuration), ("data.", Data), ("data.split.", Split)]
    kinds += [("tracking.", Tracking), ("model.stages.0.", Stage)]
    words = []
    for prefix, kind in kinds:
        for name, wanted in get_type_hints(kind).items():
            plain = next((each for each in typing.get_args(wanted) or (wanted,) if each in values), None)
            if plain is not None and typing.get_origin(wanted) not in (dict, list):
                words.append(f"{prefix}{name}={values[plain]}")
    return [*words, "data.source=null", "data.split.per_class=[65,15]"]


def documented_words() -> list[str]:
    """Find the keys of data, model, trainer and tracking that the README and the comments of ``conf/`` show."""
    texts = [(CONF_DIR.parent / "README.md").read_text(), *(file.read_text() for file in CONF_DIR.rglob("*.yaml"))]
    words = re.findall(
        r"(?<![\w./])((?:data|model|trainer|tracking)(?:\.\w+)+=(?:\[[^\]]*\]|[^\s,;`)|]*))", "\n".join(texts)
    )
    own = ("data.source.", "model.net.")  # of one data set or one network
    found = {
        word.partition("=")[0]: word for word in sorted(words) if not word.startswith(own) and "_target_" not in word
    }
    return [word if word[-1] != "=" else f"{word}x" for word in found.values()]


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_takes_every_key_that_is_documented(recipe: str) -> None:
    schema, documented = schema_words(), documented_words()
    assert {"data.split.official=2", "data.strict=true", "model.stages.0.views=2", "weights=x"} <= set(schema)
    keys = [word.partition("=")[0] for word in documented]
    assert {"model.class_weights", "data.sampling", "data.split.per_class", "trainer.max_time"} <= set(keys)
    first = read_settings(compose_config([f"experiment={recipe}", *schema]))
    for word in schema:
        key, _, value = word.partition("=")
        assert OmegaConf.select(first, key) == yaml.safe_load(value)
    compose_config([f"experiment={recipe}", "out_dir=out", *documented])


@pytest.mark.parametrize("data", DATASETS)
def test_data_set_composes(data: str) -> None:
    settings = read(f"data={data}", "data.root=somewhere")
    assert settings.data.name == data
    if settings.data.source is not None:
        assert callable(find_source(settings.data.source))


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_survive_being_saved(recipe: str, tmp_path: Path) -> None:
    settings = read_settings(compose_config([f"experiment={recipe}", "out_dir=out"]))
    OmegaConf.save(settings, tmp_path / "config.yaml")
    again = OmegaConf.load(tmp_path / "config.yaml")
    assert isinstance(again, DictConfig)
    assert read_settings(again) == settings


# Mistyped keys and names


@pytest.mark.parametrize(
    ("override", "key", "meant"),
    [
        ("model.net.widht=3", "model.net.widht", "width"),
        ("+model.net.widht=3", "model.net.widht", "width"),
        ("trainer.limit_train_batchs=3", "trainer.limit_train_batchs", "limit_train_batches"),
        ("model.stages.0.epohcs=3", "model.stages[0].epohcs", "epochs"),
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
        ("model: {net: {widht: 3}}", "model.net.widht", "width"),
        ("model: {augment: {flp: true}}", "model.augment.flp", "flip"),
        ("data: {bach_size: 3}", "data.bach_size", "batch_size"),
        ("data: {split: {val_frc: 0.1}}", "data.split.val_frc", "val_frac"),
        (
            "model: {stages: [{name: a, epohcs: 1, epochs: 1, train: all, max_lr: 1}]}",
            "model.stages.0.epohcs",
            "epochs",
        ),
    ],
)
def test_mistyped_key_in_a_recipe_is_named(conf_copy: Path, lines: str, key: str, meant: str) -> None:
    (conf_copy / "experiment/mistyped.yaml").write_text(f"# @package _global_\n{lines}\n")
    text = complaint("experiment=mistyped")
    assert f"'{key}'" in text
    assert f"did you mean '{meant}'?" in text


# Values


@pytest.mark.parametrize(("text", "value"), [("2024", "2024"), ("010", "8"), ("on", "True"), ("12.5", "12.5")])
def test_number_in_a_file_where_a_text_is_wanted(conf_copy: Path, text: str, value: str) -> None:
    (conf_copy / "data/mine.yaml").write_text(f"defaults: [base]\nname: mine\nsource: null\nroot: {text}\n")
    said = complaint("data=mine")
    assert f"'data.root' is {value}, but must be of type str" in said
    assert said.endswith("; put it in quotes where it is set.")


def test_what_is_made_gets_a_text_that_looks_like_a_reference() -> None:
    settings = change(read("data=folder", "data.root=x"), {"data.root": r"a/${x} \${y}", "data.name": "${seed}"})
    made = instantiate("data", settings.data)
    assert (made.data.root, made.data.name, made.seed) == (r"a/${x} \${y}", "${seed}", 0)


def test_home_is_written_in_full_wherever_it_is_set(conf_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (conf_copy / "data/mine.yaml").write_text("defaults: [base]\nname: mine\nsource: null\nroot: ~/pics\n")
    settings = read("data=mine", "weights=~/w.pth")
    assert (settings.data.root, settings.weights, settings.model.weights) == ("/home/me/pics", *["/home/me/w.pth"] * 2)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("data=folder", "add data.root=…"),
        ("seed=abc", "'seed' is 'abc', but must be of type int"),
        ("data.batch_size=many", "'data.batch_size' is 'many', but must be of type int"),
        ("model.net.width=abc", "'model.net.width' is 'abc', but must be of type int"),
        ("model.net.width=true", "'model.net.width' is True"),
        ("model.net.width=16.0", "'model.net.width' is 16.0, but must be of type int"),
        ("model.net.width='16'", "'model.net.width' is '16', but must be of type int"),
        ("data.image_px=true", "'data.image_px' is True"),
        ("data.split.val_frac=abc", "'data.split.val_frac' is 'abc', but must be of type float"),
        ("data.split.folds=2.5", "'data.split.folds' is 2.5, but must be of type int"),
        ("model.stages.0.epochs=many", "'model.stages.0.epochs' is 'many', but must be of type int"),
        ("model.net.dropout=[1]", "'model.net.dropout' is [1], but must be of type float"),
        ("model=mlp model.net.hidden=[1,a]", "'model.net.hidden.1' is 'a', but must be of type Sequence[int]"),
        ("data.source.counts={daisy: x}", "'data.source.counts.daisy' is 'x'"),
        ("model.stages=3", "'model.stages' must be a list"),
        ("model.stages=[]", "'model.stages' must be a list of one stage or more; correct it."),
        *(
            (f"model.{word}", "names no class: leave it out, or give model.")
            for word in ("net=null", "net=resnet18", "loss=null", "optimizer=3", "augment=null")
        ),
        ("model.stages=[3]", "'model.stages.0' is 3"),
        ("model.stages=[{name: a, train: all, max_lr: 1}]", "'model.stages.0' lacks 'epochs'"),
        ("~model.net.width", "'model.net' lacks 'width'"),
        (
            "model.net._target_=flowers.models.nets.Cnn",
            "'model.net._target_' is 'flowers.models.nets.Cnn', which cannot",
        ),
        ("model.net._target_=flowers.models.nets.nn", "'model.net._target_' is 'flowers.models.nets.nn', which cannot"),
        ("model.net._target_=nowhere.Net", "'model.net._target_' is 'nowhere.Net', which cannot be used (No module"),
        ("data.source._target_=os.system", "'data.source._target_' is 'os.system'"),
        (
            "data.source._target_=flowers.sources.synthetic.sample.shutil.rmtree",
            "flowers.sources.synthetic.sample.shutil.rmtree",
        ),
        ("seed", "'seed' is not of the form key=value"),
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
        ("model.net.width=-1", "'model.net' cannot be built"),
    ],
)
def test_network_that_cannot_be_built_is_refused(override: str, part: str) -> None:
    settings = read(override)
    with pytest.raises(UserError, match=re.escape(part)):
        build_network(settings.model.net, num_classes=3)


def test_a_module_of_ones_own_that_cannot_be_imported_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_net.py").write_text("import no_such_library")
    said = complaint("model.net._target_=own_net.Net")
    assert "cannot be used (No module named 'no_such_library'); it is imported by own_net: install it, or" in said
    (tmp_path / "short_net.py").write_text("raise ImportError('a.so: failed to map segment from shared object')")
    with pytest.raises(ImportError, match="failed to map"):  # the command line says that memory is too short
        read("model.net._target_=short_net.Net")


def test_images_have_one_size() -> None:
    settings = read("data.image_px=64")
    with pytest.raises(UserError, match=r"data\.image_px=64, but the network takes images of 128 px; leave"):
        build_network(settings.model.net, num_classes=3, image_px=settings.data.image_px)


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "flowers.models.nets.torch.load", "flowers.models.nets.pairwise"),
        *("flowers.config.compose.Path", "torchvision.models.resnet18", "mypackage.Net", "flowersfake.Net"),
    ],
)
def test_a_configuration_from_elsewhere_names_only_what_a_few_packages_offer(target: str) -> None:
    config = compose_config(OPEN)
    OmegaConf.update(config, "model.net", {"_target_": target}, merge=False)
    with pytest.raises(UserError, match=rf"'model\.net\._target_' is '{re.escape(target)}'"):
        read_settings(config, OFFERED)


@pytest.mark.parametrize(
    "net",
    [
        {"_target_": "torch.nn.Identity", "_args_": [HARM]},
        {"_target_": "torch.nn.Identity", "layers": [1, HARM]},
        {"_target_": "flowers.models.nets.Linear", "image_px": {"size": {"of": HARM}}},
    ],
)
def test_a_configuration_from_elsewhere_hides_no_call_in_a_value(net: dict[str, Any]) -> None:
    config = compose_config(OPEN)
    OmegaConf.update(config, "model.net", net, merge=False)
    with pytest.raises(UserError, match=r"\._target_' is 'shutil\.rmtree', but must name something in flowers, torch"):
        read_settings(config, OFFERED)


def test_no_default_stands_in_yaml_and_in_a_signature() -> None:
    for recipe in RECIPES:
        settings = read_settings(compose_config([f"experiment={recipe}", "out_dir=out"]))
        ours = [settings.data, settings.data.source, settings.model, settings.model.net, settings.model.augment]
        for node in ours:
            target = locate("node", node["_target_"], ["flowers"])
            for name, parameter in inspect.signature(target).parameters.items():
                assert name not in node or node[name] != parameter.default, f"{recipe}: {name}"
        split = {field.name: field.default for field in fields(Split)}
        assert not [key for key, value in settings.data.split.items() if value == split[str(key)]]
    stage_defaults = {field.name: field.default for field in fields(Stage)}
    for name in MODELS:
        for stage in compose_config([f"model={name}", *OPEN]).model.stages:
            for key, value in stage.items():
                assert value != stage_defaults[key], f"conf/model/{name}.yaml repeats the default of {key}"


def test_no_data_set_repeats_what_all_have_in_common() -> None:
    common = OmegaConf.load(CONF_DIR / "data/base.yaml")
    assert isinstance(common, DictConfig)
    for name in DATASETS:
        own = OmegaConf.load(CONF_DIR / f"data/{name}.yaml")
        assert isinstance(own, DictConfig)
        repeated = [key for key in own if key in common and own[key] == common[key]]
        assert not repeated, f"conf/data/{name}.yaml repeats {repeated}"
