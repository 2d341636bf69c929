"""What lies in a model's folder from elsewhere decides nothing but the model: nothing else is run, written or sent."""

import contextlib
import json
import pickle
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import flowers
from flowers.commands.check_split import list_similar
from flowers.commands.evaluate import evaluate, evaluate_elsewhere
from flowers.commands.predict import predict
from flowers.commands.report import report
from flowers.commands.train import train
from flowers.config.cli import run_command
from flowers.config.compose import compose_config, read_settings
from flowers.config.provenance import remake_command
from flowers.config.schema import Settings
from flowers.config.untrusted import check_targets, own_classes, read_config
from flowers.errors import UserError
from flowers.models.trained import open_model

Make = Callable[..., Settings]


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and the requests that it receives."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def rewrite(config: Path, **changes: Any) -> None:
    content = OmegaConf.load(config)
    for key, value in changes.items():
        OmegaConf.update(content, key.replace("__", "."), value, force_add=True)
    OmegaConf.save(content, config)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
def test_a_folder_from_elsewhere_does_not_decide_where_data_go(
    make_settings: Make, photographs: Path, requests: tuple[str, list[str]], tmp_path: Path
) -> None:
    uri, seen = requests
    train(make_settings())
    model = Path(shutil.copytree(tmp_path / "out", tmp_path / "foreign"))
    cache = tmp_path / "theirs"
    mlflow = {"_target_": "flowers.tracking.logger.MLflowLogger", "uri": uri, "experiment": "theirs"}
    tracking = {"enabled": True, "uri": uri, "experiment": "theirs"}
    rewrite(model / "config.yaml", tracking=tracking, logger__mlflow=mlflow, data__cache_dir=str(cache))
    run = json.loads((model / "run.json").read_text())
    (model / "run.json").write_text(json.dumps({**run, "mlflow_uri": uri, "mlflow_run_id": "0" * 32}))
    out = model / "test"
    evaluate(model, out)
    report(out, out)
    (tmp_path / "garden").mkdir()
    for label in ("daisy", "roses"):
        shutil.copytree(photographs / label, tmp_path / "garden" / label)
    (tmp_path / "garden/daisy/new.jpg").write_bytes((photographs / "daisy/daisy_00.jpg").read_bytes() + b"\0")
    evaluate_elsewhere(model, str(tmp_path / "garden"), tmp_path / "shift")
    report(tmp_path / "shift", tmp_path / "shift")
    predict(model, photographs)
    list_similar(model / "split.csv", model, 0.9)
    assert len(flowers.Evaluation(model).trainings) == 0
    assert not seen
    assert not cache.exists()
    assert (tmp_path / "runs/pixels").is_dir()
    assert (tmp_path / "mlflow.db").is_file()  # the caller's own


HYDRA = {"callbacks": {"x": {"_target_": "pandas.read_pickle", "filepath_or_buffer": "evil.pkl"}}}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("hydra", HYDRA, "'hydra' stands in the config.yaml"),
        ("defaults", [{"hydra/callbacks": "evil"}], "'defaults' stands in the config.yaml"),
        ("callbacks.x", HYDRA["callbacks"]["x"], "'callbacks.x._target_' is 'pandas.read_pickle'"),
        ("logger.x", {"_target_": "lightning.pytorch.loggers.WandbLogger"}, "'logger.x._target_' is 'lightning"),
        ("model.net", {"_target_": "torch.hub.load", "source": "local"}, "which a model's folder may not name"),
        ("model.net._args_", [{"deep": [HYDRA["callbacks"]["x"]]}], "'model.net._args_.0.deep.0._target_' is 'pandas"),
        (
            "callbacks.x",
            {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "/x"},
            "outside the",
        ),
        ("seed", "${oc.env:HOME}", r"'seed' in config.yaml has a reference"),
    ],
)
def test_a_training_by_a_folders_configuration_runs_nothing_else(
    key: str, value: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Touch(tmp_path / "harm")))
    settings = read_settings(compose_config(["experiment=cnn_scratch", "out_dir=out"]))
    (tmp_path / "out").mkdir()
    OmegaConf.save(settings, tmp_path / "out/config.yaml")
    words = re.sub(r"\\\n", "", remake_command(Path("out")).replace('"$PWD"', str(tmp_path))).split()[1:]

    def reached() -> list[Settings]:
        seen: list[Settings] = []
        monkeypatch.setattr(sys, "argv", words)
        run_command(seen.append)
        return seen

    assert reached()[0].name == "cnn_scratch"
    rewrite(tmp_path / "out/config.yaml", **{key.replace(".", "__"): value})
    with pytest.raises(SystemExit) as leaving:
        reached()
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "harm").exists()


