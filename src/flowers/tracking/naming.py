"""What a person reads of a training on MLflow's pages: its name, its parameters, and the note on its own page.

All is made from the resolved configuration as plain dictionaries, of which any key may be missing.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowers.config.provenance import remake_command, shell_path

RECIPE, KIND, COMMIT, SPLIT, STAGES = "recipe", "kind", "git_commit", "split", "stages"
"""Tags of a run: its recipe; what it is, where it is no training; the code; the split's digest; the stage table."""
NOTE, PARENT = "mlflow.note.content", "mlflow.parentRunId"
"""MLflow's own: what its page says about a run, in Markdown, and the run that it is a child of."""

LONGEST_NAME = 100
_UNTOLD = (
    # Told by the experiment and the recipe that the run is listed under …
    *("experiment", "name", "data", "data.name", "data.root", "data.source"),
    # … or without influence on the result.
    *("data.strict", "data.split_csv", "data.cache_dir", "out_dir", "weights_sha256"),
    *("trainer.enable_progress_bar", "trainer.default_root_dir", "progress", "model.features_gib"),
)
_UNTOLD_GROUPS = ("tracking", "hydra", "callbacks", "logger")


def run_name(config: Mapping[str, Any]) -> str | None:
    """Name the run of a training by its recipe and what the command line changes in it; None if there is neither.

    A training that DVC starts is called by its recipe and the name that ``dvc exp show`` lists it under, one of a sweep
    by what the sweep varies.
    """
    experiment = os.environ.get("DVC_EXP_NAME")
    recipe = str(config.get("name") or "")
    words = [recipe, *_changes(recipe), f"({experiment})" if experiment else ""]
    name = " ".join(word for word in words if word)
    return (name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…") or None


def _changes(recipe: str) -> list[str]:
    """List the command line's overrides that tell a run from others of its recipe; none outside a Hydra command."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return []
    config = HydraConfig.get()
    changes = []
    for word in config.overrides.task:
        key, _, value = word.partition("=")
        name = key.lstrip("+~")
        # What was given as it is, is the same in the whole sweep.
        same = config.mode == RunMode.MULTIRUN and word in sys.argv
        if (
            not same
            and name not in _UNTOLD
            and name.partition(".")[0] not in _UNTOLD_GROUPS
            and word != f"model={recipe}"
        ):
            changes.append(f"{key.lstrip('+')}={value.rstrip('/').rpartition('/')[2]}" if value else word)
    return changes


def flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries: the keys of a path are joined by slashes."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def short_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """Choose what runs are told apart by: the recipe's numbers by the last part of their key, if not switched off.

    MLflow's pages repeat all of it beside each picture. The whole configuration is in ``config.yaml``.
    """
    data, model = config.get("data") or {}, config.get("model") or {}
    stages = model.get("stages") or []
    params = {"seed": config.get("seed"), "weights": config.get("weights")}
    params |= {"batch_size": data.get("batch_size"), "sampling": data.get("sampling")}
    for path, value in flat(model).items():
        *nodes, key = path.split("/")
        if key == "_target_" and nodes in (["net"], ["loss"], ["optimizer"]):
            params[nodes[0]] = str(value).rpartition(".")[2]
        elif not key.startswith("_") and key != "stages":
            params[key] = value
    params["stages"] = ", ".join(f"{stage.get('name')} {stage.get('epochs')}" for stage in stages)
    params["max_lr"] = ", ".join(str(stage.get("max_lr")) for stage in stages)
    params["split_seed"] = (data.get("split") or {}).get("seed")
    off: tuple[object, ...] = ("none", None, False, "", 0, [])
    return {key: value for key, value in params.items() if value not in off or (key.endswith("seed") and value == 0)}


def run_note(config: Mapping[str, Any], commit: str | None, photographs: int | None) -> str:
    """Write what a training's page says about it, in Markdown.

    Args:
        config: The resolved configuration.
        commit: Of the project, with ``-dirty`` if its files differ; None if unknown.
        photographs: How many it learns from; None if unknown.
    """
    data, model = config.get("data") or {}, config.get("model") or {}
    epochs = sum(stage.get("epochs", 0) for stage in model.get("stages") or [])
    source = "outside a git repository, so the code is known by the version in `run.json` alone"
    if commit is not None:
        dirty = " **with changes that were not committed**" if commit.endswith("-dirty") else ""
        source = f"commit `{commit.removesuffix('-dirty')}`{dirty}"
    lines = [
        f"**{config.get('name')}**: the network {short_params(config).get('net')}, trained for {epochs} epochs on "
        f"{photographs} photographs of `{data.get('name')}`, seed {config.get('seed')}.",
        f"Code: {source}.",
    ]
    if config.get("out_dir"):
        folder = Path(config["out_dir"])
        out = shell_path(folder)
        lines += [
            f"Reproduce this run, with equal weights, in the project's folder:\n```\n{remake_command(folder)}\n```",
            f"The trained model is in `{out}`, and here under *Artifacts*. Measure it on the test photographs (the "
            "results are then under *Artifacts*, *test*), and use it:",
            f"```\nflowers evaluate model={out}\nflowers predict model={out} photos=PHOTOS\n```",
        ]
    return "\n\n".join(lines)
