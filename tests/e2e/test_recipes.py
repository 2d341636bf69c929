"""Each fine-tuning recipe trains on photographs, from random weights, as published ones cannot be fetched here."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.config.test_compose import EXPERIMENTS, RECIPES
from tests.processes import call_flowers

pytestmark = pytest.mark.slow

FINE_TUNING = [name for name in RECIPES if name.endswith(("_finetune", "_probe", "_robust", "_tutorial"))]


@pytest.mark.parametrize("recipe", [name for name in FINE_TUNING if name != "sample_finetune"])
def test_a_fine_tuning_recipe_trains_an_epoch(recipe: str, photographs: Path, tmp_path: Path) -> None:
    assert (EXPERIMENTS / f"{recipe}.yaml").is_file()
    words = [f"experiment={recipe}", "weights=null", "data=folder", f"data.root={photographs}", "out_dir=out"]
    words += ["trainer.max_epochs=1", "tracking.enabled=false", "progress=lines", "data.batch_size=8"]
    done = call_flowers(tmp_path, "train", *words)
    assert done.returncode == 0, done.stderr
    assert all(np.isfinite(tensor).all() for tensor in load_file(tmp_path / "out/model.safetensors").values())