def test_what_is_repeated_is_recorded_in_the_callers_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["experiment=cnn_scratch", "out_dir=out", "tracking.uri=http://theirs", "data.cache_dir=/theirs"]
    (tmp_path / "out").mkdir()
    OmegaConf.save(read_settings(compose_config(words)), tmp_path / "out/config.yaml")
    seen: list[Settings] = []
    for more in ([], ["tracking.uri=http://mine", "logger.mlflow.uri=http://mine", "data.cache_dir=mine"]):
        command = ["train", "--config-path", str(tmp_path / "out"), "--config-name", "config", "out_dir=again"]
        monkeypatch.setattr(sys, "argv", [*command, *more])
        run_command(seen.append)
    found = [(each.tracking.uri, each.logger.mlflow.uri, each.data.cache_dir) for each in seen]
    assert found == [(None, None, "runs/pixels"), ("http://mine", "http://mine", "mine")]


def test_a_class_of_ones_own_is_named_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minenet.py").write_text("from flowers.models.nets import Linear\n\n\nclass Mine(Linear):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["experiment=linear_scratch", "out_dir=out", "model.net._target_=minenet.Mine"]
    (tmp_path / "out").mkdir()
    OmegaConf.save(read_settings(compose_config(words)), tmp_path / "out/config.yaml")
    seen: list[Settings] = []
    command = ["train", "--config-path", str(tmp_path / "out"), "--config-name", "config", "out_dir=again"]
    monkeypatch.setattr(sys, "argv", command)
    with contextlib.suppress(SystemExit):
        run_command(seen.append)
    assert not seen
    assert "'model.net._target_' is 'minenet.Mine'" in capsys.readouterr().err
    (word,) = own_classes(OmegaConf.to_container(OmegaConf.load(tmp_path / "out/config.yaml")))
    assert remake_command(Path("out"), [word]).endswith("again model.net._target_=minenet.Mine")
    monkeypatch.setattr(sys, "argv", [*command, word])
    run_command(seen.append)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint_path": "evil.pth"},
        {"checkpoint_path": "/tmp/x"},
        {"weights": "x"},
        {"pretrained": True},
        {"pretrained_cfg_overlay": {"file": "x"}},
        {"pretrained_cfg": {"hf_hub_id": "someone/else"}},
        {"anything": "https://example.org/x"},
    ],
)
def test_a_networks_options_name_no_file(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"'model\.net\.options\..*' is .*, which would load a file or fetch one"):
        check_targets({"model": {"net": {"_target_": "flowers.models.backbones.Backbone", "options": options}}})


@pytest.mark.parametrize(
    "target",
    ["torch.load", "torch.hub.load", "timm.create_model", "lightning.pytorch.cli.LightningCLI", "torch.jit.load"],
)
def test_functions_of_allowed_packages_are_not_allowed(target: str) -> None:
    node = {"model": {"net": {"_target_": target}}}
    with pytest.raises(UserError, match="which a model's folder may not name"):
        check_targets(node)
    check_targets(node, allow=[target.partition(".")[0]])


@pytest.mark.parametrize("target", ["torch.hub.load", "flowers.errors.missing", "os.system"])
def test_an_allowed_class_hides_no_other(target: str) -> None:
    net: dict[str, Any] = {"_target_": "mypackage.Net", "path": "a/b", "sizes": [{"file": "c", "most": 2**40}]}
    check_targets({"model": {"net": net}}, allow=["mypackage"])
    net["_args_"] = [{"deep": {"_target_": target}}]
    with pytest.raises(UserError, match=r"'model\.net\._args_\.0\.deep\._target_' is "):
        check_targets({"model": {"net": net}}, allow=["mypackage"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: &a [1]\nb: [*a, *a]\n", "aliases"),
        ("a: " + "[" * 50 + "]" * 50, "nested too deeply"),
        ("a: " + "[" * 50_000, "nested too deeply"),
        ("a: b" * 50_000, "is larger than"),
        ("a: x${b}\nb: 1", "has a reference"),
        ("- 1", "is no mapping"),
    ],
)
def test_a_configuration_is_plain(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_config(tmp_path / "config.yaml")


@pytest.mark.slow
def test_a_nested_class_is_refused_before_the_model_is_made(make_settings: Make, tmp_path: Path) -> None:
    train(make_settings())
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Touch(tmp_path / "harm")))
    evil = {"_target_": "pandas.read_pickle", "filepath_or_buffer": str(tmp_path / "evil.pkl")}
    rewrite(tmp_path / "out/config.yaml", model__net___args_=[evil])
    content = OmegaConf.to_yaml(OmegaConf.load(tmp_path / "out/config.yaml"))
    assert "pandas.read_pickle" in content
    with pytest.raises(UserError, match=r"'model\.net\._args_\.0\._target_' is 'pandas\.read_pickle'"):
        open_model(tmp_path / "out")
    assert not (tmp_path / "harm").exists()
