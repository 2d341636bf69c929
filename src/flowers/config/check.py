"""A configuration is locked: each key must be one that somebody reads, and each value of the type that is wanted.

What a node with a ``_target_`` may hold is read from the signature of the class that it names; pydantic judges types.
"""

import dataclasses
import functools
import importlib
import inspect
import json
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from hydra.conf import HydraConf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from flowers.config.schema import Configuration, Data
from flowers.config.words import takes_text
from flowers.errors import UserError, is_short_of_memory, suggestion

OFFERED = ("flowers", "torch", "torchmetrics", "timm", "lightning")
"""Packages that a configuration from elsewhere may name something of."""
GIVEN = {"num_classes", "callbacks", "logger"}
"""Parameters that are given when an object is made, and need not stand in the configuration."""
_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
_TYPES: dict[str, Any] = {**typing.get_type_hints(Configuration), "data": Data, "hydra": HydraConf}


def check(config: Mapping[str, Any], packages: Sequence[str] | None = None) -> None:
    """Refuse a resolved configuration with a key that nothing reads, that lacks one, or has a value of a wrong type.

    Args:
        config: Plain dictionaries, lists and values.
        packages: Packages that a ``_target_`` may lie in; None: any.

    Raises:
        UserError: Naming the key, and the nearest known one or what it must be.
    """
    # Of a trained model that is opened again, callbacks and loggers are never made.
    made = ("callbacks", "logger") if packages is None else ()
    for key, value in dotted(config).items():
        if isinstance(value, str) and value != (readable := value.encode(errors="backslashreplace").decode()):
            raise UserError(f"'{key}' is '{readable}', which is not UTF-8: rename that file or folder.")
        node, _, leaf = key.rpartition(".")
        # All of them, as Hydra makes what lies in a list or below _args_ too.
        if leaf == "_target_" and node.partition(".")[0] in ("data", "model", "trainer", *made):
            locate(node, value, ["flowers.sources"] if f"{node}.".startswith("data.source.") else packages)
    _check_values("", config, Configuration, config)
    nodes = {name: config[name] for name in ("data", "model", "trainer")}
    for group in made:
        nodes |= {f"{group}.{name}": node for name, node in config[group].items() if node is not None}
    for key, node in nodes.items():
        _check_node(key, node, config)


