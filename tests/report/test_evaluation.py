"""The page of a run stands whatever the test was like, stays small, and says what it cannot show."""

import dataclasses
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from flowers.evaluation.calibration import describe_confidence
from flowers.evaluation.scores import score
from flowers.evaluation.selection import SHOWN, Pictures, choose_ood, choose_shown
from flowers.report.evaluation import LISTED, Run, figures_of, findings, write_report

RNG = np.random.default_rng(0)


class Outline(html.parser.HTMLParser):
    """Counts elements, and collects what they refer to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]


def make_run(labels: np.ndarray, probabilities: np.ndarray, classes: list[str], ood: int = 0) -> Run:
    """A run with these answers."""
    count = len(labels)
    predictions = pd.DataFrame(
        {
            "path": [f"{classes[label]}/photo_{row:05d}.jpg" for row, label in enumerate(labels)],
            "label": [classes[label] for label in labels],
            "prediction": [classes[k] for k in probabilities.argmax(axis=1)],
        }
    )
    scores: dict[str, Any] = {
        **score(labels, probabilities, classes),
        **describe_confidence(probabilities, labels, {0.9: 0.5, 0.95: 0.6}),
        "temperature": 1.3,
    }
    table = pd.DataFrame(
        {"path": predictions["path"], "distance": RNG.random(count), "ood_percentile": RNG.random(count)}
    )
    table["outlier"] = table["residual"] = table["confidence"] = RNG.random(count)
    others = None
    if ood:
        others = table.head(ood).assign(prediction=classes[0])
        scores["ood"] = {
            "data": "ood",
            "root": "there",
            "photographs": len(others),
            "separation": {"outlier": 0.9, "distance": 0.8, "residual": 0.7, "confidence": 0.6},
            "noticed_frac": 0.5,
            "alarmed_frac": 0.05,
            "refused": {},
        }
    epochs = pd.DataFrame({"epoch": [1, 2], "stage": ["head", "all"]})
    for name in ("train/loss", "val/loss", "train/acc", "val/acc"):
        epochs[name] = [0.5, 0.4]
    run = {
        "dataset": "garden",
        "photographs": "there",
        "parameters": 1000,
        "train_s": 3.0,
        "final": {"train/acc": 0.9, "val/acc": 0.5},
        "git_commit": None,
        "seed": 0,
        "epochs": 2,
        "peak_memory_bytes": 1 << 30,
        "mlflow_run_id": None,
        "data_sha256": "a" * 64,
        "split_sha256": "b" * 64,
        "versions": {"torch": "2"},
    }
    split = predictions[["path", "label"]].assign(split="test", group=predictions["path"])
    return Run(
        name="net_<how>",
        classes=classes,
        run=run,
        settings=None,
        config="name: net\n",
        remake="flowers train",
        history=epochs,
        scores=scores,
        counts=confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(classes))),
        predictions=predictions,
        probabilities=probabilities,
        outliers=table,
        split=split,
        pictures=Pictures([], np.zeros((0, 8, 8, 3), np.uint8)),
        ood=others,
    )


def draw(count: int, num_classes: int, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """True classes and probabilities that favour them."""
    labels = RNG.integers(0, num_classes, count)
    logits = RNG.normal(0, 1, (count, num_classes)) + skill * np.eye(num_classes)[labels]
    odds = np.exp(logits)
    return labels, odds / odds.sum(axis=1, keepdims=True)


def page_of(run: Run, tmp_path: Path, side_px: int = 8) -> str:
    rows = choose_shown(run.labels, run.probabilities)
    thumbnails = RNG.integers(0, 256, (len(rows), side_px, side_px, 3), dtype=np.uint8)
    ood = {} if run.ood is None else dict.fromkeys(choose_ood(run.ood), thumbnails[0])
    pictures = Pictures(rows, thumbnails, ood, {run.classes[0]: np.zeros((2, 8, 8, 3), np.uint8)})
    run = dataclasses.replace(run, pictures=pictures)
    write_report(run, figures_of(run), tmp_path / "deep/report.html")
    return (tmp_path / "deep/report.html").read_text(encoding="utf-8")


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="embedded">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


NAMES = ["daisy", "</script><b>", 'a "quoted" & $\\alpha$ name', "roses"]


def test_page_holds_everything_itself(tmp_path: Path) -> None:
    run = make_run(*draw(60, 4), NAMES, ood=20)
    page = page_of(run, tmp_path)
    outline = Outline(page)
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in outline.addresses)
    assert outline.tags["script"] == 2
    assert "b" in outline.tags  # the template's own
    assert "</script><b>" not in page.replace("&lt;", "")
    assert outline.tags["svg"] == 5  # curves, confusion, reliability, coverage, ood
    for target in {address for address in outline.addresses if address.startswith("#")}:
        assert f'id="{target[1:]}"' in page, target
    data = embedded(page)
    assert data["classes"] == NAMES
    assert sum(count for _, _, count in data["cells"]) == len(data["photographs"]) == 60
    assert len(data["thumbnails"]) == 60
    for path, label, answer, sure, of_truth, picture in data["photographs"]:
        row = run.predictions.index[run.predictions["path"] == path][0]
        assert (NAMES[label], NAMES[answer]) == tuple(run.predictions.loc[row, ["label", "prediction"]])
        assert sure == pytest.approx(run.probabilities[row].max(), abs=1e-3)
        assert of_truth == pytest.approx(run.probabilities[row, label], abs=1e-3)
        assert 0 <= picture < 60


@pytest.mark.slow
def test_ten_thousand_photographs_of_102_classes_stay_a_small_page(tmp_path: Path) -> None:
    run = make_run(*draw(10_000, 102, skill=4), [f"species {k:03d}" for k in range(102)])
    page = page_of(run, tmp_path)
    data = embedded(page)
    assert len(data["thumbnails"]) == SHOWN
    assert len(data["photographs"]) == LISTED
    without_pictures = len(page) - sum(map(len, data["thumbnails"]))
    assert without_pictures < 1_500_000
    assert sum(count for _, _, count in data["cells"]) == 10_000


@pytest.mark.parametrize(
    ("labels", "answers", "said"),
    [
        ([0], [0], "100.0 % of 1 test photographs are right"),
        ([0], [1], "Every prediction is roses: it has learned nothing else."),
        ([0, 1, 0, 1], [0, 0, 0, 0], "Every prediction is daisy: it has learned nothing else."),
        ([0, 0, 1], [0, 1, 1], "Nothing can be said of tulips: the test has no photograph of it."),
    ],
)
@pytest.mark.slow
def test_odd_tests_have_a_page(labels: list[int], answers: list[int], said: str, tmp_path: Path) -> None:
    probabilities = np.full((len(labels), 3), 0.1) + 0.7 * np.eye(3)[answers]
    run = make_run(np.array(labels), probabilities, ["daisy", "roses", "tulips"])
    assert any(sentence.startswith(said) for sentence in findings(run)), findings(run)
    page = page_of(run, tmp_path)
    assert said in page
    assert ("There are none: all test photographs are right." in page) == (labels == answers)


def run_of(right: list[int], support: int, sure: float = 0.9, answer: int = 0) -> Run:
    """A run with so many photographs of each of three classes, so many of them right; the others get one answer."""
    labels = np.repeat(np.arange(3), support)
    answers = np.concatenate([[k] * count + [answer] * (support - count) for k, count in enumerate(right)])
    probabilities = (1 - sure) / 2 + (1.5 * sure - 0.5) * np.eye(3)[answers]
    return make_run(labels, probabilities, ["daisy", "roses", "tulips"])


def test_classes_are_told_apart_only_where_the_test_shows_it() -> None:
    tied = findings(run_of([10, 10, 9], 10, answer=1))[1]
    assert tied == (
        "It finds daisy and roses (100.0 % of 20) most often and tulips (90.0 % of 10) least often, a difference that "
        "this test does not show to be more than chance."
    )
    assert findings(run_of([10, 10, 1], 10, answer=1))[1].endswith("a difference that is shown to be more than chance.")
    assert not any("least often" in sentence for sentence in findings(run_of([10, 10, 10], 10)))


def test_a_class_that_is_found_because_everything_is_called_so_is_not_praised_alone() -> None:
    said = findings(run_of([10, 6, 6], 10))
    assert said[1].startswith(
        "It finds daisy (100.0 % of 10) most often and roses and tulips (60.0 % of 20) least often"
    )
    assert said[2].startswith("Yet only 55.6 % of its predictions of daisy are right")


def test_what_is_not_shown_to_be_miscalibrated_is_not_called_calibrated() -> None:
    said = " ".join(findings(run_of([9, 9, 9], 10)))
    assert "so this test shows neither that they are right nor that they are not." in said
    assert "so they should not be trusted" in " ".join(findings(run_of([100, 100, 100], 200)))


@pytest.mark.parametrize(("right", "said"), [([10, 10, 10], "85.9 % to 100.0 %"), ([0, 0, 0], "0.0 % to 14.1 %")])
def test_a_test_without_a_mistake_is_not_called_certainty(right: list[int], said: str) -> None:
    shifted = run_of(right, 10)
    if not any(right):
        shifted = make_run(shifted.labels, np.roll(np.eye(3)[shifted.labels] * 0.7 + 0.1, 1, axis=1), shifted.classes)
    assert f"it might be from {said} (95 % interval)" in findings(shifted)[0]


@pytest.mark.parametrize(("train", "val", "photographs", "said"), [(0.97, 0.9, 400, True), (0.97, 0.9, 10, False)])
def test_a_gap_to_validation_is_said_with_advice_where_chance_does_not_explain_it(
    train: float, val: float, photographs: int, said: bool
) -> None:
    run = run_of([9, 9, 9], 10)
    run.run["final"].update({"train/acc": train, "val/acc": val})
    split = pd.DataFrame({"label": "daisy", "split": ["val"] * photographs})
    sentences = findings(dataclasses.replace(run, split=split))
    assert any("More photographs, augmentation" in sentence for sentence in sentences) == said


def test_a_sentence_stays_one_whatever_a_class_is_called() -> None:
    run = make_run(np.array([0]), np.array([[0.9, 0.1]]), ["daisy & <b>", "ro\nses"])
    assert "Nothing can be said of ro ses: the test has no photograph of it." in findings(run)
    assert "Every prediction is daisy & <b>: it has learned nothing else." in findings(run)


def test_photographs_without_a_thumbnail_are_named_as_not_shown(tmp_path: Path) -> None:
    run = make_run(*draw(20, 3), ["a", "b", "c"], ood=5)
    write_report(run, figures_of(run), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "data:image/webp" not in page
    assert "not shown" in page
    assert embedded(page)["thumbnails"] == []


def test_rendered_pictures_are_called_illustrations_and_names_stay_names(tmp_path: Path) -> None:
    run = make_run(*draw(40, 3), ["a photograph", "b", "c"], ood=10)
    run.run["dataset"], run.run["photographs"] = "sample", "Photographs"
    page = page_of(run, tmp_path)
    assert "test illustrations are right" in findings(run)[0]
    assert "how far an illustration lies from" in page
    assert "<dd><code>Photographs</code></dd>" in page
    said = re.sub(r"<script.*?</script>|a photograph|<code>Photographs</code>", "", page, flags=re.DOTALL)
    assert "hotograph" not in said
    assert "data.photographs.filter" in page  # the script's own name
    assert "llustration" not in page_of(make_run(*draw(40, 3), ["a", "b", "c"]), tmp_path)


def test_mistakes_have_the_first_places() -> None:
    labels, probabilities = draw(500, 5, skill=0.5)
    wrong = probabilities.argmax(axis=1) != labels
    assert 100 < wrong.sum() < 400
    rows = choose_shown(labels, probabilities, most=90)
    assert len(set(rows)) == 90
    assert wrong[rows].tolist() == 60 * [True] + 30 * [False]
    of_truth = probabilities[np.arange(500), labels]
    assert of_truth[rows[:60]].tolist() == np.sort(of_truth[wrong])[:60].tolist()
    assert np.bincount(labels[rows[60:]]).tolist() == 5 * [6]
    assert sorted(choose_shown(labels, probabilities)) == list(range(500))


def test_ood_photographs_are_shown_from_both_ends() -> None:
    table = pd.DataFrame({"path": [f"{k:02d}" for k in range(40)], "outlier": np.arange(40.0)})
    ends = [f"{k:02d}" for k in [*range(6), *range(34, 40)]]
    assert choose_ood(table) == ends
    assert choose_ood(table.head(3)) == ["00", "01", "02"]


def test_cells_count_the_predictions(tmp_path: Path) -> None:
    run = make_run(*draw(50, 3), ["a", "b", "c"])
    table = pd.crosstab(run.predictions["label"], run.predictions["prediction"])
    counts = table.reindex(index=run.classes, columns=run.classes, fill_value=0).to_numpy()
    cells = {(row, column): count for row, column, count in embedded(page_of(run, tmp_path))["cells"]}
    assert cells == {(row, column): counts[row, column] for row, column in np.argwhere(counts)}


def test_a_network_that_is_not_trained_in_epochs_has_a_page(tmp_path: Path) -> None:
    run = make_run(*draw(20, 3), ["a", "b", "c"])
    page = page_of(dataclasses.replace(run, history=run.history.head(0)), tmp_path)
    assert "How it learned" not in page
