"""Cross-validation: what was not seen is judged, the means are right, and a killed series goes on."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.processes import call_flowers

from flowers.commands.crossval import Arguments, crossval, plan, summarise, words
from flowers.config.compose import read_data
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import read_splits
from flowers.curation.splits import numbered_folds
from flowers.errors import UserError
from flowers.evaluation.scores import mean_interval

Make = Callable[..., Settings]
SMALL = ("model.stages.0.epochs=1", "progress=none")


@pytest.mark.slow
def test_folds_and_seeds(make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(*SMALL, "seed=4", "trainer.limit_train_batches=null", "model.stages.0.max_lr=0.1")
    returned = crossval(settings, Arguments(folds=3, seeds=2))
    rows = pd.read_csv(tmp_path / "out/crossval.csv")
    assert list(rows.columns) == ["fold", "seed", "val/acc", "val/loss", "train_s", "model", "mlflow_run_id"]
    assert [tuple(pair) for pair in rows[["fold", "seed"]].to_numpy()] == [
        *((1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (3, 5))
    ]
    _, split = photographs_of(settings)
    outside = split[split["split"] != "test"]
    numbered = numbered_folds(split, read_data(settings).split.seed, 3)
    for row in rows.to_dict("records"):
        inside = read_splits(Path(row["model"]) / "split.csv").set_index("path")
        assert set(inside.index) == set(outside["path"])  # no photograph of the test
        fold = numbered.set_index("path")["fold"].reindex(inside.index)
        assert ((inside["split"] == "val") == (fold == row["fold"] - 1)).all()
    models = {
        (row["fold"], row["seed"]): (Path(row["model"]) / "model.safetensors").read_bytes()
        for row in rows.to_dict("records")
    }
    assert len(set(models.values())) == 6

    about = json.loads((tmp_path / "out/crossval.json").read_text())
    of_fold = [float(part["val/acc"].mean()) for _, part in rows.groupby("fold")]
    expected = mean_interval(of_fold, overlap=1 / 2, photographs=len(outside) / 3)
    assert about["val/acc"] == pytest.approx(np.mean(of_fold), abs=1e-6)
    assert returned == about["val/acc"]
    assert expected.low is not None
    assert about["interval"]["val/acc"][0] == pytest.approx(expected.low, abs=1e-4)
    assert "Nadeau and Bengio 2003" in about["interval_covers"]

    answers = pd.read_csv(tmp_path / "out/predictions.csv")
    assert len(answers) == 2 * len(outside)
    assert set(answers["path"]) == set(outside["path"])
    right = answers["label"] == answers["prediction"]
    assert about["pooled/acc"] == pytest.approx(right.mean())
    np.testing.assert_allclose(answers[["daisy", "roses", "sunflowers"]].sum(axis=1), 1, atol=1e-5)
    for (number, seed), judged in answers.assign(right=right).groupby(["fold", "seed"]):
        (accuracy,) = rows.loc[(rows["fold"] == number) & (rows["seed"] == seed), "val/acc"]
        assert judged["right"].mean() == pytest.approx(accuracy, abs=1e-5)
    said = capsys.readouterr().out
    assert "3 folds, 2 seeds: val/acc" in said
    assert f"of all {len(outside)} photographs" in said


@pytest.mark.parametrize(("folds", "seeds", "equal"), [(2, 3, "all folds equal"), (None, 2, "all seeds equal")])
def test_equal_results_have_no_interval(folds: int | None, seeds: int, equal: str) -> None:
    shares = [0.1, 0.2, 0.6, 0.6, 0.1, 0.2] if folds else [0.3, 0.3]
    numbers = list(range(len(shares)))
    numbered = {"fold": [0, 0, 0, 1, 1, 1] if folds else None, "seed": numbers}
    rows = pd.DataFrame({**numbered, "val/acc": shares, "val/loss": numbers, "train_s": 1.0})
    answers = pd.DataFrame({"path": ["a"], "label": ["x"], "prediction": ["x"]})
    about = {"name": "recipe", **summarise(rows, answers, folds, seeds)}
    assert about["interval"]["val/acc"] is None
    assert about["interval"]["val/loss"] is not None
    said = words(about, rows, Path("out"))
    assert f"val/acc 30.0 %, {equal}; no interval; 100.0 % of all" in said
    assert "95 %" not in said
    assert "interval covers" not in said


def test_seeds_alone_keep_the_split(make_settings: Make, tmp_path: Path) -> None:
    settings = make_settings(*SMALL)
    _, split = photographs_of(settings)
    crossval(settings, Arguments(seeds=2))
    rows = pd.read_csv(tmp_path / "out/crossval.csv")
    assert rows["fold"].isna().all()
    assert list(rows["seed"]) == [0, 1]
    for model in rows["model"]:
        inside = read_splits(Path(model) / "split.csv")
        kept = split[split["split"] != "test"].reset_index(drop=True)
        pd.testing.assert_frame_equal(inside, kept)
    about = json.loads((tmp_path / "out/crossval.json").read_text())
    assert "other seeds" in about["interval_covers"]
    assert about["judged"] == (split["split"] == "val").sum()


@pytest.mark.slow
def test_more_seeds_later_repeat_nothing(
    make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ("model.stages.0.epochs=1", "progress=lines")
    crossval(make_settings(*lines), Arguments(folds=2))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/series").rglob("model.safetensors")}
    assert len(before) == 2
    capsys.readouterr()
    crossval(make_settings(*lines, "out_dir=other"), Arguments(folds=2))
    assert capsys.readouterr().out.count("is trained already") == 2
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/series").rglob("model.safetensors")}
    assert before == after
    one, two = (pd.read_csv(tmp_path / name / "crossval.csv") for name in ("out", "other"))
    pd.testing.assert_frame_equal(one, two)


def test_trainings_that_share_a_fold_follow_each_other(make_settings: Make) -> None:
    settings = make_settings(*SMALL)
    _, split = photographs_of(settings)
    members = plan(settings, numbered_folds(split, read_data(settings).split.seed, 2), 2, 2)
    assert [member.name for member in members] == [
        *("fold 1, seed 0", "fold 1, seed 1", "fold 2, seed 0", "fold 2, seed 1")
    ]
    assert [member.settings.seed for member in members] == [0, 1, 0, 1]
    assert [member.name for member in plan(settings, members[0].split, None, 2)] == ["seed 0", "seed 1"]


@pytest.mark.parametrize(
    ("arguments", "words", "sentence"),
    [
        (Arguments(), (), "seeds=1 repeats nothing"),
        (Arguments(folds=3, seeds=0), (), "seeds=0 repeats nothing"),
        (Arguments(folds=1), (), "give folds=2 or more"),
        (Arguments(folds=40), (), "folds=40, but class daisy has"),
        (Arguments(folds=3), ("from_stage=2",), r"leave out from_stage"),
        (Arguments(folds=3), ("save_best=val/acc",), r"measures on the photographs that save_best would choose"),
    ],
)
def test_what_cannot_be_is_said_before_any_training(
    make_settings: Make, tmp_path: Path, arguments: Arguments, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        crossval(make_settings(*SMALL, *words), arguments)
    assert not (tmp_path / "runs/series").exists()
    assert not (tmp_path / "out").exists()


# From the command line, with MLflow

WORDS = (
    *("experiment=cnn_scratch", "data=folder", "trainer=brief", "model.net.image_px=32", "model.net.blocks=2"),
    *(
        "model.net.dense=8",
        "model.net.width=2",
        "data.batch_size=8",
        "model.stages.0.epochs=6",
        "folds=2",
        "out_dir=out",
    ),
)


def rows_of(store: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(store)) as connection:
        return connection.execute(query).fetchall()


PARENTS = "SELECT run_uuid, name, status FROM runs JOIN tags USING (run_uuid) WHERE key='kind' AND value='crossval'"
CHILDREN = (
    "SELECT name, status, value FROM runs JOIN tags USING (run_uuid) WHERE key='mlflow.parentRunId' ORDER BY name"
)


@pytest.mark.slow
def test_killed_in_the_second_fold_it_goes_on_there(photographs: Path, tmp_path: Path) -> None:
    """And ends with the very models that it would have had, as children of one MLflow run."""
    # At this rate the folds come out differently, so that there is an interval.
    words = ["crossval", *WORDS, f"data.root={photographs}", "model.stages.0.max_lr=0.1"]
    command = [sys.executable, "-m", "flowers", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("runs/series/*/fold-2/split-*")) or not list(tmp_path.glob("runs/resume/*/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGSTOP)  # so that it does not end before it is stopped
    second = call_flowers(tmp_path, *words)
    assert second.returncode == 2
    assert "this very crossval is running already in another process" in second.stderr
    process.kill()
    process.communicate(timeout=100)
    store = tmp_path / "mlflow.db"
    ((parent, name, _),) = rows_of(store, PARENTS)
    assert name == "cnn_scratch crossval 2 folds"
    again = call_flowers(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    assert "fold 1 (1 of 2) is trained already" in again.stdout
    assert "fold 2 (2 of 2) is trained already" not in again.stdout
    assert rows_of(store, PARENTS) == [(parent, name, "FINISHED")]
    children = rows_of(store, CHILDREN)
    assert [child for child in children if child[1] == "FINISHED"] == [
        (f"fold {fold}", "FINISHED", parent) for fold in (1, 2)
    ]
    figures: dict[str, Any] = dict(rows_of(store, f"SELECT key, value FROM metrics WHERE run_uuid='{parent}'"))
    about = json.loads((tmp_path / "out/crossval.json").read_text())
    assert figures["crossval/val/acc"] == figures["val/acc"] == about["val/acc"]
    assert [figures["crossval/val/acc_low"], figures["crossval/val/acc_high"]] == about["interval"]["val/acc"]
    assert about["mlflow_run_id"] == parent
    whole = call_flowers(tmp_path, *words, "tracking.enabled=false", "out_dir=whole")
    assert whole.returncode == 0, whole.stderr
    one, two = (pd.read_csv(tmp_path / folder / "crossval.csv")["model"] for folder in ("whole", "out"))
    for left, right in zip(one, two, strict=True):
        assert left != right
        models = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in (left, right)]
        assert models[0] == models[1]
    assert not list(tmp_path.glob("runs/pixels/series-*"))


@pytest.mark.slow
def test_sweep_over_cross_validations_ranks_their_means(photographs: Path, tmp_path: Path) -> None:
    words = [word for word in WORDS if not word.startswith(("model.net.width", "out_dir", "stages"))]
    words += [f"data.root={photographs}", "model.stages.0.epochs=1", "model.net.width=2,4"]
    done = call_flowers(tmp_path, "crossval", "-m", *words)
    assert done.returncode == 0, done.stderr
    assert "2 trainings, best first" in done.stdout
    tables = list(tmp_path.glob("runs/sweeps/**/crossval.json"))
    means = sorted(json.loads(table.read_text())["val/acc"] for table in tables)
    (ranked,) = tmp_path.glob("runs/sweeps/**/sweep.csv")
    assert sorted(pd.read_csv(ranked)["val/acc"]) == pytest.approx(means)
    store = tmp_path / "mlflow.db"
    ((sweep,),) = rows_of(store, "SELECT run_uuid FROM tags WHERE key='kind' AND value='sweep'")
    parents = [parent for parent, _, _ in rows_of(store, PARENTS)]
    above = rows_of(store, f"SELECT run_uuid FROM tags WHERE key='mlflow.parentRunId' AND value='{sweep}'")
    assert sorted(parents) == sorted(run_id for (run_id,) in above)
