"""The door: how a command is called, how its configuration becomes objects, how it fails.

Only this module knows Hydra's machinery. Behind it, functions take :class:`flowers.settings.Settings` and plain values.
"""

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowers.errors import UserError, suggestion
from flowers.settings import Settings, Stage

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import nn

T = TypeVar("T", bound="DataclassInstance")

CONF_DIR = Path(__file__).parents[2] / "conf"


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a :class:`UserError` into its sentence on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"flowers: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("flowers: interrupted.", file=sys.stderr)
        sys.exit(130)


def run_command(task: Callable[[Settings], Any]) -> None:
    """Run a task with the configuration that the command line composes from ``conf/``.

    Hydra's own options (``--help``, ``--cfg job``, ``-m`` …) work as everywhere. What the task returns is Hydra's
    return value, which sweepers optimise.

    Args:
        task: Called with the settings; its docstring's first line heads ``--help``.
    """
    import hydra

    # Hydra then raises what it would print, and we can say it in one sentence.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    failures: list[UserError] = []

    def entry(config: DictConfig) -> Any:
        # Hydra would print a line of its own about an error that passes through it.
        try:
            settings = read_settings(config)
            _remove_unused_folder(settings)
            return task(settings)
        except UserError as error:
            failures.append(error)
            return None

    with exit_on_user_error():
        with explain_hydra_errors():
            hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(entry)()
        if failures:
            raise failures[0]


def _remove_unused_folder(settings: Settings) -> None:
    """Remove the folder that Hydra made for a job, if the job writes elsewhere and nothing is in it."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder.resolve() != Path(settings.out_dir).resolve():
        for unused in (folder, folder.parent):
            try:
                unused.rmdir()
            except OSError:  # not empty
                return


def read_arguments(schema: type[T], description: str) -> T:
    """Read a command line of ``key=value`` pairs, for commands that compose no recipe.

    Args:
        schema: A dataclass whose fields are the keys; one without a default must be given.
        description: What ``--help`` says, above the keys.

    Returns:
        An instance of the schema.

    Raises:
        UserError: If a key is unknown, missing or of the wrong type.
    """
    words = sys.argv[1:]
    if {"--help", "-h"} & set(words):
        print(description.strip(), "\n\nKeys:")
        for field in fields(schema):
            value = "(needed)" if field.default is NO_DEFAULT else field.default
            print(f"  {field.name}={value}")
        sys.exit(0)
    for word in words:
        if "=" not in word:
            raise UserError(f"'{word}' is not of the form key=value; see --help for the keys.")
    with explain_hydra_errors():
        arguments = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_cli(words)))
    assert isinstance(arguments, schema)
    return arguments


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
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UserError(" ".join(lines) + "; correct that override, or see --help.") from error
    except OmegaConfBaseException as error:
        raise UserError(_explain_key(error)) from error


def _explain_key(error: OmegaConfBaseException) -> str:
    key = error.full_key or str(error.key)
    if "is not in struct" in str(error.msg) or "not in '" in str(error.msg):
        parent = error.parent_node
        known: list[str] = []
        if isinstance(parent, DictConfig):
            known = [str(name) for name in parent]
        if error.object_type is not None and hasattr(error.object_type, "__dataclass_fields__"):
            known = list(error.object_type.__dataclass_fields__)
        return f"the configuration has no key '{key}': {suggestion(str(error.key), known)}"
    if OmegaConf.is_missing(error.parent_node, error.key) or "Missing mandatory value" in str(error.msg):
        return f"'{key}' has no value yet: add {key}=… to the command."
    reason = " ".join(str(error.msg).split())
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
        required = [field.name for field in fields(Stage) if field.default is NO_DEFAULT]
        for i, stage in enumerate(stages):
            for key in required:
                if key not in stage:
                    raise UserError(f"'stages.{i}' lacks '{key}'; add it to the recipe.")
        settings = OmegaConf.to_object(OmegaConf.merge(schema, plain))
    assert isinstance(settings, Settings)
    _check_target("model", settings.model, "flowers.models.", given={"num_classes"})
    if settings.data.source is not None:
        _check_target("data.source", settings.data.source, "flowers.data.", given={"root"})
    return settings


def _check_target(key: str, node: dict[str, Any], package: str, given: set[str]) -> None:
    """Refuse a ``_target_`` outside the package (a file from elsewhere must not name what to run) and unknown keys."""
    target = locate(key, node, package)
    known = set(inspect.signature(target).parameters) - given
    for name in node:
        if name != "_target_" and name not in known:
            raise UserError(f"the configuration has no key '{key}.{name}': {suggestion(name, known)}")
    required = [
        name
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in given
    ]
    for name in required:
        if name not in node:
            raise UserError(f"'{key}' lacks '{name}', which {node['_target_']} needs; add it to the recipe.")


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
    import importlib

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


def build_network(model: dict[str, Any], num_classes: int) -> "nn.Module":
    """Build the network that a recipe describes.

    Args:
        model: The recipe's ``model`` node.
        num_classes: K.

    Raises:
        UserError: If the parameters do not fit each other.
    """
    parameters = {name: value for name, value in model.items() if name != "_target_"}
    try:
        network = locate("model", model, "flowers.models.")(num_classes=num_classes, **parameters)
    except (TypeError, ValueError) as error:
        raise UserError(f"'model' cannot be built: {error}; correct the recipe or the override.") from error
    return network
