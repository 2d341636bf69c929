"""A network runs where a person, or its recipe, wants it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flowers.commands.baselines import embedding_network
from flowers.commands.check_split import list_similar
from flowers.commands.evaluate import evaluate
from flowers.commands.predict import predict
from flowers.commands.train import train
from flowers.config.compose import change
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.models.inference import PixelLogits, device_of, find_device
from flowers.models.trained import open_model
from flowers.training import checkpoints

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, nothing would fail")


def claim_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch say that it finds a GPU, which nothing can use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.slow
def test_a_model_trained_on_the_processor_stays_there(
    make_settings: Callable[..., Settings], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model = checkpoints.write_model

    def write_with_gpu(*arguments: Any) -> Any:
        claim_gpu(monkeypatch)  # not before, as torch's own optimisers would look for it
        return write_model(*arguments)

    monkeypatch.setattr(checkpoints, "write_model", write_with_gpu)
    train(make_settings("model.stages.0.epochs=1"))  # trainer.accelerator=cpu
    evaluate(tmp_path / "out", tmp_path / "evaluated", outliers=str(photographs), explanations=False)
    predict(tmp_path / "out", photographs / "roses")
    assert list_similar(tmp_path / "out/split.csv", tmp_path / "out", 1.0)
    config = tmp_path / "out/config.yaml"
    config.write_text(config.read_text().replace("accelerator: cpu", "accelerator: auto"))
    with pytest.raises((AssertionError, RuntimeError)):
        open_model(tmp_path / "out")
    assert device_of(open_model(tmp_path / "out", device="cpu").net).type == "cpu"


def test_embeddings_are_made_where_the_recipe_says(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_gpu(monkeypatch)
    monkeypatch.setattr(sys.modules["flowers.commands.baselines"], "start_from", lambda *_: None)
    settings = change(make_settings(), {"weights": "some.safetensors"})
    net = embedding_network(settings, 3)
    assert net is not None
    assert device_of(net).type == "cpu"
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu cannot be used here"):
        embedding_network(change(settings, {"trainer.accelerator": "gpu"}), 3)


def test_preparation_is_where_the_network_is(make_net: Callable[..., nn.Module]) -> None:
    network = PixelLogits(make_net("cnn").to("meta"), 1.0)
    assert network(torch.zeros(2, 3, 32, 32, device="meta")).device.type == "meta"


def test_devices_are_called_as_torch_calls_them() -> None:
    assert find_device("cpu", "device") == torch.device("cpu")
    assert find_device("auto", "device") == torch.device("cpu")
    for wrong, why in (("gpuu", "torch knows no such device"), ("cuda:99", ""), ("meta", "")):
        with pytest.raises(UserError, match=rf"device={wrong} cannot be used here \({why}"):
            find_device(wrong, "device")
