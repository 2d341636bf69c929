"""What is written can be read again, whatever classes are called, and appears whole or not at all."""

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowers.atomic import whole_file
from flowers.errors import UserError
from flowers.evaluation.result_files import (
    class_columns,
    read_answers,
    read_confusion,
    read_probabilities,
    write_json,
    write_results,
)

NAMES = [
    "path",
    "label",
    "prediction",
    "truth",
    "truth (class)",
    "NA",
    "nan",
    "null",
    "007",
    "a,b",
    'q"',
    "true ",
    "<b>",
]


def test_a_class_may_be_called_like_a_column(tmp_path: Path) -> None:
    assert class_columns(["a", "path", "path (class)"], ["path"]) == ["a", "path (class) (class)", "path (class)"]
    probabilities = np.full((len(NAMES), len(NAMES)), 0.01)
    np.fill_diagonal(probabilities, 1 - 0.01 * (len(NAMES) - 1))
    table = pd.DataFrame({"path": [f"{number}.jpg" for number in range(len(NAMES))], "label": NAMES})
    write_results(tmp_path, {}, table, probabilities, NAMES)
    answers = read_answers(tmp_path / "predictions.csv", "")
    assert answers["prediction"].tolist() == answers["label"].tolist() == NAMES
    np.testing.assert_allclose(read_probabilities(tmp_path / "predictions.csv", len(NAMES), ""), probabilities)
    classes, counts = read_confusion(tmp_path / "confusion.csv", "")
    assert classes == NAMES
    assert (counts == np.eye(len(NAMES))).all()
    for name in ("predictions", "confusion"):
        header = pd.read_csv(tmp_path / f"{name}.csv", header=None, dtype=str, keep_default_na=False).iloc[0]
        assert header.is_unique
    assert {"path (class)", "label (class)", "truth"} < set(pd.read_csv(tmp_path / "predictions.csv", nrows=0).columns)


def test_confusions_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    (tmp_path / "confusion.csv").write_text("truth,NA,truth\nNA,1,2\ntruth,3,4\n")
    classes, counts = read_confusion(tmp_path / "confusion.csv", "")
    assert classes == ["NA", "truth"]
    assert counts.tolist() == [[1, 2], [3, 4]]


def test_a_file_is_whole_or_what_it_was(tmp_path: Path) -> None:
    file = tmp_path / "new/metrics.json"
    write_json(file, {"a": 1})

    def write_half(error: BaseException) -> None:
        with whole_file(file) as partial:
            partial.write_text("{")
            raise error

    full = OSError(errno.ENOSPC, "No space left on device")
    for error, raised in ((full, UserError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(raised):
            write_half(error)
        assert file.read_text() == '{\n  "a": 1\n}\n'
    assert list(file.parent.iterdir()) == [file]
