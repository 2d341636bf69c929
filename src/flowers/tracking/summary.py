"""What a person reads: a training's name, parameters and note on MLflow's pages, and the ranking of a sweep.

The first three are made from the resolved configuration as plain dictionaries, of which any key may be missing. Hydra
calls the last one, which ``conf/config.yaml`` names under ``hydra.callbacks``, at the start of every command: MLflow
and pandas are imported when there is a sweep.
"""

import atexit
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from flowers.atomic import whole_file
from flowers.config.cli import exit_on_user_error
from flowers.config.provenance import code_digest, key_of, remake_command, shell_path
from flowers.config.store_address import PARENT_VARIABLE, address_of, announce, without_secrets
from flowers.config.untrusted import own_classes
from flowers.errors import UserError

if TYPE_CHECKING:
    from flowers.tracking.store import OpenRun

LONGEST_NAME = 100
_UNTOLD = (
    # Told by the experiment and the recipe that the run is listed under …
    *("experiment", "name", "data", "data.name", "data.root", "data.source"),
    # … or without influence on the result.
    *("data.strict", "data.split_csv", "data.cache_dir", "out_dir", "weights_sha256"),
    *("trainer.enable_progress_bar", "trainer.default_root_dir", "progress", "model.features_gib"),
)
_QUOTES = "\"'"
_UNTOLD_GROUPS = ("tracking", "hydra", "callbacks", "logger")


