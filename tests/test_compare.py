import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowers.compare import compare, experiments_of, main
from flowers.errors import UserError
from flowers.review.board import COLUMNS, PAIR_COLUMNS, table

CLASSES = ["NA", "truth"]  # names that a careless reader of CSV files would lose


def finish(artifacts: Path, name: str, right: int, **run: Any) -> None:
    """Write what the stages write about an experiment that is right on the first so many of 100 photographs."""
    trained, evaluated = artifacts / "train" / name, artifacts / "evaluate" / name
    train(trained, name, **run)
    test(evaluated, right)


def finish_baseline(artifacts: Path, name: str, right: int, **changes: Any) -> None:
    """Write what the stage `baselines` writes about one."""
    settings = {"k": 5}
    record = {"val/acc": 0.4, "train_s": 0.5, "settings": settings, "data_sha256": "d", "split_sha256": "s"}
    test(artifacts / "baselines" / name, right, **{**record, "seed": 0, "git_commit": "abc", **changes})


def test(folder: Path, right: int, **changes: Any) -> None:
    """Write the results of a test of 100 photographs, 50 of each class, of which at least 50 are right."""
    folder.mkdir(parents=True)
    accuracy = right / 100
    metrics = {
        "test/acc": accuracy,
        "test/loss": 0.5,
        "test/macro_f1": accuracy - 0.01,
        "test/top2_acc": 1.0,
        "interval": {
            key: [accuracy - 0.05, accuracy + 0.05]
            for key in ("test/acc", "test/loss", "test/macro_f1", "test/top2_acc")
        },
        "per_class": [{"class": key, "precision": 1.0, "recall": 0.5, "f1": 0.7, "support": 50} for key in CLASSES],
        "photographs": 100,
    }
    (folder / "metrics.json").write_text(json.dumps({**metrics, **changes}))
    (folder / "confusion.csv").write_text(f"truth,NA,truth\nNA,50,0\ntruth,{100 - right},{right - 50}\n")
    rows = [f"{number}.jpg,{CLASSES[number // 50]},{CLASSES[50 <= number < right]},0.5,0.5" for number in range(100)]
    (folder / "predictions.csv").write_text("\n".join(["path,label,prediction,NA,truth", *rows, ""]))


def train(folder: Path, name: str, **run: Any) -> None:
    """Write what a training leaves, but for its weights."""
    folder.mkdir(parents=True)
    record = {
        "name": name,
        "classes": CLASSES,
        "seed": 7,
        "parameters": 1000,
        "train_s": 12.5,
        "epochs": 2,
        "git_commit": "abc",
        "data_sha256": "d",
        "split_sha256": "s",
        "mlflow_run_id": "m",
        "versions": {},
        "final": {"train/acc": 0.99, "val/acc": 0.9, "train/loss": 0.1, "val/loss": 0.2},
        "dataset": "rendered",
    }
    (folder / "run.json").write_text(json.dumps({**record, **run}))
    (folder / "history.csv").write_text(
        "epoch,stage,train/loss,train/acc,val/loss,val/acc,lr/head\n0,head,1,0.5,1,0.5,0.1\n1,1,0.5,0.9,,,0.1\n"
    )
    rows = [f"{number}.jpg,{CLASSES[number // 50]},{number},test,-1,{number}" for number in range(100)]
    rows += [f"{split}_{name}.jpg,{name},{split}{name},{split},0,{split}{name}" for split in ("train", "val") for name in CLASSES]
    (folder / "split.csv").write_text("\n".join(["path,label,group,split,fold,sha256", *rows, ""]))


