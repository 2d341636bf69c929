"""The bank gives what the frozen part gives, runs it once per photograph and view, and keeps to its memory."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from flowers.config.schema import Stage
from flowers.errors import UserError
from flowers.models.backbones import Backbone
from flowers.models.nets import Net
from flowers.training.classifier import Classifier
from flowers.training.feature_bank import FeatureBank, apply_part, frozen_border
from flowers.training.trainer import quiet_lightning

GIB = 2**30
AT_ONCE = 8
MakeClassifier = Callable[..., Classifier]
Fit = Callable[..., lightning.Trainer]


def maps(rows: list[int]) -> Tensor:
    """(B,2,3,3) that tell which photograph they are of."""
    return torch.tensor(rows).float()[:, None, None, None] + torch.arange(18.0).view(1, 2, 3, 3) / 100


@pytest.mark.parametrize("limit_bytes", [GIB, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_taken_is_what_was_computed(limit_bytes: int, dtype: torch.dtype, tmp_path: Path) -> None:
    bank = FeatureBank(AT_ONCE + 6, 2, limit_bytes, tmp_path / "bank", AT_ONCE)
    bank.fill(0, lambda rows: maps(rows).to(dtype))
    bank.fill(1, lambda rows: -maps(rows).to(dtype))
    rows = torch.tensor([AT_ONCE + 5, 0, AT_ONCE + 1, 0])
    assert torch.equal(bank.take(0, rows), maps(rows.tolist()).to(dtype))
    assert torch.equal(bank.take(1, rows), -maps(rows.tolist()).to(dtype))
    assert bank.take(0, rows).is_contiguous(memory_format=torch.channels_last)
    assert (tmp_path / "bank").exists() == (limit_bytes == 1)
    assert not list((tmp_path / "bank").glob("*"))  # the file goes with the process


def test_a_view_is_computed_once_in_batches(tmp_path: Path) -> None:
    bank = FeatureBank(AT_ONCE + 6, 1, GIB, tmp_path, AT_ONCE)
    asked: list[int] = []

    def compute(rows: list[int]) -> Tensor:
        assert len(rows) <= AT_ONCE
        asked.extend(rows)
        return torch.zeros(len(rows), 4)

    bank.fill(0, compute)
    bank.fill(0, compute)
    assert asked == list(range(AT_ONCE + 6))


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    bank = FeatureBank(10, 1, 1, tmp_path, AT_ONCE)
    with pytest.raises(UserError, match=r"No space left on device\); make room, lower `views`"):
        bank.fill(0, maps)
    assert not list(tmp_path.iterdir())


def test_the_border_is_where_training_begins() -> None:
    net = Net(1)
    for name, child in (("stem", nn.Linear(1, 1)), ("stage1", nn.Linear(1, 1)), ("pool", nn.Identity())):
        net.add_module(name, child)
    net.add_module("head", nn.Linear(1, 1))
    assert frozen_border(net, ["head"]) == 3  # the pooling is done with what is frozen
    assert frozen_border(net, ["stage1", "head"]) == 1
    assert frozen_border(net, ["stem", "stage1", "head"]) == 0
    images = torch.ones(2, 1)
    with torch.no_grad():
        assert torch.equal(apply_part(net, 1, None, apply_part(net, 0, 1, images)), apply_part(net, 0, None, images))


STAGES = [
    Stage("head", 3, "head", 1e-2),
    Stage("last", 3, "last:2", [1e-3, 1e-2], views=3),
    Stage("plain", 2, "last:2", 1e-3, views=1),
    Stage("all", 1, "all", 1e-3),
]
AUGMENT: dict[str, Any] = {"flip": True, "rotation_deg": 20, "brightness": 0.3, "erase_frac": 0.2, "noise_sd_frac": 0.2}


@pytest.mark.slow
@pytest.mark.parametrize("mixing", [{}, {"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
@pytest.mark.parametrize("ema_decay", [0, 0.9])
def test_with_the_bank_training_is_what_it_is_without(
    mixing: dict[str, float],
    ema_decay: float,
    make_net: Callable[..., nn.Module],
    make_classifier: MakeClassifier,
    fit: Fit,
    tmp_path: Path,
) -> None:
    trained = []
    for limit_bytes in (0, GIB, 1):
        torch.manual_seed(0)
        net = make_net("resnet_small")
        gib = limit_bytes / GIB
        classifier = make_classifier(net, STAGES, features_gib=gib, ema_decay=ema_decay, **AUGMENT, **mixing)
        fit(classifier, sum(stage.epochs for stage in STAGES))
        trained.append(classifier)
    without, *others = trained
    for other in others:
        for name, tensor in without.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], tensor)
        assert torch.equal(other.val_confusion.compute(), without.val_confusion.compute())


@pytest.mark.slow
def test_a_transformer_is_cut_between_its_blocks_and_trains_the_same(make_classifier: MakeClassifier, fit: Fit) -> None:
    trained = []
    for gib in (0, 1):
        torch.manual_seed(0)
        net = Backbone(3, "test_vit", 32, "linear", "avg", 8, 0.0, {})
        classifier = make_classifier(net, STAGES, features_gib=gib, ema_decay=0.9, **AUGMENT, mixup_alpha=0.4)
        assert frozen_border(net, ["block6", "head"]) == 6
        fit(classifier, sum(stage.epochs for stage in STAGES))
        trained.append(classifier)
    for name, tensor in trained[0].state_dict().items():
        assert torch.equal(trained[1].state_dict()[name], tensor), name


def test_the_frozen_part_runs_once_per_view(
    make_net: Callable[..., nn.Module], make_classifier: MakeClassifier, fit: Fit, tmp_path: Path
) -> None:
    net = make_net("resnet_small")
    seen = 0

    def count(_: nn.Module, arguments: tuple[Tensor]) -> None:
        nonlocal seen
        seen += len(arguments[0])

    net.get_submodule("stem").register_forward_pre_hook(count)
    classifier = make_classifier(net, [Stage("head", 7, "head", 1e-2)], features_gib=1, flip=True)
    trainer = fit(classifier, 7)
    photographs = trainer.datamodule  # type: ignore[attr-defined]
    assert seen == 2 * len(photographs.train) + len(photographs.val)
    # Whoever is given these photographs next gets them, and not what the bank has of them.
    assert classifier.val_bank is None
    assert all(batch.images.shape[1:] == (3, 32, 32) for batch in photographs.val_dataloader())


def test_an_interrupted_fit_leaves_no_bank_to_the_next(
    make_net: Callable[..., nn.Module], make_classifier: MakeClassifier, fit: Fit
) -> None:
    class Interruption(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("interrupted")

    net = make_net("resnet_small")
    classifier = make_classifier(net, [Stage("head", 2, "head", 1e-2)], features_gib=1)
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(classifier, 2, Interruption())
    net.train()  # else Lightning warns of what the interruption left frozen
    seen: list[int] = []
    net.get_submodule("stem").register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    others = TensorDataset(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 3)
    with quiet_lightning():
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(classifier, DataLoader(others, batch_size=4), DataLoader(others, batch_size=8))
    assert seen == [4, 4, 8]
