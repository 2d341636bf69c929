"""The addresses in a store follow its project, and only those of what lies beside it."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from flowers.errors import UserError
from flowers.tracking.repair import SCHEMAS, relocate

TABLES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
RUN, MODEL = "2/ab12/artifacts", "2/models/m-34/artifacts"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a store of two experiments, a run with files, one without, and a model."""
    project = tmp_path / "my flowers"
    for rest in (RUN, MODEL):
        (project / "mlruns" / rest).mkdir(parents=True)
        (project / "mlruns" / rest / "file").write_text(rest)
    root = f"{project}/mlruns"
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as connection:
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        connection.executemany("INSERT INTO experiments VALUES (?)", [[f"{root}/0"], [f"{root}/2"]])
        connection.executemany("INSERT INTO runs VALUES (?)", [[f"{root}/{RUN}"], [f"{root}/2/cd56/artifacts"]])
        connection.execute("INSERT INTO logged_models VALUES (?)", [f"{root}/{MODEL}"])
        connection.execute("INSERT INTO model_versions VALUES (?, ?)", ["models:/m-34", f"{root}/{MODEL}"])
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", [next(iter(SCHEMAS))])
        connection.commit()
    return project


def test_tables_of_another_version_are_left_as_they_are(project: Path) -> None:
    before = addresses(project)
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffff'")
        connection.commit()
    assert relocate(project / "mlflow.db", 1) == set()  # it was not moved
    there = moved(project)
    with pytest.raises(UserError, match=r"was moved here from .*my flowers, but .* version ffff; move it back"):
        relocate(there / "mlflow.db", 1)
    assert addresses(there) == before


def insert(project: Path, address: str) -> None:
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as connection:
        connection.execute("INSERT INTO runs VALUES (?)", [address])
        connection.commit()


def addresses(project: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as connection:
        places = [(table, column) for table, columns in TABLES.items() for column in columns]
        return [row[0] for table, column in places for row in connection.execute(f"SELECT {column} FROM {table}")]


def moved(project: Path) -> Path:
    return Path(shutil.move(project, project.with_name("elsewhere")))


def test_moved_store_follows_and_comes_back(project: Path) -> None:
    before = addresses(project)
    assert relocate(project / "mlflow.db", 1) == set()
    there = moved(project)
    assert relocate(there / "mlflow.db", 1) == {project / "mlruns"}
    assert addresses(there) == [address.replace(str(project), str(there)) for address in before]
    assert relocate(there / "mlflow.db", 1) == set()
    shutil.move(there, project)
    assert relocate(project / "mlflow.db", 1) == {there / "mlruns"}
    assert addresses(project) == before


def test_copy_leaves_the_original_alone(project: Path) -> None:
    copy = Path(shutil.copytree(project, project.with_name("copy")))
    before = addresses(project), (project / "mlflow.db").read_bytes()
    assert relocate(copy / "mlflow.db", 1) == {project / "mlruns"}
    assert not [address for address in addresses(copy) if str(project) in address]
    assert (addresses(project), (project / "mlflow.db").read_bytes()) == before


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/mlruns/2/ab12/artifacts",
        "mlflow-artifacts:/2/ab12/artifacts",
        "/data/runs/2/ab12/artifacts",
        "/data/mlruns/2/99ff/artifacts",  # a folder of that name, whose runs do not lie here
        "hdfs://host/mlruns/2/ab12/artifacts",
    ],
)
def test_foreign_addresses_stay(project: Path, address: str) -> None:
    insert(project, address)
    there = moved(project)
    relocate(there / "mlflow.db", 1)
    assert addresses(there).count(address) == 1


def test_files_that_were_left_behind_keep_their_address(project: Path) -> None:
    left = project / "mlruns/2/cd56/artifacts"
    copy = Path(shutil.copytree(project, project.with_name("copy")))
    left.mkdir(parents=True)  # made after the copy
    relocate(copy / "mlflow.db", 1)
    assert str(left) in addresses(copy)


def test_addresses_as_urls_stay_urls(project: Path) -> None:
    run = project / "mlruns/2/ef78/artifacts"
    run.mkdir(parents=True)
    insert(project, run.as_uri())
    there = moved(project)
    relocate(there / "mlflow.db", 1)
    assert (there / "mlruns/2/ef78/artifacts").as_uri() in addresses(there)


def test_way_through_a_link_is_no_move(project: Path) -> None:
    link = project.with_name("link")
    link.symlink_to(project)
    assert relocate(link / "mlflow.db", 1) == set()
    insert(project, f"{link}/mlruns/{RUN}")
    before = addresses(project)
    assert relocate(project / "mlflow.db", 1) == set()
    assert addresses(project) == before


def test_all_or_nothing(project: Path) -> None:
    there = moved(project)
    before = addresses(there)
    with contextlib.closing(sqlite3.connect(there / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("CREATE TRIGGER no BEFORE UPDATE ON model_versions BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.DatabaseError, match="no"):
        relocate(there / "mlflow.db", 1)
    assert addresses(there) == before


def test_store_without_files_or_tables_is_left(project: Path, tmp_path: Path) -> None:
    there = moved(project)
    shutil.rmtree(there / "mlruns")
    before = addresses(there)
    assert relocate(there / "mlflow.db", 1) == set()
    assert addresses(there) == before
    (tmp_path / "mlruns").mkdir()
    sqlite3.connect(tmp_path / "empty.db").close()
    assert relocate(tmp_path / "empty.db", 1) == set()


@pytest.mark.filterwarnings("ignore:::mlflow")
def test_installed_schema_is_known(tmp_path: Path) -> None:
    import mlflow

    mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db").search_experiments()
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert set(connection.execute("SELECT version_num FROM alembic_version").fetchone()) <= SCHEMAS.keys()
