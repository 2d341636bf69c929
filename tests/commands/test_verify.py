"""The proof of reproducibility proves it, and fails where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flowers.commands.verify import shorten, verify
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.training.classifier import Classifier


def test_reproducible_training_is_said_to_be(
    make_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(make_settings())
    said = capsys.readouterr().out
    assert "cnn_scratch is reproducible here: three trainings, one of them interrupted" in said
    assert "sha256 " in said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("spoiled", ["everywhere", "in the resumed one"])
@pytest.mark.slow
def test_irreproducible_training_is_found(
    spoiled: str, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Classifier.on_train_epoch_start
    epochs = 0

    def disturbed(self: Classifier) -> None:
        nonlocal epochs
        epochs += 1  # 2 epochs first, 2 second, 1 before the interruption, 1 after it
        if spoiled == "everywhere" or epochs == 6:
            with torch.no_grad():
                next(self.net.parameters()).add_(epochs * 1e-3)
        begin(self)

    monkeypatch.setattr(Classifier, "on_train_epoch_start", disturbed)
    which = "second and the interrupted" if spoiled == "everywhere" else "interrupted"
    with pytest.raises(UserError, match=f"the {which} training of cnn_scratch differs from the first"):
        verify(make_settings())


def test_every_stage_is_kept_but_brief(make_settings: Callable[..., Settings]) -> None:
    table = "[{name: a, epochs: 5, train: head, max_lr: 1},{name: b, epochs: 0, train: all, max_lr: 1}]"
    assert [stage.epochs for stage in shorten(make_settings(f"model.stages={table}")).model.stages] == [2, 0]
    table = table.replace("epochs: 0", "epochs: 3")
    brief = shorten(make_settings(f"model.stages={table}", "tracking.enabled=true"))
    assert [stage.epochs for stage in brief.model.stages] == [1, 1]
    assert brief.trainer.limit_train_batches == 4
    assert not brief.tracking.enabled
