"""The page can be made anew from what the stages left, with or without the photographs."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowers.commands.evaluate import evaluate
from flowers.commands.report import main, read_run, report
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.errors import UserError


@pytest.fixture
def model(make_settings: Callable[..., Settings], tmp_path: Path) -> Path:
    """The folder of a trained and evaluated model."""
    train(make_settings("model.stages.0.epochs=2", "trainer.precision=32-true"))
    evaluate(tmp_path / "out", tmp_path / "out/test", explanations=False)
    return tmp_path / "out"


@pytest.mark.slow
def test_page_is_made_of_what_evaluate_left(
    make_settings: Callable[..., Settings], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, root = tmp_path / "out", Path(shutil.copytree(photographs, tmp_path / "photographs"))
    train(make_settings(f"data.root={root}", "model.stages.0.epochs=2", "trainer.precision=32-true"))
    evaluate(model, model / "test")
    report(model / "test", model / "test")
    page = model / "test/report.html"
    first = page.read_bytes()
    assert b"data:image/webp" in first
    assert b"Why does it predict this?" in first
    assert (model / "test/figures/explanations.png").is_file()
    # Neither the photographs nor the model are needed.
    evaluation = shutil.move(model / "test", tmp_path / "evaluation")
    shutil.rmtree(root)
    shutil.rmtree(tmp_path / "pixels")
    shutil.rmtree(model)
    monkeypatch.setattr(sys, "argv", ["report.py", f"evaluation={evaluation}", f"out_dir={tmp_path / 'page'}"])
    main()
    assert (tmp_path / "page/report.html").read_bytes() == first


def test_damaged_evaluation_is_named(model: Path) -> None:
    names = (
        "metrics.json",
        "predictions.csv",
        "confusion.csv",
        "outliers/test.csv",
        "pictures.npz",
        "trained/run.json",
        "trained/config.yaml",
    )
    for name in names:
        file = model / "test" / name
        whole = file.read_bytes()
        for content in (None, b"", b"path\nx\n", b"{}"):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            with pytest.raises(UserError, match=r"run flowers evaluate model=\S+ again\.$") as caught:
                report(model / "test", model / "test")
            assert "\n" not in str(caught.value)
            file.write_bytes(whole)


def test_classes_may_be_called_as_columns_are(
    make_settings: Callable[..., Settings], photographs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "odd"
    for name, other in (("daisy", "label"), ("roses", "NA"), ("sunflowers", "prediction")):
        shutil.copytree(photographs / name, root / other)
    train(make_settings(f"data.root={root}", "model.stages.0.epochs=1"))
    evaluate(tmp_path / "out", tmp_path / "out/test", explanations=False)
    run = read_run(tmp_path / "out/test")
    assert run.classes == ["NA", "label", "prediction"]
    assert set(run.predictions["label"]) == {"NA", "label", "prediction"}
    winners = [run.classes[k] for k in run.probabilities.argmax(axis=1)]
    assert winners == run.predictions["prediction"].tolist()
