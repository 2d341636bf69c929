"""Trainings are listed as MLflow remembers them; nothing is written."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flowers.errors import UserError
from flowers.tracking.runs import COLUMNS, list_trainings, read_curves, tracked_run

# What MLflow does with SQLAlchemy, pandas and pydantic is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two trainings, one of them tested; one on another split, of another kind, without an epoch."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    settings = SimpleNamespace(tracking=SimpleNamespace(uri=uri), data=SimpleNamespace(name="garden"))

    def run(name: str, tags: dict[str, str], curve: list[float], test: dict[str, float]) -> None:
        with tracked_run(settings, name, tags) as opened:
            for epoch, value in enumerate(curve, start=1):
                opened.log_metrics({"val/acc": value, "val/loss": 1 - value}, step=epoch)
            opened.log_metrics(test)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("tested", {"split": "abc"}, [0.5, 0.9, 0.7], {"test/acc": 0.6, "test/macro_f1": 0.55})
        run("better", {"split": "abc"}, [0.8], {})
        run("another split", {"split": "xyz"}, [0.98], {})
        run("crossval", {"kind": "crossval", "split": "abc"}, [0.99], {})
        run("broken", {"split": "abc"}, [], {})
    return uri


@pytest.mark.slow
def test_trainings_come_with_the_figures_of_their_last_epoch(store: str) -> None:
    table = list_trainings(store, "garden", "abc")
    assert list(table.columns) == list(COLUMNS)
    assert table["name"].tolist() == ["better", "tested"]  # not by the best epoch, which would be a choice
    assert table["val/acc"].tolist() == [0.8, 0.7]
    assert np.isnan(table["test/acc"][0])
    assert (table["test/acc"].iloc[1], table["test/macro_f1"].iloc[1]) == (0.6, 0.55)
    assert table["status"].tolist() == ["FINISHED", "FINISHED"]


def test_curves_have_a_row_for_each_epoch(store: str) -> None:
    run_id = str(list_trainings(store, "garden", "abc")["run_id"].iloc[1])
    curves = read_curves(store, run_id)
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves["val/acc"].tolist() == [0.5, 0.9, 0.7]
    assert curves["train/acc"].isna().all()


def test_more_than_a_page_is_listed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list_trainings(store, "garden", "abc")) == 2


def test_what_is_not_there_is_empty_and_not_made(store: str, tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    table = list_trainings(f"sqlite:///{missing}", "garden", "abc")
    assert table.empty
    assert list(table.columns) == list(COLUMNS)
    assert not missing.exists()
    assert list_trainings(store, "desert", "abc").empty


def test_an_unknown_run_has_no_epochs(store: str) -> None:
    assert read_curves(store, "nobody").empty


def test_a_damaged_store_is_a_sentence(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_text("no database at all, but long enough to be looked at as one, " * 20)
    with pytest.raises(UserError, match="not a readable database"):
        list_trainings(f"sqlite:///{damaged}", "garden", "abc")
