"""Words of a command line: where a key takes a text or a path, what is typed is what is meant.

Hydra's grammar goes by the looks of a value: ``2024`` is a number whatever the key, and ``R&D`` or ``Blüten`` cannot be
read. Here such a value is put into the grammar's own quotes where its key takes a text. What people know of the grammar
stays: quoted texts, ``null`` where it is allowed, ``${references}``, escapes, sweeps and functions.
"""

import functools
import os
import re
import shlex
import types
import typing
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from flowers.errors import UserError

_ITEM = re.compile(r"""(\s*(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')\s*|(?:\\,|[^,])*),""", re.DOTALL)
_FUNCTION = re.compile(r"\w+\(.*\)", re.DOTALL)
_UNREADABLE = object()


def takes_text(wanted: Any) -> bool:
    """Tell whether the values of a type are texts or paths, or null, and nothing else."""
    kinds = [typing.get_origin(each) or each for each in _kinds(wanted)]
    return bool(kinds) and all(isinstance(kind, type) and issubclass(kind, str | os.PathLike) for kind in kinds)


def takes_texts(wanted: Any) -> bool:
    """Tell whether the values of a type are lists of texts or paths, or null, and nothing else."""
    kinds = _kinds(wanted)
    lists = [each for each in kinds if typing.get_origin(each) in (list, Sequence)]
    return bool(kinds) and lists == kinds and all(takes_text(*typing.get_args(each)) for each in lists)


def _kinds(wanted: Any) -> list[Any]:
    """List what a type is a union of, without null."""
    union = typing.get_origin(wanted) in (typing.Union, types.UnionType)
    return [each for each in (typing.get_args(wanted) if union else (wanted,)) if each is not types.NoneType]


def check_pairs(words: Sequence[str]) -> dict[str, str]:
    """Hold words against the form ``key=value``, or ``~key``.

    Returns:
        The words by their keys; of a key that is given twice the last one, as Hydra has it.

    Raises:
        UserError: If one has another form.
    """
    given: dict[str, str] = {}
    for before, word in zip(["", *words], words, strict=False):
        key, sign, _ = word.partition("=")
        if word.startswith("-") or not (sign or word.startswith("~")):
            quoting = f", or quote what belongs together, as in {shlex.quote(f'{before} {word}')}"
            more = quoting if "=" in before else ""
            raise UserError(f"'{word}' is not of the form key=value; see --help for the keys{more}.")
        given[key.lstrip("+")] = word
    return given


def as_hydra_reads(word: str, wanted: Any, sweep: bool) -> str:
    """Write a word so that Hydra reads what was typed.

    Args:
        word: ``key=value``.
        wanted: Type of the key's values; of other than texts and lists of texts, the word stays as it is.
        sweep: Whether a comma separates the values of a sweep.

    Raises:
        UserError: If there is no value.
    """
    key, _, value = word.partition("=")
    if takes_texts(wanted) and value[:1] + value[-1:] == "[]":
        items = _split(value[1:-1])
        return f"{key}=[{','.join(_quoted(item, None) for item in items)}]"
    if not takes_text(wanted):
        return word
    if not value:
        raise _no_value(word)
    several = _split(value) if sweep and not _is_function(value) else []
    return f"{key}={','.join(_quoted(each, wanted) for each in (several if len(several) > 1 else [value]))}"


def read_word(word: str, wanted: Any) -> Any:
    """Read the value of a command's own key.

    Args:
        word: ``key=value``.
        wanted: Type of the key's values.

    Raises:
        OverrideParseException: If the value of a number, say, cannot be read.
        UserError: If there is no value, or several.
    """
    _, _, value = word.partition("=")
    nullable = types.NoneType in typing.get_args(wanted)
    if takes_texts(wanted) and not (nullable and value == "null"):
        items = _split(value[1:-1]) if value[:1] + value[-1:] == "[]" else [value]
        if "" in items:
            raise _no_value(word)
        return [_text(item, None) for item in items]
    if not value:
        raise _no_value(word)
    if takes_text(wanted):
        return _text(value, wanted)
    override = _parser().parse_overrides([word])[0]
    if override.is_sweep_override():
        raise UserError(f"'{word}' gives several values; give one, or a list like [1,2] where the key takes a list.")
    return override.value()


def quoted(text: str) -> str:
    """Write a text in the quotes of Hydra's grammar."""
    return str(QuotedString(text, Quote.double).with_quotes())


def typable(word: str) -> str:
    """Write ``key=value`` as it has to be typed in a shell, with the value in the quotes of Hydra's grammar."""
    key, _, value = word.partition("=")
    return shlex.quote(f"{key}={quoted(value)}")


def at_home(text: str) -> str:
    """Write a path that begins with ``~`` in full, as a shell does where it takes the word for a path."""
    return os.path.expanduser(text) if text == "~" or (text.startswith("~") and "/" in text) else text  # noqa: PTH111


def literal(node: Any, home: bool = False) -> Any:
    """Keep a text that looks like a reference, such as a folder called ``${x}``, from being taken for one.

    Args:
        node: Dictionaries, lists and values.
        home: Also write paths that begin with ``~`` in full.
    """
    if isinstance(node, dict):
        return {name: literal(value, home) for name, value in node.items()}
    if isinstance(node, list):
        return [literal(value, home) for value in node]
    if not isinstance(node, str):
        return node
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", at_home(node) if home else node)


def _no_value(word: str) -> UserError:
    return UserError(f"'{word}' gives no value; write one, or leave the key out.")


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _read(value: str) -> Any:
    """Read a value as Hydra does; what it cannot read is :data:`_UNREADABLE`."""
    try:
        return _parser().parse_rule(value, "value")
    except HydraException:
        return _UNREADABLE


def _is_function(value: str) -> bool:
    return _FUNCTION.fullmatch(value) is not None and _read(value) is not _UNREADABLE


def _split(values: str) -> list[str]:
    """Split at commas outside of quotes."""
    return [each.strip() for each in _ITEM.findall(f"{values},")] if values.strip() else []


def _text(value: str, wanted: Any) -> str | None:
    """Read a text as it was typed, but for quotes around the whole of it, null and the home folder."""
    read = _read(value)
    if read is None and types.NoneType in typing.get_args(wanted):
        return None
    if not os.path.lexists(value):
        value = value.replace("\\${", "${")  # written as for Hydra
    return at_home(read.text if isinstance(read, QuotedString) else value)


def _quoted(value: str, wanted: Any) -> str:
    """Quote a text for Hydra, unless it reads it as it is meant."""
    read = _read(value)
    null = read is None and types.NoneType in typing.get_args(wanted)
    if isinstance(read, QuotedString) or null or _is_function(value):
        return value
    # Escapes and references are Hydra's, unless there is a file of that very name.
    there = ("\\" in value or "${" in value) and os.path.lexists(value)
    if isinstance(read, str) and (read == value or "\\" in value) and not there:
        return value
    reference = not there and re.search(r"\$\{[^}]+\}", value)
    return quoted(value if reference else literal(value))
