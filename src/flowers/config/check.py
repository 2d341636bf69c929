"""A configuration is locked: each key must be one that somebody reads, and each value of the type that is wanted.

What a node with a ``_target_`` may hold is read from the signature of the class that it names; pydantic judges types.
"""

import dataclasses
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from flowers.config.schema import TOP_LEVEL, Tracking
from flowers.errors import UserError, suggestion

OFFERED = ("flowers", "torch", "torchmetrics", "timm", "lightning")
"""Packages that a configuration from elsewhere may name something of."""
GIVEN = {"num_classes", "callbacks", "logger"}
"""Parameters that are given when an object is made, and need not stand in the configuration."""
_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def check(config: Mapping[str, Any], packages: Sequence[str] | None = None) -> None:
    """Refuse a resolved configuration with a key that nothing reads, that lacks one, or has a value of a wrong type.

    Args:
        config: Plain dictionaries, lists and values.
        packages: Packages that a ``_target_`` may lie in; None: any.

    Raises:
        UserError: Naming the key, and the nearest known one or what it must be.
    """
    check_keys("", config, dict.fromkeys(TOP_LEVEL, True), config)
    for name, kind in TOP_LEVEL.items():
        _check_type(name, config[name], kind)
    check_fields("tracking", config["tracking"], Tracking, config)
    trainer = dict(config["trainer"])
    if trainer.get("precision") == "auto":  # the one word that Lightning does not know
        del trainer["precision"]
    for name, node in (("data", config["data"]), ("model", config["model"]), ("trainer", trainer)):
        check_node(name, node, packages, config)
    source = config["data"].get("source")
    if source is not None:
        check_node("data.source", source, ["flowers.sources"], config, given={"root"})
    # Of a trained model that is opened again, callbacks and loggers are never made.
    for group in ("callbacks", "logger") if packages is None else ():
        for name, node in config[group].items():
            if node is not None:
                check_node(f"{group}.{name}", node, packages, config)


def check_node(
    key: str,
    node: Any,
    packages: Sequence[str] | None,
    config: Mapping[str, Any],
    given: Collection[str] = GIVEN,
) -> None:
    """Hold a node with a ``_target_`` against the signature of what it names, and so the nodes in it."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"'{key}' names no class; give {key}._target_=PACKAGE.CLASS.")
    target = locate(key, node["_target_"], packages)
    parameters = inspect.signature(target).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    known = {
        name: parameter.default is inspect.Parameter.empty and not node.get("_partial_")
        for name, parameter in parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    if inspect.Parameter.VAR_KEYWORD in kinds:
        known |= {str(name): False for name in node if name not in known}
    values = {name: value for name, value in node.items() if name not in _HYDRA}
    check_keys(key, values, {name: needed and name not in given for name, needed in known.items()}, config)
    hints = _hints(target)
    for name, value in values.items():
        if isinstance(value, Mapping) and "_target_" in value:
            if f"{key}.{name}" != "data.source":
                check_node(f"{key}.{name}", value, packages, config)
        elif name in hints:
            check_value(f"{key}.{name}", value, hints[name], config)


def check_value(key: str, value: Any, wanted: Any, config: Mapping[str, Any]) -> None:
    """Hold a value against an annotation: a dataclass or a list of them field by field, others by their type."""
    (row, *_) = typing.get_args(wanted) or (None,)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        check_fields(key, value, wanted, config)
    elif typing.get_origin(wanted) is list and dataclasses.is_dataclass(row) and isinstance(row, type):
        if not isinstance(value, list):
            raise UserError(f"'{key}' must be a list; correct the recipe.")
        for number, each in enumerate(value):
            check_fields(f"{key}.{number}", each, row, config)
    else:
        _check_type(key, value, wanted)


def check_fields(key: str, node: Any, schema: type, config: Mapping[str, Any]) -> None:
    """Hold a node against a dataclass."""
    if not isinstance(node, Mapping):
        raise UserError(f"'{key}' is {node!r}, but must have keys, as a {schema.__name__.lower()} has; correct it.")
    parameters = inspect.signature(schema).parameters
    check_keys(key, node, {name: each.default is each.empty for name, each in parameters.items()}, config)
    for name, value in node.items():
        _check_type(f"{key}.{name}", value, typing.get_type_hints(schema)[name])


def check_keys(key: str, node: Mapping[str, Any], known: Mapping[str, bool], config: Mapping[str, Any]) -> None:
    """Refuse keys that are not known, and the lack of one that is needed."""
    prefix = f"{key}." if key else ""
    for name in map(str, node):
        if name not in known:
            raise UserError(f"the configuration has no key '{prefix}{name}': {nearest(prefix + name, known, config)}")
    for name, needed in known.items():
        if needed and name not in node:
            raise UserError(f"'{key}' lacks '{name}'; add {prefix}{name}=… to the command, or to the recipe.")


def nearest(key: str, known: Iterable[str], config: Mapping[str, Any]) -> str:
    """Word what may have been meant by a key that does not exist.

    Args:
        key: Dotted, as the user wrote it.
        known: Names that its node does know.
        config: The whole configuration: what is called like the key's last part elsewhere in it is named too.
    """
    leaf = key.rpartition(".")[2]
    group, _, rest = key.partition(".")
    # Under a node, what is meant lies under that node too.
    everywhere = [
        each for each in dotted(config) if each.partition(".")[0] == group or (not rest and "hydra" not in each)
    ]
    same = [each for each in everywhere if each != key and each.rpartition(".")[2] == leaf]
    alike = [each for each in everywhere if each.rpartition(".")[2].endswith(f"_{leaf}")]
    if same or alike:
        return "did you mean " + " or ".join(f"'{each}'" for each in (same[:2] + alike[:1])) + "?"
    return suggestion(leaf, set(known))


def dotted(node: Any, prefix: str = "") -> list[str]:
    """List all keys of a configuration, those of nodes and list items joined by dots."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    found = []
    for name, value in items:
        found += [f"{prefix}{name}", *dotted(value, f"{prefix}{name}.")]
    return found


