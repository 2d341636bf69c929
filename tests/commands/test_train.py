"""A training writes what it promises, the same every time, whatever happens to it on the way."""

import itertools
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Timer
from omegaconf import DictConfig, OmegaConf
from safetensors.numpy import load_file
from tests.processes import call_flowers, kill_at

from flowers.commands.train import train
from flowers.config.compose import as_dict, instantiate, read_data, read_settings
from flowers.config.provenance import split_digest
from flowers.config.schema import Settings
from flowers.curation.prepare import find_photographs
from flowers.curation.split_table import read_splits, write_splits
from flowers.data.datamodule import class_weights
from flowers.errors import UserError
from flowers.training import checkpoints as resume
from flowers.training.checkpoints import EpochCheckpoint
from flowers.training.classifier import Classifier

Make = Callable[..., Settings]
FILES = {"model.safetensors", "config.yaml", "split.csv", "history.csv", "run.json", "validation.npz"}
TWO_EPOCHS = "model.stages.0.epochs=2"


def model_bytes(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(photographs, tmp_path / "photographs"))


# What it writes


def test_writes_the_model_and_its_record(
    make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(TWO_EPOCHS)
    accuracy = train(settings)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES | {"stage-1.ckpt"}
    config = OmegaConf.load(out / "config.yaml")
    assert isinstance(config, DictConfig)
    assert read_settings(config) == settings
    history = pd.read_csv(out / "history.csv")
    figures = ["train/loss", "train/acc", "val/loss", "val/acc"]
    assert list(history.columns) == ["epoch", "stage", *figures, "lr", "epoch_s"]
    assert list(history["epoch"]) == [1, 2]
    assert set(history["stage"]) == {"all"}
    split = read_splits(out / "split.csv")
    assert set(split["split"]) == {"train", "val", "test"}
    run = json.loads((out / "run.json").read_text())
    assert run["classes"] == ["daisy", "roses", "sunflowers"]
    assert run["epochs"] == 2
    assert run["mlflow_run_id"] is None
    assert run["split_sha256"] == split_digest(split)
    assert run["final"]["val/acc"] == accuracy
    assert {"git_commit", "data_sha256", "seed", "versions"} <= run.keys()
    assert sum(tensor.size for tensor in load_file(out / "model.safetensors").values()) == run["parameters"]
    said = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("epoch ") for line in said) == 2
    assert said[-1] == f"trained model: {out}  (val/acc {accuracy:.3f})"
    assert not (tmp_path / "mlflow.db").exists()
    assert not list((tmp_path / "runs/resume").iterdir())


def test_nothing_is_said_or_warned_beside_the_lines(make_settings: Make, capfd: pytest.CaptureFixture[str]) -> None:
    train(make_settings("model.stages.0.epochs=1"))
    assert capfd.readouterr().err == ""


def test_photographs_that_must_not_be_written_to(make_settings: Make, folder: Path, tmp_path: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: (path.lstat(), path.is_dir() or path.read_bytes()) for path in (folder, *folder.rglob("*"))}
    train(make_settings("model.stages.0.epochs=1", f"data.root={folder}"))
    assert (tmp_path / "out" / "model.safetensors").is_file()
    after = {path: (path.lstat(), path.is_dir() or path.read_bytes()) for path in (folder, *folder.rglob("*"))}
    assert after.keys() == before.keys()
    for path, (state, content) in before.items():  # so it is seen where it would be allowed, to root
        assert (after[path][0].st_mtime_ns, after[path][0].st_mode) == (state.st_mtime_ns, state.st_mode)
        assert after[path][1] == content
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)


# The same again


def test_no_epochs_are_not_all_epochs(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match="max_epochs=0 trains nothing"):
        train(make_settings("trainer.max_epochs=0"))


