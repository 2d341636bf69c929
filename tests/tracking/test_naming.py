"""A run's name says what a person changed, and its note how to make it again."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from flowers.config.compose import compose_config, read_settings
from flowers.config.schema import Settings
from flowers.tracking.naming import LONGEST_NAME, run_name, run_note


@pytest.fixture(scope="module")
def settings() -> Settings:
    return read_settings(compose_config(["experiment=cnn_scratch", "out_dir=out"]))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes it look as if Hydra ran a job with some overrides."""

    def command(*overrides: str, given: tuple[str, ...] = (), mode: RunMode = RunMode.RUN) -> None:
        config = OmegaConf.create({"overrides": {"task": list(overrides)}, "mode": mode})
        monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
        monkeypatch.setattr(HydraConfig, "get", lambda: config)
        monkeypatch.setattr(sys, "argv", ["train.py", *(given or overrides)])

    return command


def test_training_outside_a_command_has_its_recipes_name(settings: Settings) -> None:
    assert run_name(settings) == "cnn_scratch"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["experiment=cnn_scratch", "seed=1", "model.net.width=8"], "cnn_scratch seed=1 model.net.width=8"),
        (["experiment=cnn_scratch", "data=folder", "data.root=/p", "out_dir=o", "data.cache_dir=c"], "cnn_scratch"),
        (["progress=none", "tracking.uri=sqlite:///o.db", "hydra.run.dir=x"], "cnn_scratch"),
        (["model=cnn_scratch", "model=mlp", "data.split.seed=3"], "cnn_scratch model=mlp data.split.seed=3"),
        (["weights=/a/long/way/net.safetensors", "+model.x=1", "~augment"], "cnn_scratch weights=net.safetensors "),
    ],
)
def test_name_tells_what_was_changed(settings: Settings, command: Any, overrides: list[str], name: str) -> None:
    command(*overrides)
    assert run_name(settings).startswith(name)
    if not name.endswith(" "):
        assert run_name(settings) == name


def test_child_of_a_sweep_is_called_by_what_differs(settings: Settings, command: Any) -> None:
    given = ("-m", "experiment=cnn_scratch", "model.optimizer.weight_decay=0.1", "seed=1,2")
    command("experiment=cnn_scratch", "model.optimizer.weight_decay=0.1", "seed=2", given=given, mode=RunMode.MULTIRUN)
    assert run_name(settings) == "cnn_scratch seed=2"


def test_name_is_never_too_long(settings: Settings, command: Any) -> None:
    command(*(f"model.key_{i}={i}" for i in range(40)))
    assert len(run_name(settings)) == LONGEST_NAME
    assert run_name(settings).endswith("…")


def test_name_tells_the_experiment_of_dvc(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "lobar-bode")
    assert run_name(settings) == "cnn_scratch (lobar-bode)"


def test_note_says_what_it_is_and_how_to_make_it_again(settings: Settings) -> None:
    note = run_note(settings, "abc-dirty", 700)
    assert note.startswith("**cnn_scratch**: the network CNN, trained for 20 epochs on 700 photographs of `sample`")
    assert 'train \\\n  --config-path "$PWD"/out \\\n  --config-name config out_dir=again\n' in note
    assert "commit `abc` **with changes that were not committed**" in note
    assert "commit `abc`." in run_note(settings, "abc", 700)
    assert "outside a git repository" in run_note(settings, None, 700)


def test_note_names_paths_that_a_shell_takes(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    note = run_note(dataclasses.replace(settings, out_dir=str(folder)), "abc", 700)
    (line,) = (line for line in note.splitlines() if "flowers evaluate" in line)
    assert shlex.split(line)[-1] == f"model={folder}"
    inside = run_note(dataclasses.replace(settings, out_dir=str(Path.cwd() / "runs/x")), "abc", 700)
    assert '--config-path "$PWD"/runs/x ' in inside
