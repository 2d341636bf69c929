import copy
import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from flowers.config.schema import Stage
from flowers.data.augment import AugmentParams, as_pixels, reduced
from flowers.data.datamodule import Batch, PhotoDataModule, ShuffledBatches, class_weights
from flowers.errors import UserError
from flowers.training import classifier as classifier_module
from flowers.training.classifier import Classifier, weights_of
from flowers.training.stages import rates_at
from flowers.training.trainer import quiet_lightning

NETS = ("linear", "mlp", "cnn", "resnet_small")
ALL = Stage("all", epochs=2, train="all", max_lr=5e-3)
HEAD = Stage("head", epochs=1, train="head", max_lr=1e-2)
State = dict[str, Tensor]
Fit = Callable[..., lightning.Trainer]
Make = Callable[..., Any]


class Recorder(Callback):
    """Keeps what happened at each step."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.losses: list[float] = []
        self.rates: list[dict[str, float]] = []
        self.states: list[State] = []
        self.epochs: list[State] = []

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, Classifier)
        self.batches.append(batch)
        self.losses.append(float(outputs["loss"]))
        self.states.append(copy.deepcopy(pl_module.net.state_dict()))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        self.epochs.append(copy.deepcopy(pl_module.net.state_dict()))


def first_batch(module: PhotoDataModule) -> Batch:
    module.setup("fit")
    return next(iter(module.train_dataloader()))


def prepared(batch: Batch, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.25,) * 3) -> Tensor:
    return (batch.images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize("name", NETS)
def test_the_first_loss_is_near_that_of_guessing(
    name: str, make_net: Make, batches_of: Callable[[], PhotoDataModule]
) -> None:
    classes = 20
    net = make_net(name, num_classes=classes).eval()
    images = prepared(first_batch(batches_of()))
    with torch.no_grad():
        losses = -net(images).log_softmax(dim=1).mean()  # over all labels, so that luck with a few is left out
    assert float(losses) == pytest.approx(math.log(classes), abs=0.4)


@pytest.mark.parametrize("name", NETS)
def test_one_batch_can_be_learnt_by_heart(
    name: str, make_net: Make, make_classifier: Make, batches_of: Callable[[], PhotoDataModule]
) -> None:
    batch = first_batch(batches_of())
    changes = {} if name == "linear" else {"dropout": 0}
    classifier = make_classifier(make_net(name, **changes), [ALL], weight_decay=0)
    optimizer = classifier.configure_optimizers()
    for group in optimizer.param_groups:
        group["lr"] = 1e-2 if name != "linear" else 1e-3
    for _ in range(30):
        loss = functional.cross_entropy(classifier.net(prepared(batch)), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1


@pytest.mark.parametrize("label_smoothing", [0, 0.1])
def test_class_weights_decide_what_a_photograph_counts_in_the_loss(
    label_smoothing: float,
    make_net: Make,
    make_classifier: Make,
    batches_of: Callable[[], PhotoDataModule],
    fit: Callable[..., lightning.Trainer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = torch.tensor([0] * 18 + [1] * 5 + [2])  # what the classifier is told; the batches have 8 of each
    net = make_net("linear")
    classifier = make_classifier(
        net,
        [Stage("all", 1, "all", 1e-12)],
        class_weights="inverse",
        label_smoothing=label_smoothing,
    )
    monkeypatch.setattr(
        classifier_module, "class_weights", lambda key, balance, _, count: class_weights(key, balance, labels, count)
    )
    weights = torch.tensor([24 / 3 / 18, 24 / 3 / 5, 24 / 3 / 1])
    expected = []
    photographs = batches_of()
    photographs.setup("fit")
    for batch in photographs.train_dataloader():
        logs = net(prepared(batch)).log_softmax(dim=1).detach()
        share = functional.one_hot(batch.labels, 3) * (1 - label_smoothing) + label_smoothing / 3
        expected.append(-((share * logs).sum(dim=1) * weights[batch.labels]).mean())
    trainer = fit(classifier, 1)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(float(sum(expected)) / 3, rel=1e-4)


def test_class_weights_need_the_loss_of_each_photograph(make_net: Make, make_classifier: Make, fit: Fit) -> None:
    classifier = make_classifier(make_net("linear"), [ALL], class_weights="inverse")
    classifier.loss = nn.CrossEntropyLoss()
    with pytest.raises(UserError, match=r"class_weights=inverse needs a loss for each photograph \(reduction: none\)"):
        fit(classifier, 1)


@pytest.mark.parametrize("blended", [False, True])
def test_weighted_losses_are_those_of_a_plain_reference(blended: bool) -> None:
    rng = np.random.default_rng(0)
    logits, by_class = rng.normal(size=(6, 4)), np.array([0.5, 1, 4, 2])
    first, second = rng.integers(4, size=(2, 6))
    kept = rng.uniform(0.5, 1, 6) if blended else np.ones(6)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def smoothed(labels: NDArray[np.int64]) -> NDArray[np.float64]:
        return -0.9 * logs[np.arange(6), labels] - 0.1 * logs.mean(axis=1)

    weights = kept * by_class[first] + (1 - kept) * by_class[second]
    expected = weights * (kept * smoothed(first) + (1 - kept) * smoothed(second))
    shares = kept[:, None] * np.eye(4)[first] + (1 - kept)[:, None] * np.eye(4)[second]
    targets = torch.from_numpy(shares if blended else first)
    losses = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")(torch.from_numpy(logits), targets)
    np.testing.assert_allclose(losses * weights_of(targets, torch.from_numpy(by_class)), expected)


@pytest.mark.parametrize("counts", [[400, 8], [300, 100, 100, 100, 6]])
def test_a_rare_class_does_not_win_everywhere_when_labels_are_smoothed(counts: list[int]) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    features = 3 * torch.eye(len(counts), 8)[labels] + 0.5 * torch.randn(len(labels), 8)
    model = nn.Linear(8, len(counts))
    by_class = class_weights("key", "inverse", labels, len(counts))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(300):
        losses = functional.cross_entropy(model(features), labels, reduction="none", label_smoothing=0.1)
        optimizer.zero_grad()
        (losses * weights_of(labels, by_class)).mean().backward()
        optimizer.step()
    assert (model(features).argmax(dim=1) == labels).float().mean() > 0.99


ADAMW = functools.partial(torch.optim.AdamW, betas=(0.8, 0.999), weight_decay=0.5)
SGD = functools.partial(torch.optim.SGD, momentum=0.8, nesterov=True, weight_decay=0.5)


@pytest.mark.parametrize("optimizer", [ADAMW, functools.partial(torch.optim.SGD, weight_decay=0.5)])
def test_decay_shrinks_weights_and_leaves_biases_and_norms(
    optimizer: Callable[..., Any], make_net: Make, make_classifier: Make
) -> None:
    net = make_net("resnet_small")
    for parameter in net.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    steps = make_classifier(net, [ALL], optimizer=optimizer).configure_optimizers()
    for group in steps.param_groups:
        group["lr"] = 0.1
    steps.step()
    for name, parameter in net.named_parameters():
        wanted = 1 - 0.1 * 0.5 if parameter.ndim >= 2 else 1.0
        assert torch.allclose(parameter, torch.full_like(parameter, wanted)), name


def test_the_optimiser_is_what_the_recipe_says(make_net: Make, make_classifier: Make) -> None:
    adamw = make_classifier(make_net("mlp"), [ALL], optimizer=ADAMW).configure_optimizers()
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["betas"] == (0.8, 0.999)
    sgd = make_classifier(make_net("mlp"), [ALL], optimizer=SGD).configure_optimizers()
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"betas": (1.0, 0.999)}, "'model.optimizer' cannot be built: Invalid beta parameter at index 0: 1.0;"),
        ({"weight_decay": -0.1}, "'model.optimizer' cannot be built: Invalid weight_decay value: -0.1;"),
        ({"label_smoothing": 1.0}, "model.loss.label_smoothing=1.0 must be at least 0 and less than 1;"),
        ({"ema_decay": 1.0}, "model.ema_decay=1.0 must"),
        ({"features_gib": -1}, "model.features_gib=-1 must be at least 0;"),
        ({"mixup_alpha": -1.0}, "model.augment.mixup_alpha=-1.0 must"),
        ({"zoom_frac": -2.0}, "model.augment.zoom_frac=-2.0 must"),
        ({"contrast": float("nan")}, "model.augment.contrast=nan must"),
    ],
)
def test_what_cannot_be_trained_with_is_refused_at_once(
    changes: dict[str, Any], sentence: str, make_net: Make, make_classifier: Make
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_classifier(make_net("mlp"), [ALL], **changes)


def test_rates_at_every_step_are_those_of_the_closed_form(make_net: Make, make_classifier: Make, fit: Fit) -> None:
    stages = [HEAD, Stage("last", epochs=2, train="last:2", max_lr=[1e-4, 1e-2])]
    recorder = Recorder()
    classifier = make_classifier(make_net("cnn"), stages)
    fit(classifier, 3, recorder)
    assert len(recorder.rates) == 9
    for step, rates in enumerate(recorder.rates):
        wanted = rates_at(stages, ["block1", "block2", "head"], step, 3)
        assert rates == {f"{name}/{kind}": wanted[name] for name in wanted for kind in ("decay", "plain")}


def test_accumulated_batches_are_one_step_of_the_rates_and_of_the_average(
    make_net: Make, make_classifier: Make, fit: Fit
) -> None:
    recorder, stages = Recorder(), [HEAD, replace(ALL, epochs=1)]
    classifier = make_classifier(make_net("resnet_small"), stages, ema_decay=0.7)
    trainer = fit(classifier, 2, recorder, accumulate_grad_batches=2)
    assert len(recorder.batches) == 6
    assert trainer.global_step == len(recorder.rates) == 4  # the third batch of an epoch is a step by itself
    for step, rates in enumerate(recorder.rates):
        wanted = rates_at(stages, classifier.groups, step, 2)
        assert {name.partition("/")[0]: rate for name, rate in rates.items()} == wanted
    _, *steps = (recorder.states[batch] for batch in (1, 2, 4, 5))
    average = recorder.states[1]["head.3.weight"]
    for state in steps:
        average = 0.7 * average + 0.3 * state["head.3.weight"]
    torch.testing.assert_close(classifier.final_net.state_dict()["head.3.weight"], average)


@pytest.mark.parametrize("features_gib", [0, 1])
def test_a_stage_trains_on_reduced_images_and_validates_on_whole_ones(
    features_gib: float, make_net: Make, make_classifier: Make, fit: Fit
) -> None:
    net, stages = make_net("resnet_small"), [replace(HEAD, epochs=2, image_px=16), replace(ALL, image_px=24), ALL]
    classifier = make_classifier(net, stages, features_gib=features_gib, flip=True)
    seen: list[tuple[bool, int]] = []
    net.stem.register_forward_hook(lambda stem, images, _: seen.append((stem.training, images[0].shape[-1])))
    fit(classifier, 6)
    assert set(seen) == {(False, 16), (True, 24), (True, 32), (False, 32)}


def test_reduced_images_are_those_that_pillow_makes_of_them(batches_of: Callable[[], PhotoDataModule]) -> None:
    images = first_batch(batches_of()).images
    found = reduced(images, 20)
    assert found.dtype == torch.uint8
    for image, small in zip(images, found, strict=True):
        wanted = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((20, 20), Image.Resampling.BILINEAR)
        assert np.abs(small.permute(1, 2, 0).numpy().astype(int) - np.asarray(wanted).astype(int)).max() <= 1


def test_what_a_stage_freezes_stays_as_the_stage_before_left_it(
    make_net: Make, make_classifier: Make, fit: Fit
) -> None:
    stages = [Stage("all", epochs=1, train="all", max_lr=1e-2), HEAD, Stage("two", 1, ["stage2", "head"], 1e-2)]
    recorder = Recorder()
    fit(make_classifier(make_net("resnet_small"), stages, weight_decay=0.5), 3, recorder)
    one, two, three = recorder.epochs
    for name in one:
        assert torch.equal(one[name], two[name]) != name.startswith("head."), name
        assert torch.equal(two[name], three[name]) != name.startswith(("stage2.", "head.")), name


@pytest.mark.parametrize(
    ("changes", "peak"), [({}, 2e-2), ({"optimizer": functools.partial(SGD, weight_decay=0.05, momentum=0.9)}, 0.2)]
)
def test_a_training_lowers_the_loss(
    changes: dict[str, Any], peak: float, make_net: Make, make_classifier: Make, fit: Fit
) -> None:
    recorder = Recorder()
    fit(
        make_classifier(make_net("resnet_small", dropout=0), [Stage("all", 4, "all", peak)], **changes),
        4,
        recorder,
    )
    assert sum(recorder.losses[-3:]) < 0.8 * sum(recorder.losses[:3])


def test_the_average_follows_weights_and_buffers_and_is_what_is_validated(
    make_net: Make, make_classifier: Make, fit: Fit, batches_of: Callable[[], PhotoDataModule]
) -> None:
    recorder, decay = Recorder(), 0.7
    classifier = make_classifier(make_net("resnet_small"), [Stage("all", 1, "all", 5e-2)], ema_decay=decay)
    trainer = fit(classifier, 1, recorder)
    assert len(recorder.states) == 3
    average = classifier.final_net.state_dict()
    assert average.keys() == recorder.states[0].keys()
    for name, found in average.items():
        if not found.is_floating_point():  # the number of batches that a batch-norm has seen; nothing reads it
            continue
        wanted = recorder.states[0][name].clone()
        for state in recorder.states[1:]:
            wanted = decay * wanted + (1 - decay) * state[name]
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-7), name

    photographs = batches_of()
    photographs.setup("fit")
    losses = {}
    for which, net in (("average", classifier.final_net), ("net", classifier.net)):
        total, count = 0.0, 0
        for batch in photographs.val_dataloader():
            with torch.no_grad():
                logits = net.eval()(prepared(batch))
            total += float(functional.cross_entropy(logits, batch.labels, reduction="sum"))
            count += len(batch.labels)
        losses[which] = total / count
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(losses["average"], rel=1e-5)
    assert losses["net"] != pytest.approx(losses["average"], rel=1e-3)
    assert int(classifier.val_confusion.compute().sum()) == 6


def test_the_loss_is_that_of_smoothed_labels_on_prepared_pixels(
    make_net: Make, make_classifier: Make, fit: Fit
) -> None:
    net = make_net("mlp", dropout=0)
    net.mean, net.std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    start, recorder, smoothing = copy.deepcopy(net), Recorder(), 0.2
    fit(make_classifier(net, [ALL], label_smoothing=smoothing), 1, recorder)
    batch = recorder.batches[0]
    with torch.no_grad():
        logs = start(prepared(batch, net.mean, net.std)).log_softmax(dim=1)
    right = logs[torch.arange(8), batch.labels]
    wanted = -((1 - smoothing) * right + smoothing * logs.mean(dim=1)).mean()
    assert recorder.losses[0] == pytest.approx(float(wanted), rel=1e-4)


def test_mixup_blends_images_and_labels_of_the_batch(make_net: Make, make_classifier: Make, fit: Fit) -> None:
    net = make_net("mlp", dropout=0)
    start, recorder = copy.deepcopy(net), Recorder()
    fit(make_classifier(net, [ALL], mixup_alpha=0.5, seed=7), 1, recorder)
    draws = AugmentParams(24, seed=7, epoch=0, mixup_alpha=0.5)
    batch = recorder.batches[0]
    images, labels = prepared(batch), batch.labels
    order = sorted(range(8), key=lambda row: float(draws.partner[batch.ids[row]]))
    partner = {row: order[place - 1] for place, row in enumerate(order)}
    wanted = 0.0
    for row in range(8):
        weight, other = float(draws.mix[batch.ids[row]]), partner[row]
        with torch.no_grad():
            logs = start((weight * images[row] + (1 - weight) * images[other])[None]).log_softmax(dim=1)[0]
        wanted -= float(weight * logs[labels[row]] + (1 - weight) * logs[labels[other]]) / 8
    assert recorder.losses[0] == pytest.approx(wanted, rel=1e-4)


def test_every_epoch_has_its_own_order_and_its_own_draws(make_net: Make, make_classifier: Make, fit: Fit) -> None:
    recorder = Recorder()
    classifier = make_classifier(make_net("linear"), [ALL], mixup_alpha=0.5)
    fit(classifier, 2, recorder)
    for epoch in range(2):
        sampler = ShuffledBatches(24, 8, seed=0)
        sampler.set_epoch(epoch)
        assert [batch.ids.tolist() for batch in recorder.batches[3 * epoch : 3 * epoch + 3]] == list(sampler)
    wanted = AugmentParams(24, seed=0, epoch=1, mixup_alpha=0.5)
    assert torch.equal(classifier.draws.uniform, wanted.uniform)
    assert torch.equal(classifier.draws.mix, wanted.mix)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    make_net: Make, make_classifier: Make, fit: Fit
) -> None:
    states: list[State] = []
    for seed in (0, 0, 1):
        classifier = make_classifier(make_net("cnn"), [ALL], seed=seed, flip=True, rotation_deg=20, mixup_alpha=0.3)
        torch.manual_seed(len(states))  # what was drawn before must not matter
        fit(classifier, 1)
        states.append(classifier.net.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.zeros(6, 3, 32, 32, dtype=torch.uint8), ""),
        (torch.rand(6, 3, 32, 32), ""),
        (torch.full((6, 3, 32, 32), 200), ""),  # whole numbers, as numpy and lists give them
        (torch.rand(6, 3, 40, 32), "images of 32 × 40 px, but predict will give this network 32 × 32 px"),
        (torch.rand(6, 3, 32, 32) * 255, "numbers from 0"),
        (torch.rand(6, 3, 32, 32) * 4 - 2, "numbers from -"),  # normalised already
    ],
)
def test_images_that_are_others_than_predict_will_give_are_told_once(
    images: Tensor, told: str, make_net: Make, make_classifier: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = DataLoader(TensorDataset(images, torch.arange(6) % 3), batch_size=3)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    with quiet_lightning():
        trainer = lightning.Trainer(accelerator="cpu", max_epochs=2, enable_checkpointing=False, **quiet)
        trainer.fit(make_classifier(make_net("resnet_small"), [ALL]), loader, loader)
    said = capsys.readouterr().err
    assert said.count("flowers: the batches hold") == bool(told)
    assert told in said


def test_whole_numbers_are_levels_of_any_integer_type() -> None:
    levels = torch.tensor([0, 7, 255])
    assert torch.equal(as_pixels(levels), levels)
    assert torch.equal(as_pixels(levels.to(torch.uint8)), levels.to(torch.uint8))
    torch.testing.assert_close(as_pixels(levels / 255), levels.float())
