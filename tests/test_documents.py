"""Each command that the documents name can be given as it stands: it parses, and what it names exists."""

import importlib
import importlib.util
import re
import shlex
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml
from dvc.cli import parse_args
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from tests.documents import ROOT, commands

from flowers.__main__ import COMMANDS
from flowers.config.cli import read_arguments, take_keys
from flowers.config.compose import compose_config, read_settings

# What the documents plug in from outside.
PACKAGE = """
import torch
from torch import nn
class MyNet(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
class Focal(nn.CrossEntropyLoss): pass
class Lion(torch.optim.SGD): pass
class MyAugment:
    def __call__(self, image): return image
"""


def check_flowers(name: str = "train", *words: str) -> None:
    """Compose what a command would run with, or read its keys; a bare name is a mention of the command."""
    source = COMMANDS / f"{name}.py"
    module = importlib.import_module(f"flowers.commands.{name}")
    given = get_args_parser().parse_args(list(words))
    if not words or given.help or given.config_name:
        return
    if not re.search(r"run_command\(|take_keys\(", source.read_text()):
        read_arguments(module.Arguments, given.overrides)
        return
    overrides = given.overrides
    if hasattr(module, "Arguments"):
        _, overrides = take_keys(module.Arguments, overrides)
    if given.multirun:
        parsed = OverridesParser.create().parse_overrides(overrides)
        overrides = [
            f"{each.key_or_group}={next(each.sweep_string_iterator())}" if each.is_sweep_override() else each.input_line
            for each in parsed
        ]
    keys = {override.partition("=")[0] for override in overrides}
    # What Hydra or the command itself gives.
    rest = {"experiment": "name=x", "out_dir": "out_dir=x"}
    read_settings(compose_config([*overrides, *(word for key, word in rest.items() if key not in keys)]))


def check_dvc(*words: str) -> None:
    """Parse as DVC does, change what ``-S`` changes, and find the stages and files."""
    if len(words) == 1:  # a mention
        with pytest.raises(SystemExit, match="0"):
            parse_args([*words, "--help"])
        return
    arguments = parse_args(list(words))
    for file, overrides in to_path_overrides(getattr(arguments, "set_param", None) or []).items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, file)
        apply_overrides(file, overrides)
    if words[0] == "repro":
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
        experiments = yaml.safe_load((ROOT / "params.yaml").read_text())["experiments"]
        for stage, at, experiment in (target.partition("@") for target in arguments.targets):
            assert stage in stages
            assert experiment in experiments if at else True
    elif words[-1].endswith(".dvc"):
        assert (ROOT / (arguments.cd or "") / words[-1]).is_file()


def check_make(*words: str) -> None:
    """Find the targets and variables in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, given, _ = word.partition("=")
        assert re.search(rf"\$[({{]{name}[)}}]" if given else rf"^{name}:", makefile, re.MULTILINE)


def check_mlflow(*words: str) -> None:
    """Parse as MLflow does; a bare command is a mention."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own libraries
        from mlflow.cli import cli

    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group):
        _, found, rest = command.resolve_command(click.Context(command), rest)
        assert found is not None
        command = found
    if rest:
        command.make_context("mlflow", rest)


def check_python(option: str, module: str, *words: str) -> None:
    """Find the module, and of the benchmarks those that it is told to run."""
    found = importlib.util.find_spec(module)
    assert option == "-m"
    assert found is not None
    if (ROOT / module).is_dir():
        for name in (word for word in words if re.fullmatch("[a-z_]+", word)):
            assert importlib.util.find_spec(f"{module}.{name}")


CHECKS: dict[str, Callable[..., None]] = {
    "flowers": check_flowers,
    "dvc": check_dvc,
    "make": check_make,
    "mlflow": check_mlflow,
    "python": check_python,
}


@pytest.mark.slow
@pytest.mark.parametrize("program", CHECKS)
def test_commands_in_documents_parse(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mypackage.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = {command: file for command, file in commands().items() if command.split()[0] == program}
    assert found
    wrong = []
    for command, file in found.items():
        try:
            CHECKS[program](*shlex.split(command)[1:])
        except (Exception, SystemExit) as error:
            wrong.append(f"{file}: {command}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)
