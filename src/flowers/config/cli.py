"""The command line: how a command is called, how it fails, and which keys it has of its own.

Behind it, functions take settings and plain values, and nobody knows of a command line.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf

from flowers.config.compose import (
    CONF_DIR,
    complete_words,
    explain_hydra_errors,
    groups,
    read_settings,
    search_project_first,
)
from flowers.config.schema import TOP_LEVEL, Settings
from flowers.errors import UserError, suggestion

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


T = TypeVar("T", bound="DataclassInstance")


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print an error that the user can correct as one sentence on stderr with exit code 2; Ctrl-C ends with 130."""
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        print(f"flowers: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f"flowers: {str(interrupt) or 'interrupted; give the same command again.'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"flowers: {error.filename} cannot be used ({error.strerror}); correct that, or name another place.",
            file=sys.stderr,
        )
        sys.exit(2)


def run_command(task: Callable[[Settings], Any]) -> None:
    """Run a task with the configuration that the command line composes from ``conf/``.

    Hydra's own options (``--help``, ``--cfg job``, ``-m`` …) work as everywhere. What the task returns is Hydra's
    return value, which sweepers optimise. In a sweep, a task that fails does not keep the others from running.

    Args:
        task: Called with the settings.
    """
    import hydra

    # Hydra then raises what it would print, and we can say it in one sentence.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    failures: list[Exception] = []

    def entry(config: DictConfig) -> Any:
        # Hydra would print lines of its own about an error that passes through it, and end a sweep at the first.
        try:
            return task(read_settings(config))
        except Exception as error:
            number = _job_number()
            if number is not None and isinstance(error, UserError):
                print(f"flowers: job {number} of the sweep: {error}", file=sys.stderr, flush=True)
                error = UserError("not every job of the sweep succeeded; the sentences above say why.")
            failures.append(error)
            return None
        finally:
            _remove_unused_folder()

    with exit_on_user_error():
        with explain_hydra_errors():
            search_project_first()
            sys.argv[1:] = complete_words(sys.argv[1:])
            try:
                hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(entry)()
            except ValueError as error:  # Hydra's, since the task's errors do not pass through it
                raise UserError(f"the command cannot be understood ({error}); see --help.") from error
        if failures:
            raise next((error for error in failures if not isinstance(error, UserError)), failures[0])


def _job_number() -> int | None:
    """Number the running job of a sweep; None outside a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    config = HydraConfig.get()
    return int(config.job.num) if config.mode == RunMode.MULTIRUN else None


def _remove_unused_folder() -> None:
    """Remove the folder that Hydra made for a job, if the job wrote elsewhere and nothing is in it."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    for unused in (folder, folder.parent):
        try:
            unused.rmdir()
        except OSError:  # not empty
            return


def read_arguments(schema: type[T]) -> T:
    """Read a command line of ``key=value`` pairs, for commands that compose no recipe.

    Args:
        schema: A dataclass whose fields are the keys; one without a default must be given.

    Returns:
        An instance of the schema.

    Raises:
        UserError: If a key is unknown, missing or of the wrong type.
    """
    words = sys.argv[1:]
    for word in words:
        if "=" not in word:
            raise UserError(f"'{word}' is not of the form key=value; see --help for the keys.")
    return fill(schema, words)


def fill(schema: type[T], words: list[str]) -> T:
    """Make an instance of a schema of words ``key=value``.

    Args:
        schema: A dataclass whose fields are the keys; one without a default must be given.
        words: Each with a `=`.

    Raises:
        UserError: If a key is unknown, missing or of the wrong type.
    """
    try:
        given = OmegaConf.from_cli(words)
    except yaml.YAMLError as error:
        raise UserError(f"'{' '.join(words)}' cannot be read; lists are written like [a,b], without spaces.") from error
    with explain_hydra_errors():
        arguments = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), given))
    assert isinstance(arguments, schema)
    return arguments


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
    known = TOP_LEVEL.keys() | names | groups()
    for word in others:
        key, sign, _ = word.partition("=")
        # Hydra says what is wrong with the others, but knows nothing of this command's own keys.
        if sign and key.isidentifier() and key not in known:
            raise UserError(f"the configuration has no key '{key}': {suggestion(key, known)}")
    return fill(schema, own), others


def take_command_line(schema: type[T]) -> T:
    """Read a command's own keys, and leave the rest of the command line to :func:`flowers.config.cli.run_command`.

    Args:
        schema: As in :func:`take_keys`.

    Raises:
        UserError: As :func:`take_keys` does.
    """
    arguments, sys.argv[1:] = take_keys(schema, sys.argv[1:])
    return arguments
