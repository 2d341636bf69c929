"""Keys that a command has beside those of the configuration: ``python -m flowers.crossval experiment=… folds=5``."""

import sys
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from flowers.commands import fill
from flowers.errors import UserError, suggestion
from flowers.recipe import CONF_DIR
from flowers.settings import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def asks_help(words: list[str]) -> bool:
    """Say whether a command line asks what the command does."""
    return bool({"--help", "-h"} & set(words))


def describe_keys(schema: type["DataclassInstance"], description: str) -> str:
    """Word what ``--help`` says of a command and its own keys."""
    lines = [description.strip(), "", "Keys of this command:"]
    for field in fields(schema):
        made = "(needed)" if field.default_factory is NO_DEFAULT else field.default_factory()
        lines.append(f"  {field.name}={made if field.default is NO_DEFAULT else field.default}")
    return "\n".join(lines)


def take_keys(schema: type[T], words: list[str]) -> tuple[T, list[str]]:
    """Take a command's own keys out of its command line; the other words are Hydra's.

    Args:
        schema: A dataclass whose fields are the keys; one without a default must be given.
        words: Without the program's name.

    Returns:
        An instance of the schema, and the other words in their order.

    Raises:
        UserError: If an own key is missing or of the wrong type, or a word sets a key that nobody has.
    """
    names = {field.name for field in fields(schema)}
    own = [word for word in words if word.partition("=")[0] in names and "=" in word]
    others = [word for word in words if word not in own]
    known = {field.name for field in fields(Settings)} | names
    known |= {folder.name for folder in CONF_DIR.iterdir() if folder.is_dir() and folder.name != "hydra"}
    for word in others:
        key, sign, _ = word.partition("=")
        # Hydra says what is wrong with the others, but knows nothing of this command's own keys.
        if sign and key.isidentifier() and key not in known:
            raise UserError(f"the configuration has no key '{key}': {suggestion(key, known)}")
    return fill(schema, own), others


def take_command_line(schema: type[T], description: str) -> T:
    """Read a command's own keys, and leave the rest of the command line to :func:`flowers.commands.run_command`.

    Args:
        schema: As in :func:`take_keys`.
        description: What ``--help`` says, before Hydra says the rest.

    Raises:
        UserError: As :func:`take_keys` does.
    """
    if asks_help(sys.argv[1:]):
        print(describe_keys(schema, description) + "\n", flush=True)
    arguments, sys.argv[1:] = take_keys(schema, sys.argv[1:])
    return arguments
