"""The test split is measured once, with the very model that was trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from flowers.commands.evaluate import evaluate, place_of
from flowers.commands.report import report
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.curation.split_table import read_splits
from flowers.data.pixels import open_store
from flowers.errors import UserError
from flowers.models.inference import calibrated, predict_logits
from flowers.models.trained import open_model

CLASSES = ["daisy", "roses", "sunflowers"]


@pytest.fixture
def model(make_settings: Callable[..., Settings], tmp_path: Path) -> Path:
    """The folder of a trained model."""
    train(make_settings("model.stages.0.epochs=4", "trainer.precision=32-true", "trainer.limit_train_batches=null"))
    return tmp_path / "out"


def test_saved_model_has_the_validation_accuracy_of_the_training(model: Path) -> None:
    opened = open_model(model)
    split = read_splits(model / "split.csv")
    val = split[split["split"] == "val"].reset_index(drop=True)
    root = Path(opened.run["photographs"])
    pixels = open_store(root, val, 32, Path(opened.settings.data.cache_dir))
    answers = predict_logits(opened.net, pixels, val["path"].tolist())
    assert opened.validation is not None
    np.testing.assert_array_equal(answers.logits, opened.validation.logits)
    predicted = calibrated(answers.logits, 1.0)
    labels = val["label"].map(opened.classes.index).to_numpy()
    assert (predicted.argmax(axis=1) == labels).mean() == pytest.approx(opened.run["final"]["val/acc"])
    loss = -np.log(predicted[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(opened.run["final"]["val/loss"], rel=1e-4)


def test_probabilities_do_not_depend_on_the_batch(model: Path) -> None:
    opened = open_model(model)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    one, other = (predict_logits(opened.net, pixels, list("abcdefg"), batch_size=size) for size in (7, 2))
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)
    np.testing.assert_allclose(one.features, other.features, atol=1e-5)
    np.testing.assert_allclose(calibrated(one.logits, opened.temperature).sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_writes_figures_of_the_test_split(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "evaluated"
    metrics = evaluate(model, out)
    report(out, out)
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        "metrics.json",
        "predictions.csv",
        "confusion.csv",
        "outliers/test.csv",
        "pictures.npz",
        "explanations.npz",
        *(f"trained/{name}" for name in ("config.yaml", "run.json", "history.csv", "split.csv")),
        "report.html",
        *(
            f"figures/{name}.png"
            for name in ("attack", "confusion", "coverage", "curves", "explanations", "reliability")
        ),
    }
    assert json.loads((out / "metrics.json").read_text()) == metrics
    overall = {"test/acc", "test/loss", "test/macro_f1", "test/top2_acc"}
    sure = {"test/ece", "test/ece_floor", "test/ece_limit", "test/aurc"}
    assert {name for name in metrics if name.startswith("test/")} == overall | sure
    assert metrics["temperature"] == open_model(model).temperature > 0
    assert metrics["interval"].keys() == overall
    for name, (low, high) in metrics["interval"].items():
        assert low <= metrics[name] <= high
    assert [row["class"] for row in metrics["per_class"]] == sorted(CLASSES)
    for row in metrics["per_class"]:
        assert row.keys() == {"class", "precision", "recall", "f1", "support"}

    predictions = pd.read_csv(out / "predictions.csv")
    assert list(predictions.columns) == ["path", "label", "prediction", *CLASSES]
    split = read_splits(model / "split.csv")
    assert set(predictions["path"]) == set(split.loc[split["split"] == "test", "path"])
    np.testing.assert_allclose(predictions[CLASSES].sum(axis=1), 1, atol=1e-5)
    assert (predictions[CLASSES].idxmax(axis=1) == predictions["prediction"]).all()
    assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(metrics["test/acc"])

    confusion = pd.read_csv(out / "confusion.csv")
    assert list(confusion.columns) == ["truth", *CLASSES]
    assert list(confusion["truth"]) == CLASSES
    counted = pd.crosstab(predictions["label"], predictions["prediction"]).reindex(columns=CLASSES, fill_value=0)
    assert (confusion[CLASSES].to_numpy() == counted.to_numpy()).all()
    shown = capfd.readouterr()
    assert shown.out.splitlines()[-2].startswith(f"{out}: test/acc ")
    assert shown.out.splitlines()[-1] == f"the page: {out}/report.html"
    outliers = pd.read_csv(out / "outliers/test.csv")
    assert list(outliers["path"]) == list(predictions["path"])
    assert outliers["ood_percentile"].between(0, 1).all()
    assert shown.err == ""


def test_missing_test_split_is_named(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    train(make_settings("model.stages.0.epochs=1", "data.split.test_frac=0"))
    with pytest.raises(UserError, match=r"split\.csv has no test photographs; train with data\.split\.test_frac above"):
        evaluate(tmp_path / "out", tmp_path / "evaluated")
    assert not (tmp_path / "evaluated").exists()


def test_missing_photograph_is_named(model: Path, photographs: Path, tmp_path: Path) -> None:
    run = json.loads((model / "run.json").read_text())
    elsewhere = Path(shutil.copytree(photographs, tmp_path / "elsewhere"))
    split = read_splits(model / "split.csv")
    gone = split.loc[split["split"] == "test", "path"].iloc[0]
    (elsewhere / gone).unlink()
    (model / "run.json").write_text(json.dumps(run | {"photographs": str(elsewhere)}))
    config = (model / "config.yaml").read_text()
    (model / "config.yaml").write_text(config.replace("strict: false", "strict: true"))
    with pytest.raises(UserError, match=f"{gone} is gone"):
        evaluate(model, tmp_path / "evaluated")


def test_photographs_that_are_no_longer_those_of_the_split_are_named_and_not_scored(
    model: Path, photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluated"
    before = evaluate(model, out, explanations=False)  # and the decoded photographs are there
    assert before["not_scored"] == {}
    run = json.loads((model / "run.json").read_text())
    elsewhere = Path(shutil.copytree(photographs, tmp_path / "elsewhere"))
    (model / "run.json").write_text(json.dumps(run | {"photographs": str(elsewhere)}))
    split = read_splits(model / "split.csv")
    gone, changed, closed, *others = split.loc[split["split"] == "test", "path"]
    (elsewhere / gone).unlink()
    shutil.copy(elsewhere / others[0], elsewhere / changed)
    (elsewhere / closed).unlink()
    (elsewhere / closed).mkdir()
    shutil.rmtree(tmp_path / "pixels")
    for path in split.loc[split["split"] == "train", "path"][:10]:
        (elsewhere / path).unlink()  # the page then shows others of its class
    capfd.readouterr()
    metrics = evaluate(model, out, explanations=False)
    reasons = {
        gone: "is gone since the split was made",
        changed: "changed since the split was made",
        closed: "cannot be read (Is a directory)",
    }
    assert metrics["not_scored"] == reasons
    assert json.loads((out / "metrics.json").read_text())["not_scored"] == reasons
    assert metrics["photographs"] == len(others) == sum(row["support"] for row in metrics["per_class"])
    assert pd.read_csv(out / "predictions.csv")["path"].tolist() == others
    shown = capfd.readouterr().out
    assert f"not scored: {changed} changed since the split was made" in shown
    assert "3 of 6 photographs are not scored" in shown
    report(out, out)
    assert "3 of the 6 test photographs are in no figure" in (out / "report.html").read_text()
    for path in others:
        (elsewhere / path).unlink()
    with pytest.raises(UserError, match=f"{gone} is gone since the split was made, as 5 others are unusable"):
        evaluate(model, out)
    assert json.loads((out / "metrics.json").read_text()) == metrics
    (out / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"predictions\.csv was not written by evaluate: name another folder"):
        evaluate(model, out)


def test_photographs_are_found_from_another_folder(
    make_settings: Callable[..., Settings], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Path(shutil.copytree(photographs, tmp_path / "PHOTOS"))
    train(make_settings("model.stages.0.epochs=1", "data.root=PHOTOS"))
    split = read_splits(tmp_path / "out/split.csv")
    model = open_model(tmp_path / "out")
    assert model.settings.data.root == model.run["photographs"] == "PHOTOS"  # as typed, for other machines
    assert model.photographs(split) == Path("PHOTOS")
    other = tmp_path / "other"
    for label in CLASSES:  # of the same names, but others
        (other / "PHOTOS" / label).mkdir(parents=True)
        for path in split.loc[split["label"] == label, "path"]:
            (other / "PHOTOS" / path).write_bytes(b"")
    monkeypatch.chdir(other)
    assert model.photographs(split) == mine
    evaluate(tmp_path / "out", tmp_path / "evaluated", explanations=False)
    shutil.rmtree(other / "PHOTOS")
    moved = mine.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=rf"they were in {mine}, which is not there now; name .* photos=DIR\."):
        evaluate(tmp_path / "out", tmp_path / "evaluated")
    evaluate(tmp_path / "out", tmp_path / "evaluated", explanations=False, photos=moved)


def damage(model: Path, name: str, content: bytes | None) -> None:
    (model / name).unlink()
    if content is not None:
        (model / name).write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", None, "is no trained model, for it has no model.safetensors"),
        ("config.yaml", None, "is no trained model, for it has no config.yaml"),
        ("run.json", None, "is no trained model, for it has no run.json"),
        ("split.csv", None, "split.csv does not exist"),
        ("model.safetensors", b"", "is not a readable safetensors file"),
        ("model.safetensors", b"damaged" * 9, "is not a readable safetensors file"),
        ("config.yaml", b"{damaged", "holds an unreadable config.yaml or run.json"),
        ("config.yaml", b"", "config.yaml does not fit this version of flowers"),
        ("config.yaml", b"- 3", "config.yaml is no mapping"),
        ("run.json", b"{", "holds an unreadable config.yaml or run.json"),
        ("run.json", b"[]", "holds an unreadable config.yaml or run.json"),
        ("run.json", b"{}", "holds an unreadable config.yaml or run.json"),
        ("split.csv", b"path\n", "split.csv lacks the column label"),
    ],
)
def test_damaged_model_is_named(model: Path, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    damage(model, name, content)
    with pytest.raises(UserError) as caught:
        evaluate(model, tmp_path / "evaluated")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evaluated").exists()


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is no trained model.*name a folder that `flowers train` wrote"):
        evaluate(tmp_path / "nowhere", tmp_path / "evaluated")


def test_weights_that_give_no_numbers_are_told_with_a_photograph(model: Path, tmp_path: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["head.5.bias"].fill_(float("nan"))
    save_file(weights, model / "model.safetensors")
    with pytest.raises(UserError, match=r"answer to \w+/\w+\.jpg \(and 5 others of 6\) is no number: its weights are"):
        evaluate(model, tmp_path / "evaluated")
    assert not (tmp_path / "evaluated").exists()


def test_model_of_a_version_without_validation_answers(model: Path, tmp_path: Path) -> None:
    (model / "validation.npz").unlink()
    run = json.loads((model / "run.json").read_text())
    del run["temperature"]
    (model / "run.json").write_text(json.dumps(run))
    metrics = evaluate(model, tmp_path / "evaluated", explanations=False)
    assert metrics["temperature"] == 1
    assert metrics["selective_prediction"] == []
    assert pd.read_csv(tmp_path / "evaluated/outliers/test.csv")["distance"].isna().all()
    report(tmp_path / "evaluated", tmp_path / "evaluated")
    assert "No thresholds" in (tmp_path / "evaluated/report.html").read_text()


def test_damaged_validation_answers_are_named(model: Path, tmp_path: Path) -> None:
    for content in (b"", b"damaged"):
        (model / "validation.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"validation\.npz is damaged .*; train again"):
            evaluate(model, tmp_path / "evaluated")


@pytest.mark.slow
def test_ood_photographs_are_scored_beside_the_test(model: Path, photographs: Path, tmp_path: Path) -> None:
    ood = tmp_path / "others"
    (ood / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(5):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(ood / f"deep/{k}.png")
    (ood / "broken.jpg").write_bytes(b"none")
    out = tmp_path / "evaluated"
    metrics = evaluate(model, out, outliers=str(ood), explanations=False)
    found = metrics["ood"]
    assert json.loads((out / "metrics.json").read_text())["ood"] == found
    assert (found["photographs"], list(found["refused"])) == (5, ["broken.jpg"])
    assert found["separation"].keys() == {"outlier", "distance", "residual", "confidence"}
    table, own = pd.read_csv(out / "outliers/ood.csv"), pd.read_csv(out / "outliers/test.csv")
    pairs = table["distance"].to_numpy()[:, None] - own["distance"].to_numpy()
    assert found["separation"]["distance"] == pytest.approx((np.sign(pairs) / 2 + 0.5).mean(), abs=1e-5)
    assert found["noticed_frac"] == (table["ood_percentile"] > 0.95).mean()
    report(out, out)
    assert (out / "figures/ood.png").is_file()
    with pytest.raises(UserError, match="outliers=nowhere is neither a folder nor a data set"):
        evaluate(model, tmp_path / "again", outliers="nowhere")
    assert not (tmp_path / "again").exists()  # it is found before the work


def test_results_beside_a_stage_model_would_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of(Path("OUT"), "test") == Path("OUT/test")
    assert place_of(Path("artifacts/train/cnn"), "test") == Path("runs/train/cnn/test")
    assert place_of(tmp_path / "artifacts/pretrain", "shift-garden") == Path("runs/pretrain/shift-garden")
