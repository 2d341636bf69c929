"""From configuration to objects: a recipe is composed, checked to the last key, and its network built."""

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from flowers.config.schema import Settings, Stage
from flowers.errors import UserError, suggestion

if TYPE_CHECKING:
    pass

CONF_DIR = Path(__file__).parents[3] / "conf"


def compose_config(overrides: list[str]) -> DictConfig:
    """Compose a configuration without a command line, from ``conf/config.yaml`` and Hydra overrides.

    Raises:
        UserError: If a name or key in the overrides does not exist.
    """
    from hydra import compose, initialize_config_dir

    with explain_hydra_errors(), initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=overrides)


@contextlib.contextmanager
def explain_hydra_errors() -> Iterator[None]:
    """Turn Hydra's and OmegaConf's complaints about the configuration into one sentence each."""
    from hydra.errors import CompactHydraException, MissingConfigException

    try:
        yield
    except MissingConfigException as error:
        name = str(error.missing_cfg_file)
        group, _, option = name.rpartition("/")
        where = f"conf/{group}" if group else "the configuration folder"
        raise UserError(f"{where} has no '{option}': {suggestion(option, error.options or [])}") from error
    except CompactHydraException as error:
        if isinstance(error.__cause__, OmegaConfBaseException):
            raise UserError(_explain_key(error.__cause__)) from error
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("See http")]
        raise UserError(" ".join(lines) + "; correct that override, or see --help.") from error
    except OmegaConfBaseException as error:
        raise UserError(_explain_key(error)) from error


def _explain_key(error: OmegaConfBaseException) -> str:
    key = error.full_key or str(error.key)
    reason = str(error.msg).partition("\n")[0]
    if "is not in struct" in reason or "not in '" in reason:
        parent = error.parent_node
        known: list[str] = []
        if isinstance(parent, DictConfig):
            known = [str(name) for name in parent if name != "hydra"]
        if error.object_type is not None and hasattr(error.object_type, "__dataclass_fields__"):
            known = list(error.object_type.__dataclass_fields__)
        if key == error.key:  # at the top, names of groups can be given too
            known += [folder.name for folder in CONF_DIR.iterdir() if folder.is_dir() and folder.name != "hydra"]
        return f"the configuration has no key '{key}': {suggestion(str(error.key), set(known))}"
    if isinstance(error, MissingMandatoryValue) or "Missing mandatory value" in reason:
        return f"'{key}' has no value yet: add {key}=… to the command."
    return f"'{key}' cannot be used: {reason}; correct it in the command or the recipe."


def read_settings(config: DictConfig) -> Settings:
    """Convert a composed configuration to settings, refusing every key that nothing reads.

    Raises:
        UserError: Naming the key that is unknown, missing or of the wrong type.
    """
    with explain_hydra_errors():
        plain = OmegaConf.create(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        assert isinstance(plain, DictConfig)
        plain.pop("hydra", None)
        schema = OmegaConf.structured(Settings)
        stages = plain.get("stages")
        if not isinstance(stages, ListConfig):
            raise UserError("'stages' must be a list of stages; correct the recipe.")
        for i, stage in enumerate(stages):
            _check_stage(f"stages.{i}", stage)
        settings = OmegaConf.to_object(OmegaConf.merge(schema, plain))
    assert isinstance(settings, Settings)
    _check_target("model", settings.model, "flowers.models.", given={"num_classes"})
    if settings.data.source is not None:
        _check_target("data.source", settings.data.source, "flowers.sources.", given={"root"})
    return settings


def _check_stage(key: str, stage: Any) -> None:
    """Refuse a row of the stage table that lacks a key or has one too many; OmegaConf would not say in which row."""
    if not isinstance(stage, DictConfig):
        raise UserError(f"'{key}' is {stage!r}, but must be a stage with a name; correct the recipe.")
    known = Stage.__dataclass_fields__
    for name in map(str, stage):
        if name not in known:
            raise UserError(f"the configuration has no key '{key}.{name}': {suggestion(name, known)}")
    for field in fields(Stage):
        if field.default is NO_DEFAULT and field.name not in stage:
            raise UserError(f"'{key}' lacks '{field.name}'; add it to the recipe.")


def _check_target(key: str, node: dict[str, Any], package: str, given: set[str]) -> None:
    """Refuse a ``_target_`` outside the package (a file from elsewhere must not name what to run) and unfit keys."""
    target = locate(key, node, package)
    parameters = {name: value for name, value in inspect.signature(target).parameters.items() if name not in given}
    for name, value in node.items():
        if name == "_target_":
            continue
        if name not in parameters:
            raise UserError(f"the configuration has no key '{key}.{name}': {suggestion(name, parameters)}")
        wanted = parameters[name].annotation
        if not _fits(value, wanted):
            kind = inspect.formatannotation(wanted).removeprefix("collections.abc.")
            raise UserError(f"'{key}.{name}' is {value!r}, but must be of type {kind}; correct it where it is set.")
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in node:
            raise UserError(f"'{key}' lacks '{name}', which {node['_target_']} needs; add it to the recipe.")


def _fits(value: Any, wanted: Any) -> bool:
    """Say whether a value from YAML is of the type that a parameter is annotated with."""
    if wanted is Any:
        return True
    if isinstance(wanted, UnionType):
        return any(_fits(value, kind) for kind in get_args(wanted))
    kind = get_origin(wanted) or wanted
    if kind in (Sequence, list):
        return isinstance(value, list) and all(_fits(item, get_args(wanted)[0]) for item in value)
    if kind in (Mapping, dict):
        return isinstance(value, dict) and all(_fits(item, get_args(wanted)[1]) for item in value.values())
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)


def locate(key: str, node: dict[str, Any], package: str) -> Callable[..., Any]:
    """Find what a configuration node's ``_target_`` names.

    Args:
        key: Where the node stands, for the error.
        node: With a ``_target_``.
        package: Prefix that the target must have.

    Returns:
        A function or class defined in that package itself.

    Raises:
        UserError: If there is none of that name.
    """
    target = str(node.get("_target_", ""))
    module_name, _, name = target.rpartition(".")
    if module_name.startswith(package):
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            module = None
        found = getattr(module, name, None)
        if callable(found) and getattr(found, "__module__", "").startswith(package):
            return found
    raise UserError(f"'{key}._target_' is '{target}', but must name something in {package}*; correct the recipe.")
