"""A series does each of its trainings once, whatever interrupts it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from flowers.config.compose import with_seed
from flowers.config.provenance import split_digest
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import read_splits
from flowers.data.pixels import open_store
from flowers.errors import UserError
from flowers.training.series import Done, Member, open_series, train_members

Make = Callable[..., Settings]


class FakeTraining:
    """Stands for :func:`flowers.commands.train.train`: writes the record of a training, or is interrupted."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.seeds: list[int] = []
        self.interrupted_at = interrupted_at

    def __call__(self, settings: Settings, logged: dict[str, Any]) -> float:
        if len(self.seeds) == self.interrupted_at:
            self.interrupted_at = None
            raise KeyboardInterrupt
        self.seeds.append(settings.seed)
        out, data = Path(settings.out_dir), settings.data
        assert data.split_csv is not None
        split = read_splits(Path(data.split_csv))
        open_store(Path(data.root), split[split["split"] == "val"], 8, Path(data.cache_dir))
        for name in ("model.safetensors", "stage-1.ckpt"):
            (out / name).touch()
        run = {"final": {"val/acc": 0.5, "val/loss": 1.0}, "train_s": 1.0, "mlflow_run_id": None}
        (out / "run.json").write_text(json.dumps(run))
        return 0.5


@pytest.fixture
def members(make_settings: Make) -> list[Member]:
    """Four trainings: two splits with two seeds each."""
    settings = make_settings("progress=none")
    _, split = photographs_of(settings)
    table = split[split["split"] != "test"].reset_index(drop=True)
    smaller = table.drop(index=table.index[table["split"] == "train"][:3]).reset_index(drop=True)
    return [
        Member(f"part {part}, seed {seed}", with_seed(settings, seed), rows, {})
        for part, rows in enumerate((table, smaller))
        for seed in (0, 1)
    ]


def run(members: list[Member], photographs: Path, train: Callable[..., float]) -> list[Done]:
    return list(train_members(Path("runs/series/one"), photographs, members, train))


def test_each_training_is_done_once(members: list[Member], photographs: Path, tmp_path: Path) -> None:
    training = FakeTraining()
    done = run(members, photographs, training)
    assert training.seeds == [0, 1, 0, 1]
    assert [each.folder.name for each in done] == ["part-0-seed-0", "part-0-seed-1", "part-1-seed-0", "part-1-seed-1"]
    assert all(each.outcome()["val/acc"] == 0.5 for each in done)
    for each, member in zip(done, members, strict=True):
        assert split_digest(read_splits(each.folder / "split-of-member.csv")) == split_digest(member.split)
        assert not list(each.folder.glob("*.ckpt"))
    run(members, photographs, training)
    assert len(training.seeds) == 4
    assert not list((tmp_path / "pixels").glob("series-*"))


def test_a_series_goes_on_in_a_project_that_was_moved(
    members: list[Member], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining()
    run(members[:1], photographs, training)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "runs").rename(elsewhere / "runs")
    monkeypatch.chdir(elsewhere)
    run(members[:1], photographs, training)
    assert len(training.seeds) == 1


def test_pixels_of_a_split_are_there_until_its_last_training(members: list[Member], photographs: Path) -> None:
    seen = []
    for done in train_members(Path("runs/series/one"), photographs, members, FakeTraining()):
        caches = sorted(Path(done.member.settings.data.cache_dir).glob("series-*"))
        seen.append(caches)
    assert [len(caches) for caches in seen] == [1, 1, 1, 1]
    assert seen[0] == seen[1] != seen[2] == seen[3]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(4))
def test_interrupted_it_goes_on_with_the_training_that_it_was_in(
    members: list[Member], photographs: Path, at: int
) -> None:
    training = FakeTraining(interrupted_at=at)
    with pytest.raises(KeyboardInterrupt):
        run(members, photographs, training)
    assert len(run(members, photographs, training)) == 4
    assert training.seeds == [0, 1, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["no record", "half a record", "no model", "another model", "no end"])
def test_a_training_without_its_end_is_not_taken_for_finished(
    members: list[Member], photographs: Path, damage: str
) -> None:
    training = FakeTraining()
    (first, *_) = run(members, photographs, training)
    if damage == "no record":
        (first.folder / "run.json").unlink()
    elif damage == "half a record":
        (first.folder / "run.json").write_text('{"final": ')
    elif damage == "no model":
        (first.folder / "model.safetensors").unlink()
    elif damage == "another model":
        (first.folder / "model.safetensors").write_bytes(b"other")
    else:  # it ended between writing the model and telling MLflow
        Path("runs/trained", f"one-{first.folder.name}.json").unlink()
    run(members, photographs, training)
    assert training.seeds == [0, 1, 0, 1, 0]


def series_folder(command: str, recipes: list[Settings], split: pd.DataFrame) -> Path:
    with open_series(command, recipes, split) as folder:
        return folder


def test_the_same_series_twice_at_once_is_refused(make_settings: Make) -> None:
    settings = make_settings()
    _, split = photographs_of(settings)
    with (
        FileLock(series_folder("crossval", [settings], split) / "lock"),
        pytest.raises(UserError, match="this very crossval is running already"),
    ):
        series_folder("crossval", [settings], split)
    series_folder("crossval", [settings], split)  # the lock is free again


def test_what_decides_the_results_decides_the_folder(make_settings: Make) -> None:
    settings = make_settings()
    _, split = photographs_of(settings)
    place = series_folder("crossval", [settings], split)
    assert series_folder("crossval", [make_settings("out_dir=elsewhere", "progress=none")], split) == place
    others = [
        series_folder("learning_curve", [settings], split),
        series_folder("crossval", [settings, settings], split),
        series_folder("crossval", [make_settings("seed=5")], split),
        series_folder("crossval", [make_settings("tracking.uri=sqlite:///other.db")], split),
        series_folder("crossval", [settings], split.iloc[1:]),
    ]
    assert len({place, *others}) == 1 + len(others)


def test_failing_training_ends_the_series_in_one_sentence(members: list[Member], photographs: Path) -> None:
    def fail(settings: Settings, logged: dict[str, Any]) -> float:
        raise UserError("no photographs; add some.")

    with pytest.raises(UserError, match="no photographs"):
        run(members, photographs, fail)


def test_member_of_a_share_keeps_rows_and_labels(members: list[Member], photographs: Path) -> None:
    (*_, last) = run(members, photographs, FakeTraining())
    pd.testing.assert_frame_equal(read_splits(last.folder / "split-of-member.csv"), members[-1].split)
