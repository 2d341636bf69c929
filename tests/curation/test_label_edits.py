import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from flowers.curation.labels import LabelEditFile, apply_label_edits, read_label_edits
from flowers.curation.manifest import scan, summarise
from flowers.errors import UserError

HEADER = "path,decision,by,when\n"
WHEN = "2026-01-31T23:30:00-05:00"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "decisions.csv"


@pytest.fixture(scope="module")
def manifest(photographs: Path) -> pd.DataFrame:
    return scan(photographs, strict=True)


@pytest.mark.parametrize("text", ["", HEADER, "\ufeff" + HEADER, HEADER + "\n"])
def test_a_table_may_be_empty(text: str, table: Path, manifest: pd.DataFrame) -> None:
    table.write_text(text)
    assert read_label_edits(table) == {}
    pd.testing.assert_frame_equal(apply_label_edits(manifest, read_label_edits(table)), manifest)


def test_the_last_decision_wins_and_paths_may_hold_anything(table: Path) -> None:
    table.write_text(HEADER + f'"a, ""b"".jpg",drop,Ada,{WHEN}\nNA,keep,Ada,{WHEN}\n"a, ""b"".jpg",keep,Bo,{WHEN}\n')
    found = read_label_edits(table)
    assert {path: (row.decision, row.by) for path, row in found.items()} == {
        'a, "b".jpg': ("keep", "Bo"),
        "NA": ("keep", "Ada"),
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,decision\n", r"decisions\.csv, line 1, is 'path,decision'; it must be path,decision,by,when"),
        (HEADER + f"a,drop,Ada,{WHEN}\nb,drop,Ada\n", "line 3, has 3 values instead of 4"),
        (HEADER + f",drop,Ada,{WHEN}\n", "line 2, names no photograph"),
        (HEADER + f"a,dorp,Ada,{WHEN}\n", "line 2, has the decision 'dorp': did you mean 'drop'"),
        (HEADER + f"a,relabel:,Ada,{WHEN}\n", "line 2, has the decision 'relabel:'"),
        (HEADER + f"a,drop, ,{WHEN}\n", "line 2, does not say who decided"),
        (HEADER + "a,drop,Ada,yesterday\n", "line 2, has the time 'yesterday'; write it in ISO 8601"),
        (HEADER + "a,drop,Ada,2026-01-31T12:00:00\n", "with its zone"),
        (HEADER + '"a,drop\n', "is no row of CSV"),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, sentence: str, table: Path) -> None:
    table.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_label_edits(table)


def test_a_missing_or_unreadable_table_is_named(table: Path) -> None:
    with pytest.raises(UserError, match=r"decisions\.csv does not exist; name .* data\.decisions"):
        read_label_edits(table)
    table.write_bytes(HEADER.encode() + b"\xff")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_label_edits(table)
    with pytest.raises(UserError, match="cannot be read"):
        read_label_edits(table.parent)


def test_decisions_change_the_manifest_and_no_file(photographs: Path, manifest: pd.DataFrame, table: Path) -> None:
    rows = [("daisy/daisy_00.jpg", "drop"), ("daisy/daisy_01.jpg", "relabel:roses"), ("daisy/daisy_02.jpg", "keep")]
    table.write_text(HEADER + "".join(f"{path},{word},Ada,{WHEN}\n" for path, word in rows))
    before = manifest.copy()
    result = apply_label_edits(manifest, read_label_edits(table))
    pd.testing.assert_frame_equal(manifest, before)
    assert all((photographs / path).is_file() for path in result["path"])
    changed = result.set_index("path")
    # 23:30 on the 31st, five hours west of Greenwich, is the next day in UTC
    assert tuple(changed.loc["daisy/daisy_00.jpg", ["status", "reason"]]) == ("dropped", "dropped by Ada on 2026-02-01")
    assert tuple(changed.loc["daisy/daisy_01.jpg", ["label", "status"]]) == ("roses", "ok")
    others = ~result["path"].isin([path for path, _ in rows[:2]])
    pd.testing.assert_frame_equal(result[others], manifest[others])
    assert "35 photographs in 3 classes, 0 files refused, 1 dropped by decisions" in summarise(result)
    assert "daisy 10, roses 13" in summarise(result)


