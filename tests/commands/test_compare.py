import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from flowers.commands.compare import compare, experiments_of, main
from flowers.errors import UserError
from flowers.evaluation.results import comparable, own_places, read_experiments
from flowers.report.leaderboard import COLUMNS, PAIR_COLUMNS, table

CLASSES = ["NA", "truth"]  # names that a careless reader of CSV files would lose


def finish(artifacts: Path, name: str, right: int, **run: Any) -> None:
    """Write what the stages write about an experiment that is right on the first so many of 100 photographs."""
    trained, evaluated = artifacts / "train" / name, artifacts / "evaluate" / name
    write_test(evaluated, right)
    for folder in (trained, evaluated / "trained"):  # evaluate keeps copies
        write_training(folder, name, **run)


def finish_baseline(artifacts: Path, name: str, right: int, **changes: Any) -> None:
    """Write what the stage `baselines` writes about one."""
    settings = {"k": 5}
    record = {"val/acc": 0.4, "train_s": 0.5, "settings": settings, "data_sha256": "d", "split_sha256": "s"}
    write_test(artifacts / "baselines" / name, right, **{**record, "seed": 0, "git_commit": "abc", **changes})


def write_test(folder: Path, right: int, **changes: Any) -> None:
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


def write_training(folder: Path, name: str, **run: Any) -> None:
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
    rows += [
        f"{split}_{name}.jpg,{name},{split}{name},{split},0,{split}{name}"
        for split in ("train", "val")
        for name in CLASSES
    ]
    (folder / "split.csv").write_text("\n".join(["path,label,group,split,fold,sha256", *rows, ""]))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_leaderboard_is_ranked_as_far_as_is_shown(tmp_path: Path) -> None:
    for name, right in (("worst", 60), ("b", 80), ("a", 80), ("best", 84)):
        finish(tmp_path, name, right)
    ranking = compare(["worst", "b", "a", "best", "b"], tmp_path)
    rows = read(tmp_path / "compare" / "leaderboard.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert {"rank", "experiment", "test/acc", "val/acc", "parameters", "mlflow_run_id"} < set(COLUMNS)
    ranks = [(row["rank"], row["experiment"], row["rank_low"], row["rank_high"]) for row in rows]
    assert ranks == [("1", "best", "1", "3"), ("2", "a", "1", "3"), ("3", "b", "1", "3"), ("4", "worst", "4", "4")]
    best, worst = rows[0], rows[3]
    assert float(best["test/acc"]) == 0.84
    assert float(best["test/acc_low"]) == pytest.approx(0.79)
    assert (best["val/acc"], best["train_s"], best["mlflow_run_id"], best["kind"]) == ("0.9", "12.5", "m", "network")
    assert (best["behind_best"], best["p_behind_best"]) == ("0.0", "")
    assert float(worst["behind_best"]) == pytest.approx(0.24)
    assert 0.14 < float(worst["behind_best_low"]) < 0.24 < float(worst["behind_best_high"]) < 0.34
    assert float(worst["p_behind_best"]) == pytest.approx(6 * 2 * 0.5**24)
    assert "dvc repro evaluate@worst" in (tmp_path / "compare" / "index.html").read_text()
    assert ranking.best.classes == CLASSES
    assert ranking.best.counts.tolist() == [[50, 0], [16, 34]]
    assert (tmp_path / "compare" / "plots" / "confusion" / "best.csv").is_file()


def test_all_pairs_are_written_the_better_first(tmp_path: Path) -> None:
    for name, right in (("c", 60), ("b", 80), ("a", 81)):
        finish(tmp_path, name, right)
    compare(["c", "b", "a"], tmp_path)
    rows = read(tmp_path / "compare" / "pairs.csv")
    assert list(rows[0]) == list(PAIR_COLUMNS)
    assert [(row["experiment_a"], row["experiment_b"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [(row["only_a_right"], row["only_b_right"]) for row in rows] == [("1", "0"), ("21", "0"), ("20", "0")]
    assert [row["smallest_difference"] != "" for row in rows] == [False, True, True]
    assert float(rows[0]["p"]) == 1


def test_the_table_for_the_terminal_is_aligned_ascii(tmp_path: Path) -> None:
    finish(tmp_path, "net", 90)
    finish(tmp_path, "net_with_a_long_name", 88, final={})
    finish_baseline(tmp_path, "majority", 60)
    lines = table(compare(["net", "net_with_a_long_name"], tmp_path)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].startswith("1-2  net  ")
    assert lines[2].startswith("1-2  net_with_a_long_name  ")
    assert lines[3].startswith("     (majority)  ")
    assert "90.0 %" in lines[1]
    assert "85.0 to 95.0 %" in lines[1]
    assert all(line.isascii() for line in lines)


def test_near_duplicates_in_the_test_count_once(tmp_path: Path) -> None:
    finish(tmp_path, "a", 80)
    finish(tmp_path, "b", 60)
    compare(["a", "b"], tmp_path)
    assert float(read(tmp_path / "compare" / "pairs.csv")[0]["p"]) == pytest.approx(2 * 0.5**20)
    split_csv = tmp_path / "evaluate/a/trained/split.csv"
    rows = split_csv.read_text().splitlines()
    for number in range(60, 80):
        rows[number + 1] = rows[number + 1].replace(f",{number},test", f",scene{number // 10},test")
    split_csv.write_text("\n".join(rows))
    compare(["a", "b"], tmp_path)
    assert float(read(tmp_path / "compare" / "pairs.csv")[0]["p"]) == pytest.approx(2 * 0.5**2)


@pytest.mark.parametrize(
    "path",
    [
        "evaluate/net/trained/run.json",
        "evaluate/net/trained/history.csv",
        "evaluate/net/trained/split.csv",
        "evaluate/net/metrics.json",
        "evaluate/net/confusion.csv",
        "evaluate/net/predictions.csv",
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
    assert "run `dvc repro evaluate@net`" in str(raised.value) or "run split again" in str(raised.value)
    assert not (tmp_path / "compare").exists()


def test_other_classes_in_the_confusion_matrix_are_noticed(tmp_path: Path) -> None:
    finish(tmp_path, "net", 90, classes=["truth", "NA"])
    with pytest.raises(UserError, match="names other classes than"):
        compare(["net"], tmp_path)


def test_predictions_that_are_not_those_that_were_scored_are_noticed(tmp_path: Path) -> None:
    finish(tmp_path, "net", 90)
    path = tmp_path / "evaluate/net/metrics.json"
    path.write_text(path.read_text().replace('"test/acc": 0.9,', '"test/acc": 0.89,'))
    with pytest.raises(UserError, match=r"predictions.csv is right on 0.9000 .* metrics.json says 0.8900"):
        compare(["net"], tmp_path)


@pytest.mark.parametrize(("key", "what"), [("data_sha256", "photographs"), ("split_sha256", "splits")])
def test_experiments_on_other_photographs_are_not_compared(tmp_path: Path, key: str, what: str) -> None:
    finish(tmp_path, "a", 90)
    finish(tmp_path, "b", 80)
    finish(tmp_path, "c", 70, **{key: "other"})
    with pytest.raises(UserError, match=rf"^c and a are not comparable, because their {what} differ \({key}"):
        compare(["a", "b", "c"], tmp_path)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (
            "evaluate/b/predictions.csv",
            "\n3.jpg,",
            "\nx.jpg,",
            r"b and a were not tested .*\(1 only for b, such as x.jpg",
        ),
        ("evaluate/b/predictions.csv", "\n3.jpg,NA,NA,0.5,0.5", "", r"\(1 only for a, such as 3.jpg"),
        ("evaluate/b/predictions.csv", "\n3.jpg,NA,", "\n3.jpg,truth,", r"3.jpg is truth for b but not for a"),
        ("evaluate/b/predictions.csv", "\n3.jpg,", "\n4.jpg,", r"no table of one prediction for each photograph"),
        ("evaluate/a/predictions.csv", "\n3.jpg,", "\nx.jpg,", r"has x.jpg, which is no test photograph in"),
        (
            "evaluate/b/trained/split.csv",
            "3.jpg,NA,3,test,-1,3\n",
            "3.jpg,NA,3,test,-1,z\n",
            r"3.jpg is not the same picture for b",
        ),
    ],
)
def test_answers_about_other_photographs_are_not_paired(
    tmp_path: Path, file: str, old: str, new: str, sentence: str
) -> None:
    finish(tmp_path, "a", 90)
    finish(tmp_path, "b", 80)
    edit(tmp_path / file, old, new)
    with pytest.raises(UserError, match=sentence):
        compare(["a", "b"], tmp_path)


def test_the_order_of_the_answers_changes_nothing(tmp_path: Path) -> None:
    finish(tmp_path, "a", 90)
    finish(tmp_path, "b", 80)
    compare(["a", "b"], tmp_path)
    before = (tmp_path / "compare" / "pairs.csv").read_text()
    path = tmp_path / "evaluate/b/predictions.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    compare(["a", "b"], tmp_path)
    assert (tmp_path / "compare" / "pairs.csv").read_text() == before


def test_a_network_that_does_not_beat_a_baseline_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, "good", 95)
    finish(tmp_path, "poor", 82)
    finish_baseline(tmp_path, "majority", 50)
    finish_baseline(tmp_path, "pixels_knn_l1", 80)
    finish_baseline(tmp_path, "pixels_knn_l2", 83)
    (tmp_path / "baselines" / ".gitignore").touch()
    (tmp_path / "baselines" / "embeddings_knn").mkdir()  # what is left of one that is no longer measured
    (tmp_path / "params.yaml").write_text("experiments: [good, poor]\n")
    monkeypatch.setattr("sys.argv", ["compare", f"params={tmp_path}/params.yaml", f"artifacts={tmp_path}"])
    main()
    printed = " ".join(capsys.readouterr().out.split())
    assert "poor !" in printed
    assert "good !" not in printed
    assert "! poor is not shown to be better than pixels_knn_l2 and pixels_knn_l1." in printed
    assert "flowers baselines" not in printed
    rows = {row["experiment"]: row for row in read(tmp_path / "compare" / "leaderboard.csv")}
    assert list(rows) == ["good", "pixels_knn_l2", "poor", "pixels_knn_l1", "majority"]
    assert rows["poor"]["not_better_than"] == "pixels_knn_l2 pixels_knn_l1"
    assert rows["good"]["not_better_than"] == ""
    baseline = rows["pixels_knn_l2"]
    assert [baseline[key] for key in ("rank", "rank_low", "kind", "parameters")] == ["", "", "baseline", ""]
    assert (baseline["val/acc"], baseline["train_s"]) == ("0.4", "0.5")
    assert float(baseline["behind_best"]) == pytest.approx(0.12)
    pairs = [(row["experiment_a"], row["experiment_b"]) for row in read(tmp_path / "compare" / "pairs.csv")]
    assert len(pairs) == 1 + 2 * 3
    assert ("poor", "majority") in pairs


def test_baselines_take_nothing_from_the_networks_ranks(tmp_path: Path) -> None:
    finish(tmp_path, "a", 90)
    finish(tmp_path, "b", 84)
    alone = compare(["a", "b"], tmp_path)
    for number in range(5):
        finish_baseline(tmp_path, f"baseline{number}", 60)
    beside = compare(["a", "b"], tmp_path)
    assert alone.pairs == beside.pairs
    assert alone.ranks == {"a": (1, 1), "b": (2, 2)} == beside.ranks


def test_without_baselines_a_note_says_how_to_add_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, "net", 95)
    (tmp_path / "params.yaml").write_text("experiments: [net]\n")
    monkeypatch.setattr("sys.argv", ["compare", f"params={tmp_path}/params.yaml", f"artifacts={tmp_path}"])
    main()
    assert "`flowers baselines`" in capsys.readouterr().out
    assert "<code>flowers baselines</code>" in (tmp_path / "compare" / "index.html").read_text()


@pytest.mark.parametrize("key", ["data_sha256", "split_sha256"])
def test_baselines_of_other_photographs_are_refused(tmp_path: Path, key: str) -> None:
    finish(tmp_path, "net", 95)
    finish_baseline(tmp_path, "majority", 60, **{key: "other"})
    with pytest.raises(UserError, match=rf"majority was measured on other .*{key}.*flowers baselines"):
        compare(["net"], tmp_path)


@pytest.mark.parametrize("file", ["metrics.json", "predictions.csv"])
def test_an_unfinished_baseline_is_named(tmp_path: Path, file: str) -> None:
    finish(tmp_path, "net", 95)
    finish_baseline(tmp_path, "majority", 60)
    (tmp_path / "baselines" / "majority" / file).unlink()
    with pytest.raises(UserError, match=rf"majority/{file} is missing.*flowers baselines"):
        compare(["net"], tmp_path)


def test_own_trainings_on_other_splits_are_told_how_to_share_one(tmp_path: Path) -> None:
    for name in "ab":
        write_training(tmp_path / name, name)
        write_test(tmp_path / name / "test", 80)
    for file in ("test/predictions.csv", "split.csv"):
        edit(tmp_path / "b" / file, "\n3.jpg,", "\nx.jpg,")
    with pytest.raises(UserError, match=rf"train again with data.split_csv={tmp_path}/a/split.csv, and evaluate"):
        read_experiments(own_places([tmp_path / "a", tmp_path / "b"]))


def test_trainings_beside_one_are_found_if_they_had_the_same_test(tmp_path: Path) -> None:
    runs = {"b": "s", "a": "s", "other split": "t", "not evaluated": "s"}
    for name, split in runs.items():
        write_training(tmp_path / name, name, split_sha256=split)
        if name != "not evaluated":
            write_test(tmp_path / name / "test", 80)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("{")
    found = comparable(tmp_path / "b")
    assert found == [tmp_path / "a", tmp_path / "b"]
    assert [each.name for each in read_experiments(own_places(found))[0]] == ["a", "b"]
    assert comparable(tmp_path / "other split") == [tmp_path / "other split"]


def test_an_empty_folder_of_baselines_and_a_name_used_twice(tmp_path: Path) -> None:
    finish(tmp_path, "net", 95)
    (tmp_path / "baselines").mkdir()
    with pytest.raises(UserError, match="holds no baseline"):
        compare(["net"], tmp_path)
    finish_baseline(tmp_path, "net", 60)
    with pytest.raises(UserError, match="net is the name of an experiment and of a baseline"):
        compare(["net"], tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["compare", *words])
    main()


@pytest.mark.slow
def test_two_own_trainings_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_training(Path("runs/before"), "cnn_scratch")
    write_test(Path("runs/before/test"), 80)
    write_training(Path("runs/more photographs"), "cnn_scratch", data_sha256="more")
    write_test(Path("runs/more photographs/test"), 90)
    finish(Path("artifacts"), "before", 60)
    finish_baseline(Path("artifacts"), "majority", 55)
    folders = "experiments=[runs/before,runs/more photographs,artifacts/train/before]"
    run(monkeypatch, folders, "out_dir=out", "baselines=artifacts/baselines")
    printed = " ".join(capsys.readouterr().out.split())
    assert "more photographs is shown to be better than every other experiment." in printed
    assert "Not all were trained on the same photographs" in printed
    assert "The evidence: out/index.html" in printed
    rows = read(Path("out/leaderboard.csv"))
    assert [row["experiment"] for row in rows] == ["more photographs", "runs/before", "train/before", "majority"]
    page = Path("out/index.html").read_text()
    assert "flowers evaluate model=runs/before" in page
    assert "dvc repro evaluate@before" in page
    assert not Path("artifacts/compare").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["experiments=[a,b]"], "give out_dir=OUT"),
        (["experiments=[a,a]", "out_dir=out"], "a is given twice"),
        (["experiments=[a,./a]", "out_dir=out"], "a is given twice"),
        (["experiments=nowhere", "out_dir=out"], "nowhere is no folder that `train` wrote"),
        (["experiments=[a,nowhere]", "out_dir=out"], "nowhere is no folder that `train` wrote"),
        (
            ["experiments=[a,bare]", "out_dir=out"],
            "bare is not evaluated .*run `flowers evaluate model=bare`",
        ),
        (["experiments=[a]", "out_dir=site"], "site holds an index.html that is no comparison"),
        (["experiments=[a]", "out_dir=out", "baselines=nowhere"], "nowhere is no folder"),
        (["out_dir=out"], r"out_dir=… goes with experiments="),
        (["baselines=out"], r"baselines=… goes with experiments="),
        (["experiments=[]", "out_dir=out"], r"experiments=\[\] names no folder"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_training(Path("a"), "net")
    write_test(Path("a/test"), 80)
    write_training(Path("bare"), "net")
    Path("site").mkdir()
    Path("site/index.html").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *words)
    assert ended.value.code == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not Path("out").exists()
    assert Path("site/index.html").read_text() == "mine"


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
    assert "evaluate/net/predictions.csv is missing: run `dvc repro evaluate@net`" in capsys.readouterr().err


def test_an_experiment_with_a_page_is_linked_to_it(tmp_path: Path) -> None:
    for name, right in (("with", 90), ("without", 80)):
        finish(tmp_path, name, right)
    compare(["with", "without"], tmp_path)
    written = (tmp_path / "compare/index.html").read_text()
    # The stage `report` draws them, before or after this one.
    links = [f"../report/{name}/report.html" for name in ("with", "without")]
    assert re.findall(r'href="(\.\./[^"]*)"', written) == links


def test_an_own_training_is_linked_to_its_page_if_it_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("with", "without"):
        write_training(tmp_path / name, name)
        write_test(tmp_path / name / "test", 80)
    (tmp_path / "with/test/report.html").touch()
    monkeypatch.setattr(
        sys, "argv", ["compare", f"experiments=[{tmp_path}/with,{tmp_path}/without]", f"out_dir={tmp_path}/out"]
    )
    main()
    written = (tmp_path / "out/index.html").read_text()
    assert re.findall(r'href="(\.\./[^"]*)"', written) == ["../with/test/report.html"]
