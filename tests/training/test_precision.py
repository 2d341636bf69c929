from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from flowers.config.provenance import peak_memory_bytes
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.models.inference import keep_freed_memory
from flowers.training.trainer import make_trainer, resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx512_f": True, "avx512_bf16": False}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_bfloat16_only_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("32-true", "cpu") == "32-true"
    assert resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"


def test_a_torch_that_cannot_tell_gets_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", "cpu") == "32-true"


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_where_it_is_used(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not native}, raising=False)
    assert resolve_precision("auto", "auto") == ("bf16-mixed" if native else "32-true")
    assert resolve_precision("auto", "cpu") == ("32-true" if native else "bf16-mixed")


def test_an_unknown_precision_is_refused(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match=r"'trainer\.precision' is 'bf16-mixd', but must be of type .*'bf16-mixed'"):
        make_settings("trainer.precision=bf16-mixd")


@pytest.mark.parametrize(
    "word", ["trainer.limit_train_batches=0", "trainer.gradient_clip_val=-1", "trainer.accumulate_grad_batches=0"]
)
def test_numbers_that_lightning_would_take_silently_are_refused(
    word: str, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"{word}(\.0)? must be"):
        make_trainer(make_settings(word).trainer, tmp_path)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("accelerator=foo", r"accelerator='foo'.*; correct trainer\.accelerator\."),
        ("devices=99", r"trainer\.devices=99, but a training runs on one device here: leave it out"),
        ("devices=0", r"; correct trainer\.accelerator or trainer\.devices\."),
        ("strategy=foo", r"strategy='foo'.*; correct trainer\.strategy\."),
        ("max_time=foo", r"; correct trainer\.max_time\."),
    ],
)
def test_what_lightning_refuses_is_answered_with_the_key(
    word: str, said: str, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        make_trainer(make_settings(f"trainer.{word}").trainer, tmp_path)


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (EarlyStopping("val_loss"), "EarlyStopping watches val_loss, which is called val/loss here"),
        (EarlyStopping("val/acc"), "EarlyStopping watches val/acc with mode=min, .*give it mode=max"),
        (ModelCheckpoint(monitor="val/acc"), "ModelCheckpoint watches val/acc with mode=min"),
        (ModelCheckpoint(monitor="val/loss", mode="max"), "with mode=max, .*give it mode=min"),
    ],
)
def test_a_callback_that_would_watch_for_the_worst_is_refused(
    callback: Callback, said: str, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        make_trainer(make_settings().trainer, tmp_path, callbacks=[callback])


def test_the_peak_is_in_bytes_and_never_sinks() -> None:
    keep_freed_memory()
    before = peak_memory_bytes()
    assert before >= 0.5 * psutil.Process().memory_info().rss
    block = torch.ones(2**24)  # 64 MiB
    assert peak_memory_bytes() >= max(before, block.nbytes)
    del block
    assert peak_memory_bytes() >= before
