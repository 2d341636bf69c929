"""Installed as a wheel, the package works in any folder, and in other people's scripts."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
TRAIN = ("experiment=cnn_scratch", "data=folder", "trainer.max_epochs=1", "progress=none", "tracking.enabled=false")

SCRIPT = """
import lightning
import flowers
from flowers.commands.train import build_training
settings = flowers.compose("experiment=cnn_scratch", "data=folder", "data.root={photographs}", "out_dir=out")
datamodule, model = build_training(settings)
trainer = lightning.Trainer(max_epochs=3, logger=False, accelerator="cpu", enable_progress_bar=False)
trainer.fit(model, datamodule=datamodule)
print(trainer.validate(type(model).load_from_checkpoint(trainer.checkpoint_callback.best_model_path, weights_only=True),
                       datamodule=datamodule, verbose=False))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel brings it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("flowers-*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def python(site: Path, folder: Path, *words: str) -> str:
    """Run Python with the wheel's package, from another folder."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_trains_and_predicts_in_any_folder(site: Path, photographs: Path, tmp_path: Path) -> None:
    where = python(site, tmp_path, "-c", "import flowers; print(flowers.__file__)")
    assert where.startswith(str(site))
    python(site, tmp_path, "-m", "flowers", "train", *TRAIN, f"data.root={photographs}", "out_dir=mine")
    python(site, tmp_path, "-m", "flowers", "predict", "model=mine", f"photos={photographs}", "out=found.csv")
    assert len(pd.read_csv(tmp_path / "found.csv")) == 36
    # A data set of the package's own names files of the installed configuration.
    few = ("data=sample", "data.source.counts={daisy: 8, tulips: 8}", "data.split.folds=2")
    python(site, tmp_path, "-m", "flowers", "train", *TRAIN, *few, "out_dir=rendered")
    # A project's own configuration goes before the installed one.
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/ours.yaml").write_text(
        "# @package _global_\ndefaults: [cnn_scratch]\nname: ours\nseed: 7\n"
    )
    shown = python(site, tmp_path, "-m", "flowers", "train", "--cfg", "job", "experiment=ours", "data=folder")
    assert "seed: 7" in shown


@pytest.mark.slow
def test_the_module_trains_under_somebody_elses_trainer(site: Path, photographs: Path, tmp_path: Path) -> None:
    assert len(SCRIPT.strip().splitlines()) <= 10
    shown = python(site, tmp_path, "-c", SCRIPT.format(photographs=photographs))
    assert "val/acc" in shown


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    import flowers

    assert len(flowers.__all__) <= 15
    for name in flowers.__all__:
        assert getattr(flowers, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flowers.nothing  # noqa: B018


def test_importing_the_package_takes_no_library_along() -> None:
    program = "import sys, flowers; print({'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
