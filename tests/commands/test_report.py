"""The page can be made anew from what the stages left, with or without the photographs."""

import json
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
from flowers.models.trained import open_model


@pytest.fixture
def model(make_settings: Callable[..., Settings], tmp_path: Path) -> Path:
    """The folder of a trained and evaluated model."""
    train(make_settings("model.stages.0.epochs=2", "trainer.precision=32-true"))
    evaluate(tmp_path / "out", tmp_path / "out/test", explanations=False)
    return tmp_path / "out"


@pytest.mark.slow
def test_command_makes_the_same_page_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = report(open_model(model), model / "test")
    first = page.read_bytes()
    page.unlink()
    shutil.rmtree(model / "test/figures")
    monkeypatch.setattr(sys, "argv", ["report.py", f"model={model}"])
    main()
    assert page.read_bytes() == first
    assert b"data:image/webp" in first
    assert b"Why does it answer so?" in first
    assert (model / "test/figures/explanations.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["folder", "photograph"])
def test_page_without_photographs_says_so(gone: str, model: Path, photographs: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(photographs, tmp_path / "elsewhere"))
    run = json.loads((model / "run.json").read_text()) | {"photographs": str(elsewhere)}
    (model / "run.json").write_text(json.dumps(run))
    shutil.rmtree(tmp_path / "pixels")
    if gone == "folder":
        shutil.rmtree(elsewhere)
    else:
        shutil.rmtree(elsewhere / "roses")
    page = report(open_model(model), model / "test").read_text()
    assert "The photographs are not at hand" in page
    assert "data:image/webp" not in page


def test_damaged_evaluation_is_named(model: Path) -> None:
    opened = open_model(model)
    for name in ("metrics.json", "predictions.csv", "outliers/test.csv"):
        file = model / "test" / name
        whole = file.read_bytes()
        for content in (None, b"", b"path\nx\n", b"{}"):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            with pytest.raises(UserError, match=r"run flowers evaluate model=\S+ again\.$") as caught:
                report(opened, model / "test")
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
    run = read_run(open_model(tmp_path / "out"), tmp_path / "out/test")
    assert run.classes == ["NA", "label", "prediction"]
    assert set(run.predictions["label"]) == {"NA", "label", "prediction"}
    winners = [run.classes[k] for k in run.probabilities.argmax(axis=1)]
    assert winners == run.predictions["prediction"].tolist()
