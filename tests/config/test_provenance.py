import json
import platform
import subprocess
from typing import Any, NoReturn

import pandas as pd
import pytest

from flowers.config import provenance
from flowers.config.provenance import data_digest, describe, git_commit, split_digest

SPLIT = pd.DataFrame(
    {
        "path": ["b/2.jpg", "a/1.jpg", "a/3.jpg"],
        "label": ["b", "a", "a"],
        "group": ["22", "11", "33"],
        "split": ["val", "train", "test"],
        "fold": [0, 1, -1],
        "sha256": ["22", "11", "33"],
    }
)


@pytest.mark.parametrize("digest", [split_digest, data_digest])
def test_the_order_of_rows_and_columns_does_not_count(digest: Any) -> None:
    assert digest(SPLIT[::-1]) == digest(SPLIT)
    assert digest(SPLIT.sample(frac=1, random_state=1)[sorted(SPLIT.columns)]) == digest(SPLIT)
    assert len(digest(SPLIT)) == 64


@pytest.mark.parametrize(
    ("column", "value", "changes_split", "changes_data"),
    [
        ("label", "c", True, True),
        ("sha256", "44", True, True),
        ("split", "train", True, False),
        ("path", "b/9.jpg", True, False),
        ("fold", 3, False, False),
    ],
)
def test_what_counts(column: str, value: Any, changes_split: bool, changes_data: bool) -> None:
    changed = SPLIT.copy()
    changed.loc[0, column] = value
    assert (split_digest(changed) != split_digest(SPLIT)) == changes_split
    assert (data_digest(changed) != data_digest(SPLIT)) == changes_data


def test_a_photograph_twice_is_not_a_photograph_once() -> None:
    assert data_digest(pd.concat([SPLIT, SPLIT[:1]])) != data_digest(SPLIT)


def test_a_result_is_quoted_with_all_that_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("torch", "no-such-package"))
    record = json.loads(json.dumps(describe(SPLIT)))
    assert record["split_sha256"] == split_digest(SPLIT)
    assert record["data_sha256"] == data_digest(SPLIT)
    assert set(record["versions"]) == {"python", "torch"}
    assert record["versions"]["python"] == platform.python_version()
    assert record["peak_memory_bytes"] > 10**7


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git"), subprocess.TimeoutExpired("git", 10)]
)
def test_without_git_there_is_no_commit(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert git_commit() is None


def test_a_commit_is_named_in_full_with_whether_files_differ(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message=first", "--no-verify")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert git_commit() == commit
    (tmp_path / "file").write_text("two")
    assert git_commit() == f"{commit}-dirty"
    git("checkout", "--quiet", "file")
    (tmp_path / "dvc.lock").write_text("before")
    git("add", "dvc.lock")
    git("commit", "--quiet", "--message=second", "--no-verify")
    (tmp_path / "dvc.lock").write_text("written by the pipeline that is asking")
    assert git_commit() == git("rev-parse", "HEAD")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/new.yaml").write_text("name: new")  # which the commit lacks
    assert git_commit() == f"{git('rev-parse', 'HEAD')}-dirty"
    (tmp_path / ".gitignore").write_text("provenance.py")
    (tmp_path / "provenance.py").touch()  # installed into an environment that lies in somebody's repository
    assert git_commit() is None
