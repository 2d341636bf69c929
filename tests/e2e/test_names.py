"""Classes and files may have any names, from the folder to the last table and page."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowers.commands.compare import main as compare
from flowers.commands.crossval import Arguments, crossval
from flowers.commands.evaluate import evaluate
from flowers.commands.find_label_errors import find_label_errors
from flowers.commands.predict import predict
from flowers.commands.report import report
from flowers.commands.review_labels import open_review
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.evaluation.result_files import read_answers, read_confusion

# What tables call their own columns, what pandas takes for a gap, a number or a truth value, and what has a meaning in
# CSV, YAML, Hydra's grammar, HTML or matplotlib.
OWN = [
    "path",
    "prediction",
    "probability",
    "ood_percentile",
    "label",
    "truth",
    "fold",
    "seed",
    "split",
    "group",
    "class",
]
READ = ["nan", "NA", "null", "None", "true", "007", "1.0", "0"]
MARKS = ["a=b", "#1", " lead", "<b>", "$x_1$", "a,b", 'q"t', "-x", "Blüten", "path (class)", "x" * 200]
CLASSES = sorted(OWN + READ + MARKS)
FILES = ["0", "<b>", "c,d", 'e"f', "-g", "nan", "h\ni", "ü"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, a colour for each class."""
    root, rng = tmp_path_factory.mktemp("names"), np.random.default_rng(0)
    for name, colour in zip(CLASSES, rng.integers(0, 256, (len(CLASSES), 3)), strict=True):
        (root / name).mkdir()
        for file in FILES:
            pixels = (colour + rng.normal(0, 40, (24, 24, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{file}.png")
    shutil.copy(root / "path/0.png", root / "path/caf\udce9.png")
    return root


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
def test_any_name_goes_through_everything(
    make_settings: Callable[..., Settings],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (f"data.root={folder}", "data.split.near_bits=-1", "data.split.folds=2", "tracking.enabled=true")
    quick = (*words, "trainer.max_epochs=2", "trainer.limit_train_batches=2")
    for name in ("one", "two"):
        train(make_settings(*quick, f"out_dir={tmp_path / name}", f"seed={len(name)}", f"name={name}"))
        evaluate(tmp_path / name, tmp_path / name / "test", explanations=False, outliers=str(folder))
        report(tmp_path / name / "test", tmp_path / name / "test")
    assert "refused path/caf\\xe9.png: its name is not UTF-8" in capsys.readouterr().out
    out = tmp_path / "one/test"
    answers = read_answers(out / "predictions.csv", "")
    assert set(answers["label"]) <= set(CLASSES)
    assert read_confusion(out / "confusion.csv", "")[0] == CLASSES
    page = (out / "report.html").read_text()
    assert "<b>/" not in page
    assert "&lt;b&gt;" in page
    monkeypatch.setattr(
        "sys.argv", ["compare", f"experiments=[{tmp_path}/one,{tmp_path}/two]", f"out_dir={tmp_path}/c"]
    )
    compare()
    assert (tmp_path / "c/index.html").is_file()

    table, refused = predict(tmp_path / "one", folder)
    assert (len(table), refused) == (len(CLASSES) * len(FILES) + 1, {})
    assert table.columns.is_unique
    assert set(table["prediction"]) <= set(CLASSES)
    assert "path/caf\\xe9.png" in set(table["path"])

    crossval(make_settings(*quick, f"out_dir={tmp_path / 'cv'}"), Arguments(folds=2))
    find_label_errors(make_settings(*quick, f"out_dir={tmp_path / 'suspects'}"))
    for file in (tmp_path / "cv/predictions.csv", tmp_path / "suspects/out_of_fold.csv"):
        header = pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
        assert header.is_unique
    review = open_review(tmp_path / "suspects", None, "me")
    assert list(review.classes) == CLASSES
    assert {suspect.label for suspect in review.suspects} <= set(CLASSES)
    assert all(review.picture(suspect.path, 32) for suspect in review.suspects[:5])
