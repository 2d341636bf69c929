import dataclasses
import re
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from flowers.evaluation.results import Baseline, Experiment
from flowers.evaluation.scores import score
from flowers.evaluation.significance import Ranking, rank
from flowers.report import leaderboard
from flowers.report.curves import stage_starts
from flowers.report.html import duration, magnitude, percent
from flowers.report.leaderboard import apart_by_class, baseline_findings, findings, order_findings, write_comparison

CLASSES = ["daisy", "roses", "tulips"]


def experiment(
    name: str, right: int, photographs: int = 200, classes: list[str] = CLASSES, first: int = 0, **changes: Any
) -> Experiment:
    """An experiment that is right on so many photographs from `first` on, and else takes each class for the next."""
    labels = np.arange(photographs) % len(classes)
    is_right = (np.arange(photographs) >= first) & (np.arange(photographs) < first + right)
    predictions = (labels + ~is_right) % len(classes)
    probabilities = np.full((photographs, len(classes)), 0.1 / (len(classes) - 1))
    probabilities[np.arange(photographs), predictions] = 0.9
    epochs = [0, 1, 2, 3]
    history = {
        "epoch": epochs,
        "stage": ["head", "head", "all", "all"],
        **{f"{split}/{metric}": [0.4, 0.5, 0.6, 0.7] for split in ("train", "val") for metric in ("loss", "acc")},
    }
    run = {
        "name": name,
        "classes": classes,
        "seed": 42,
        "parameters": 21_284_672,
        "train_s": 83.4,
        "epochs": 4,
        "git_commit": "3f1c9a7be21d4400aa",
        "data_sha256": "ab" * 32,
        "split_sha256": "cd" * 32,
        "mlflow_run_id": None,
        "versions": {"torch": "2.11.0"},
        "final": {"train/acc": 0.7, "val/acc": 0.7, "train/loss": 0.1, "val/loss": 0.1},
        "dataset": "rendered",
    }
    return Experiment(
        name,
        score(labels, probabilities, classes),
        is_right,
        {**run, **changes},
        confusion_matrix(labels, predictions, labels=range(len(classes))),
        classes,
        pd.DataFrame(history),
        f"dvc repro evaluate@{name}",
    )


def baseline(name: str, right: int, photographs: int = 200) -> Baseline:
    """A baseline that is right on the first so many photographs."""
    like = experiment(name, right, photographs)
    scores = {**like.scores, "val/acc": 0.4, "train_s": 0.5}
    return Baseline(name, scores, like.right, scores)


def ranking(*rows: Experiment, baselines: tuple[Baseline, ...] = ()) -> Ranking:
    photographs = len(rows[0].right)
    return rank(rows, baselines, np.arange(photographs) % len(rows[0].classes), np.arange(photographs))


def page_of(tmp_path: Path, *rows: Experiment, baselines: tuple[Baseline, ...] = ()) -> str:
    write_comparison(ranking(*rows, baselines=baselines), tmp_path / "compare" / "index.html")
    return (tmp_path / "compare" / "index.html").read_text(encoding="utf-8")


def test_the_best_comes_first_and_equals_go_by_name(tmp_path: Path) -> None:
    rows = [experiment("worst", 80), experiment("b", 180), experiment("a", 180), experiment("best", 190)]
    assert [row.name for row in ranking(*rows).experiments] == ["best", "a", "b", "worst"]
    page = page_of(tmp_path, *rows)
    assert re.findall(r'<a href="#experiment-\d">(.*?)</a>', page) == ["best", "a", "b", "worst"]
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Is the difference real?", "best", "a", "b", "worst"]


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(tmp_path, experiment("a", 180), experiment("b", 90))
    assert "<script" not in page
    assert "@import" not in page
    for address in re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page):
        assert address.startswith(("#", "data:image/png;base64,"))
    without_names_of_xml = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http:" not in without_names_of_xml
    assert "https:" not in without_names_of_xml


def test_every_reference_inside_the_page_has_one_target(tmp_path: Path) -> None:
    page = page_of(tmp_path, experiment("a", 180), experiment("b", 90), experiment("c", 90))
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', page)) | set(re.findall(r"url\(#([^)]*)\)", page)) <= set(names)


