"""Disks that are full: one sentence names the place, nothing half written stays, and the same command goes on.

A limit to the size of files stands for a full disk, as it needs no rights; other tests mount a small disk.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from tests.processes import call_flowers

from flowers.config.provenance import file_digest
from flowers.tracking.repair import RUNNING

resource = pytest.importorskip("resource", reason="Windows has no limits to the size of files")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::mlflow")]

NET = ("model.net.image_px=32", "model.net.width=4", "model.net.blocks=2", "model.net.dense=8")
STAGES = "model.stages=[{name: all, epochs: 2, train: all, max_lr: 1e-3}]"
RECIPE = ("experiment=cnn_scratch", *NET, STAGES, "trainer=brief", "data.batch_size=8", "progress=none")
SPECIES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
RENDERED = ("data=sample", "data.source.size_px=32", *(f"data.source.counts.{species}=1" for species in SPECIES))


def limit_files(nbytes: int) -> None:
    """Have this process, and those that it starts, write no file beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained `model`, its `evaluation`, and the decoded photographs. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    data = ("data=folder", f"data.root={photographs}", "tracking.enabled=false")
    for words in (
        ("train", *RECIPE, *data, "out_dir=model"),
        ("evaluate", "model=model", "out_dir=evaluation", "report=false"),
        ("data_card", *data, "out_dir=card"),
    ):
        done = call_flowers(folder, *words)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("words", "limit_bytes", "place"),
    [
        (("download", *RENDERED), 700, "out/sample"),
        (("download", "DATA"), 1_000, "out/folder"),
        (("train", *RECIPE, "DATA"), 1_000, "runs/pixels/manifest-"),
        (("train", *RECIPE, "DATA"), 20_000, "runs/pixels has no room"),
        (("train", *RECIPE, "DATA"), 20_000, "runs/resume/"),
        (("evaluate", "model=TRAINED/model"), 1_000, "out/"),
        (("evaluate", "model=TRAINED/model"), 10_000, "out/"),
        (("report", "evaluation=TRAINED/evaluation"), 50_000, "out/"),
        (("predict", "model=TRAINED/model", "photos=PHOTOS", "out=out/table.csv"), 1_500, "out/table.csv"),
        (("data_card", "DATA"), 5_000, "out/card/index.html"),
        (("baselines", "DATA"), 1_000, "out/"),
        (("lr_find", *RECIPE, "DATA"), 5_000, "out/lr_find.png"),
        (("crossval", *RECIPE, "DATA", "folds=2"), 20_000, "runs/"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_one_sentence_names_the_place_and_the_same_command_goes_on(
    words: tuple[str, ...], limit_bytes: int, place: str, trained: Path, photographs: Path, tmp_path: Path
) -> None:
    given = [word.replace("TRAINED", str(trained)).replace("PHOTOS", str(photographs)) for word in words]
    if "DATA" in given:
        at = given.index("DATA")
        given[at : at + 1] = ["data=folder", f"data.root={photographs}", "tracking.enabled=false"]
    if not any(word.startswith(("out=", "out_dir=")) for word in given):
        given.append("out_dir=out")
    if "pixels" not in place:
        shutil.copytree(trained / "runs", tmp_path / "runs")  # decoded already
    done = call_flowers(tmp_path, *given, before=limit_files, of_before=(limit_bytes,))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("flowers: ")]  # joblib may warn beside it
    assert place in said
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and "lock" not in path.name}
    assert not {path for path, nbytes in sizes.items() if nbytes in (0, limit_bytes)}
    again = call_flowers(tmp_path, *given)
    assert again.returncode == 0, again.stderr
    if given[0] == "train":
        assert file_digest(tmp_path / "out/model.safetensors") == file_digest(trained / "model/model.safetensors")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, in memory, of 64 KiB."""
    if shutil.which("mount") is None:
        pytest.skip("this system has no `mount`")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_training_goes_on_as_its_disk_grows(disk: Path, trained: Path, photographs: Path) -> None:
    data = ("data=folder", f"data.root={photographs}", f"data.cache_dir={disk}/pixels", "tracking.enabled=false")
    words = ("train", *RECIPE, *data, f"out_dir={disk}/out")
    (disk / "runs").mkdir()
    said = []
    for kib in range(64, 1024, 64):
        grow(disk, f"{kib}k")
        done = call_flowers(disk, *words)
        if done.returncode == 0:
            break
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        said.append(done.stderr)
        assert not [path for path in disk.rglob("*.*") if path.is_file() and path.stat().st_size == 0]
    assert done.returncode == 0
    for place in ("has no room for", "the disk is full, so the checkpoint"):
        assert any(place in each for each in said), said
    assert file_digest(disk / "out/model.safetensors") == file_digest(trained / "model/model.safetensors")
    assert not [path for path in disk.rglob("*") if ".part" in path.name]


def test_a_full_store_costs_no_training_and_its_run_is_closed_later(
    disk: Path, trained: Path, photographs: Path, tmp_path: Path
) -> None:
    grow(disk, "100m")
    uri = f"sqlite:///{disk}/mlflow.db"
    data = ("data=folder", f"data.root={photographs}", f"data.cache_dir={trained}/runs/pixels")
    words = ("train", *RECIPE, *data, f"tracking.uri={uri}", "tracking.system_metrics_s=0")
    done = call_flowers(tmp_path, *words, "out_dir=first")
    assert done.returncode == 0, done.stderr
    (disk / "rest").write_bytes(bytes(shutil.disk_usage(disk).free - 40_000))
    done = call_flowers(tmp_path, *words, "out_dir=second")
    assert done.returncode == 0, done.stderr
    assert "flowers: the MLflow store sqlite:///disk/mlflow.db cannot be written (" in done.stderr
    assert "The training goes on; its record is kept until then." in done.stderr
    assert "records; second is whole." in done.stderr
    assert file_digest(tmp_path / "second/model.safetensors") == file_digest(trained / "model/model.safetensors")
    (disk / "rest").unlink()
    done = call_flowers(tmp_path, *words, "out_dir=third")
    assert (done.returncode, done.stderr) == (0, "")
    runs = mlflow.MlflowClient(uri).search_runs(["1"])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert not list((disk / RUNNING).glob("*"))