def parameters_of(key: str, target: str) -> set[str]:
    """List the names of the parameters of what a ``_target_`` names; for one that takes any, all that is asked of it.

    Raises:
        UserError: If there is no such class.
    """
    return set(inspect.signature(locate(key, target, None)).parameters)


def locate(key: str, target: Any, packages: Sequence[str] | None) -> Callable[..., Any]:
    """Find what a ``_target_`` names.

    Args:
        key: Where the node stands, for the error.
        target: ``package.module.name``.
        packages: Packages that it may lie in, and be defined in; None: any.

    Raises:
        UserError: If there is nothing of that name there, or it cannot be called.
    """
    if packages is not None and not str(target).startswith(tuple(f"{package}." for package in packages)):
        allowed = f"something in {', '.join(packages)}"
        raise UserError(f"'{key}._target_' is '{target}', but must name {allowed}; correct it, or allow its package.")
    module_name, _, name = str(target).rpartition(".")
    found: Any = None
    reason = "there is no such class"
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        reason = str(error)
    except ValueError:  # no module name at all
        pass
    where = str(getattr(found, "__module__", None) or "")
    foreign = packages is not None and not f"{where}.".startswith(tuple(f"{each}." for each in packages))
    if not callable(found) or isinstance(found, types.ModuleType) or foreign:
        raise UserError(f"'{key}._target_' is '{target}', which cannot be used ({reason}); name PACKAGE.CLASS.")
    return found


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.getattr_static(target, "__init__") if isinstance(target, type) else target)
    except Exception:  # annotations that cannot be evaluated promise nothing
        return {}


def _check_type(key: str, value: Any, wanted: Any) -> None:
    """Refuse a value from YAML that is not of a type.

    Raises:
        UserError: Naming the key, down to the item of a list.
    """
    try:
        adapter = TypeAdapter(wanted, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # what pydantic has no rule for promises nothing
        return
    try:
        # As JSON, which like YAML has lists but no tuples; strictly, as true is no 1 and "16" no 16.
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        # Besides keys and numbers, a place names the branch of a union, which is no part of the key.
        place = [str(part) for part in first["loc"] if part in _keys_in(value)]
        kind = inspect.formatannotation(wanted).replace("collections.abc.", "").replace("typing.", "")
        raise UserError(
            f"'{'.'.join([key, *place])}' is {first['input']!r}, but must be of type {kind} ({first['msg']}); "
            "correct it where it is set."
        ) from error


def _keys_in(value: Any) -> set[Any]:
    """List the keys and item numbers that occur anywhere in a value."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return {key for name, each in items for key in (name, *_keys_in(each))}