def test_figures_take_their_ink_from_the_page_and_keep_their_numbers(tmp_path: Path) -> None:
    page = page_of(tmp_path, experiment("a", 180))
    drawings = re.findall(r"<svg[^>]*>.*?</svg>", page, re.DOTALL)
    figures = [drawing for drawing in drawings if "matplotlib" in drawing or "<defs>" in drawing]
    assert len(figures) == 2
    for figure in figures:
        xml.etree.ElementTree.fromstring(figure)
        assert "#1b1f24" not in figure
        assert "var(--ink)" in figure
    assert "train 0.700" in page


def test_hostile_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    hostile = ["<b>bold</b>", "</svg><script>alert(1)</script>", '"&$x$']
    page = page_of(tmp_path, experiment("<i>net</i>", 150, classes=hostile, dataset="<u>set</u>"))
    for tag in ("<b>", "<script", "<i>", "<u>"):
        assert tag not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_the_page_says_how_to_make_each_again(tmp_path: Path) -> None:
    page = page_of(tmp_path, experiment("cnn_scratch", 150))
    assert "dvc repro evaluate@cnn_scratch" in page
    assert "3f1c9a7be21d4400aa" in page
    assert "rendered" in page
    assert "200 test photographs" in page
    assert "1 min 23 s" in page
    assert "21.3 M" in page


def test_an_experiment_without_epochs_or_validation(tmp_path: Path) -> None:
    trained = experiment("neighbours", 150, final={}, epochs=0)
    neighbours = dataclasses.replace(trained, history=trained.history.iloc[:0])
    assert "no learning curves" in page_of(tmp_path, neighbours)


def test_one_hundred_and_two_classes_and_five_experiments_fit(tmp_path: Path) -> None:
    classes = [f"species of flower {number}" for number in range(102)]
    row = experiment("a", 900, photographs=1020, classes=classes)
    page = page_of(tmp_path, row)
    assert len(page) < 2_000_000 / 5
    assert "<details>\n<summary>Results by class" in page


def test_the_same_inputs_give_the_same_page(tmp_path: Path) -> None:
    rows = experiment("a", 180), experiment("b", 90)
    assert page_of(tmp_path, *rows) == page_of(tmp_path, *reversed(rows))


def test_a_lead_that_the_test_does_not_show_is_called_level() -> None:
    rows = ranking(experiment("a", 180), experiment("b", 176), experiment("c", 60))
    sentences = " ".join(findings(rows))
    assert "a is right on 90.0 % of 200 test photographs" in sentences
    assert (
        "b is not shown to differ from a: a is 2.0 points ahead, and they disagree on 4 photographs, which is too few"
        in sentences
    )
    assert "a is shown to be better than c." in sentences
    assert "most frequent class would be right on 33.5 %" in sentences
    assert [rows.rank(name) for name in "abc"] == ["1–2", "1–2", "3"]


def test_a_level_pair_with_many_disagreements_is_told_what_would_show() -> None:
    # 20 photographs only a gets right, 10 only b: the exact p is 0.099, and 22 to 8 would be the first below 0.05
    rows = ranking(experiment("a", 170), experiment("b", 160, first=20))
    (sentence, *_) = order_findings(rows)
    assert rows.pairs[0].p == pytest.approx(0.0987, abs=1e-3)
    assert "b is not shown to differ from a: a is 5.0 points ahead, " in sentence
    assert "between two that disagree on 30 photographs this test shows no difference below 6.0 points" in sentence


def test_the_test_alone_decides_what_a_sentence_says() -> None:
    rows = ranking(experiment("a", 170), experiment("b", 162, first=11))
    (pair,) = rows.pairs
    assert pair.low > 0
    assert not pair.shown
    sentence = order_findings(rows)[0]
    assert "b is not shown to differ from a: a is 4.0 points ahead, and between two" in sentence
    assert "interval" not in sentence


def test_intervals_that_overlap_do_not_hide_a_shown_difference() -> None:
    rows = ranking(experiment("a", 180), experiment("b", 170))
    assert rows.experiments[0].interval[0] < rows.experiments[1].interval[1]
    assert "a is shown to be better than b." in order_findings(rows)


