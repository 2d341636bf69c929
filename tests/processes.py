"""Commands in processes of their own, without the seconds in which each would import its libraries again.

The processes are forked from one that has imported them (multiprocessing's `forkserver`), and know of nothing that
happened in the tests. Where the start of Python, or what a process imports, is what is tested, call `sys.executable`.
"""

import functools
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

COMMANDS = ("crossval", "evaluate", "learning_curve", "predict", "train")


@functools.cache  # not before it is needed: the tests that fork for other reasons need no libraries
def _server() -> ForkServerContext:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([*(f"flowers.commands.{name}" for name in COMMANDS), "flowers.tracking.logger"])
    return server


def call_flowers(
    cwd: Path, *words: str, before: Callable[..., Any] | None = None, of_before: tuple[Any, ...] = (), **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run ``flowers WORDS`` in a folder.

    Args:
        cwd: The folder.
        words: The command and its keys.
        before: A function of a module, called in the process before the command.
        of_before: Its arguments.
        **variables: Added to the environment.

    Returns:
        As :func:`subprocess.run` does: the exit code is negative where a signal ended it.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _server().Process(target=_call, args=(cwd, words, said, before, of_before, os.environ | variables))
        process.start()
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, *(file.read_text() for file in said))


def _call(
    cwd: Path,
    words: tuple[str, ...],
    said: list[Path],
    before: Callable[..., Any] | None,
    of_before: tuple[Any, ...],
    environment: Mapping[str, str],
) -> None:
    from flowers.__main__ import main

    for stream, file in zip((sys.stdout, sys.stderr), said, strict=True):
        stream.flush()
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = ["flowers", *words]
    if before is not None:
        before(*of_before)
    main()


def kill_at(owner: type, method: str, call: int) -> None:
    """Have this process end, as in a power cut, at the given call of a method, counted from 1."""
    original, calls = getattr(owner, method), itertools.count(1)

    def counting(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, method, counting)
