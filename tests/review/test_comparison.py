import dataclasses
import re
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowers.review.comparison import Experiment, ranked, readings, stage_starts, write_comparison
from flowers.review.page import duration, magnitude, percent
from flowers.review.scores import confusion, score

CLASSES = ["daisy", "roses", "tulips"]


def experiment(
    name: str, right: int, photographs: int = 200, classes: list[str] = CLASSES, **changes: Any
) -> Experiment:
    """An experiment that is right on so many photographs, and on the others takes each class for the next."""
    labels = np.arange(photographs) % len(classes)
    predictions = (labels + (np.arange(photographs) >= right)) % len(classes)
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
        score(labels, probabilities, classes, resamples=200),
        confusion(labels, predictions, len(classes)),
        classes,
        {**run, **changes},
        pd.DataFrame(history),
    )


def page_of(tmp_path: Path, *rows: Experiment) -> str:
    write_comparison(rows, tmp_path / "compare" / "index.html")
    return (tmp_path / "compare" / "index.html").read_text(encoding="utf-8")


def test_the_best_comes_first_and_equals_go_by_name(tmp_path: Path) -> None:
    rows = [experiment("worst", 80), experiment("b", 180), experiment("a", 180), experiment("best", 190)]
    assert [row.name for row in ranked(rows)] == ["best", "a", "b", "worst"]
    page = page_of(tmp_path, *rows)
    assert re.findall(r'<a href="#experiment-\d">(.*?)</a>', page) == ["best", "a", "b", "worst"]
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["1. best", "2. a", "3. b", "4. worst"]


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
    assert "<details>\n<summary>Class by class" in page


def test_the_same_inputs_give_the_same_page(tmp_path: Path) -> None:
    rows = experiment("a", 180), experiment("b", 90)
    assert page_of(tmp_path, *rows) == page_of(tmp_path, *reversed(rows))


def test_overlapping_intervals_are_called_not_clearly_different() -> None:
    sentences = " ".join(readings([experiment("a", 180), experiment("b", 176), experiment("c", 60)]))
    assert "a is right on 90.0 % of 200 test photographs" in sentences
    assert "b is not clearly different from a" in sentences
    assert "c " not in sentences
    assert "most frequent class would be right on 33.5 %" in sentences


def test_a_clear_lead_and_a_tie_behind_it() -> None:
    sentences = " ".join(readings([experiment("a", 195), experiment("b", 120), experiment("c", 118)]))
    assert "its lead is clear" in sentences
    assert "c and b, next to each other, are not clearly different either" in sentences


def test_no_error_at_all_is_not_called_certainty() -> None:
    sentences = readings([experiment("a", 200), experiment("b", 199)])
    assert "an error rate below 1.5 %" in sentences[0]
    assert "b is not clearly different from a" in sentences[1]


def test_memorising_is_said() -> None:
    memorising = experiment("a", 150, final={"train/acc": 0.99, "val/acc": 0.8})
    assert "a memorises" in readings([memorising])[-1]
    assert "19.0 points" in readings([memorising])[-1]


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