def test_a_clear_lead_and_a_tie_behind_it() -> None:
    sentences = " ".join(findings(ranking(experiment("a", 195), experiment("b", 120), experiment("c", 118))))
    assert "a is shown to be better than every other experiment." in sentences
    assert "No difference is shown between b and c." in sentences


def test_equal_answers_are_called_that() -> None:
    assert order_findings(ranking(experiment("a", 180), experiment("b", 180)))[0] == (
        "b is not shown to differ from a: the two are right on the same photographs."
    )


def test_no_lead_is_claimed_among_the_equally_right() -> None:
    three = ranking(experiment("a", 180), experiment("b", 180), experiment("c", 180, first=20))
    assert order_findings(three)[0] == "b and c are not shown to differ from a: they are right as often."
    apart = ranking(experiment("a", 180), experiment("b", 180, first=20))
    assert order_findings(apart)[0].startswith("b is not shown to differ from a: they are right as often, and between")


def test_many_experiments_are_summed_up() -> None:
    rows = ranking(*(experiment(f"net{number:02d}", 195 - 4 * number) for number in range(20)))
    sentences = order_findings(rows)
    assert sentences[0].startswith(
        "net01 and net02 are not shown to differ from net00: they are up to 4.0 points behind it"
    )
    assert "net00 is shown to be better than the other 17." in sentences
    assert any(sentence.startswith("Further down, 17 are not shown to differ") for sentence in sentences)


def test_the_smallest_difference_is_always_said() -> None:
    assert order_findings(ranking(experiment("a", 180))) == [
        "This test can show no difference below 3.0 points (6 of 200 photographs); of two that disagree on a tenth of "
        "the photographs, 5.0 points would be shown."
    ]
    tiny = ranking(experiment("a", 3, photographs=5), experiment("b", 0, photographs=5))
    assert "A test of 5 photographs can show no difference at all: at least 6 are needed." in order_findings(tiny)
    both = order_findings(ranking(experiment("a", 180), experiment("b", 160), experiment("c", 100)))
    assert re.search(r"is from \d+\.\d to \d+\.\d points, depending", both[-1])
    assert "none below 3.0 points (6 of 200 photographs)" in both[-1]


def test_the_accuracy_of_the_best_is_told_beside_that_of_choosing_it() -> None:
    rows = [experiment(name, 180, first=10 * number) for number, name in enumerate("abc")]
    said = findings(ranking(*rows))[1]
    assert said.startswith("These photographs also chose it as the best of 3, so this figure may be too high: ")
    assert not any("also chose it" in sentence for sentence in findings(ranking(rows[0])))


def test_other_training_photographs_are_said() -> None:
    rows = ranking(experiment("a", 180), experiment("b", 170, data_sha256="more"))
    assert order_findings(rows)[-1].startswith("Not all were trained on the same photographs")


def test_a_network_that_does_not_beat_a_baseline_is_named() -> None:
    easy, hard = baseline("majority", 70), baseline("embeddings_knn", 150)
    rows = ranking(experiment("a", 180), experiment("b", 152), baselines=(easy, hard))
    assert baseline_findings(rows, mark="! ") == ["! b is not shown to be better than embeddings_knn."]
    assert rows.not_better_than("a") == []
    assert rows.not_better_than("b") == ["embeddings_knn"]
    assert not any("most frequent class" in sentence for sentence in findings(rows))


def test_networks_that_beat_all_baselines_are_told_so() -> None:
    rows = ranking(experiment("a", 180), baselines=(baseline("majority", 70), baseline("embeddings_knn", 150)))
    assert baseline_findings(rows) == [
        "a is shown to be better than every baseline, of which embeddings_knn is the best: 75.0 %."
    ]
    assert baseline_findings(ranking(experiment("a", 180))) == []


def test_a_network_that_is_worse_than_a_baseline_is_flagged_too(tmp_path: Path) -> None:
    rows = ranking(experiment("a", 60), baselines=(baseline("embeddings_knn", 150),))
    (pair,) = rows.baseline_pairs
    assert pair.shown
    assert pair.difference < 0
    assert rows.not_better_than("a") == ["embeddings_knn"]
    page = page_of(tmp_path, experiment("a", 60), baselines=(baseline("embeddings_knn", 150),))
    assert "not shown to beat embeddings_knn" in page
    assert page.index("embeddings_knn<br>") < page.index("not shown to beat")