def test_the_leaderboard_is_ranked_with_ties_by_name(tmp_path: Path) -> None:
    for name, right in (("worst", 60), ("b", 80), ("a", 80), ("best", 90)):
        finish(tmp_path, name, right)
    experiments = compare(["worst", "b", "a", "best", "b"], tmp_path)
    with (tmp_path / "compare" / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    header = (
        "rank,experiment,test/acc,test/acc_low,test/acc_high,test/macro_f1,test/top2_acc,test/loss,val/acc,"
        "train/acc,parameters,train_s,seed,git_commit,mlflow_run_id"
    )
    assert ",".join(rows[0]) == header
    assert [row[:2] for row in rows[1:]] == [["1", "best"], ["2", "a"], ["3", "b"], ["4", "worst"]]
    best = dict(zip(COLUMNS, rows[1], strict=True))
    assert float(best["test/acc"]) == 0.9
    assert float(best["test/acc_low"]) == pytest.approx(0.85)
    assert (best["val/acc"], best["train_s"], best["mlflow_run_id"]) == ("0.9", "12.5", "m")
    assert "dvc repro evaluate@worst" in (tmp_path / "compare" / "index.html").read_text()
    assert experiments[0].classes == CLASSES
    assert experiments[0].counts.tolist() == [[50, 0], [10, 40]]


def test_the_table_for_the_terminal_is_aligned_ascii(tmp_path: Path) -> None:
    finish(tmp_path, "net", 90)
    finish(tmp_path, "net_with_a_long_name", 80, final={})
    lines = table(compare(["net", "net_with_a_long_name"], tmp_path)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "90.0 %" in lines[1]
    assert "85.0 to 95.0 %" in lines[1]
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    "path",
    [
        "train/net/run.json",
        "train/net/history.csv",
        "evaluate/net/metrics.json",
        "evaluate/net/confusion.csv",
    ],
)
@pytest.mark.parametrize("content", [None, "", "{", "{}", "a,b\n1,2\n", "truth,NA,truth\nNA,1\n"])
def test_a_missing_or_broken_file_is_named_with_its_remedy(tmp_path: Path, path: str, content: str | None) -> None:
    finish(tmp_path, "net", 90)
    if content is None:
        (tmp_path / path).unlink()
    else:
        (tmp_path / path).write_text(content)
    with pytest.raises(UserError) as raised:
        compare(["net"], tmp_path)
    assert str(tmp_path / path) in str(raised.value)
    assert "run `dvc repro evaluate@net`" in str(raised.value)
    assert not (tmp_path / "compare").exists()


def test_other_classes_in_the_confusion_matrix_are_noticed(tmp_path: Path) -> None:
    finish(tmp_path, "net", 90, classes=["truth", "NA"])
    with pytest.raises(UserError, match="names other classes than"):
        compare(["net"], tmp_path)


@pytest.mark.parametrize(("key", "what"), [("data_sha256", "photographs"), ("split_sha256", "splits")])
def test_experiments_on_other_photographs_are_not_compared(tmp_path: Path, key: str, what: str) -> None:
    finish(tmp_path, "a", 90)
    finish(tmp_path, "b", 80)
    finish(tmp_path, "c", 70, **{key: "other"})
    with pytest.raises(UserError, match=rf"^c and a are not comparable, because their {what} differ \({key}"):
        compare(["a", "b", "c"], tmp_path)


@pytest.mark.parametrize("content", ["dataset: x", "experiments: []", "experiments: 3", "experiments: [1]", "- a", ""])
def test_params_without_a_list_of_experiments(tmp_path: Path, content: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(UserError, match=r"params.yaml must have a key `experiments`"):
        experiments_of(tmp_path / "params.yaml")


def test_params_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="call this in the project's folder"):
        experiments_of(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(UserError, match="no valid YAML"):
        experiments_of(tmp_path / "params.yaml")


def test_the_command_takes_its_list_from_params(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("experiments: [b, a]\n")
    finish(Path("artifacts"), "a", 90)
    finish(Path("artifacts"), "b", 80)
    monkeypatch.setattr("sys.argv", ["compare"])
    main()
    printed = capsys.readouterr().out
    assert printed.index("1  a") < printed.index("2  b")
    assert str(Path("artifacts/compare/index.html")) in printed


def test_an_unfinished_experiment_ends_the_command_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text("experiments: [net]\n")
    monkeypatch.setattr("sys.argv", ["compare", f"params={tmp_path}/params.yaml", f"artifacts={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "train/net/run.json is missing, so net is not finished" in capsys.readouterr().err


def test_help_is_quick() -> None:
    heavy = "{'matplotlib', 'pandas', 'numpy', 'torch', 'jinja2'} & set(sys.modules)"
    check = f"import sys, flowers.compare\nprint({heavy} or 'quick')"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "quick"
