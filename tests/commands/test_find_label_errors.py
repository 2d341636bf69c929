"""From photographs, some under a wrong label, to the table that a person decides by."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import flowers.commands.find_label_errors
from flowers.commands.find_label_errors import find_label_errors
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import read_splits, write_splits
from flowers.errors import UserError

Make = Callable[..., Settings]
SWAPPED = ["daisy/roses_99.jpg", "roses/sunflowers_99.jpg"]
SMALL = ["data.split.folds=3", "progress=none"]


@pytest.fixture
def mislabelled(photographs: Path, tmp_path: Path) -> Path:
    """The photographs, one rose of them among the daisies and one sunflower among the roses."""
    root = Path(shutil.copytree(photographs, tmp_path / "mislabelled"))
    for swapped in SWAPPED:
        true = Path(swapped).stem.partition("_")[0]
        (root / true / f"{true}_11.jpg").rename(root / swapped)
    return root


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
@pytest.mark.filterwarnings("ignore:::sqlalchemy")
def test_wrong_labels_come_first(make_settings: Make, mislabelled: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in mislabelled.rglob("*.jpg")}
    settings = make_settings(
        f"data.root={mislabelled}",
        "data.split.test_frac=0.1",
        "data.split.seed=1",
        "trainer.limit_train_batches=null",
        "model.stages.0.epochs=30",
        "model.stages.0.max_lr=1e-2",
        "tracking.enabled=true",
        f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}",
        *SMALL,
    )
    count = find_label_errors(settings)
    found = pd.read_csv(tmp_path / "out/suspects.csv")
    assert len(found) == count
    _, split = photographs_of(settings)
    judged = split[split["split"] != "test"]
    assert set(SWAPPED) <= set(judged["path"]), "choose a seed that leaves both out of the test"
    assert set(found["path"][:2]) == set(SWAPPED)
    suggested = found.set_index("path")["suggested"]
    assert [suggested[path] for path in SWAPPED] == ["roses", "sunflowers"]

    table = pd.read_csv(tmp_path / "out/out_of_fold.csv").set_index("path")
    assert list(table.index) == list(judged["path"])  # and so no photograph of the test
    assert list(table["fold"]) == list(judged["fold"])
    np.testing.assert_allclose(table[["daisy", "roses", "sunflowers"]].sum(axis=1), 1, atol=1e-5)
    about = json.loads((tmp_path / "out/suspects.json").read_text())
    assert about["judged"] == len(judged)
    assert about["folds"] == 3
    assert about["suspects/acc"] > 0.8
    assert {path: path.read_bytes() for path in mislabelled.rglob("*.jpg")} == before
    assert not list((tmp_path / "runs/series").iterdir())
    assert not list((tmp_path / "pixels").glob("series-*"))

    import mlflow

    runs = mlflow.search_runs(experiment_names=["folder"])
    assert list(runs["tags.kind"]) == ["suspects"]  # the folds' trainings are no runs of their own
    assert runs["metrics.suspects/count"][0] == count
    mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_its_fold(
    make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("model.stages.0.epochs=1", *SMALL)
    seen: list[tuple[int, set[str]]] = []

    def counted(given: Settings, logged: dict[str, Any]) -> float:
        if len(seen) == 1 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        assert given.data.split_csv is not None
        assert not given.tracking.enabled
        parts = read_splits(Path(given.data.split_csv))
        seen.append((len(parts), set(parts.loc[parts["split"] == "val", "path"])))
        return train(given, logged=logged)

    monkeypatch.setattr(flowers.commands.find_label_errors, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        find_label_errors(settings)
    (tmp_path / "again").touch()
    find_label_errors(settings)
    assert len(seen) == 3
    _, split = photographs_of(settings)
    kept = split[split["split"] != "test"]
    # Each fold is what one training validates on, and the test is in none.
    assert {count for count, _ in seen} == {len(kept)}
    assert sorted(path for _, unseen in seen for path in unseen) == list(kept["path"])


def test_what_cannot_be_judged_is_said_before_any_training(make_settings: Make, tmp_path: Path) -> None:
    settings = make_settings(*SMALL)
    root, split = photographs_of(settings)
    one_fold = split.copy()
    one_fold.loc[(split["label"] == "roses") & (split["fold"] >= 0), "fold"] = 2
    none = split.assign(fold=-1)
    for table, sentence in (
        (one_fold, "class roses has photographs in one fold only"),
        (none, "no photograph has a fold"),
    ):
        write_splits(table, tmp_path / "split.csv")
        with pytest.raises(UserError, match=sentence):
            find_label_errors(make_settings(f"data.root={root}", "data.split_csv=split.csv", *SMALL))
    with pytest.raises(UserError, match=r"find_label_errors trains each time from the start; leave out from_stage"):
        find_label_errors(make_settings("from_stage=2", *SMALL))
    assert not (tmp_path / "runs/series").exists()
