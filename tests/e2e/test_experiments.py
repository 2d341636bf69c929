"""DVC's experiments: each stage runs the code and configuration of its own workspace, and its MLflow run stays."""

import json
import shlex
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from tests.documents import commands
from tests.e2e.projects import commit, copy_project, run, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::mlflow")]
RECIPE = "linear_scratch"
ONLY = ("download", "split", "compose", "train")
SEED = "conf/data/sample.yaml:++split.seed=7"
SPLIT, RECORD = Path("artifacts/split/split.csv"), Path(f"artifacts/train/{RECIPE}/run.json")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the first stages only, which have run and are committed."""
    copy = copy_project(tmp_path_factory.mktemp("copy") / "project", experiments=[RECIPE], embeddings=RECIPE)
    whole = yaml.safe_load((copy / "dvc.yaml").read_text())
    stages = {name: whole["stages"][name] for name in ONLY}
    stages["compose"]["deps"].remove("artifacts/pretrain/model.safetensors")
    (copy / "dvc.yaml").write_text(yaml.safe_dump({"vars": whole["vars"], "stages": stages}, sort_keys=False))
    run(copy, "dvc", "repro")
    commit(copy)
    return copy


def applied(project: Path, name: str) -> tuple[pd.DataFrame, mlflow.entities.Run]:
    """Apply an experiment, and read its split, and the MLflow run that it names from the project's own store."""
    run(project, "dvc", "exp", "apply", name)
    run_id = json.loads((project / RECORD).read_text())["mlflow_run_id"]
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{project}/mlflow.db")
    return pd.read_csv(project / SPLIT), client.get_run(run_id)


def test_a_temporary_workspace_runs_its_own_configuration(project: Path, tmp_path: Path) -> None:
    before = pd.read_csv(project / SPLIT)
    shutil.rmtree(project / "mlruns")  # a store that begins in a temporary workspace lies in the project, too
    (project / "mlflow.db").unlink()
    run(project, "dvc", "exp", "run", "--temp", "--name", "seven", "--set-param", SEED)
    assert pd.read_csv(project / SPLIT).equals(before)
    split, recorded = applied(project, "seven")
    # The configuration lies in the project now, so this is what seed 7 means.
    run(project, "flowers", "split", "data=sample", f"out_dir={tmp_path}")
    assert split.equals(pd.read_csv(tmp_path / "split.csv"))
    assert not split.equals(before)
    assert recorded.data.tags["dvc_experiment"] == "seven"
    assert Path(recorded.info.artifact_uri).is_relative_to(project / "mlruns")
    assert (Path(recorded.info.artifact_uri) / "run.json").is_file()

    # DVC keeps what a stage made, and hands it out again for the same inputs.
    run(project, "git", "reset", "--quiet", "--hard")
    assert "is cached - skipping run" in run(project, "dvc", "exp", "run", "--set-param", SEED)
    assert pd.read_csv(project / SPLIT).equals(split)


def test_a_queued_experiment_runs_the_code_that_was_queued(project: Path) -> None:
    run(project, "git", "reset", "--quiet", "--hard")
    run(project, "dvc", "checkout")
    command = project / "src/flowers/commands/split.py"
    code = command.read_text()
    command.write_text(code.replace("write_splits(table, out)", "write_splits(table[table['fold'] != 0], out)"))
    run(project, "dvc", "exp", "run", "--queue", "--name", "fewer")
    command.write_text(code)
    run(project, "dvc", "queue", "start")
    run(project, "dvc", "queue", "logs", "--follow", "fewer")
    split, recorded = applied(project, "fewer")
    assert set(split["fold"]) == {-1, 1, 2, 3, 4}
    assert recorded.data.tags["dvc_experiment"] == "fewer"


def test_pipelines_of_the_readme_run(project: Path, photographs: Path) -> None:
    """Those that another seed, split or data set makes; what shows results is tested with the whole pipeline."""
    run(project, "git", "reset", "--quiet", "--hard")
    for name in ("PHOTOS", "images"):
        shutil.copytree(photographs, project / name)
    rows = (f"{file.name},{file.parent.name}\n" for file in sorted(photographs.rglob("*.jpg")))
    (project / "labels.csv").write_text(f"file,label\n{''.join(rows)}")
    made = []
    for command in commands("README.md"):
        if command.startswith(("dvc exp run -", "dvc repro")):
            run(project, *shlex.split(command))
            made.append(pd.read_csv(project / SPLIT))
            run(project, "git", "reset", "--quiet", "--hard")
    assert sum(set(split["label"]) == {"daisy", "roses", "sunflowers"} for split in made) >= 2  # PHOTOS and images
    assert len(made) >= 5


def test_a_clone_that_has_pulled_has_nothing_to_do(project: Path, tmp_path: Path) -> None:
    run(project, "git", "reset", "--quiet", "--hard")
    run(project, "dvc", "checkout")
    run(project, "dvc", "remote", "add", "--default", "near", str(tmp_path / "remote"))
    commit(project)
    run(project, "dvc", "push")
    run(tmp_path, "git", "clone", "--quiet", str(project), "clone")
    for command in ("pull", "checkout", "status"):
        run(tmp_path / "clone", "dvc", command)
    assert not stages_run(run(tmp_path / "clone", "dvc", "repro"))
