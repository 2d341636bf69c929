"""A package outside the project plugs in by configuration, without an edit of our source."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
from tests.processes import call_flowers

PACKAGE = '''
import lightning, torch
from torch import nn
from torch.nn import functional


class PlainNet(nn.Module):
    """Knows nothing of flowers: its forward is no row of its children, and it does not say which images it wants."""

    def __init__(self, num_classes, width=4):
        super().__init__()
        self.features = nn.Conv2d(3, width, 3, stride=2)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.classifier(torch.relu(self.features(images)).mean(dim=(2, 3)))


class Focal(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, labels):
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return ((1 - torch.exp(-losses)) ** self.gamma * losses).mean()


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_((first * mean + (1 - first) * parameter.grad).sign(), alpha=-group["lr"])
                mean.mul_(second).add_(parameter.grad, alpha=1 - second)
        return loss


class Dim:
    """An augmentation of one image."""

    def __init__(self, most=0.5):
        self.most = most

    def __call__(self, image):
        return (image.float() * (1 - self.most * torch.rand(()))).to(torch.uint8)


class Told(lightning.Callback):
    def __init__(self, file):
        self.file = file

    def on_train_end(self, trainer, pl_module):
        with open(self.file, "w") as out:
            print(type(pl_module.net).__name__, type(pl_module.loss).__name__, file=out)
            print(type(trainer.optimizers[0]).__name__, type(pl_module.augment).__name__, file=out)


class Noise(lightning.LightningDataModule):
    """Batches of images and labels, as everybody's DataModule gives them."""

    def __init__(self, classes, batch_size):
        super().__init__()
        self.classes, self.batch_size = classes, batch_size

    def _loader(self):
        images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        data = torch.utils.data.TensorDataset(images, torch.arange(12) % len(self.classes))
        return torch.utils.data.DataLoader(data, batch_size=self.batch_size)

    train_dataloader = val_dataloader = _loader
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "outside/mypackage").mkdir(parents=True)
    (tmp_path / "outside/mypackage/__init__.py").write_text(textwrap.dedent(PACKAGE))
    return tmp_path / "outside"


def run(package: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return call_flowers(folder, *words, PYTHONPATH=os.pathsep.join([str(package), *sys.path]))


@pytest.mark.slow
def test_parts_of_another_package_train_and_are_opened_again(package: Path, photographs: Path, tmp_path: Path) -> None:
    done = run(
        package,
        tmp_path,
        *("train", "experiment=cnn_scratch", "data=folder", f"data.root={photographs}", "data.image_px=32"),
        *("trainer=brief", "trainer.max_epochs=2", "data.batch_size=8", "tracking.enabled=false", "out_dir=out"),
        *("model.net._target_=mypackage.PlainNet", "model.net.width=8", "model.loss._target_=mypackage.Focal"),
        *("model.optimizer._target_=mypackage.Lion", "model.augment._target_=mypackage.Dim", "model.augment.most=0.3"),
        *("callbacks.told._target_=mypackage.Told", "callbacks.told.file=told.txt"),
        *("callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping", "callbacks.stop.monitor=val/loss"),
        *("callbacks.rates._target_=lightning.pytorch.callbacks.LearningRateMonitor",),
        *("logger.csv._target_=lightning.pytorch.loggers.CSVLogger", "logger.csv.save_dir=csv"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told.txt").read_text().split() == ["PlainNet", "Focal", "Lion", "Dim"]
    (metrics,) = (tmp_path / "csv").rglob("metrics.csv")
    logged = pd.read_csv(metrics)
    assert {"train/loss", "val/acc"} <= set(logged.columns)
    assert any(column.startswith("lr-Lion") for column in logged.columns)
    assert len(pd.read_csv(tmp_path / "out/history.csv")) == 2

    refused = run(package, tmp_path, "predict", "model=out", f"photos={photographs}", "out=answers.csv")
    assert refused.returncode == 2
    assert "mypackage." in refused.stderr
    assert "Traceback" not in refused.stderr
    allowed = run(
        package, tmp_path, "predict", "model=out", f"photos={photographs}", "out=answers.csv", "allow=[mypackage]"
    )
    assert allowed.returncode == 0, allowed.stderr
    assert len(pd.read_csv(tmp_path / "answers.csv")) == 36
    evaluated = run(package, tmp_path, "evaluate", "model=out", "allow=[mypackage]")
    assert evaluated.returncode == 0, evaluated.stderr
    assert (tmp_path / "out/test/report.html").is_file()


@pytest.mark.slow
def test_another_package_gives_the_batches(package: Path, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "conf/data").mkdir(parents=True)
    node = "_target_: mypackage.Noise\nclasses: [a, b, c]\nbatch_size: 4\n"
    (tmp_path / "conf/data/noise.yaml").write_text(node)
    done = run(
        package,
        tmp_path,
        *("train", "experiment=cnn_scratch", "data=noise", "model.net.image_px=32", "model.net.blocks=2"),
        *("trainer=brief", "trainer.max_epochs=1", "tracking.enabled=false"),
        "out_dir=out",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/model.safetensors").exists()
    assert len(pd.read_csv(tmp_path / "out/history.csv")) == 1
    # What the network makes of others is compared with what it makes of the validation images.
    words = ("model=out", f"photos={photographs}", "out=found.csv", "allow=[mypackage]")
    done = run(package, tmp_path, "predict", *words)
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "found.csv")["ood_percentile"].between(0, 1).all()


@pytest.mark.slow
def test_a_class_that_is_not_there_is_said_before_anything_starts(package: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(package), *sys.path])}
    words = ["train", "experiment=cnn_scratch", "model.net._target_=mypackage.PlainNett"]
    command = [sys.executable, "-m", "flowers", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'model.net._target_' is 'mypackage.PlainNett'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_size_that_a_network_does_not_say_is_kept_with_it(package: Path, photographs: Path, tmp_path: Path) -> None:
    words = ["train", "experiment=cnn_scratch", "data=folder", f"data.root={photographs}", "trainer=brief"]
    words += ["trainer.max_epochs=1", "tracking.enabled=false", "model.net._target_=mypackage.PlainNet"]
    refused = run(package, tmp_path, *words, "model.image_px=32", "data.image_px=64", "out_dir=other")
    assert refused.returncode == 2
    assert refused.stderr == "flowers: data.image_px=64, but model.image_px=32; leave out one of the two.\n"
    assert run(package, tmp_path, *words, "model.image_px=32", "out_dir=out").returncode == 0
    done = run(package, tmp_path, "predict", "model=out", f"photos={photographs}", "allow=[mypackage]")
    assert done.returncode == 0, done.stderr