@pytest.mark.parametrize(
    ("path", "decision", "sentence"),
    [
        (
            "daisy/daisy_0.jpg",
            "drop",
            "decision on daisy/daisy_0.jpg, but no such photograph: did you mean 'daisy/dais",
        ),
        ("daisy/daisy_00.jpg", "relabel:rose", "gives daisy/daisy_00.jpg the class 'rose': did you mean 'roses'"),
    ],
)
def test_an_unknown_path_or_class_is_named(
    path: str, decision: str, sentence: str, manifest: pd.DataFrame, table: Path
) -> None:
    table.write_text(HEADER + f"{path},{decision},Ada,{WHEN}\n")
    with pytest.raises(UserError, match=sentence):
        apply_label_edits(manifest, read_label_edits(table))


def test_two_classes_have_to_be_left(manifest: pd.DataFrame, table: Path) -> None:
    rows = [f"{path},drop,Ada,{WHEN}\n" for path in manifest["path"] if not path.startswith("daisy")]
    table.write_text(HEADER + "".join(rows))
    with pytest.raises(UserError, match="fewer than two classes"):
        apply_label_edits(manifest, read_label_edits(table))


def test_a_refused_file_stays_refused(manifest: pd.DataFrame, table: Path) -> None:
    manifest = manifest.copy()
    manifest.loc[0, ["status", "reason"]] = ["refused", "zero bytes"]
    table.write_text(HEADER + f"{manifest['path'][0]},drop,Ada,{WHEN}\n")
    assert tuple(apply_label_edits(manifest, read_label_edits(table)).loc[0, ["status", "reason"]]) == (
        "refused",
        "zero bytes",
    )


def test_decisions_are_appended_and_only_own_ones_undone(table: Path) -> None:
    # Someone's editor left the last line without its end.
    table.write_text(HEADER + f"a.jpg,drop,Ada,{WHEN}")
    file = LabelEditFile(table)
    file.append("b, or c.jpg", "relabel:roses", "Bo")
    file.append("a.jpg", "keep", "Bo")
    assert [row.decision for row in file.read().values()] == ["keep", "relabel:roses"]
    assert file.undo() == "a.jpg"
    assert [row.decision for row in file.read().values()] == ["drop", "relabel:roses"]
    assert file.undo() == "b, or c.jpg"
    assert file.undo() is None
    assert table.read_text() == HEADER + f"a.jpg,drop,Ada,{WHEN}"


def test_undoing_the_first_decision_leaves_a_table_that_holds_none(table: Path) -> None:
    file = LabelEditFile(table)
    file.append("a.jpg", "drop", "Ada")
    assert file.undo() == "a.jpg"
    assert table.read_bytes() == b""
    assert file.read() == {}


def test_what_another_wrote_since_is_not_undone(table: Path) -> None:
    one, other = LabelEditFile(table), LabelEditFile(table)
    assert one.read() == {}
    assert not table.exists()
    one.append("a.jpg", "drop", "Ada")
    other.append("b.jpg", "drop", "Bo")
    assert one.undo() is None
    assert other.undo() == "b.jpg"
    assert one.undo() is None
    assert list(one.read()) == ["a.jpg"]


def test_a_decision_that_could_not_be_read_is_not_written(table: Path) -> None:
    with pytest.raises(UserError, match="who decided"):
        LabelEditFile(table).append("a.jpg", "drop", " ")
    assert not table.exists()


def write_many(file: Path, writer: str) -> None:
    edits = LabelEditFile(file)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: edits.append(f"{writer}-{number}.jpg", "keep", writer), range(20)))


def test_writers_at_the_same_time_lose_nothing(table: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=write_many, args=(table, "other"))
    other.start()
    write_many(table, "one")
    other.join()
    assert len(read_label_edits(table)) == 40
    assert table.read_text().count(HEADER) == 1


def test_applying_nothing_is_nothing(manifest: pd.DataFrame) -> None:
    assert apply_label_edits(manifest, {}) is manifest
