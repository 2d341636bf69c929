"""`dvc repro` in a copy of the project: everything is made once, and an edit repeats what it concerns."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from tests.e2e.projects import copy_project, run, stages_run

EXPERIMENTS = ["linear_scratch", "sample_finetune"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("copy") / "project", experiments=EXPERIMENTS)


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
    run(project, "dvc", "plots", "show")
    assert "linear_scratch" in (project / "dvc_plots/index.html").read_text()

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
