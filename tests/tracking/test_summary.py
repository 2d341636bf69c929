"""A run's name says what a person changed, and its note how to reproduce it."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from flowers.tracking.summary import LONGEST_NAME, run_name, run_note, short_params


@pytest.fixture
def config() -> dict[str, Any]:
    return {
        "name": "cnn_scratch",
        "seed": 7,
        "out_dir": "out",
        "weights": None,
        "data": {
            "_target_": "flowers.data.datamodule.PhotoDataModule",
            "name": "sample",
            "split": {"seed": 0},
            "batch_size": 32,
            "sampling": "none",
        },
        "model": {
            "_target_": "flowers.training.classifier.Classifier",
            "net": {"_target_": "flowers.models.nets.CNN", "widths": [32, 64, 128], "dropout": 0.3},
            "loss": {"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": 0.1},
            "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "weight_decay": 0.05},
            "augment": {"_target_": "flowers.data.augment.Augment", "flip": True, "mixup_alpha": 0},
            "stages": [
                {"name": "head", "epochs": 2, "train": "head", "max_lr": 0.01},
                {"name": "all", "epochs": 18, "train": "all", "max_lr": [0.001, 0.003]},
            ],
            "ema_decay": 0.9,
            "class_weights": "none",
        },
        "trainer": {"_target_": "lightning.Trainer", "max_epochs": 20},
    }


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes it look as if Hydra ran a job with some overrides."""

    def command(*overrides: str, given: tuple[str, ...] = (), mode: RunMode = RunMode.RUN) -> None:
        config = OmegaConf.create({"overrides": {"task": list(overrides)}, "mode": mode})
        monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
        monkeypatch.setattr(HydraConfig, "get", lambda: config)
        monkeypatch.setattr(sys, "argv", ["train.py", *(given or overrides)])

    return command


def test_training_outside_a_command_has_its_recipes_name(config: dict[str, Any]) -> None:
    assert run_name(config) == "cnn_scratch"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["experiment=cnn_scratch", "seed=1", "model.width=8"], "cnn_scratch seed=1 model.width=8"),
        (["experiment=cnn_scratch", "data=folder", "data.root=/p", "out_dir=o", "data.cache_dir=c"], "cnn_scratch"),
        (["trainer.enable_progress_bar=false", "tracking.uri=sqlite:///o.db", "hydra.run.dir=x"], "cnn_scratch"),
        (["experiment=cnn_scratch", 'weights="/R&D #1/net.pth"'], "cnn_scratch weights=net.pth"),
        (["model=cnn_scratch", "model=mlp", "data.split.seed=3"], "cnn_scratch model=mlp data.split.seed=3"),
        (
            ["logger.csv=null", "callbacks.x=null", "weights=/a/long/way/net.safetensors", "+model.x=1", "~augment"],
            "cnn_scratch weights=net.safetensors ",
        ),
    ],
)
def test_name_tells_what_was_changed(config: dict[str, Any], command: Any, overrides: list[str], name: str) -> None:
    command(*overrides)
    found = run_name(config)
    assert found is not None
    assert found.startswith(name)
    if not name.endswith(" "):
        assert found == name


def test_child_of_a_sweep_is_called_by_what_differs(config: dict[str, Any], command: Any) -> None:
    given = ("-m", "experiment=cnn_scratch", "model.optimizer.weight_decay=0.1", "seed=1,2")
    command("experiment=cnn_scratch", "model.optimizer.weight_decay=0.1", "seed=2", given=given, mode=RunMode.MULTIRUN)
    assert run_name(config) == "cnn_scratch seed=2"


def test_name_is_never_too_long(config: dict[str, Any], command: Any) -> None:
    command(*(f"model.key_{i}={i}" for i in range(40)))
    name = run_name(config)
    assert name is not None
    assert len(name) == LONGEST_NAME
    assert name.endswith("…")


def test_name_tells_the_experiment_of_dvc(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "lobar-bode")
    assert run_name(config) == "cnn_scratch (lobar-bode)"


def test_note_says_what_it_is_and_how_to_reproduce_it(config: dict[str, Any]) -> None:
    note = run_note(config, "abc-dirty", 700)
    assert note.startswith("**cnn_scratch**: the network CNN, trained for 20 epochs on 700 photographs of `sample`")
    assert 'train \\\n  --config-path "$PWD"/out \\\n  --config-name config out_dir=again\n' in note
    assert "flowers evaluate model=out\nflowers predict model=out photos=PHOTOS" in note
    assert "commit `abc` **with changes that were not committed**" in note
    assert "commit `abc`." in run_note(config, "abc", 700)
    assert "outside a git repository" in run_note(config, None, 700)


def test_note_names_paths_that_a_shell_takes(config: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    note = run_note(config | {"out_dir": str(folder)}, "abc", 700)
    (line,) = (line for line in note.splitlines() if "flowers evaluate" in line)
    assert shlex.split(line)[-1] == f"model={folder}"
    inside = run_note(config | {"out_dir": str(Path.cwd() / "runs/x")}, "abc", 700)
    assert '--config-path "$PWD"/runs/x ' in inside


def test_parameters_are_short_and_flat(config: dict[str, Any]) -> None:
    params = short_params(config)
    assert params["net"] == "CNN"
    assert params["seed"] == 7
    assert params["split_seed"] == 0
    assert params["widths"] == [32, 64, 128]
    assert params["stages"] == "head 2, all 18"
    assert params["max_lr"] == "0.01, [0.001, 0.003]"
    assert (params["optimizer"], params["weight_decay"]) == ("AdamW", 0.05)
    assert (params["loss"], params["label_smoothing"], params["batch_size"]) == ("CrossEntropyLoss", 0.1, 32)
    assert not {"mixup_alpha", "class_weights", "sampling", "weights"} & params.keys()  # switched off
    assert not any("." in name or "/" in name or name.startswith("_") for name in params)
    assert len(str(params)) < 1000  # MLflow's pages repeat them all


@pytest.mark.parametrize("kept", [(), ("model",), ("name", "out_dir"), ("data", "seed")])
def test_a_configuration_from_elsewhere_is_read_as_far_as_it_goes(
    config: dict[str, Any], kept: tuple[str, ...]
) -> None:
    config = {name: config[name] for name in kept}
    assert run_name(config) == config.get("name")
    assert short_params(config).get("seed") == config.get("seed")
    assert ("out_dir=again" in run_note(config, None, None)) == ("out_dir" in kept)
    assert short_params({"model": {"_target_": "x.Y", "stages": None}, "data": None}) == {}
