"""`dvc repro` in a copy of the project: everything is made once, and an edit repeats what it concerns."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ["linear_scratch", "sample_finetune"]
# `key: value` lines of conf/ that make the copy's work a matter of seconds.
SMALLER = {
    "conf/data/sample.yaml": [(r"(\w+): 200", r"\1: 12"), (r"size_px: \d+", "size_px: 32")],
    "conf/data/species.yaml": [(r"(\w+): 100", r"\1: 8"), (r"size_px: \d+", "size_px: 32")],
    "conf/data/other_plants.yaml": [(r"(\w+): (12|60)", r"\1: 3"), (r"size_px: \d+", "size_px: 32")],
    "conf/trainer/default.yaml": [
        ("train_batches: null", "train_batches: 2"),
        ("precision: auto", "precision: 32-true"),
    ],
    "conf/model/*.yaml": [
        (r"image_px: \d+", "image_px: 32"),
        (r"epochs: \d+", "epochs: 1"),
        (r"width: 32", "width: 4"),
    ],
    "conf/experiment/*.yaml": [(r"epochs: [1-9]\d*", "epochs: 1")],
}


def run(project: Path, *words: str) -> str:
    """Run a command in the copy, with the copy's code; return what it printed."""
    paths = {"PYTHONPATH": str(project / "src"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    quiet = {
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_CEILING_DIRECTORIES": str(project.parent),
    }
    done = subprocess.run(
        words, cwd=project, env=os.environ | paths | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("copy") / "project"
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and the project's repository")
    for name in names:
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("notebooks/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    for pattern, changes in SMALLER.items():
        for file in copy.glob(pattern):
            text = file.read_text()
            for old, new in changes:
                text = re.sub(old, new, text)
            file.write_text(text)
    params = yaml.safe_load((copy / "params.yaml").read_text())
    (copy / "params.yaml").write_text(yaml.safe_dump(params | {"experiments": EXPERIMENTS}, sort_keys=False))
    run(copy, "git", "init", "--quiet")
    run(copy, "git", "add", "--all")
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(copy, "git", *author, "commit", "--quiet", "--no-verify", "--message=copy")
    return copy


@pytest.mark.slow
def test_pipeline_makes_everything_once(project: Path) -> None:
    first = run(project, "dvc", "repro")
    wanted = {f"{stage}@{name}" for stage in ("train", "evaluate", "report") for name in EXPERIMENTS}
    assert stages_run(first) == {"download", "split", "pretrain", "compose", "baselines", "compare"} | wanted
    assert re.search("warning", first, re.IGNORECASE) is None
    board = pd.read_csv(project / "artifacts/compare/leaderboard.csv")
    assert set(board.loc[board["kind"] == "network", "experiment"]) == set(EXPERIMENTS)
    assert "embeddings_logistic" in set(board.loc[board["kind"] == "baseline", "experiment"])
    assert (project / "artifacts/compare/index.html").is_file()
    for name in EXPERIMENTS:
        metrics = json.loads((project / f"artifacts/evaluate/{name}/metrics.json").read_text())
        assert 0 <= metrics["test/acc"] <= 1
        assert (project / f"artifacts/train/{name}/model.safetensors").is_file()
        assert "Why does it predict this?" in (project / f"artifacts/report/{name}/report.html").read_text()
    shown = run(project, "dvc", "metrics", "show")
    assert "test/acc" in shown

    second = run(project, "dvc", "repro")
    assert not stages_run(second)
    assert "up to date" in second

    recipe = project / "conf/experiment/linear_scratch.yaml"
    recipe.write_text(recipe.read_text() + "seed: 5\n")
    third = run(project, "dvc", "repro")
    rerun = {f"{stage}@linear_scratch" for stage in ("train", "evaluate", "report")}
    assert stages_run(third) == {"compose", "compare"} | rerun

    style = project / "src/flowers/report/templates/report.html.jinja"
    style.write_text(style.read_text().replace("border-radius: 4px", "border-radius: 5px"))
    fourth = run(project, "dvc", "repro")
    assert stages_run(fourth) == {"compare", *(f"report@{name}" for name in EXPERIMENTS)}

    status = run(project, "git", "status", "--porcelain")
    changed = {line[3:] for line in status.splitlines()}
    assert changed <= {
        "dvc.lock",
        "conf/experiment/linear_scratch.yaml",
        ".gitignore",
        str(style.relative_to(project)),
    }, status
