"""Training with `torch.compile`, where there is a C++ compiler and where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.processes import call_flowers

pytestmark = pytest.mark.slow


def train(photographs: Path, folder: Path, out: str, *words: str, **environment: str) -> str:
    """Train a small network in a process of its own, and return what it said on stderr."""
    small = [f"model.net.{key}" for key in ("image_px=32", "width=4", "blocks=2", "dense=8")]
    small += ["data=folder", f"data.root={photographs}", "trainer=brief", "model.stages.0.epochs=1"]
    small += ["data.batch_size=8", "tracking.enabled=false", "progress=lines", f"out_dir={out}"]
    words = ("train", "experiment=cnn_scratch", *small, *words)
    if "model.compile=true" not in words:
        done = call_flowers(folder, *words)
        assert done.returncode == 0, done.stderr
        return done.stderr
    command = [sys.executable, "-m", "flowers", *words]
    # Nothing is compiled yet; and no processes are started to share out the compiling of a handful of kernels.
    inductor = {"TORCHINDUCTOR_CACHE_DIR": str(folder / f"compiled-{out}"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=os.environ | inductor | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_without_a_compiler_training_goes_on_after_one_warning(photographs: Path, tmp_path: Path) -> None:
    train(photographs, tmp_path, "plain")
    said = train(photographs, tmp_path, "compiled", "model.compile=true", CXX="no-such-compiler")
    assert said.count("torch.compile failed") == 1
    plain, compiled = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("plain", "compiled"))
    assert compiled == plain


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler to compile with")
def test_compiled_training_goes_the_way_of_the_plain_one(photographs: Path, tmp_path: Path) -> None:
    words = ["trainer.precision=32-true", "model.net.dropout=0"]  # compiled dropout draws from a stream of its own
    train(photographs, tmp_path, "plain", *words)
    said = train(photographs, tmp_path, "compiled", *words, "model.compile=true")
    assert "torch.compile failed" not in said
    plain, compiled = (pd.read_csv(tmp_path / out / "history.csv") for out in ("plain", "compiled"))
    losses = ["train/loss", "val/loss"]
    np.testing.assert_allclose(compiled[losses], plain[losses], rtol=1e-3)
