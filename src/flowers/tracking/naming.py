"""What a person reads of a training on MLflow's pages: its name in the table, and the note on its own page."""

import os
import shlex
import sys
from pathlib import Path

from flowers.config.schema import Settings

LONGEST_NAME = 100
_PLUMBING = (
    # Told by the experiment and the recipe that the run stands under …
    "experiment",
    "name",
    "data",
    "data.name",
    "data.root",
    "data.source",
    # … or without influence on the result.
    "data.strict",
    "data.split_csv",
    "data.cache_dir",
    "out_dir",
    "tracking",
    "trainer.progress",
    "trainer.features_gib",
    "weights_sha256",
)
_WHOLE_GROUPS = ("tracking.", "hydra.")


def run_name(settings: Settings) -> str:
    """Name the run of a training by its recipe and what the command line changes in it.

    A training that DVC starts changes nothing and is called by its recipe, and by the name that ``dvc exp show`` lists
    it under. One of a sweep is called by what the sweep varies.

    Args:
        settings: Of the training.
    """
    words = [settings.name, *_changes(settings.name)]
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        words.append(f"({experiment})")
    name = " ".join(words)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _changes(recipe: str) -> list[str]:
    """List the command line's overrides that tell a run from others of its recipe; none outside a Hydra command."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return []
    config = HydraConfig.get()
    words = [word for word in config.overrides.task if word != f"model={recipe}" and _tells(word)]
    if config.mode == RunMode.MULTIRUN:  # what was given as it is, is the same in the whole sweep
        words = [word for word in words if word not in sys.argv]
    return [_shorten(word) for word in words]


def _tells(word: str) -> bool:
    key = word.partition("=")[0].lstrip("+~")
    return key not in _PLUMBING and not key.startswith(_WHOLE_GROUPS)


def _shorten(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key.lstrip('+')}={value.rstrip('/').rpartition('/')[2]}" if value else word


def _place(folder: Path) -> str:
    """Write a folder for a shell: if it lies in the working folder, so that it also fits once that has moved."""
    whole = folder.absolute()
    return shlex.quote(str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole))


def remake_command(folder: Path) -> str:
    """Write the command that trains again what lies in a folder, with equal weights, in the project's folder."""
    out = _place(folder)
    # Not --config-dir, which Hydra searches after the project's own configuration.
    root = "" if out.startswith(("/", "'/")) else '"$PWD"/'
    # In short lines, as MLflow's page does not break them.
    return "\n".join(
        [
            "flowers train \\",
            f"  --config-path {root}{out} \\",
            "  --config-name config out_dir=again",
        ]
    )


def run_note(settings: Settings, commit: str | None, photographs: int) -> str:
    """Write what a training's page says about it.

    Args:
        settings: Of the training.
        commit: Of the project, with ``-dirty`` if its files differ; None if unknown.
        photographs: How many it learns from.

    Returns:
        Markdown.
    """
    folder = Path(settings.out_dir)
    out = _place(folder)
    net = str(settings.model["_target_"]).rpartition(".")[2]
    epochs = sum(stage.epochs for stage in settings.stages)
    if commit is None:
        source = "outside a git repository, so the code is known by the version in `run.json` alone"
    elif commit.endswith("-dirty"):
        source = f"commit `{commit.removesuffix('-dirty')}` **with changes that were not committed**"
    else:
        source = f"commit `{commit}`"
    lines = [
        f"**{settings.name}**: the network {net}, trained for {epochs} epochs on {photographs} photographs of "
        f"`{settings.data.name}`, seed {settings.seed}.",
        "",
        "Make it again, with equal weights, in the project's folder:",
        "```",
        remake_command(folder),
        "```",
        f"Code: {source}.",
        "",
        f"The trained model lies in `{out}`, and here under *Artifacts*. Measure it on the test photographs (what is "
        "found then stands under *Artifacts*, *test*), and use it:",
        "```",
        f"flowers evaluate model={out}",
        f"flowers predict model={out} photos=PHOTOS",
        "```",
    ]
    return "\n".join(lines)
