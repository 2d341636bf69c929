"""What `train` will run is written down whole, and only what concerns an experiment changes its file."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from flowers.commands.compose import compose
from flowers.config.compose import read_data, read_settings
from flowers.config.provenance import file_digest
from flowers.errors import UserError


def params(**changes: Any) -> dict[str, Any]:
    whole = {"dataset": "sample", "experiments": ["linear_scratch", "cnn_scratch"], "overrides": [], "outliers": ""}
    names = changes.get("experiments", whole["experiments"])
    return whole | {"embeddings": names[0] if isinstance(names, list) and names else "none"} | changes


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(file: Path) -> DictConfig:
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    return config


def test_each_experiment_is_resolved_into_a_file(tmp_path: Path) -> None:
    files = compose(params(), tmp_path / "composed")
    assert [file.name for file in files] == ["linear_scratch.yaml", "cnn_scratch.yaml"]
    for file in files:
        assert "${" not in file.read_text()
        assert "???" not in file.read_text()
        settings = read_settings(read(file))
        assert settings.name == file.stem
        assert settings.out_dir == f"artifacts/train/{file.stem}"
        assert settings.data.root == "artifacts/download/sample"
        assert settings.data.split_csv == "artifacts/split/split.csv"
        assert settings.data.decisions is None  # the split has them; a decision that changes nothing repeats nothing
        assert settings.data.source is None


def test_same_params_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (compose(params(), tmp_path / name) for name in ("one", "two"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_overrides_reach_every_experiment(tmp_path: Path) -> None:
    for file in compose(params(overrides=["seed=7", "trainer=brief", "data.fit=pad"]), tmp_path):
        settings = read_settings(read(file))
        assert (settings.seed, settings.trainer.limit_train_batches) == (7, 4)
        assert read_data(settings).fit == "pad"


def test_weights_are_pinned_by_their_digest(tmp_path: Path) -> None:
    weights = tmp_path / "artifacts/pretrain/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    (file,) = compose(params(experiments=["sample_finetune"]), tmp_path)
    assert read_settings(read(file)).weights_sha256 == file_digest(weights)


def test_files_are_the_same_in_every_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for home in ("one", "two"):
        monkeypatch.setenv("HOME", str(tmp_path / home))
        (tmp_path / home).mkdir()
        (tmp_path / home / "R&D ${x}.pth").write_bytes(b"weights")
        overrides = [r"weights=~/R&D \${x}.pth", "data.cache_dir=2024 #1"]
        (file,) = compose(params(experiments=["cnn_scratch"], overrides=overrides), tmp_path / "composed")
        settings = read_settings(read(file))
        assert settings.weights == str(tmp_path / home / "R&D ${x}.pth")
        assert settings.data.cache_dir == "2024 #1"
        written.append(file.read_text())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"experiments": ["cnn_scrach"]}, "conf/experiment has no 'cnn_scrach': did you mean 'cnn_scratch'?"),
        ({"experiments": []}, "params.yaml names no experiments"),
        (
            {"experiments": ["sample_finetune"]},
            "artifacts/pretrain/model.safetensors, which does not exist",
        ),
        ({"dataset": "sampel"}, "conf/data has no 'sampel': did you mean 'sample'?"),
        ({"overrides": ["model.net.widht=3"]}, "no key 'model.net.widht'"),
        ({"overrides": ["sed=3"]}, "no key 'sed': did you mean 'seed'?"),
        ({"overrides": ["data.split.seed=3"]}, "would change the data after download and split have run"),
        ({"overrides": ["data.min_side_px=64"]}, "would change the data after download and split have run"),
        ({"overrides": ["data.table=labels.csv"]}, "would change the data after download and split have run"),
        ({"overrides": ["data=folder"]}, "would change the data after download and split have run"),
        ({"experimnts": []}, "params.yaml has no key 'experimnts': did you mean 'experiments'?"),
        ({"experiments": 3}, "experiments must be a list"),
        (
            {"embeddings": "mlp_scratch"},
            "embeddings is 'mlp_scratch', which is none of the experiments; name one of lin",
        ),
        ({"overrides": "seed=1"}, "overrides must be a list"),
    ],
)
def test_wrong_params_are_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        compose(params(**changes), tmp_path)
    assert said in str(caught.value)


def test_missing_param_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml lacks 'overrides'"):
        compose({"dataset": "sample", "experiments": ["cnn_scratch"]}, tmp_path)
