"""The command line: how a command is called, how it fails, and which keys it has of its own.

Behind it, functions take settings and plain values, and nobody knows of a command line.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_type_hints

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from flowers.config.compose import CONF_DIR, complete_words, explain_hydra_errors, groups, read_settings
from flowers.config.schema import Configuration, Settings
from flowers.config.store_address import hide_secrets
from flowers.config.untrusted import callers_own, check_repeated, named_config, read_config
from flowers.config.words import check_pairs, literal, read_word
from flowers.errors import UserError, disk_full, is_disk_full, is_short_of_memory, suggestion

T = TypeVar("T")

_LESS_MEMORY = (
    "lower data.batch_size or image_px in a training, run fewer commands or jobs (hydra.launcher.n_jobs) and threads "
    "(OMP_NUM_THREADS) at once, or raise the limit of this shell or container."
)


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print an error that the user can correct as one sentence on stderr with exit code 2; Ctrl-C ends with 130."""
    try:
        yield
        sys.stdout.flush()
        return
    except UserError as error:
        said, code = str(error), 2
    except KeyboardInterrupt as interrupt:
        said, code = str(interrupt) or "interrupted; give the same command again.", 130
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        _write_no_more()
        sys.exit(0)
    except Exception as error:
        if is_short_of_memory(error):
            said, code = f"memory is short ({' '.join(str(error).split())[:120] or 'none is left'}): {_LESS_MEMORY}", 2
        elif is_disk_full(error):
            said, code = disk_full(error, _write_no_more()), 2
        elif isinstance(error, OSError) and error.filename is not None:
            said, code = f"{error.filename} cannot be used ({error.strerror}); correct that, or name another place.", 2
        else:
            raise
    print(f"flowers: {said}", file=sys.stderr)
    sys.exit(code)


def _write_no_more() -> str | None:
    """Drop what standard output did not take, which Python would try again at its end; name it if there was any."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "standard output"
    return None


def run_command(task: Callable[[Settings], Any]) -> None:
    """Run a task with the configuration that the command line composes from ``conf/``.

    Hydra's own options (``--help``, ``--cfg job``, ``-m`` …) work as everywhere. What the task returns is Hydra's
    return value, which sweepers optimise. In a sweep, a task that fails does not keep the others from running.

    Args:
        task: Called with the settings.
    """
    # Hydra then raises what it would print, and we can say it in one sentence.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    failures: list[Exception] = []
    given: set[str] | None = None

    def entry(config: DictConfig) -> Any:
        job = HydraConfig.get()
        # Hydra would print lines of its own about an error that passes through it, and end a sweep at the first.
        try:
            settings = read_settings(config)
            if given is not None:
                check_repeated(settings, given)
                settings = callers_own(settings, given)
            return task(settings)
        except Exception as error:
            if job.mode == RunMode.MULTIRUN and isinstance(error, UserError):
                print(f"flowers: job {job.job.num} of the sweep: {error}", file=sys.stderr, flush=True)
                error = UserError("not every job of the sweep succeeded; the sentences above say why.")
            failures.append(error)
            return error
        finally:
            # Hydra made a folder for the job, which may have written elsewhere. Empty folders of the user's own stay.
            output = Path(job.runtime.output_dir).resolve()
            for folder in (output, output.parent):
                with contextlib.suppress(OSError):  # not empty
                    if Path("runs").resolve() in folder.parents:
                        folder.rmdir()

    with exit_on_user_error():
        with explain_hydra_errors():
            sys.argv[1:] = hide_secrets(complete_words(options_first(sys.argv[1:])))
            given = _check_named(sys.argv[1:])
            hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(entry)()
        if failures:
            raise next((error for error in failures if not isinstance(error, UserError)), failures[0])


def _check_named(words: Sequence[str]) -> set[str] | None:
    """Read the file that ``--config-path`` names, a trained model's configuration perhaps, before Hydra obeys it.

    Returns:
        The keys that the command line gives; None if it names no such file.

    Raises:
        UserError: If training by it would run, write or send what the caller did not ask for.
    """
    found, _ = get_args_parser().parse_known_args(words)
    file = named_config(found.config_path, found.config_name)
    if file is None or not file.is_file():  # which Hydra says
        return None
    given = {word.partition("=")[0].lstrip("+~") for word in found.overrides}
    try:
        if re.search(r"^\s*#\s*@package", file.read_text(encoding="utf-8"), re.MULTILINE):
            raise ValueError("it has a @package")
        check_repeated(read_config(file), given)
    except (ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is no configuration that a training wrote ({reason}); train again.") from error
    return given


def read_arguments(schema: type[T], words: Sequence[str] | None = None) -> T:
    """Read a command line of ``key=value`` pairs, for commands that compose no recipe.

    Args:
        schema: A dataclass whose fields are the keys; one without a default must be given.
        words: Without the program's name; None: the command line.

    Returns:
        An instance of the schema.

    Raises:
        UserError: If a key is unknown, missing or of the wrong type.
    """
    kinds = get_type_hints(schema)
    pairs = check_pairs(sys.argv[1:] if words is None else words)
    with explain_hydra_errors():
        given = {key: read_word(word, kinds[key]) if key in kinds else None for key, word in pairs.items()}
        merged = OmegaConf.merge(OmegaConf.structured(schema), literal(given))
        return cast("T", OmegaConf.to_object(merged))


def options_first(words: Sequence[str]) -> list[str]:
    """Put Hydra's options before the overrides, for Hydra understands only some of the other orders.

    Raises:
        UserError: If there is no such option, or a word is not of the form ``key=value``.
    """

    def refuse(message: str) -> NoReturn:
        raise UserError(f"the options cannot be understood ({message}); see --help and --hydra-help.")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    found, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        refuse(f"there is no '{unknown[0]}'")
    check_pairs(found.overrides)
    return [word for word in words if word not in found.overrides] + found.overrides


def take_keys(schema: type[T], words: Sequence[str]) -> tuple[T, list[str]]:
    """Take a command's own keys out of its command line; the other words are Hydra's.

    Args:
        schema: A dataclass whose fields are the keys; one without a default must be given.
        words: Without the program's name.

    Returns:
        An instance of the schema, and the other words in their order.

    Raises:
        UserError: If an own key is missing or of the wrong type, or a word sets a key that nobody has.
    """
    names = get_type_hints(schema)
    own = [word for word in words if word.partition("=")[0] in names and "=" in word]
    others = [word for word in words if word not in own]
    check_names(others, names)
    return read_arguments(schema, own), others


def check_names(words: Sequence[str], own: Iterable[str]) -> None:
    """Refuse a key that is neither a command's own nor the configuration's: Hydra, which says the rest, knows no own.

    Raises:
        UserError: With the nearest known one.
    """
    known = get_type_hints(Configuration).keys() | groups() | set(own)
    for word in words:
        key, sign, _ = word.partition("=")
        if sign and key.isidentifier() and key not in known:
            raise UserError(f"the configuration has no key '{key}': {suggestion(key, known)}")