def _check_node(key: str, node: Any, config: Mapping[str, Any]) -> None:
    """Hold a node with a ``_target_`` against the signature of what it names, and so the nodes in it."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise _no_class(key)
    target = locate(key, node["_target_"], None)
    values = {name: value for name, value in node.items() if name not in _HYDRA}
    given: Collection[str] = parameters_of(target) if node.get("_partial_") else GIVEN
    _check_values(key, values, target, config, {"root"} if key == "data.source" else given)


def _check_values(
    key: str, values: Any, target: Callable[..., Any], config: Mapping[str, Any], given: Collection[str] = ()
) -> None:
    """Hold the values of a node against the parameters of a class or function; they are those of a dataclass too.

    Args:
        key: Where the node stands; empty for the whole configuration.
        values: By the names of parameters.
        target: What takes them.
        config: As in :func:`check`.
        given: Parameters that need not be among the values.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"'{key}' is {values!r}, but must have keys, as a {target.__name__.lower()} has; correct it.")
    prefix = f"{key}." if key else ""
    parameters = parameters_of(target)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = {name: each for name, each in parameters.items() if not each.kind.name.startswith("VAR_")}
    for name in map(str, values):
        if name not in known and not takes_any:
            raise UserError(f"the configuration has no key '{prefix}{name}': {nearest(prefix + name, known, config)}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in values and name not in given:
            raise UserError(f"'{key}' lacks '{name}'; add {prefix}{name}=… to the command, or to the recipe.")
    for name, value in values.items():
        place, wanted = f"{prefix}{name}", known[name].annotation if name in known else Any
        row = next(iter(typing.get_args(wanted)), None)
        if key and isinstance(value, Mapping) and ("_target_" in value or place == "data.source"):
            _check_node(place, value, config)
        elif isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
            _check_values(place, value, wanted, config)
        elif typing.get_origin(wanted) is list and isinstance(row, type) and dataclasses.is_dataclass(row):
            if not isinstance(value, list) or not value:
                raise UserError(f"'{place}' must be a list of one {row.__name__.lower()} or more; correct it.")
            for number, each in enumerate(value):
                _check_values(f"{place}.{number}", each, row, config)
        elif value == "" and takes_text(wanted) and target.__module__.startswith("flowers."):
            raise UserError(f"'{place}' is empty; give it a value.")
        elif (place, value) != ("trainer.precision", "auto"):  # the one word that Lightning does not know
            _check_type(place, value, wanted)


def _no_class(key: str) -> UserError:
    return UserError(f"'{key}' names no class: leave it out, or give {key}._target_=PACKAGE.CLASS.")


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
    places = [each for each in dotted(config) if each.startswith(f"{group}.") or (not rest and "hydra" not in each)]
    near = [each for each in places if each != key and f"_{each.rpartition('.')[2]}".endswith(f"_{leaf}")]
    if near:
        exact_first = sorted(near, key=lambda each: each.rpartition(".")[2] != leaf)
        return "did you mean " + " or ".join(f"'{each}'" for each in exact_first[:3]) + "?"
    return suggestion(leaf, set(known))


def dotted(node: Any, prefix: str = "") -> dict[str, Any]:
    """Give all values of a configuration, nodes and lists too, by their keys and item numbers joined by dots."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    found: dict[str, Any] = {}
    for name, value in items:
        found |= {f"{prefix}{name}": value, **dotted(value, f"{prefix}{name}.")}
    return found


@functools.cache
def type_of(key: str) -> Any:
    """Tell the type that the schema, or Hydra's own, gives a dotted key; Any where the class of its node decides."""
    first, *rest = key.split(".")
    kind = _TYPES.get(first, Any)
    for name in rest:
        kind = typing.get_type_hints(kind).get(name, Any) if dataclasses.is_dataclass(kind) else Any
    return kind


def parameters_of(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Read what a class or a function takes; an annotation that is missing or cannot be evaluated becomes ``Any``."""
    try:
        parameters = inspect.signature(target, eval_str=True).parameters
    except Exception:
        parameters = inspect.signature(target).parameters
    found = dict(parameters)
    for name, each in parameters.items():
        if each.annotation is each.empty or isinstance(each.annotation, str):
            found[name] = each.replace(annotation=Any)
    return found


def locate(key: str, target: Any, packages: Sequence[str] | None) -> Callable[..., Any]:
    """Find what a ``_target_`` names.

    Args:
        key: Where the node stands, for the error.
        target: ``package.module.name``.
        packages: Packages that it may lie in, and be defined in; None: any.

    Raises:
        UserError: If there is nothing of that name there, or it cannot be called.
    """
    inside = ("",) if packages is None else tuple(f"{package}." for package in packages)
    if not str(target).startswith(inside):
        allowed = f"something in {', '.join(packages or ())}"
        raise UserError(f"'{key}._target_' is '{target}', but must name {allowed}; correct it, or allow its package.")
    module_name, _, name = str(target).rpartition(".")
    found, reason, remedy = None, "there is no such class", "name PACKAGE.CLASS"
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except (ImportError, ValueError) as error:  # a ValueError where there is no module name at all
        if is_short_of_memory(error):
            raise
        reason = str(error)
        if isinstance(error, ImportError) and not f"{module_name}.".startswith(f"{error.name}."):
            remedy = f"it is imported by {module_name}: install it, or correct that module"
    where = f"{getattr(found, '__module__', None) or ''}."
    if not callable(found) or not where.startswith(inside):
        raise UserError(f"'{key}._target_' is '{target}', which cannot be used ({reason}); {remedy}.")
    return found


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
        # What takes an object or the node that describes it.
        if any(typing.get_origin(each) is Mapping for each in typing.get_args(wanted)):
            raise _no_class(key) from error
        first = error.errors()[0]
        # Besides keys and numbers, a place names the branch of a union, which is no part of the key.
        known = ".".join(dotted(value)).split(".")
        place = [str(part) for part in first["loc"] if str(part) in known]
        kind = inspect.formatannotation(wanted).replace("collections.abc.", "").replace("typing.", "")
        number = takes_text(wanted) and isinstance(value, int | float)  # in a file, where YAML reads 2024, 010 and no
        remedy = "put it in quotes" if number else "correct it"
        raise UserError(
            f"'{'.'.join([key, *place])}' is {first['input']!r}, but must be of type {kind} ({first['msg']}); "
            f"{remedy} where it is set."
        ) from error
