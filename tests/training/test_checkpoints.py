import contextlib
import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from flowers.commands.train import train
from flowers.config.compose import as_dict, change
from flowers.config.schema import Settings, Stage
from flowers.data.datamodule import Batch
from flowers.errors import UserError
from flowers.tracking.store import read_note, write_note
from flowers.training import checkpoints as resume
from flowers.training.checkpoints import EpochCheckpoint, resume_key
from flowers.training.classifier import Classifier
from flowers.training.trainer import History

STAGES = [
    Stage("head", epochs=2, train="head", max_lr=1e-2),
    Stage("all", epochs=2, train="all", max_lr=[1e-3, 1e-2]),
]
Make = Callable[..., Any]


class StopAt(Callback):
    """Raises in the middle of an epoch, as an interruption does."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = (epoch, batch)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.place:
            raise RuntimeError("the power went out")


@pytest.fixture
def train_into(make_net: Make, make_classifier: Make, fit: Make) -> Callable[..., dict[str, Any]]:
    """A function that trains in a folder, going on from its checkpoint, and returns the checkpoint it leaves."""

    def run(folder: Path, epochs: int, *others: Callback) -> dict[str, Any]:
        folder.mkdir(exist_ok=True)
        classifier: Classifier = make_classifier(
            make_net("resnet_small"),
            STAGES,
            ema_decay=0.8,
            mixup_alpha=0.4,
            flip=True,
            rotation_deg=20,
            contrast=0.3,
            noise_sd_frac=0.2,
        )
        checkpoint = EpochCheckpoint(folder)
        torch.rand(len(str(folder)))  # a fresh process has another random state
        fit(classifier, epochs, History(), checkpoint, *others, ckpt_path=checkpoint.found())
        return read(folder)

    return run


def read(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=True)


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Name the places in which two checkpoints are not bit-equal."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) and one.dtype == other.dtype else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [where]
        return [found for key in one for found in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [where]
        return [
            found for i, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{where}/{i}")
        ]
    return [] if one == other else [where]


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    for part in ("state_dict", "optimizer_states", "callbacks", "epoch", "global_step"):
        unequal = differences(one[part], other[part])
        assert [place for place in unequal if not place.endswith("/epoch_s")] == [], part


@pytest.mark.slow
def test_interrupted_after_any_epoch_it_ends_as_if_it_had_not_been(
    tmp_path: Path, train_into: Callable[..., dict[str, Any]]
) -> None:
    whole = train_into(tmp_path / "whole", 4)
    [rows] = [state["rows"] for name, state in whole["callbacks"].items() if name == "History"]
    assert [(row["epoch"], row["stage"]) for row in rows] == [(1, "head"), (2, "head"), (3, "all"), (4, "all")]
    assert any(name.startswith("averaged.module.") for name in whole["state_dict"])
    assert any(name.endswith("running_var") for name in whole["state_dict"])
    assert whole["optimizer_states"][0]["state"]
    for stop in (1, 2, 3):
        folder = tmp_path / f"{stop}"
        assert train_into(folder, stop)["epoch"] == stop - 1
        assert_equal(train_into(folder, 4), whole)
    assert differences(read(tmp_path / "3")["state_dict"], train_into(tmp_path / "short", 3)["state_dict"])


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "batch"), [(1, 0), (2, 1), (3, 2)])
def test_interrupted_within_an_epoch_it_repeats_that_epoch(
    tmp_path: Path, train_into: Callable[..., dict[str, Any]], epoch: int, batch: int
) -> None:
    whole = train_into(tmp_path / "whole", 4)
    with pytest.raises(RuntimeError, match="power"):
        train_into(tmp_path / "cut", 4, StopAt(epoch, batch))
    assert read(tmp_path / "cut")["epoch"] == epoch - 1
    assert_equal(train_into(tmp_path / "cut", 4), whole)


def test_what_a_callback_ended_early_is_not_trained_on(
    tmp_path: Path, train_into: Callable[..., dict[str, Any]]
) -> None:
    ended = train_into(tmp_path / "run", 4, EarlyStopping("val/loss", stopping_threshold=100.0))
    assert ended["epoch"] == 0
    assert_equal(train_into(tmp_path / "run", 4, EarlyStopping("val/loss", stopping_threshold=100.0)), ended)


def test_a_full_disk_costs_the_last_epoch_only(
    tmp_path: Path, train_into: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_into(tmp_path / "whole", 4)
    save = lightning.Trainer.save_checkpoint

    def save_twice(trainer: lightning.Trainer, filepath: Path, *args: Any, **options: Any) -> None:
        if trainer.current_epoch == 2:
            Path(filepath).write_bytes(b"half a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(trainer, filepath, *args, **options)

    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", save_twice)
        words = rf"disk is full.* epoch 3 .*to {cut} by way of .*last good one stays in .*last\.ckpt.*make room"
        with pytest.raises(UserError, match=words):
            train_into(cut, 4)
    assert {path.name for path in cut.iterdir()} == {"stage-1.ckpt", "last.ckpt"}
    assert read(cut)["epoch"] == 1
    assert_equal(train_into(cut, 4), whole)


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, UserError), (errno.EIO, OSError)])
def test_a_first_checkpoint_that_cannot_be_written_leaves_nothing(
    tmp_path: Path,
    train_into: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
) -> None:
    def fail(trainer: lightning.Trainer, filepath: Path) -> None:
        filepath.write_bytes(b"half")
        raise OSError(number, "no")

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", fail)
    with pytest.raises(error, match="none was kept" if error is UserError else "no"):
        train_into(tmp_path / "run", 1)
    assert list((tmp_path / "run").iterdir()) == []


def test_the_key_changes_with_all_that_decides_the_result_and_with_nothing_else(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    key = resume_key(settings, "digest")
    stages = as_dict(settings)["model"]["stages"]
    moved = {f"data.{name}": "moved" for name in ("root", "decisions", "cache_dir", "split_csv")}
    same: list[dict[str, Any]] = [
        {"out_dir": "elsewhere"},
        {"tracking.enabled": True, "tracking.uri": "sqlite:///other.db"},
        {"progress": "none"},
        {"model.features_gib": 0},
        moved,
    ]
    assert {resume_key(change(settings, each), "digest") for each in same} == {key}
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"model.stages.0.epochs": 99},
        {"model.stages.0.max_lr": [1e-4, 1e-3]},
        {"model.stages": [*stages, stages[0]]},
        {"model.net.width": 8},
        {"model.ema_decay": 0.5},
        {"model.augment.flip": False},
        {"trainer.precision": "bf16-mixed"},
        {"trainer.limit_train_batches": None},
        {"weights_sha256": "0" * 64},
        {"callbacks": {"stop": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss"}}},
    ]
    keys = {resume_key(change(settings, each), "digest") for each in others}
    keys.add(resume_key(settings, "another digest"))
    monkeypatch.setattr(resume, "code_digest", lambda *rooms: "changed code")
    keys.add(resume_key(settings, "digest"))
    assert len(keys) == len(others) + 2
    assert key not in keys


def test_the_key_changes_with_the_content_of_the_weights_to_start_from(make_settings: Callable[..., Settings]) -> None:
    keys = []
    for path, content in (("one", b"a"), ("two", b"a"), ("one", b"b")):
        Path(path).write_bytes(content)
        keys.append(resume_key(change(make_settings(), {"weights": path, "model.weights": path}), "digest"))
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow over 4 KiB, as if there were no room for more."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_model_that_finds_no_room_names_the_place_and_is_written_by_the_same_command(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("model.stages.0.epochs=1", "model.net.dense=32")
    train(change(settings, {"out_dir": "whole"}))
    save = resume.save_weights

    def save_on_a_full_disk(net: torch.nn.Module, path: Path) -> None:
        with full_disk():
            save(net, path)

    with monkeypatch.context() as patch:
        patch.setattr(resume, "save_weights", save_on_a_full_disk)
        with pytest.raises(UserError, match=rf"{tmp_path}/out cannot be written \(File too large\): make room there"):
            train(settings)
    assert list((tmp_path / "out").iterdir()) == []
    train(settings)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out"))
    assert one == two
    assert not list((tmp_path / "runs/resume").iterdir())


def test_a_checkpoint_that_finds_no_room_beside_the_model_is_moved_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "key", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    (folder / "stage-1.ckpt").write_bytes(bytes(10_000))
    rename = os.replace

    def within_a_folder(path: Path, target: Path) -> Path:
        if path.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(path, target)
        return target

    monkeypatch.setattr(Path, "replace", within_a_folder)
    with full_disk(), pytest.raises(UserError, match=r"out/stage-1\.ckpt cannot be written \(File too large\)"):
        resume.finish(folder, out)
    assert list(out.iterdir()) == []
    resume.finish(folder, out)
    assert [(path.name, path.stat().st_size) for path in out.iterdir()] == [("stage-1.ckpt", 10_000)]
    assert not folder.exists()


def test_what_is_taken_over_is_whole(tmp_path: Path) -> None:
    earlier, out = tmp_path / "earlier", tmp_path / "out"
    earlier.mkdir()
    for name in ("model.safetensors", "run.json", "stage-1.ckpt"):
        (earlier / name).write_bytes(bytes(10_000 if name == "stage-1.ckpt" else 10))
    with full_disk(), pytest.raises(UserError, match=r"out cannot be written \(File too large\)"):
        resume.take_over(earlier, out)
    assert list(out.iterdir()) == []
    resume.take_over(earlier, out)
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "run.json", "stage-1.ckpt"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "note.json").write_bytes(content)
    assert read_note(tmp_path) == {}


def test_a_note_is_whole_or_what_it_was(tmp_path: Path) -> None:
    write_note(tmp_path, {"run_id": "a1"})
    with full_disk(), pytest.raises(UserError, match=r"note\.json cannot be written \(File too large\)"):
        write_note(tmp_path, {"run_id": "b" * 10_000})
    assert read_note(tmp_path) == {"run_id": "a1"}


def test_a_note_is_read_again_and_discarded_with_the_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "key"
    assert read_note(folder) == {}
    write_note(folder, {"run_id": "a1"})
    assert read_note(folder) == {"run_id": "a1"}
    resume.finish(folder, tmp_path)
    assert not folder.exists()
    resume.finish(folder, tmp_path)