def test_same_settings_same_bytes_other_seed_other_bytes(make_settings: Make, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train(make_settings(TWO_EPOCHS, f"out_dir={name}", f"seed={seed}"))
    one, two, three = (model_bytes(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one != three


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        (),
        (
            "model.ema_decay=0.9",
            "model.optimizer._target_=torch.optim.SGD",
            "model.optimizer.momentum=0.9",
            "model.optimizer.nesterov=true",
            "model.augment.mixup_alpha=0.2",
            "model.augment.rotation_deg=10",
        ),
        (
            "model.stages=[{name: a, epochs: 1, train: head, max_lr: 1e-3},"
            "{name: b, epochs: 2, train: all, max_lr: 1e-3}]",
        ),
        ("model.ema_decay=0.9", "trainer.accumulate_grad_batches=2"),
        ("model.ema_decay=0.5", "save_best=val/loss", "model.stages.0.max_lr=0.02"),
    ],
    ids=["plain", "average", "stages", "accumulation", "best"],
)
def test_interrupted_and_started_again_is_the_same(make_settings: Make, tmp_path: Path, changes: tuple[str]) -> None:
    epochs = () if changes and changes[0].startswith("model.stages") else ("model.stages.0.epochs=3",)
    train(make_settings(*epochs, *changes, "out_dir=whole"))
    for stop in (1, 2):
        assert train(make_settings(*epochs, *changes, "out_dir=broken"), stop_after_epochs=stop) != 1
        assert not (tmp_path / "broken/model.safetensors").exists()
    train(make_settings(*epochs, *changes, "out_dir=broken"))
    assert model_bytes(tmp_path / "whole") == model_bytes(tmp_path / "broken")
    clock = ["epoch_s"]
    one, two = (pd.read_csv(tmp_path / name / "history.csv").drop(columns=clock) for name in ("whole", "broken"))
    pd.testing.assert_frame_equal(one, two)


TWO_STAGES = (
    "model.stages=[{name: a, epochs: 1, train: head, max_lr: 1e-3},{name: b, epochs: 2, train: all, max_lr: 1e-3}]"
)
OTHER_END = TWO_STAGES.replace("epochs: 2", "epochs: 1")


@pytest.mark.slow
def test_a_stage_can_be_trained_again_from_where_the_one_before_it_ended(make_settings: Make, tmp_path: Path) -> None:
    train(make_settings(TWO_STAGES))
    assert {path.name for path in (tmp_path / "out").glob("*.ckpt")} == {"stage-1.ckpt", "stage-2.ckpt"}
    first = model_bytes(tmp_path / "out")
    train(make_settings(OTHER_END, "from_stage=2"))  # the second stage is changed, the first is not repeated
    assert model_bytes(tmp_path / "out") != first
    assert len(pd.read_csv(tmp_path / "out/history.csv")) == 2
    train(make_settings(OTHER_END, "out_dir=whole"))
    assert model_bytes(tmp_path / "out") == model_bytes(tmp_path / "whole")
    train(make_settings(TWO_STAGES, "from_stage=2"))
    assert model_bytes(tmp_path / "out") == first


def test_a_stage_that_cannot_be_started_from_is_named(make_settings: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out/stage-1\.ckpt does not exist, so stage 2 has nothing to go on from"):
        train(make_settings(TWO_STAGES, "from_stage=2"))
    with pytest.raises(UserError, match=r"from_stage=3, but the recipe's stages are 1 to 2"):
        train(make_settings(TWO_STAGES, "from_stage=3"))
    train(make_settings(TWO_STAGES))
    before = model_bytes(tmp_path / "out")
    with pytest.raises(UserError, match="holds another training's model"):
        train(make_settings(TWO_STAGES, "from_stage=2", "seed=5"))
    assert model_bytes(tmp_path / "out") == before


# The third stage freezes again what the second trained, and so begins with a bank of its own.
THREE_STAGES = (
    "model.stages=[{name: a, epochs: 2, train: head, max_lr: 1e-2},{name: b, epochs: 2, train: all, max_lr: 1e-3},"
    "{name: c, epochs: 2, train: head, max_lr: 1e-3, views: 1}]"
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
@pytest.mark.filterwarnings("ignore:::sqlalchemy")
def test_killed_at_any_point_and_started_again_is_the_same(make_settings: Make, tmp_path: Path) -> None:
    changes = (THREE_STAGES, "model.ema_decay=0.9", "trainer.limit_train_batches=null", "data.batch_size=8")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    whole = command(make_settings(*changes, "out_dir=whole"), tmp_path / "whole.yaml")
    assert call_flowers(tmp_path, *whole[3:]).returncode == 0
    tracked = ("tracking.enabled=true", f"tracking.uri={store}", "out_dir=broken", "progress=lines")
    words = command(make_settings(*changes, *tracked), tmp_path / "broken.yaml")[3:]
    points = [
        (Classifier, "training_step", 1),  # the first batch of all
        (Classifier, "validation_step", 1),  # the first epoch's validation
        (Classifier, "training_step", 5),  # the middle of the first stage's last epoch
        (EpochCheckpoint, "on_train_epoch_end", 2),  # between a stage's last epoch and its checkpoint
        (Classifier, "on_train_epoch_start", 2),  # the boundary to the next stage
        (Classifier, "training_step", 3),  # the last batch of an epoch
        (Classifier, "validation_step", 2),  # the second stage's last validation
        (Classifier, "training_step", 4),  # within the third stage
    ]
    for owner, method, call in points:
        done = call_flowers(tmp_path, *words, before=kill_at, of_before=(owner, method, call))
        assert done.returncode == -signal.SIGKILL, (method, call, done.stdout, done.stderr)
        assert not (tmp_path / "broken/model.safetensors").exists()
    assert call_flowers(tmp_path, *words).returncode == 0
    assert model_bytes(tmp_path / "whole") == model_bytes(tmp_path / "broken")
    one, two = (pd.read_csv(tmp_path / name / "history.csv").drop(columns=["epoch_s"]) for name in ("whole", "broken"))
    pd.testing.assert_frame_equal(one, two)
    assert curve(store, tmp_path / "broken", "val/acc") == one["val/acc"].tolist()


def curve(store: str, model: Path, metric: str) -> list[float]:
    """Read a curve from the store, and see that it has a point for each epoch, in order."""
    import mlflow

    run_id = json.loads((model / "run.json").read_text())["mlflow_run_id"]
    points = mlflow.MlflowClient(store).get_metric_history(run_id, metric)
    assert [point.step for point in points] == list(range(1, len(points) + 1))
    return [round(point.value, 6) for point in points]


def command(settings: Settings, file: Path) -> list[str]:
    """Write settings as `compose` does; return the command that trains them."""
    node = as_dict(settings) | {"hydra": {"run": {"dir": "."}, "output_subdir": None}}
    OmegaConf.save(OmegaConf.create(node), file)
    return [
        sys.executable,
        "-m",
        "flowers",
        "train",
        "--config-dir",
        str(file.parent),
        "--config-name",
        file.stem,
    ]


def start(words: list[str], cwd: Path) -> "subprocess.Popen[str]":
    def listen() -> None:  # a background job's children ignore Ctrl-C, and these tests may be one
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=cwd, stdout=pipe, stderr=pipe, text=True, bufsize=1, preexec_fn=listen)


def wait_for_second_epoch(process: "subprocess.Popen[str]", cwd: Path) -> None:
    """Return when the checkpoint of the first epoch is there, and a little later."""
    while process.poll() is None:
        if list(cwd.glob("runs/resume/*/last.ckpt")):
            time.sleep(0.1)
            return
        time.sleep(0.01)
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


# Epochs long enough that a signal arrives in the middle of the second.
LONG = (
    "model.stages.0.epochs=3",
    "model.net.image_px=128",
    "model.net.width=16",
    "trainer.limit_train_batches=null",
    "data.batch_size=1",
)


@pytest.mark.slow
def test_killed_and_started_again_is_the_same(make_settings: Make, tmp_path: Path) -> None:
    train(make_settings(*LONG, "out_dir=whole"))
    broken = command(make_settings(*LONG, "out_dir=broken"), tmp_path / "broken.yaml")
    with start(broken, tmp_path) as process:
        wait_for_second_epoch(process, tmp_path)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "broken/model.safetensors").exists()
    done = call_flowers(tmp_path, *broken[3:])
    assert done.returncode == 0, done.stderr
    assert "going on from the checkpoint" in done.stdout
    assert "epoch   1/3" not in done.stdout
    assert "epoch   2/3" in done.stdout
    assert model_bytes(tmp_path / "whole") == model_bytes(tmp_path / "broken")


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(make_settings: Make, tmp_path: Path) -> None:
    words = command(make_settings(*LONG), tmp_path / "broken.yaml")
    with start(words, tmp_path) as process:
        wait_for_second_epoch(process, tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == "flowers: interrupted; the same command goes on from the last whole epoch.\n"


@pytest.mark.slow
def test_terminal_gets_a_bar(make_settings: Make, tmp_path: Path) -> None:
    words = command(make_settings(TWO_EPOCHS, "progress=auto"), tmp_path / "bar.yaml")
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (40, 200))
    with subprocess.Popen(words, cwd=tmp_path, stdout=end, stderr=end) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
    os.close(terminal)
    assert process.returncode == 0
    text = shown.decode()
    assert re.search(r"all 2/2: +100%\|.*img/s=\d+, left=0:00", text), text[-600:]
    assert "val/acc=" in text
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]", re.sub(r"\x1b\[\w+", "", text)) if "img/s" in line)
    assert "Warning" not in text


# How it ends


def test_a_time_limit_leaves_a_model_that_says_so(
    make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, stage="train": next(clock))
    train(make_settings("model.stages.0.epochs=3", "trainer.max_time=00:00:02"))
    out = tmp_path / "out"
    record = json.loads((out / "run.json").read_text())
    assert (record["ended_by"], record["epochs"], record["saved_epoch"]) == ("trainer.max_time", 1, 1)
    assert len(pd.read_csv(out / "history.csv")) == 1
    assert not list(out.glob("stage-*.ckpt"))  # which a part of an epoch is no end of
    assert "ended by trainer.max_time in epoch 1 of 3, before the rates had come down" in capsys.readouterr().out


def test_what_lightning_users_add_ends_early_and_keeps_its_checkpoints(
    make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model.stages.0.epochs=6", "model.stages.0.max_lr=0.02", "save_best=val/loss")
    stop = "{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, patience: 2, min_delta: 9}"
    keep = "{_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/acc, mode: max}"
    accuracy = train(make_settings(*words, f"callbacks.stop={stop}", f"callbacks.keep={keep}"))
    out = tmp_path / "out"
    history, record = pd.read_csv(out / "history.csv"), json.loads((out / "run.json").read_text())
    best = int(history["val/loss"].argmin())
    assert len(history) == record["epochs"] == 3
    assert (record["ended_by"], record["saved_epoch"]) == ("EarlyStopping of val/loss", best + 1)
    assert record["final"]["val/loss"] == pytest.approx(history["val/loss"][best], rel=1e-5)
    arrays = np.load(out / "validation.npz")
    assert accuracy == pytest.approx((arrays["logits"].argmax(axis=1) == arrays["labels"]).mean())
    assert len(list((out / "checkpoints").glob("epoch=*.ckpt"))) == 1
    said = capsys.readouterr().out
    assert "ended by EarlyStopping of val/loss in epoch 3 of 6" in said
    assert f"in epoch {best + 1}, the best of 3 by val/loss, so a little too high)" in said


# What lies there


def test_model_of_another_training_is_not_replaced(make_settings: Make, tmp_path: Path) -> None:
    train(make_settings("model.stages.0.epochs=1"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match="holds another training's model; choose another out_dir"):
        train(make_settings("model.stages.0.epochs=1", "seed=1"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    train(make_settings("model.stages.0.epochs=1"))
    assert model_bytes(tmp_path / "out") == before["model.safetensors"]


def test_out_dir_that_cannot_be_made_fails_before_training(
    make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        train(make_settings("out_dir=file/out"))
    assert "epoch" not in capsys.readouterr().out


def test_same_training_twice_at_once_is_refused(make_settings: Make, tmp_path: Path) -> None:
    settings = make_settings("model.stages.0.epochs=1")
    _, split, _ = find_photographs(read_data(settings))
    folder = tmp_path / "runs/resume" / resume.resume_key(settings, split_digest(split))
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"), pytest.raises(UserError, match="running already in another process"):
        train(settings)


# Photographs


def test_test_photographs_are_never_read(make_settings: Make, folder: Path, tmp_path: Path) -> None:
    settings = make_settings(f"data.root={folder}")
    _, split, _ = find_photographs(read_data(settings))
    write_splits(split, tmp_path / "split.csv")
    for path in split.loc[split["split"] == "test", "path"]:
        (folder / path).unlink()
    train(make_settings(f"data.root={folder}", "data.split_csv=split.csv", "model.stages.0.epochs=1"))
    assert (tmp_path / "out/model.safetensors").exists()


def test_bad_files_are_named_and_the_run_goes_on(
    make_settings: Make, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "roses/roses_00.jpg").read_bytes()
    (folder / "roses/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "roses/corrupt.jpg").write_bytes(whole[:20] + bytes(200))
    (folder / "daisy/empty.jpg").touch()
    (folder / "daisy/text.jpg").write_text("no photograph")
    train(make_settings(f"data.root={folder}", "model.stages.0.epochs=1"))
    said = capsys.readouterr().out
    assert "36 photographs in 3 classes, 4 files refused" in said
    for name in ("roses/cut.jpg", "roses/corrupt.jpg", "daisy/empty.jpg", "daisy/text.jpg"):
        assert re.search(rf"^refused {name}: \S", said, re.MULTILINE)
    manifest = said.partition("manifest of all files: ")[2].splitlines()[0]
    rows = pd.read_csv(manifest)
    assert list(rows.loc[rows["status"] == "refused", "path"]) == [
        "daisy/empty.jpg",
        "daisy/text.jpg",
        "roses/corrupt.jpg",
        "roses/cut.jpg",
    ]
    assert len(read_splits(tmp_path / "out/split.csv")) == 36


def remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (".", "does not exist"),
        ("*", "holds no photographs in class folders"),
        ("[rs]*", "in one class only \\(daisy\\)"),
        ("roses/*_[01][1-9].jpg", "Class roses has 2 different photographs"),
    ],
    ids=["missing", "empty", "one class", "few"],
)
def test_folder_that_cannot_be_trained_on_is_named(
    make_settings: Make, folder: Path, tmp_path: Path, removed: str, said: str
) -> None:
    if removed == ".":
        shutil.rmtree(folder)
    else:
        remove(folder, removed)
    with pytest.raises(UserError, match=said):
        train(make_settings(f"data.root={folder}"))
    assert not (tmp_path / "out").exists()


# What cannot be trained


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("weights=nowhere.safetensors",), r"the weights file nowhere\.safetensors does not exist"),
        (
            ("trainer.accelerator=gpuu",),
            "'trainer' cannot be built: You selected an invalid accelerator name: `accelerator='gpuu'`",
        ),
        (("trainer.precision=bf16",), "'trainer' cannot be built: .*set your precision to bf16-mixed"),
        (("trainer.limit_train_batches=0",), "trainer.limit_train_batches=0 must be at least 1"),
        (("progress=loud",), "progress='loud' is none of"),
        (("data.batch_size=0",), "data.batch_size=0 must be at least 1"),
        (("model.optimizer.weight_decay=-1",), "'model.optimizer' cannot be built: Invalid weight_decay"),
        (("model.stages.0.epochs=0",), "no epoch to train"),
        (("model.stages.0.train=body",), "train='body' is none of"),
    ],
)
def test_setting_that_cannot_be_used_is_named(make_settings: Make, overrides: tuple[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        train(make_settings(*overrides))


def test_weights_of_another_network_are_refused(make_settings: Make, tmp_path: Path) -> None:
    train(make_settings("model.stages.0.epochs=1", "out_dir=other", "model.net.width=8"))
    with pytest.raises(UserError, match="does not fit the network of this recipe"):
        train(make_settings("weights=other/model.safetensors"))


def test_training_that_diverges_is_one_sentence(make_settings: Make, capfd: pytest.CaptureFixture[str]) -> None:
    settings = make_settings("model.optimizer._target_=torch.optim.SGD", "model.stages.0.max_lr=1e30", TWO_EPOCHS)
    with pytest.raises(UserError, match="the training diverged; lower max_lr of stage 'all'"):
        train(settings)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_a_figure_that_nothing_logs_cannot_be_watched(callback: str, make_settings: Make) -> None:
    watching = f"callbacks.it={{_target_: lightning.pytorch.callbacks.{callback}, monitor: val/f1}}"
    with pytest.raises(UserError, match=r"^callbacks: .*val/f1.*val/loss.*; correct it\.$"):
        train(make_settings(TWO_EPOCHS, watching))


@pytest.mark.parametrize("every", [2, 9])
def test_epochs_without_validation_leave_a_final_figure(
    every: int, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    words = ("model.stages.0.epochs=3", f"trainer.check_val_every_n_epoch={every}", "trainer.precision=32-true")
    accuracy = train(make_settings(*words))
    final = json.loads((tmp_path / "out/run.json").read_text())["final"]
    history = pd.read_csv(tmp_path / "out/history.csv")
    arrays = np.load(tmp_path / "out/validation.npz")
    by_the_final_network = float((arrays["logits"].argmax(axis=1) == arrays["labels"]).mean())
    assert accuracy == final["val/acc"]
    assert accuracy == pytest.approx(history["val/acc"][1] if every == 2 else by_the_final_network, abs=1e-6)
    assert history["val/acc"].isna().tolist() == [True, every != 2, True]
    assert np.isfinite(list(final.values())).all()


def test_the_configured_optimiser_is_built_with_its_values(make_settings: Callable[..., Settings]) -> None:
    made = instantiate("model.optimizer", make_settings("model.optimizer.betas=[0.8,0.99]").model.optimizer)
    optimizer = made([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert tuple(optimizer.defaults["betas"]) == (0.8, 0.99)


def test_class_weights_are_those_of_the_training_labels(
    make_settings: Callable[..., Settings], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "unequal"))
    for path in sorted((root / "roses").iterdir())[6:]:
        path.unlink()
    told: list[list[int]] = []

    def watched(key: str, balance: str, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
        told.append(labels.bincount(minlength=num_classes).tolist())
        return class_weights(key, balance, labels, num_classes)

    monkeypatch.setattr("flowers.training.classifier.class_weights", watched)
    train(make_settings(f"data.root={root}", "model.stages.0.epochs=1", "model.class_weights=inverse"))
    split = read_splits(tmp_path / "out/split.csv")
    counts = split[split["split"] == "train"]["label"].value_counts().sort_index()
    assert told == [counts.tolist()]
    assert counts["roses"] < counts["daisy"]
