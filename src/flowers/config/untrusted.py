"""A configuration that lies in a trained model's folder, which may come from elsewhere: it describes the model alone.

- It is plain, as trainings write it: without references, aliases, ``defaults`` or a ``hydra`` node. Hydra itself would
  instantiate what ``hydra.callbacks`` names.
- Each ``_target_`` in it, however deep, is a network, a loss, a callback or another of :data:`_KINDS`, and no other
  function or class, of which the packages in :data:`flowers.config.check.OFFERED` have some that run a file
  (``torch.hub.load``). Nothing among the parameters of a network names a file.
- It does not say where anything is written or sent (:func:`callers_own`): the caller's command line and environment do,
  and else the project's ``conf``. The MLflow run that a folder names is continued if the caller's store has it.
"""

import contextlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from flowers.config.check import OFFERED, dotted, locate
from flowers.config.compose import change, conf_dirs, find_in_conf
from flowers.config.schema import Settings
from flowers.config.store_address import announce, shown, store_uri
from flowers.errors import UserError

MOST_BYTES = 2**17
DEEPEST = 40
LARGEST = 2**16
"""A whole number among the parameters of a network is no larger."""
_KINDS = {
    "torch.nn.modules.module.Module",
    "torch.optim.optimizer.Optimizer",
    "lightning.pytorch.trainer.trainer.Trainer",
    "lightning.pytorch.callbacks.callback.Callback",
    "lightning.pytorch.core.datamodule.LightningDataModule",
    "flowers.data.augment.Augment",
    "flowers.report.epoch_confusion.epoch_confusion",
}
_LOGGER, _OWN_LOGGER = "lightning.pytorch.loggers.logger.Logger", "flowers.tracking.logger.MLflowLogger"
_FILE_KEY = re.compile(r"(^|[._])(file|path|url|dir|weights|checkpoint|hf_hub_id|pretrained)$")
_FILE = re.compile(r"[/\\:]|\.(pth?|bin|ckpt|tar|safetensors|np[yz])$", re.IGNORECASE)
_told: list[Any] = []


def read_config(file: Path) -> DictConfig:
    """Read ``config.yaml`` of a trained model.

    Raises:
        ValueError: If it is not as trainings write it.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file.name} is larger than {MOST_BYTES} bytes")
    text, depth = file.read_text(encoding="utf-8"), 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or getattr(event, "anchor", None):
            raise ValueError(f"{file.name} is nested too deeply, or has aliases")
    config = OmegaConf.create(text)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{file.name} is no mapping")
    for key, value in dotted(OmegaConf.to_container(config, resolve=False)).items():
        if isinstance(value, str) and re.search(r"(?<!\\)(\\\\)*\$\{", value):
            raise ValueError(f"'{key}' in {file.name} has a reference ${{…}}, which no training writes")
    return config


def check_run(run: Any) -> dict[str, Any]:
    """Hold what ``run.json`` says against what a training writes.

    Raises:
        ValueError: It names what is wrong.
    """
    if not isinstance(run, dict):
        raise ValueError("run.json is no mapping")
    classes, temperature = run["classes"], run.get("temperature", 1.0)
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not named or not classes or len(set(classes)) < len(classes):
        raise ValueError("'classes' in run.json is no list of different names")
    if type(temperature) not in (int, float) or not 1e-6 < temperature < 1e6:
        raise ValueError(f"'temperature' in run.json is {temperature!r:.40}")
    for key in ("photographs", "photographs_dir", "dataset", "mlflow_run_id", "mlflow_uri", "split_sha256"):
        if not isinstance(run.get(key), str | None):
            raise ValueError(f"'{key}' in run.json is {run[key]!r:.40}")
    return run


def loads_file(key: str, value: Any) -> bool:
    """Tell whether a parameter of a network looks as if it named a file or an address, as ``checkpoint_path`` does."""
    if isinstance(value, str):
        return bool(value and (_FILE_KEY.search(key) or _FILE.search(value)))
    return value is True and key.rpartition(".")[2] == "pretrained"


def check_targets(
    node: Any, allow: Sequence[str] = (), given: Collection[str] = (), key: str = "", below_allowed: bool = False
) -> None:
    """Refuse a node of a configuration from elsewhere that names a class of no known kind, or files.

    Args:
        node: Dictionaries, lists and values.
        allow: Packages that the caller allows beside :data:`flowers.config.check.OFFERED`, with all that they hold.
        given: Keys that the caller's own command line has.
        key: Where the node stands.
        below_allowed: Whether it holds parameters of what the caller allows, whose texts and numbers mean anything.

    Raises:
        UserError: Naming the key.
    """
    target = str(node["_target_"]) if isinstance(node, Mapping) and "_target_" in node else None
    allowed = target is not None and target.startswith(tuple(f"{package}." for package in allow))
    if target is not None and not allowed and f"{key}._target_" not in given:
        found: Any = locate(key, target, ["flowers.sources"] if key == "data.source" else OFFERED)
        names = {f"{each.__module__}.{each.__qualname__}" for each in getattr(found, "__mro__", (found,))}
        if key != "data.source" and (not _KINDS & names or (_LOGGER in names and _OWN_LOGGER not in names)):
            raise UserError(
                f"'{key}._target_' is '{target}', which a model's folder may not name: it is no network, loss, "
                f"optimiser, callback or DataModule; give {key}._target_={target} yourself if it is meant."
            )
    free = allowed or (below_allowed and target is None)
    for name, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        place = f"{key}.{name}" if key else str(name)
        in_net = place.startswith("model.net.") and name != "_target_" and place not in given and not free
        if in_net and loads_file(place, value):
            raise UserError(
                f"'{place}' is {value!r}, which would load a file or fetch one, but the weights of a trained model are "
                "in its model.safetensors; leave that key out of its config.yaml."
            )
        if in_net and isinstance(value, int) and abs(value) > LARGEST:
            raise UserError(f"'{place}' is {value!r:.20}, which no network has; train again.")
        check_targets(value, allow, given, place, free)


def check_repeated(config: DictConfig, given: Collection[str]) -> None:
    """Refuse a training again by a folder's configuration that would run, write or send more than the training.

    Args:
        config: From :func:`read_config`, or what Hydra made of it.
        given: Keys that the caller's own command line has.

    Raises:
        UserError: Naming the key.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key in ("hydra", "defaults"):
        if key in plain:
            raise UserError(
                f"'{key}' stands in the config.yaml that --config-path names, which no training writes: leave it out, "
                "or name a folder of your own configurations with --config-dir."
            )
    check_targets(plain, given=given)
    places = dotted({name: plain.get(name) for name in ("callbacks", "trainer", "logger")})
    for key in ("logger.mlflow.uri", "logger.mlflow.experiment"):  # which are the caller's own
        places.pop(key, None)
    data = plain.get("data")
    if isinstance(data, dict) and data.get("source"):
        places["data.root"] = data.get("root")
    for key, value in places.items():
        outside = isinstance(value, str) and (
            "://" in value or value.startswith("~") or ".." in Path(value).parts or Path(value).is_absolute()
        )
        if outside and key not in given:
            raise UserError(
                f"'{key}' is '{value}', where this training would write outside the working folder: give {key}=… "
                "yourself."
            )


