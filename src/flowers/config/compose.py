"""From ``conf/`` to objects: Hydra composes a configuration, it is checked to the last key, its classes are made."""

import contextlib
import functools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import (
    CompactHydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from flowers.config.check import check, dotted, locate, nearest, parameters_of, type_of
from flowers.config.schema import Data, Settings, Split, Stage
from flowers.config.store_address import hide_secret
from flowers.config.words import as_hydra_reads, at_home, check_pairs, literal, typable
from flowers.errors import UserError, is_short_of_memory, suggestion

PLUGINS = {"launcher": ("joblib", "ray", "rq", "submitit"), "sweeper": ("ax", "nevergrad", "optuna")}
"""What Hydra's authors publish as ``hydra-NAME-launcher`` and ``hydra-NAME-sweeper``."""
NODES = {
    **dict.fromkeys(("data", "model", "trainer"), ""),
    "callbacks": "callbacks.NAME._target_=PACKAGE.CLASS",
    "logger": "logger.NAME._target_=PACKAGE.CLASS or logger.mlflow=null",
    "tracking": "tracking.enabled=false",
}
"""Groups of keys at the top of a configuration, and what can be given in those that are not chosen by a name."""
CONF_DIR = Path(__file__).parents[3] / "conf"
if not CONF_DIR.is_dir():  # installed from a wheel
    CONF_DIR = Path(__file__).parents[1] / "conf"


def conf_dirs() -> list[Path]:
    """List the folders that configurations are looked for in: the working folder's own ``conf``, then the package's."""
    own = Path.cwd() / "conf"
    return [own, CONF_DIR] if own.is_dir() and own.resolve() != CONF_DIR.resolve() else [CONF_DIR]


def find_in_conf(path: Path) -> Path:
    """Find a file below ``conf`` that a configuration names: the working folder's own, else the package's."""
    inside = CONF_DIR.joinpath(*path.parts[1:])
    return inside if path.parts[:1] == ("conf",) and not path.exists() and inside.exists() else path


def names_in(group: str) -> list[str]:
    """List what can be chosen in a group, for example of ``data``."""
    files = (file for folder in conf_dirs() for file in (folder / group).glob("*.yaml"))
    return sorted({file.stem for file in files} - {"base"})


def groups() -> set[str]:
    """List the groups: ``data``, ``model`` and so on."""
    folders = (folder for each in conf_dirs() for folder in each.iterdir() if folder.is_dir())
    return {folder.name for folder in folders} - {"hydra", "decisions"}


class ProjectFirst(SearchPathPlugin):
    """Has Hydra look into the working folder's own ``conf`` before the package's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra whenever it composes."""
        for folder in conf_dirs()[:-1]:
            search_path.prepend("project", f"file://{folder}")


Plugins.instance().register(ProjectFirst)


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration without a command line, from ``conf/config.yaml`` and overrides as on a command line.

    Raises:
        UserError: If a name or key in the overrides does not exist.
    """
    check_pairs(overrides)
    config = None
    if not any("._target_" in word for word in overrides):
        with contextlib.suppress(UserError):  # mostly all keys are there, and nothing needs to be looked up
            config = _compose(list(overrides))
    completed = complete_words(overrides, config)
    return config if config is not None and completed == list(overrides) else _compose(completed)


def _compose(overrides: list[str]) -> DictConfig:
    with explain_hydra_errors(), hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return hydra.compose("config", overrides=overrides)


def complete_words(words: Sequence[str], config: DictConfig | None = None) -> list[str]:
    """Write overrides as Hydra wants them, so that values are taken as typed, and parameters of a class by their key.

    Where a key takes a text, the value is quoted if Hydra would read anything else in it (see
    :mod:`flowers.config.words`). Hydra takes a key that no YAML file names with a `+` only. Here that is added where
    the key is a parameter of the class that its node names, and in ``callbacks`` and ``logger``, which hold what people
    like. Where a ``_target_`` is replaced, the keys that the new class does not know go with the old one.

    Args:
        words: Without the program's name.
        config: What they compose to as they are, if they do.

    Returns:
        The words, with those added.

    Raises:
        UserError: If a class that is named does not exist, or a text is missing.
    """
    sweep = not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(words)
    words = [as_hydra_reads(word, type_of(word.partition("=")[0].lstrip("+")), sweep) for word in words]
    given = {key.lstrip("+"): value for key, sign, value in (word.partition("=") for word in words) if sign}
    choices = {key: given[key].partition(",")[0] for key in groups() & given.keys()}
    for key, value in choices.items():
        if value == "null":  # of which Hydra says neither the key nor the remedy
            raise UserError(_explain_choice(f"{key}/null", names_in(key)))
    dotless = not any("." in key for key in given)
    if dotless or any(word.startswith(("--config", "-cd", "-cn", "-cp", "--help", "-h")) for word in words):
        return words
    if config is None:
        config = _compose(["name=none", "out_dir=none", *(f"{key}={value}" for key, value in choices.items())])
    known = dotted(as_dict(config, resolve=False))
    completed = []
    for word in words:
        key, sign, value = word.partition("=")
        parent, _, leaf = key.rpartition(".")
        if not sign or not parent or key.partition(".")[0] not in NODES:
            completed.append(word)
            continue
        target = given.get(f"{parent}._target_", known.get(f"{parent}._target_"))
        # Classes are looked at, which may take seconds to import, only where they decide.
        if key not in known or (value and as_hydra_reads(word, str, sweep) != word):
            row = Stage if parent in known and parent.startswith("model.stages.") else type_of(parent)
            kind = row if target is None else locate(parent, target, None)
            parameters = {} if target is None and not is_dataclass(kind) else parameters_of(kind)
            if value and leaf in parameters:
                word = as_hydra_reads(word, parameters[leaf].annotation, sweep)
            free = parent.startswith(("callbacks", "logger")) or known.get(parent) == {}
            if key not in known and (free or leaf in parameters):
                word = f"++{word}"
        completed.append(word)
        if leaf == "_target_" and known.get(key, value) != value:
            fits = parameters_of(locate(parent, value, None))
            dropped = [name for name in known[parent] if name not in fits and not name.startswith("_")]
            completed += [f"~{parent}.{name}" for name in dropped if f"{parent}.{name}" not in given]
    return completed


@contextlib.contextmanager
def explain_hydra_errors() -> Iterator[None]:
    """Turn Hydra's and OmegaConf's complaints about the configuration into one sentence each."""
    try:
        yield
    except MissingConfigException as error:
        raise UserError(_explain_choice(str(error.missing_cfg_file), error.options or [])) from error
    except OverrideParseException as error:
        raise UserError(_explain_word(error.override)) from error
    except (CompactHydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, CompactHydraException) else error
        said = _explain_key(cause) if isinstance(cause, OmegaConfBaseException) else _explain_override(str(error))
        raise UserError(said) from error
    except ValueError as error:  # Hydra's
        raise UserError(f"the command cannot be understood ({error}); see --help.") from error


def _explain_choice(name: str, options: Sequence[str]) -> str:
    """Say what can be chosen where a file of a group, for example ``data/sampel``, does not exist."""
    group, _, option = name.rpartition("/")
    kind, plugin = group.removeprefix("hydra/"), option.partition("_")[0]
    if plugin in PLUGINS.get(kind, ()):
        package = f"hydra-{plugin}-{kind}"
        return f"{group}={option} is a plugin that is not installed: call `pip install {package}`, or leave it out."
    if not group:
        return f"there is no configuration '{option}'; correct --config-name, --config-path or --config-dir."
    where, known = group if kind != group else f"conf/{group}", sorted(set(options) - {"base"})
    if option in ("", "null"):
        return f"'{group}={option}' gives no value; known: {', '.join(known)}"
    said = suggestion(option, known)
    if group == "data" and Path(at_home(option)).is_dir():
        said = f"for a folder of photographs give {shlex.join(['data=folder', f'data.root={option}'])}; {said}"
    return f"{where} has no '{option}': {said}" + (f" Known: {', '.join(known)}." if said.endswith("?") else "")


def _explain_group(name: str) -> str:
    """Say what can be done with a group of keys that was deleted, or got a value."""
    if NODES[name]:
        return f"'{name}' is a group of keys: give one of them, such as {NODES[name]}."
    choice = f"{name}=NAME ({', '.join(names_in(name))})"
    return f"'{name}' is a group of keys that every configuration needs: keep the default, or choose one with {choice}."


def _explain_word(word: str) -> str:
    """Say what is wrong with a word that Hydra's grammar has no rule for."""
    key = word.partition("=")[0]
    if not re.fullmatch(r"[\w$./@:+~-]+", key, re.ASCII):
        return f"the configuration has no key '{key}'; see --help for the keys."
    return (
        f"'{word}' cannot be read: a list is written like [a,b], a number without a unit, and a text with such "
        f"characters in quotes, as in {typable(word)}."
    )


def _explain_override(text: str) -> str:
    """Say what Hydra says of an override, in one line."""
    if found := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        return (
            f"'{found[1]}' gives several values: add -m to try each, write a list like [a,b], or write a text with a "
            f"comma in quotes, as in {typable(found[1])}."
        )
    if found := re.match(r"Could not delete from config\. '(.*)' does not exist", text):
        whole = as_dict(_compose(["name=none", "out_dir=none"]), resolve=False)
        return f"the configuration has no key '{found[1]}' to delete: {nearest(found[1], whole, whole)}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("See http")]
    return f"{' '.join(lines).rstrip('.')}; correct that override, or see --help."


def _explain_key(error: OmegaConfBaseException) -> str:
    key = error.full_key or str(error.key)
    reason = str(error.msg).partition("\n")[0]
    if "is not in struct" in reason or "not in '" in reason:
        parent = error.parent_node if isinstance(error.parent_node, DictConfig) else OmegaConf.create()
        known = {str(name) for name in parent} - {"hydra"}
        if "hydra" in parent:  # the top of a configuration, where names of groups can be given too
            if key in NODES:
                return _explain_group(key)
            known |= groups()
        whole = cast("dict[str, Any]", OmegaConf.to_container(parent._get_root(), resolve=False))
        return f"the configuration has no key '{key}': {nearest(key, known, whole)}"
    if isinstance(error, MissingMandatoryValue) or "Missing mandatory value" in reason:
        elsewhere = ", or write it into its file in conf/data" if key.startswith("data.") else ""
        return f"'{key}' has no value yet: add {key}=… to the command{elsewhere}."
    if isinstance(error, InterpolationResolutionError):
        return (
            f"'{key}' refers to another key with ${{…}}, which cannot be followed ({reason}); correct it, or write "
            "\\${ where the text itself has these characters."
        )
    return f"'{key}' cannot be used: {reason}; correct it in the command or the recipe."


def read_settings(config: DictConfig, packages: Sequence[str] | None = None, home: bool = True) -> Settings:
    """Resolve and check a composed configuration.

    Args:
        config: As Hydra composes it, or as ``config.yaml`` of a trained model has it.
        packages: Packages that its classes may lie in, see :func:`flowers.config.check.check`; None: any.
        home: Write paths that begin with ``~`` in full; not in what is read on other machines too.

    Raises:
        UserError: Naming the key that is unknown, missing or of the wrong type.
    """
    with explain_hydra_errors():
        config = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
        for name in NODES:
            if not isinstance(config.get(name), DictConfig):
                raise UserError(_explain_group(name))
        plain = as_dict(config, throw_on_missing=True)
    _settle_store(plain)
    check(plain, packages)
    return OmegaConf.create(literal(plain, home))


def _settle_store(plain: dict[str, Any]) -> None:
    """Have all commands record where the logger ``mlflow`` does, and keep a password out of what is written down."""
    nodes = [node for node in (plain["logger"].get("mlflow"), plain["tracking"]) if isinstance(node, dict)]
    for key in ("uri", "experiment"):
        given = next((node[key] for node in nodes if key in node), None)
        if isinstance(given, str):
            for node in (node for node in nodes if key in node or node is plain["tracking"]):
                node[key] = hide_secret(given)


def change(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Make a configuration that differs in some keys.

    Args:
        settings: Stays as it is.
        changes: New values by dotted keys, as on the command line.
    """
    changed = OmegaConf.create(OmegaConf.to_container(settings))
    for key, value in changes.items():
        OmegaConf.update(changed, key, literal(value), merge=False)
    return changed


def with_seed(settings: Settings, seed: int) -> Settings:
    """Make a configuration with another seed, in all the places that follow it."""
    return change(settings, {"seed": seed, "data.seed": seed, "model.seed": seed})


def as_dict(config: DictConfig, resolve: bool = True, throw_on_missing: bool = False) -> dict[str, Any]:
    """Give a configuration as plain dictionaries, lists and values."""
    plain = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=throw_on_missing)
    return cast("dict[str, Any]", plain)


def read_data(settings: Settings) -> Data:
    """Give what a configuration says of the photographs."""
    node, names = as_dict(settings)["data"], {field.name: field.default is MISSING for field in fields(Data)}
    if not {name for name, needed in names.items() if needed} <= node.keys():
        raise UserError(f"{node.get('_target_')} does not say where photographs lie; use data=folder data.root=PHOTOS.")
    return Data(**{name: node[name] for name in names if name in node} | {"split": Split(**node["split"])})


def instantiate(key: str, node: Any, **given: Any) -> Any:
    """Make what a node describes: Hydra's ``instantiate``, whose errors become one sentence.

    Args:
        key: Where the node stands, for the error.
        node: With a ``_target_``.
        **given: Arguments that no configuration holds.

    Raises:
        UserError: If the class refuses its arguments.
    """
    if OmegaConf.is_config(node):  # Hydra resolves references twice, so that those that are none are escaped twice
        node = literal(literal(OmegaConf.to_container(node, resolve=True)))
    try:
        return hydra.utils.instantiate(node, _convert_="all", **given)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError) or is_short_of_memory(cause):
            raise cause from error
        reason = " ".join(str(cause).split())
        named = {name for name in node if re.search(rf"\b{name}\b", reason)}
        named |= {name for name, value in node.items() if isinstance(value, str) and repr(value) in reason}
        place = " or ".join(f"{key}.{name}" for name in sorted(named)) or "the recipe or the override"
        raise UserError(f"'{key}' cannot be built: {reason.rstrip('.')}; correct {place}.") from error


def read_params(file: Path) -> dict[str, Any]:
    """Read params.yaml, unchecked; whatever else than keys and values it holds is left out.

    Raises:
        UserError: If there is no such file, or it is no YAML.
    """
    if not file.is_file():
        raise UserError(
            f"{file} is not in this folder: call this in the project's folder, or name it with params=FILE."
        )
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except yaml.YAMLError as error:
        raise UserError(f"{file} is no valid YAML: {' '.join(str(error).split())}.") from error
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def find_source(source: Mapping[str, Any]) -> Any:
    """Find the function that a ``data.source`` names: called with a folder, it fills it as the source's keys say."""
    function = locate("data.source", source.get("_target_"), ["flowers.sources"])
    return functools.partial(function, **{key: value for key, value in source.items() if key != "_target_"})