def run_name(config: Mapping[str, Any]) -> str | None:
    """Name the run of a training by its recipe and what the command line changes in it; None if there is neither.

    A training that DVC starts is called by its recipe and the name that ``dvc exp show`` lists it under, one of a sweep
    by what the sweep varies.
    """
    recipe, experiment = str(config.get("name") or ""), os.environ.get("DVC_EXP_NAME")
    words = [recipe]
    for word in HydraConfig.get().overrides.task if HydraConfig.initialized() else ():
        key, _, value = word.partition("=")
        name = key.lstrip("+~")
        # What was given as it is, is the same in the whole sweep.
        same = HydraConfig.get().mode == RunMode.MULTIRUN and word in sys.argv
        untold = name in _UNTOLD or name.partition(".")[0] in _UNTOLD_GROUPS or word == f"model={recipe}"
        if not same and not untold:
            words.append(f"{key.lstrip('+')}={value.strip(_QUOTES).rstrip('/').rpartition('/')[2]}" if value else word)
    if experiment:
        words.append(f"({experiment})")
    name = " ".join(filter(None, words))
    return (name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…") or None


def data_set(name: str, part: str, digest: str) -> tuple[str, str]:
    """Name a part of a data set (train, val or test) for MLflow, with a digest, of 36 characters at most."""
    return f"{name}-{part}", digest[:36]


def flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries: the keys of a path are joined by slashes."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def short_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """Choose what runs are told apart by: the recipe's numbers by the last part of their key, if not switched off.

    MLflow's table of runs has a column for each. The whole configuration is in ``config.yaml``.
    """
    data, model = config.get("data") or {}, config.get("model") or {}
    stages = model.get("stages") or []
    params = {"seed": config.get("seed"), "weights": config.get("weights")}
    params |= {"batch_size": data.get("batch_size"), "sampling": data.get("sampling"), "fit": data.get("fit")}
    for path, value in flat(model).items():
        *nodes, key = path.split("/")
        if key == "_target_" and nodes in (["net"], ["loss"], ["optimizer"]):
            params[nodes[0]] = str(value).rpartition(".")[2]
        elif not key.startswith("_") and key != "stages":
            params[key] = value
    params["stages"] = ", ".join(f"{stage.get('name')} {stage.get('epochs')}" for stage in stages)
    params["max_lr"] = ", ".join(str(stage.get("max_lr")) for stage in stages)
    params["split_seed"] = (data.get("split") or {}).get("seed")
    off: tuple[object, ...] = ("none", "crop", None, False, "", 0, [])
    return {key: value for key, value in params.items() if value not in off or (key.endswith("seed") and value == 0)}


def run_note(config: Mapping[str, Any], commit: str | None, photographs: int | None) -> str:
    """Write what a training's page says about it, in Markdown; commit and number of photographs are None if unknown.

    The commit ends in ``-dirty`` if the project's files differ from it.
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
        out, again = shell_path(folder), remake_command(folder, own_classes(config))
        lines += [
            f"Reproduce this run, with equal weights, in the project's folder:\n```\n{again}\n```",
            f"The trained model is in `{out}`, and here under *Artifacts*. Measure it on the test photographs (the "
            "results are then under *Artifacts*, *test*), and use it:",
            f"```\nflowers evaluate model={out}\nflowers predict model={out} photos=PHOTOS\n```",
        ]
    return "\n\n".join(lines)


class SweepSummary(Callback):
    """Opens a run as the parent of a Hydra sweep's runs (``-m``), and ranks its trainings by their validation accuracy.

    The same sweep, given again, goes on with the same run.
    """

    def __init__(self) -> None:
        self._results: list[tuple[Any, str, str]] = []
        self._run: OpenRun | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run, before any training could race to make the store."""
        if not config.tracking.enabled:
            return
        from flowers.tracking.store import OpenRun, read_note, write_note

        words = without_secrets(" ".join(config.hydra.overrides.task))
        with exit_on_user_error():
            announce(config)
            address, plain = address_of(config), OmegaConf.to_container(config, resolve=False)
            del plain["hydra"]  # type: ignore[arg-type, union-attr]
            code = code_digest("config", "data", "models", "training")
            work = Path("runs/series") / key_of(sys.orig_argv, str(plain), code, *address)
            known = read_note(work).get("run_id")
            self._run = OpenRun(*address, f"sweep {words}", {"kind": "sweep"}, run_id=known)
            write_note(work, {"run_id": self._run.run_id})
        os.environ[PARENT_VARIABLE] = self._run.run_id
        atexit.register(self._run.close, "KILLED", quiet=True)  # unless the sweep comes to its end

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Note how a job went; one that failed has an error for a result, and only trainings have an accuracy."""
        result = job_return._return_value
        self._results.append((result, " ".join(job_return.overrides or []), str(config.get("out_dir"))))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and record the ranking."""
        import pandas as pd

        os.environ.pop(PARENT_VARIABLE, None)
        ranked = sorted((each for each in self._results if isinstance(each[0], float)), reverse=True)
        table = pd.DataFrame(ranked, columns=["val/acc", "overrides", "out_dir"])
        if failed := sum(isinstance(result, Exception) for result, *_ in self._results):
            print(f"\n{failed} of {len(self._results)} trainings failed")
        if not table.empty:
            ranking = table.to_string(index=False, float_format="%.4f")
            print(f"\n{len(table)} trainings, best first:\n{ranking}\nbest: {table['overrides'][0]}", flush=True)
        with exit_on_user_error(), whole_file(Path(config.hydra.sweep.dir, "sweep.csv")) as partial:  # or Hydra warns
            table.to_csv(partial, index=False)
        if self._run is None:
            return
        from flowers.tracking.store import store_access

        atexit.unregister(self._run.close)
        try:
            with store_access(self._run.uri):
                self._run.log_table(table, "sweep.json")
                if not table.empty:
                    for name in ("overrides", "out_dir"):
                        self._run.client.set_tag(self._run.run_id, f"best.{name}", table[name][0])
                    # By the name that its trainings have it by, MLflow's table sorts them together.
                    self._run.log_metrics(dict.fromkeys(("val/acc", "best/val/acc"), table["val/acc"][0]))
        except UserError as error:
            print(f"flowers: {error} The sweep's own run there is incomplete.", file=sys.stderr)
        self._run.close("FAILED" if failed else "FINISHED", quiet=True)