def test_baselines_stand_apart_on_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, experiment("a", 180), baselines=(baseline("majority", 20), baseline("knn", 100)))
    assert page.count('<tr class="baseline">') == 2
    assert "Against the baselines" in page
    assert page.count("◂") == 1  # majority lies off the axis
    assert "flowers baselines" not in page


def test_the_table_of_pairs_has_each_pair_once(tmp_path: Path) -> None:
    page = page_of(tmp_path, experiment("a", 180), experiment("b", 178), experiment("c", 90))
    shown, level = page.count('<td class="shown"'), page.count('<td class="level"')
    assert (shown, level) == (2, 1)
    assert re.search(
        r'<td class="shown" title="a is ahead of c by 45.0 points \(37.\d to 51.\d\); only a is right on 90', page
    )


@pytest.mark.slow
def test_many_experiments_leave_the_intervals_to_the_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = experiment("a", 180), experiment("b", 178)
    assert page_of(tmp_path, *rows).count('<br><span class="range">') == 3
    monkeypatch.setattr(leaderboard, "_WIDE_PAIRS", 1)
    narrow = page_of(tmp_path, *rows)
    assert narrow.count('<br><span class="range">') == 2  # of the accuracies only
    assert "95 % interval of this difference" not in narrow


@pytest.mark.slow
def test_calibration_is_shown_where_all_have_it(tmp_path: Path) -> None:
    with_it = experiment("a", 180)
    with_it.scores["test/ece"] = 0.034
    assert "<th>ECE</th>" in page_of(tmp_path, with_it, baselines=(baseline("knn", 90),))
    assert "3.4 %" in page_of(tmp_path, with_it)
    assert "<th>ECE</th>" not in page_of(tmp_path, with_it, experiment("b", 170))


def test_where_the_best_two_differ_is_counted_class_by_class() -> None:
    rows = ranking(experiment("a", 150), experiment("b", 140, first=60))
    counted = apart_by_class(rows)
    assert [sum(row[2:]) for row in counted] == [row[1] for row in counted]
    assert sum(row[3] for row in counted) == rows.pairs[0].only_first == 60
    assert sum(row[4] for row in counted) == rows.pairs[0].only_second == 50
    apart = [row[3] + row[4] for row in counted]
    assert apart == sorted(apart, reverse=True)


def test_no_error_at_all_is_not_called_certainty() -> None:
    sentences = findings(ranking(experiment("a", 200), experiment("b", 199)))
    assert "it might be from 97.7 % to 100.0 % (95 % interval)" in sentences[0]
    assert "b is not shown to differ from a" in sentences[2]


def test_memorising_is_said() -> None:
    memorising = experiment("a", 150, final={"train/acc": 0.99, "val/acc": 0.8})
    assert findings(ranking(memorising))[-1].startswith("On its training photographs a is 19.0 points more accurate")


def test_uncommitted_changes_show(tmp_path: Path) -> None:
    dirty = experiment("a", 150, git_commit="3f1c9a7be21d4400aa-dirty")
    outside_git = experiment("b", 140, git_commit=None)
    page = page_of(tmp_path, dirty, outside_git)
    assert "<code>3f1c9a7be2-dirty</code>, <code>unknown</code>" in " ".join(page.split())


def test_stages_begin_where_their_name_changes() -> None:
    assert stage_starts(experiment("a", 1).history) == [(0, "head"), (2, "all")]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (percent(0.9416), "94.2 %"),
        (percent(None), "–"),
        (percent(float("nan")), "–"),
        (magnitude(999), "999"),
        (magnitude(2565), "2.56 k"),
        (magnitude(21_284_672), "21.3 M"),
        (duration(1.44), "1.4 s"),
        (duration(59.4), "59 s"),
        (duration(59.9), "1 min 00 s"),
        (duration(3600), "1 h 00 min"),
        (duration(5025), "1 h 23 min"),
    ],
)
def test_numbers_in_words(said: str, expected: str) -> None:
    assert said == expected
