"""The command draws and records a sweep, and changes no model."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flowers.commands.lr_find import lr_find
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.errors import UserError

Make = Callable[..., Settings]
STAGES = (
    "model.stages=[{name: a, epochs: 1, train: head, max_lr: 1e-3},"
    "{name: b, epochs: 1, train: all, max_lr: [1e-4, 1e-3]}]"
)


@pytest.mark.slow
def test_the_curve_is_written_and_the_rate_returned(make_settings: Make, tmp_path: Path) -> None:
    found = lr_find(make_settings(STAGES))
    with Image.open(tmp_path / "out/lr_find.png") as image:
        assert image.width > 500
    table = pd.read_csv(tmp_path / "out/lr_find.csv")
    assert list(table) == ["lr", "loss", "smoothed"]
    assert table["lr"].is_monotonic_increasing
    assert found is None or 1e-7 <= found <= 1
    assert not (tmp_path / "out/model.safetensors").exists()
    assert not (tmp_path / "runs/resume").exists()


@pytest.mark.slow
def test_a_later_stage_is_seen_from_where_the_one_before_it_ended(make_settings: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stage-1\.ckpt does not exist"):
        lr_find(make_settings(STAGES, "from_stage=2"))
    train(make_settings(STAGES))
    files = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    lr_find(make_settings(STAGES, "from_stage=2"))
    assert all(path.read_bytes() == content for path, content in files.items())
    first = pd.read_csv(tmp_path / "out/lr_find.csv")["loss"][0]
    lr_find(make_settings(STAGES, "out_dir=elsewhere"))
    assert pd.read_csv(tmp_path / "elsewhere/lr_find.csv")["loss"][0] != first
    with pytest.raises(UserError, match="does not fit the network of this recipe"):
        lr_find(make_settings(STAGES, "from_stage=2", "model.net.width=8"))