def own_classes(config: Any) -> list[str]:
    """Write for a command line which classes of the caller's own a configuration names, as :func:`check_targets` asks.

    Args:
        config: Plain dictionaries, lists and values.
    """
    offered = tuple(f"{package}." for package in OFFERED)
    named = {key: str(value) for key, value in dotted(config).items() if key.endswith("._target_")}
    return [f"{key}={value}" for key, value in named.items() if not value.startswith(offered)]


def callers_own(settings: Settings, given: Collection[str] = ()) -> Settings:
    """Have a configuration from a model's folder record and keep pixels where the caller does, not where it says.

    Args:
        settings: What a training was made with.
        given: Keys that the caller's own command line has, which stay.
    """
    conf = OmegaConf.load(find_in_conf(Path("conf/config.yaml")))
    own = {"data.cache_dir": OmegaConf.load(find_in_conf(Path("conf/data/base.yaml"))).cache_dir}
    logs = OmegaConf.is_dict(OmegaConf.select(settings, "logger.mlflow"))
    for node in ("tracking", "logger.mlflow") if logs else ("tracking",):
        own |= {f"{node}.{key}": OmegaConf.select(conf, f"tracking.{key}") for key in ("uri", "experiment")}
    return change(settings, {key: value for key, value in own.items() if key not in given})


def named_config(path: str | None, name: str | None) -> Path | None:
    """Find the file that ``--config-path`` and ``--config-name`` name, unless it is one of the project's ``conf``."""
    if path is None or path.startswith("pkg://"):
        return None
    folder = Path(__file__).parent / path.removeprefix("file://")  # as Hydra reads a relative one
    if folder.resolve() in [own.resolve() for own in conf_dirs()]:
        return None
    return folder / f"{(name or 'config').removesuffix('.yaml')}.yaml"


def announce_trained(folder: Path) -> None:
    """Say where the run of a trained model goes on; nothing of a folder that cannot be read, which others say more of.

    The store is the caller's. Where the training was recorded in another one, that is said too.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if run in _told:  # as evaluate does for the report that follows it
            return
        config = read_config(folder / "config.yaml")
        settings = OmegaConf.create({"tracking": {"enabled": config.tracking.enabled}, "data": {}})
        settings = callers_own(settings)
        run_id, recorded = str(run.get("mlflow_run_id")), str(run.get("mlflow_uri") or "")
        announce(settings, run_id if run_id.isalnum() and run_id != "None" else None)
        here = shown(store_uri(settings.tracking.uri))
        if settings.tracking.enabled and recorded not in ("", here) and recorded.isprintable():
            print(f"note: its training was recorded in {recorded}; to go on there, set MLFLOW_TRACKING_URI", flush=True)
        _told.append(run)
