"""Learning curves: nested shares, equally many steps, the same validation, one picture."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tests.processes import call_flowers

from flowers.commands.learning_curve import compose_recipes, equal_steps, learning_curve, main, plan
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import read_splits
from flowers.errors import UserError

Make = Callable[..., Settings]
SMALL = ("progress=none", "model.stages.0.epochs=1", "trainer.limit_train_batches=null", "data.batch_size=4")


@pytest.fixture
def recipes(make_settings: Make) -> list[Settings]:
    return [
        make_settings(*SMALL),
        make_settings("experiment=linear_scratch", "model.net.image_px=32", *SMALL),
    ]


@pytest.mark.slow
def test_curves_of_two_recipes(recipes: list[Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "curve"
    curves = learning_curve(recipes, [1.0, 0.25], 2, out)
    assert [curve.name for curve in curves] == ["cnn_scratch", "linear_scratch"]
    rows = pd.read_csv(out / "learning_curve.csv")
    assert len(rows) == 8
    _, split = photographs_of(recipes[0])
    val = set(split.loc[split["split"] == "val", "path"])
    full = set(split.loc[split["split"] == "train", "path"])
    trained: dict[tuple[str, float, int], set[str]] = {}
    for row in rows.to_dict("records"):
        inside = read_splits(Path(row["model"]) / "split.csv")
        assert set(inside.loc[inside["split"] == "val", "path"]) == val
        assert set(inside["split"]) == {"train", "val"}  # and no photograph of the test
        key = (row["experiment"], row["train_frac"], row["seed"])
        trained[key] = set(inside.loc[inside["split"] == "train", "path"])
        assert len(trained[key]) == row["train_count"]
    for seed in (0, 1):
        small, whole = (trained["cnn_scratch", frac, seed] for frac in (0.25, 1))
        assert small < whole == full
        assert small == trained["linear_scratch", 0.25, seed]  # the same for every recipe
    assert trained["cnn_scratch", 0.25, 0] != trained["cnn_scratch", 0.25, 1]  # but not for every seed
    for curve in curves:
        of_recipe = rows[rows["experiment"] == curve.name]
        assert curve.counts == sorted(set(of_recipe["train_count"]))
        for count, values in zip(curve.counts, curve.values, strict=True):
            assert values == pytest.approx(
                of_recipe.loc[of_recipe["train_count"] == count, "val/acc"].tolist(), abs=1e-5
            )
    about = json.loads((out / "learning_curve.json").read_text())
    assert about["val_count"] == len(val)
    (small_point, _) = about["curves"]["cnn_scratch"]
    assert small_point["mean"] == pytest.approx(curves[0].means[0])
    assert small_point["seeds"] == 2
    with Image.open(out / "learning_curve.png") as image:
        assert image.width > 1000
    assert f"same {len(val)} validation photographs, not on the test" in (out / "learning_curve.svg").read_text()
    assert "cnn_scratch" in capsys.readouterr().out
    assert not list((tmp_path / "pixels").glob("series-*"))


@pytest.mark.slow
def test_another_size_later_trains_only_that(recipes: list[Settings], tmp_path: Path) -> None:
    learning_curve(recipes[1:], [1.0], 1, None)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/series").rglob("model.safetensors")}
    learning_curve(recipes[1:], [0.5, 1.0], 1, None)
    (out,) = (tmp_path / "runs/series").iterdir()  # without out_dir the series' own folder takes the results
    assert len(pd.read_csv(out / "learning_curve.csv")) == 2
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/series").rglob("model.safetensors")}
    assert before.items() < after.items()
    assert len(after) == 2


@pytest.mark.parametrize(
    ("full", "count", "batch_size", "limit", "epochs"),
    [
        (700, 700, 32, None, 20),  # all photographs: as the recipe says
        (700, 350, 32, None, 42),  # 21 batches against 10
        (700, 70, 32, None, 210),  # against 2
        (700, 20, 32, None, 420),  # less than a batch is one batch
        (700, 70, 32, 4, 40),  # an epoch stops after four batches
        (700, 650, 32, None, 21),
    ],
)
def test_steps_are_equal(
    make_settings: Make, full: int, count: int, batch_size: int, limit: int | None, epochs: int
) -> None:
    rows = [f"{{name: {name}, epochs: {number}, train: all, max_lr: 1e-3}}" for name, number in (("a", 0), ("b", 20))]
    stages = f"model.stages=[{','.join(rows)}]"
    recipe = make_settings(stages, f"data.batch_size={batch_size}", f"trainer.limit_train_batches={limit or 'null'}")
    found = equal_steps(recipe, full, count)
    assert found == [0, epochs]


def test_a_stage_is_never_rounded_away(make_settings: Make) -> None:
    recipe = make_settings("model.stages.0.epochs=1", "data.batch_size=8", "trainer.limit_train_batches=null")
    assert equal_steps(recipe, 9, 8) == [1]


def test_trainings_that_share_a_split_follow_each_other(recipes: list[Settings]) -> None:
    _, split = photographs_of(recipes[0])
    members = plan(recipes, split[split["split"] != "test"].reset_index(drop=True), [1, 0.5, 0.5], 2)
    assert [member.name for member in members] == [
        f"{recipe}, {percent} percent, seed {seed}"
        for percent in (50, 100)
        for seed in (0, 1)
        for recipe in ("cnn_scratch", "linear_scratch")
    ]
    assert len({member.name for member in members}) == len(members)
    full = int((split["split"] == "train").sum())
    for member in members:
        recipe = next(each for each in recipes if each.name == member.settings.name)
        assert [stage.epochs for stage in member.settings.model.stages] == equal_steps(
            recipe, full, int(member.tags["train_count"])
        )


@pytest.mark.parametrize(
    ("sizes", "seeds", "sentence"),
    [
        ([], 1, "names no size"),
        ([0.0, 1.0], 1, "sizes has 0,"),
        ([1.5], 1, r"sizes has 1\.5"),
        ([0.01], 1, r"sizes has 0\.01, at which class daisy"),
        ([1.0], 0, "give seeds=1 or more"),
    ],
)
def test_what_cannot_be_is_said_before_any_training(
    recipes: list[Settings], tmp_path: Path, sizes: list[float], seeds: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        learning_curve(recipes, sizes, seeds, tmp_path / "curve")
    assert not (tmp_path / "curve").exists()
    assert not (tmp_path / "runs/series").exists()


def test_recipes_that_cannot_be_compared(recipes: list[Settings], make_settings: Make) -> None:
    other = make_settings("experiment=linear_scratch", "model.net.image_px=32", "data.split.seed=7", *SMALL)
    for pair, sentence in (
        ([recipes[0], other], "linear_scratch and cnn_scratch use different photographs"),
        ([recipes[0], recipes[0]], "names the same recipe twice"),
        ([make_settings("from_stage=2")], r"leave out from_stage"),
    ):
        with pytest.raises(UserError, match=sentence):
            learning_curve(pair, [1.0], 1, None)


def test_a_key_can_be_of_one_recipe_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["seed=3", "sample_finetune.weights=file.safetensors", "cnn_scratch.model.net.width=4"]
    scratch, transfer = compose_recipes(["cnn_scratch", "sample_finetune"], words)
    assert (scratch.weights, transfer.weights) == (None, "file.safetensors")
    assert scratch.model.net["width"] == 4
    assert "width" not in transfer.model.net
    assert (scratch.seed, transfer.seed) == (3, 3)
    with pytest.raises(UserError, match=r"no key 'model\.net\.widht'"):
        compose_recipes(["cnn_scratch"], ["cnn_scratch.model.net.widht=4"])


# From the command line


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "'experiments' has no value yet: add experiments=…"),
        (["experiments=[]"], "experiments=[] names no recipe"),
        (["experiments=[cnn_scrach]"], "conf/experiment has no 'cnn_scrach': did you mean 'cnn_scratch'?"),
        (["experiments=[cnn_scratch]", "size=[1]"], "no key 'size': did you mean 'sizes'?"),
        (["experiments=[cnn_scratch]", "model.net.widht=2"], "widht"),
        (["-m", "experiments=[cnn_scratch]"], "'-m' is not of the form key=value"),
        (["experiments=[cnn_scratch]", "data=folder"], "add data.root=…"),
    ],
)
def test_wrong_command_line_is_one_sentence(
    tmp_path: Path,
    words: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flowers learning_curve", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_says_what_it_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowers", "learning_curve", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "sizes=[0.1, 0.2, 0.5, 1.0]" in done.stdout
    assert "flowers train --help" in done.stdout


@pytest.mark.slow
def test_mlflow_has_the_curve_and_its_trainings(photographs: Path, tmp_path: Path) -> None:
    words = [
        "data=folder",
        f"data.root={photographs}",
        "trainer=brief",
        "model.net.image_px=32",
        "model.stages.0.epochs=2",
    ]
    words += ["data.batch_size=8", "experiments=[linear_scratch,mlp_scratch]", "sizes=[.5,1]", "out_dir=curve"]
    done = call_flowers(tmp_path, "learning_curve", *words)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        query = "SELECT run_uuid, name, status FROM runs JOIN tags USING (run_uuid) WHERE key='kind'"
        ((parent, name, status),) = store.execute(query).fetchall()
        assert (name, status) == ("learning curve of linear_scratch and mlp_scratch", "FINISHED")
        query = "SELECT name FROM runs JOIN tags USING (run_uuid) WHERE key='mlflow.parentRunId' AND value=?"
        children = {child for (child,) in store.execute(query, (parent,))}
        assert children == {
            f"{recipe}, {share} percent" for recipe in ("linear_scratch", "mlp_scratch") for share in (50, 100)
        }
        query = "SELECT step, value FROM metrics WHERE run_uuid=? AND key='learning_curve/mlp_scratch/val/acc'"
        points = dict(store.execute(query, (parent,)).fetchall())
    rows = pd.read_csv(tmp_path / "curve/learning_curve.csv")
    of_recipe = rows[rows["experiment"] == "mlp_scratch"].set_index("train_count")["val/acc"]
    assert points == pytest.approx(of_recipe.to_dict(), abs=1e-5)
    artifacts = {path.name for path in tmp_path.glob(f"mlruns/**/{parent}/artifacts/learning_curve/*")}
    assert artifacts == {f"learning_curve.{ending}" for ending in ("png", "svg", "csv", "json")}
