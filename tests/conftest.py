"""What several tests share: photographs that can be learned in seconds, and small settings to learn them with."""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from flowers.config.compose import change, compose_config, conf_dirs, read_settings
from flowers.config.schema import Settings
from flowers.models.nets import CNN, MLP, Linear, ResNetSmall

PHOTOGRAPHS_PER_CLASS = 12
COLOURS = {"daisy": (235, 235, 240), "roses": (200, 30, 60), "sunflowers": (240, 190, 30)}

# These networks are too small to share out, and threads that wait for each other are slow on a busy machine. Processes
# that tests start take as many as the tests: another number gives other last bits.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# A shell that runs the tests in the background has them ignore Ctrl-C, and all commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL_NETS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "linear": (Linear, {}),
    "mlp": (MLP, {"hidden": [16, 12], "dropout": 0.3}),
    "cnn": (CNN, {"width": 4, "blocks": 2, "dense": 8, "dropout": 0.3}),
    "resnet_small": (ResNetSmall, {"stem_width": 4, "widths": [4, 8], "depth": 2, "dropout": 0.3}),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the whole pipeline and other whole runs: while they last, the other processes run the other tests."""
    items.sort(key=lambda item: (item.path.stem != "test_repro", item.path.parent.name != "e2e"))


def forget_store() -> None:
    """Have nothing recorded where the environment says, which MLflow itself changes in ``set_experiment``, say."""
    for name in ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID"):
        os.environ.pop(f"MLFLOW_{name}", None)


forget_store()


@pytest.fixture(autouse=True)
def _own_store() -> Iterator[None]:
    """Leave no store to other tests and to the fixtures of their modules."""
    yield
    forget_store()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give each test the same chances, in whatever order tests run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with 12 JPEGs of 40 px each, told apart by colour and by shape. Not to be changed."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    for petals, (label, colour) in enumerate(COLOURS.items(), start=3):
        (root / label).mkdir()
        for index in range(PHOTOGRAPHS_PER_CLASS):
            cx, cy, turn = rng.uniform((-0.2, -0.2, 0), (0.2, 0.2, 7))
            angle, radius = np.arctan2(y - cy, x - cx), np.hypot(x - cx, y - cy)
            blossom = radius < 0.45 + 0.2 * np.cos(petals * angle + turn)
            pixels = np.where(blossom[..., None], colour, (60, 110, 50)) + rng.normal(0, 12, (40, 40, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / label / f"{label}_{index:02d}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def banners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes with 30 pictures of 600×200 px each, equal but at their edges. Not to be changed."""
    root = tmp_path_factory.mktemp("banners")
    for label, colour in {"daisy": (200, 40, 40), "roses": (40, 40, 200)}.items():
        (root / label).mkdir()
        for index in range(30):
            picture = Image.new("RGB", (600, 200), tuple(channel + index for channel in colour))
            # Beyond the square in the middle, as resizing reads a little more than that.
            picture.paste((60, 140, 60), (160, 0, 440, 200))
            picture.save(root / label / f"{index:02d}.png")
    return root


@functools.cache
def _composed(words: tuple[str, ...], folders: tuple[Path, ...]) -> Settings:
    """Compose a configuration, which takes Hydra a while, once for all tests of a process; not to be changed."""
    return read_settings(compose_config(words))


@pytest.fixture
def make_settings(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """A function of Hydra overrides that makes settings for a training of seconds.

    The working folder becomes `tmp_path`, where `runs/` and `out/` then appear. Give keys of a network (`model.net.…`)
    only for the CNN; another recipe is chosen by `make_settings("experiment=linear_scratch", "model.net.image_px=32")`.
    """
    monkeypatch.chdir(tmp_path)
    small = [f"model.net.{key}" for key in ("image_px=32", "width=4", "blocks=2", "dense=8")]

    def make(*overrides: str) -> Settings:
        given = {override.partition("=")[0] for override in overrides}
        places = {"data.root": photographs, "data.cache_dir": tmp_path / "pixels", "out_dir": tmp_path / "out"}
        own = {key: str(place) for key, place in places.items() if key not in given}
        words = [] if "experiment" in given else ["experiment=cnn_scratch", *small]
        words += ["data=folder", "trainer=brief", "data.batch_size=8", "tracking.enabled=false"]
        words += [*(f"{key}=." for key in own), *overrides]
        return change(_composed(tuple(words), tuple(conf_dirs())), own)

    return make


@pytest.fixture
def make_net() -> Callable[..., nn.Module]:
    """A function that makes one of the networks, small: `make_net("cnn", num_classes=3)`; always with equal weights."""

    def make(name: str, num_classes: int = 3, **changes: Any) -> nn.Module:
        network, parameters = SMALL_NETS[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return network(num_classes=num_classes, **{"image_px": 32, **parameters, **changes})

    return make
