"""Resolve the configuration of each experiment in ``params.yaml``: ``flowers compose``.

Writes ``artifacts/compose/<experiment>.yaml``, complete and without references, which ``train`` runs as it is. DVC then
repeats a training if and only if its own resolved configuration, its photographs or its code changed. Weights that an
experiment starts from are pinned in it by their digest, so that new weights repeat the trainings that use them and no
others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from flowers.atomic import whole_file
from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.config.compose import as_dict, change, compose_config, read_params, read_settings
from flowers.config.provenance import file_digest
from flowers.config.schema import HUB
from flowers.config.words import at_home, literal
from flowers.errors import UserError, suggestion

PHOTOGRAPHS = Path("artifacts/download")
SPLIT = Path("artifacts/split/split.csv")
_DATA_KEYS = (
    *("data=", "data.source", "data.decisions", "data.split", "data.root", "data.name", "data.strict", "data.layout"),
    *("data.table", "data.min_side_px"),
)


def compose(params: dict[str, Any], out: Path) -> list[Path]:
    """Write one file per experiment.

    Args:
        params: All of params.yaml. ``embeddings`` and ``outliers`` are for later stages.
        out: Folder for the files.

    Returns:
        The files.

    Raises:
        UserError: If a key is missing or unknown, or an experiment cannot be composed.
    """
    dataset, experiments, overrides = _read_params(params)
    files = []
    for name in experiments:
        placed = [
            f"out_dir=artifacts/train/{name}",
            f"data.root={PHOTOGRAPHS / dataset}",
            f"data.split_csv={SPLIT}",
            "data.source=null",
            "data.decisions=null",  # the split has them
        ]
        settings = read_settings(
            compose_config([f"experiment={name}", f"data={dataset}", *overrides, *placed]), home=False
        )
        if settings.name != name:
            raise UserError(f"conf/experiment/{name}.yaml calls itself '{settings.name}'; set its name to {name}.")
        if settings.weights is not None and settings.weights != HUB:
            weights = Path(at_home(settings.weights))
            if not weights.is_file():
                raise UserError(
                    f"experiment {name} starts from {settings.weights}, which does not exist; make it with `dvc repro "
                    "pretrain`, or change `weights` in its recipe."
                )
            digest = file_digest(weights)
            settings = change(settings, {"weights_sha256": digest, "model.weights_sha256": digest})
        plain = as_dict(settings)
        plain["hydra"] = {"run": {"dir": f"artifacts/train/{name}"}, "output_subdir": None}
        files.append(out / f"{name}.yaml")
        with whole_file(files[-1]) as partial:
            OmegaConf.save(OmegaConf.create(literal(plain)), partial)
    return files


def _read_params(params: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    known = ("dataset", "experiments", "overrides", "embeddings", "outliers")
    for key in params:
        if key not in known:
            raise UserError(f"params.yaml has no key '{key}': {suggestion(str(key), known)}")
    for key in known:
        if key not in params:
            raise UserError(f"params.yaml lacks '{key}'; add it.")
    experiments, overrides = params["experiments"] or [], params["overrides"] or []
    for key, given in (("experiments", experiments), ("overrides", overrides)):
        if not isinstance(given, list):
            raise UserError(f"params.yaml: {key} must be a list, like [{given}]; correct it.")
    if not experiments:
        raise UserError("params.yaml names no experiments; list at least one recipe of conf/experiment.")
    if params["embeddings"] not in experiments:
        raise UserError(
            f"params.yaml: embeddings is '{params['embeddings']}', which is none of the experiments; name one of "
            f"{', '.join(map(str, experiments))}, as by `dvc exp run -S embeddings={experiments[0]}`."
        )
    file = f"conf/data/{params['dataset']}.yaml"
    for override in map(str, overrides):
        if override.startswith(_DATA_KEYS):
            key, _, value = override.partition("=")
            place, word = (file, f"{file}:++{override[5:]}") if key != "data" else ("dataset", f"dataset={value}")
            raise UserError(
                f"params.yaml: the override '{override}' would change the data after download and split have run; "
                f"change {place} instead, or try it with `dvc exp run -S {word}`."
            )
    return str(params["dataset"]), [str(name) for name in experiments], [str(override) for override in overrides]


@dataclass
class Arguments:
    """Keys of the command."""

    params: Path = Path("params.yaml")
    out_dir: Path = Path("artifacts/compose")


def main() -> None:
    """Compose what params.yaml names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        for file in compose(read_params(arguments.params), arguments.out_dir):
            print(file)
