"""From photographs and a recipe to scores that stand beside the network's."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix

import flowers.commands.baselines
from flowers.commands.baselines import ON_EMBEDDINGS, ON_PIXELS, baselines, divide
from flowers.config.provenance import data_digest, split_digest
from flowers.config.schema import Fit, Settings
from flowers.curation.prepare import photographs_of
from flowers.curation.split_table import write_splits
from flowers.data.pixels import open_store
from flowers.errors import UserError
from flowers.evaluation.scores import score
from flowers.models.inference import predict_logits
from flowers.models.nets import build_network
from flowers.models.weights import save_weights

Make = Callable[..., Settings]
SPLIT = ["data.split.val_frac=0.2", "data.split.test_frac=0.25"]


@pytest.fixture
def weights(make_settings: Make, tmp_path: Path) -> Path:
    """Weights for the small CNN, of another head."""
    torch.manual_seed(3)
    save_weights(build_network(make_settings().model.net, 7), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.mark.slow
def test_each_baseline_is_scored_as_a_network_is(
    make_settings: Make, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(f"weights={weights}", *SPLIT)
    metrics = baselines(settings)
    assert list(metrics) == [*ON_PIXELS, *ON_EMBEDDINGS]
    _, split = photographs_of(settings)
    test = split[split["split"] == "test"].reset_index(drop=True)
    classes = sorted(split["label"].unique())
    labels = test["label"].map(classes.index).to_numpy()
    for name, returned in metrics.items():
        written = json.loads((tmp_path / "out" / name / "metrics.json").read_text())
        assert written == returned
        predictions = pd.read_csv(tmp_path / "out" / name / "predictions.csv")
        assert list(predictions) == ["path", "label", "prediction", *classes]
        assert list(predictions["path"]) == list(test["path"])
        assert list(predictions["label"]) == list(test["label"])
        probabilities = predictions[classes].to_numpy()
        again = score(labels, probabilities, classes)
        for key in ("test/acc", "test/macro_f1", "test/top2_acc", "photographs"):
            assert again[key] == written[key]
        assert written["test/loss"] == pytest.approx(again["test/loss"], abs=1e-3)
        assert written["test/loss"] < 5, "a share of 0 costs 16 nats"
        assert written["interval"].keys() == again["interval"].keys()
        counts = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(classes)))
        table = pd.read_csv(tmp_path / "out" / name / "confusion.csv")
        assert list(table) == ["truth", *classes]
        assert table[classes].to_numpy().tolist() == counts.tolist()
        assert 0 <= written["val/acc"] <= 1
        assert written["train_s"] >= 0
        assert written["data_sha256"] == data_digest(split)
        assert written["split_sha256"] == split_digest(split)
        assert (written["seed"], "git_commit" in written) == (settings.seed, True)
    # The photographs are told apart by their colours, and not by being of one class.
    assert metrics["pixels_knn_l2"]["test/acc"] > metrics["majority"]["test/acc"] == pytest.approx(1 / 3)
    assert metrics["pixels_knn_l1"]["settings"] == {
        "k": metrics["pixels_knn_l1"]["settings"]["k"],
        "folds": 5,
        "cv_acc": metrics["pixels_knn_l1"]["settings"]["cv_acc"],
        "image_px": 32,
    }
    assert metrics["embeddings_logistic"]["settings"]["recipe"] == settings.name
    said = capsys.readouterr().out
    for name in metrics:
        assert re.search(rf"^{name} .* to .* % .* s$", said, re.MULTILINE)


@pytest.mark.slow
def test_only_the_training_photographs_are_learned_from_and_the_test_comes_last(
    make_settings: Make, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = make_settings(f"weights={weights}", *SPLIT)
    opened: list[str] = []

    def watching(root: Path, table: pd.DataFrame, image_px: int, cache_dir: Path, fit: Fit) -> np.memmap:
        opened.extend(table["split"].unique())
        return open_store(root, table, image_px, cache_dir, fit)

    monkeypatch.setattr(flowers.commands.baselines, "open_store", watching)
    baselines(settings)
    first = opened.index("test")
    assert set(opened[first:]) == {"test"}
    assert {"train", "val"} == set(opened[:first])
    # Wrong labels of validation and test change nothing but their scores.
    root, split = photographs_of(settings)
    before = pd.read_csv(tmp_path / "out/embeddings_logistic/predictions.csv")
    unseen = split["split"] != "train"
    split.loc[unseen, "label"] = "roses"
    write_splits(split, tmp_path / "split.csv")
    baselines(make_settings(f"weights={weights}", f"data.root={root}", "data.split_csv=split.csv"))
    after = pd.read_csv(tmp_path / "out/embeddings_logistic/predictions.csv")
    pd.testing.assert_frame_equal(before.drop(columns="label"), after.drop(columns="label"))
    assert (after["label"] == "roses").all()  # and classes that are missing in the test are no error


@pytest.mark.slow
def test_random_weights_are_left_out_and_so_is_what_an_earlier_call_wrote_of_them(
    make_settings: Make, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baselines(make_settings(f"weights={weights}", *SPLIT))
    keep = tmp_path / "out/embeddings_knn/my notes.txt"
    keep.write_text("mine")
    capsys.readouterr()
    metrics = baselines(make_settings("progress=none", *SPLIT))
    assert list(metrics) == list(ON_PIXELS)
    said = capsys.readouterr().out
    assert "cnn_scratch starts from random weights, whose embeddings mean nothing" in said
    assert [file.name for file in (tmp_path / "out/embeddings_knn").iterdir()] == [keep.name]
    assert not list((tmp_path / "out/embeddings_logistic").iterdir())


@pytest.mark.slow
def test_the_same_call_gives_the_same_answers(make_settings: Make, weights: Path, tmp_path: Path) -> None:
    files = []
    for out in ("one", "other"):
        baselines(make_settings(f"weights={weights}", f"out_dir={out}", *SPLIT))
        files.append(
            [(tmp_path / out / name / "predictions.csv").read_bytes() for name in (*ON_PIXELS, *ON_EMBEDDINGS)]
        )
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
@pytest.mark.filterwarnings("ignore:::sqlalchemy")
def test_mlflow_gets_one_run(make_settings: Make, tmp_path: Path) -> None:
    # Whole, as MLflow remembers within a process which file a relative address once meant.
    store = f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
    metrics = baselines(make_settings("tracking.enabled=true", store, *SPLIT))
    import mlflow

    runs = mlflow.search_runs(experiment_names=["folder"])
    assert list(runs["tags.mlflow.runName"]) == ["baselines"]
    assert list(runs["tags.kind"]) == ["baseline"]
    for name, each in metrics.items():
        assert runs[f"metrics.baseline/{name}/acc"][0] == pytest.approx(each["test/acc"])
        assert runs[f"metrics.baseline/{name}/val_acc"][0] == pytest.approx(each["val/acc"])
    best = metrics[runs["tags.best"][0]]  # on the validation photographs
    assert best["val/acc"] == max(each["val/acc"] for each in metrics.values())
    for figure in ("val/acc", "test/acc", "test/macro_f1"):  # by which the table of runs is sorted
        assert runs[f"metrics.{figure}"][0] == pytest.approx(best[figure])
    mlflow.set_tracking_uri(None)


def test_what_cannot_be_done_is_said_before_any_work(make_settings: Make, tmp_path: Path) -> None:
    root, split = photographs_of(make_settings(*SPLIT))
    one_fold = split.copy()
    one_fold.loc[split["fold"] >= 0, "fold"] = 2
    changed = split.copy()
    changed.loc[split["split"] == "test", "sha256"] = [
        f"{number:064x}" for number in range((split["split"] == "test").sum())
    ]
    for table, sentence in (
        (changed, "changed since the split was made"),
        (split[split["split"] != "test"], "the split has no test photographs; split with data.split.test_frac above 0"),
        (one_fold, "lie in less than two folds"),
        (split.assign(fold=-1), "lie in less than two folds"),
    ):
        write_splits(table, tmp_path / "split.csv")
        with pytest.raises(UserError, match=sentence):
            baselines(make_settings(f"data.root={root}", "data.split_csv=split.csv"))
    with pytest.raises(UserError, match=r"weights file nowhere\.safetensors does not exist"):
        baselines(make_settings("weights=nowhere.safetensors", *SPLIT))
    assert not (tmp_path / "out").exists()


def test_more_folds_are_put_together_without_tearing_groups(make_settings: Make) -> None:
    root, split = photographs_of(make_settings(*SPLIT))
    for folds, expected in ((10, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (3, [0, 1, 2])):
        table = split.copy()
        kept = table["split"] != "test"
        table.loc[kept, "fold"] = np.arange(kept.sum()) % folds
        table.loc[table.index[kept][0], "fold"] = -1
        found = divide(root, table, root).folds
        given = table.loc[table["split"] == "train", "fold"].to_numpy()
        assert sorted(set(found) - {-1}) == expected
        assert ((found == -1) == (given == -1)).all()
        for fold in set(given):
            assert len(set(found[given == fold])) == 1


@pytest.mark.parametrize("name", ["linear", "cnn", "resnet_small"])
def test_embeddings_are_what_the_head_is_given(name: str, make_net: Callable[..., torch.nn.Module]) -> None:
    net = make_net(name).train()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    features = predict_logits(net, pixels, list("abc"), head_is_new=True).features
    assert features.shape[0] == 3
    assert np.isfinite(features).all()
    # One at a time: statistics of a batch would show.
    alone = np.concatenate([predict_logits(net, pixels[[row]], ["a"], head_is_new=True).features for row in range(3)])
    np.testing.assert_allclose(features, alone, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in net.modules())
