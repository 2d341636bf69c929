"""The commands: ``flowers`` lists them, ``flowers COMMAND …`` runs one; ``python -m flowers`` does the same."""

import ast
import ctypes
import importlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

from flowers.errors import suggestion

COMMANDS = Path(__file__).parent / "commands"


def command_files() -> list[Path]:
    """List the commands' files."""
    return sorted(file for file in COMMANDS.glob("*.py") if file.stem != "__init__")


def read_command(file: Path) -> tuple[str, dict[str, ast.expr | None], bool]:
    """Read what a command does, its own keys and whether it composes a configuration, without importing it.

    Returns:
        Its docstring; its keys with their defaults, None for one that must be given; whether it composes.
    """
    source = file.read_text(encoding="utf-8")
    tree = ast.parse(source)
    bodies = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Arguments")
    fields = [each for body in bodies for each in body if isinstance(each, ast.AnnAssign)]
    own = {ast.unparse(each.target): each.value for each in fields}
    return (ast.get_docstring(tree) or "").strip(), own, "run_command(" in source


def check_words(file: Path, words: list[str]) -> None:
    """Say what is wrong with a command line before the command imports its libraries, which takes seconds.

    Only for commands that compose a configuration; what Hydra's options (`-m`, `--cfg`) change is left to it.
    """
    from flowers.config.cli import check_names
    from flowers.config.compose import compose_config

    _, own, composes = read_command(file)
    if composes and not any(word.startswith("-") for word in words):
        others = [word for word in words if word.partition("=")[0] not in own]
        check_names(others, own)
        compose_config(others)


def show_help(file: Path, words: list[str]) -> None:
    """Say what a command does, its own keys, and the configuration's, without importing what it needs to run.

    Args:
        file: The command's.
        words: Its command line; other words than `--help` choose whose keys are shown.
    """
    text, own, composes = read_command(file)
    print(text)
    if own:
        print("\nKeys of this command:")
    for key, value in own.items():
        print(f"  {key}={'(needed)' if value is None else _default(value)}")
    if composes:
        from flowers.config.cli import run_command

        print(flush=True)
        sys.argv = [sys.argv[0], *(word for word in words if word.partition("=")[0] not in own)]
        run_command(print)  # Hydra lists the configuration's keys and ends


def _default(value: ast.expr) -> str:
    """Write a field's default as it would be given: text without quotes, and what a call or a factory makes."""
    if isinstance(value, ast.Call):  # Path("OUT"), field(default_factory=lambda: [1, 2]), field(default_factory=list)
        made = value.args[0] if value.args else value.keywords[0].value
        value = made.body if isinstance(made, ast.Lambda) else made
    shown = ast.unparse(value).strip("'")
    return "[]" if shown == "list" else shown


def list_commands() -> None:
    """Say of each command in a line what it does, without importing it."""
    files = command_files()
    width = max(len(file.stem) for file in files)
    print("flowers: photographs in; a trained, explained and honestly measured classifier out.\n")
    print("Usage: flowers COMMAND [key=value …]      flowers COMMAND --help says more\n")
    for file in files:
        summary = read_command(file)[0].partition("\n")[0].partition(":")[0].rstrip(".")
        print(f"  {file.stem:{width}}  {summary}")


def run_source_here() -> None:
    """Where the working folder holds the project's source, run that, by the same command once more.

    Else `flowers` in another clone, or in a stage of `dvc exp run --temp` or `--queue`, which DVC runs in a copy of
    the project, would run the code that is installed. PYTHONPATH reaches the processes that a command starts, too.
    """
    source, paths = Path("src").resolve(), list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    here = source / "flowers"
    if (here / "commands").is_dir() and here != COMMANDS.resolve().parent and str(source) not in paths[:1]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(source), *paths])}
        command = [sys.executable, *sys.orig_argv[1:]]
        if sys.platform == "win32":  # where the process that began would end before its successor
            sys.exit(subprocess.call(command, env=environment))
        os.execve(command[0], command, environment)


def end_with_dvc() -> None:
    """Have a stage end when DVC is killed, which tells its commands nothing; the same command then goes on from there.

    Linux alone offers this.
    """
    if "DVC_STAGE" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def main() -> None:
    """List the commands, or run the one that the first word names."""
    run_source_here()
    end_with_dvc()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every console, nor a pipe on Windows, shows every letter
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPU lacks, its processor does
    name, *words = sys.argv[1:] or ["--help"]
    files = {file.stem: file for file in command_files()}
    file = files.get(name.replace("-", "_"))
    if name in ("--help", "-h", "help"):
        list_commands()
    elif file is None:
        print(f"flowers: there is no command '{name}': {suggestion(name, files)}", file=sys.stderr)
        sys.exit(2)
    elif {"--help", "-h"} & set(words):
        show_help(file, words)
    else:
        from flowers.config.cli import exit_on_user_error

        with exit_on_user_error():  # commands say more of their own errors; here memory may be too short to import one
            check_words(file, words)
            following: list[str] | None = [file.stem, *words]
            while following:  # a command may name the one that follows it
                sys.argv = [f"flowers {following[0]}", *following[1:]]
                following = importlib.import_module(f"flowers.commands.{following[0]}").main()


if __name__ == "__main__":
    main()
