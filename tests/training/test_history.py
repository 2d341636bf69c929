import math
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback

from flowers.config.schema import Stage
from flowers.errors import UserError
from flowers.training.trainer import METRICS, History, shows_bar

Make = Callable[..., Any]


def test_each_epoch_is_a_row_and_told_once(
    make_net: Make, make_classifier: Make, fit: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    history = History(lines=True)
    stages = [Stage("head", 1, "head", 1e-2), Stage("body", 1, ["block1"], 1e-3)]
    trainer = fit(make_classifier(make_net("cnn"), stages), 2, history)
    told = history.rows
    assert [(row["epoch"], row["stage"]) for row in told] == [(1, "head"), (2, "body")]
    assert [row["lr"] for row in told] == [pytest.approx(1e-2), 0]  # of 3 steps the first has the peak; then frozen
    assert set(told[0]) == {"epoch", "stage", *METRICS, "lr", "epoch_s"}
    assert all(told[1][name] == float(trainer.callback_metrics[name]) for name in METRICS)
    assert all(float(row["epoch_s"]) > 0 for row in told)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"epoch   1/2 head     train loss {told[0]['train/loss']:.3f} acc")
    assert second.startswith("epoch   2/2 body ")


def test_rows_survive_in_a_checkpoint() -> None:
    history, later = History(), History()
    history.rows = [{"epoch": 1, "stage": "head"}]
    later.load_state_dict(history.state_dict())
    later.rows.append({"epoch": 2, "stage": "all"})
    assert history.rows == [{"epoch": 1, "stage": "head"}]
    assert [row["epoch"] for row in later.rows] == [1, 2]


@pytest.mark.parametrize(
    ("by", "figures", "best"),
    [("val/acc", [0.5, 0.8, 0.8, 0.7], 3), ("val/loss", [2.0, 1.0, math.nan, 1.5], 2), ("val/acc", [math.nan] * 2, 0)],
)
def test_the_best_epoch_is_the_latest_of_equals_and_its_weights_survive_in_a_checkpoint(
    by: str, figures: list[float], best: int, make_net: Make, make_classifier: Make
) -> None:
    classifier = make_classifier(make_net("linear"), [Stage("all", 4, "all", 1e-3)], ema_decay=0.5)
    classifier.stage = classifier.stages[0]
    history = History(save_best=by)
    for epoch, figure in enumerate(figures):
        trainer: Any = SimpleNamespace(
            current_epoch=epoch, num_training_batches=1, accumulate_grad_batches=1, callback_metrics={by: figure}
        )
        history.on_train_epoch_start(trainer, classifier)
        history._validated = True
        for parameter in classifier.final_net.parameters():
            parameter.fill_(epoch + 1)
        history.on_train_epoch_end(trainer, classifier)
        later = History(save_best=by)
        later.load_state_dict(history.state_dict())
        history = later
    if not best:
        assert history.best is None
        return
    assert history.best is not None
    assert history.best["epoch"] == best
    assert history.best["weights"].keys() == classifier.final_net.state_dict().keys()
    assert all((weights == best).all() for weights in history.best["weights"].values())


@pytest.mark.parametrize(("first_bad", "loss"), [(0, "train/loss"), (2, "train/loss"), (3, "val/loss")])
def test_a_diverged_training_is_said_and_leaves_no_row(
    first_bad: int, loss: str, make_net: Make, make_classifier: Make, fit: Make
) -> None:
    class Spoil(Callback):
        """Spoils the weights before a batch, or after the last of the three."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == first_bad:
                pl_module.net.head.bias.data.fill_(float("nan"))

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx + 1 == first_bad:
                pl_module.net.head.bias.data.fill_(float("nan"))

    history = History()
    classifier = make_classifier(make_net("mlp"), [Stage("all", 2, "all", 1e-3)])
    with pytest.raises(
        UserError,
        match=rf"{loss} of epoch 1 is nan for \w+/\w+_\d\d\.jpg, one of [68] such .* lower max_lr of stage 'all'",
    ):
        fit(classifier, 2, history, Spoil())
    assert history.rows == []


def test_a_bar_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal, raising=False)
        assert [shows_bar(progress) for progress in ("auto", "lines", "none")] == [terminal, False, False]
    with pytest.raises(UserError, match=r"^progress='line' is none of auto, lines, none"):
        shows_bar("line")
