"""What lies at the edges of photographs is learned, or lost with a word; what is trained is used in the same way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowers.commands.baselines import baselines
from flowers.commands.evaluate import THUMBNAIL_PX, evaluate, evaluate_elsewhere
from flowers.commands.predict import predict
from flowers.commands.report import report
from flowers.commands.train import train
from flowers.config.schema import FITS, Fit, Settings
from flowers.curation.split_table import read_splits
from flowers.data.pixels import read_square
from flowers.evaluation.result_files import EXPLANATIONS, PICTURES, read_record
from flowers.evaluation.selection import Pictures
from flowers.explain.explanation_set import ExplanationSet


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
def test_edges_are_learned_or_lost_with_a_word(
    fit: Fit, banners: Path, make_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "model.stages.0.max_lr=1e-2",
        f"data.root={banners}",
        f"data.fit={fit}",
        "data.split.near_bits=-1",
        "model.stages.0.epochs=12",
    )
    accuracy, said = (0.5 if fit == "crop" else 1.0), int(fit == "crop")
    assert train(make_settings(*words)) == accuracy
    assert capsys.readouterr().out.count("data.fit=pad") == said
    # What is trained knows by itself how it is used.
    out, test = tmp_path / "out", tmp_path / "out/test"
    assert evaluate(out, test, outliers=str(banners))["test/acc"] == accuracy
    table, _ = predict(out, banners)
    assert (table["prediction"] == table["path"].str.partition("/")[0]).mean() == accuracy
    assert capsys.readouterr().err.count("data.fit=pad") == 2 * said  # of the outliers, and of what was predicted
    assert evaluate_elsewhere(out, str(banners), tmp_path / "shift")["test/acc"] == accuracy
    assert capsys.readouterr().err.count("data.fit=pad") == said
    found = baselines(make_settings(*words, "out_dir=baselines"))
    assert found["pixels_knn_l2"]["test/acc"] == accuracy
    # Its page shows what it saw, under the maps too.
    split = read_splits(out / "split.csv")
    files = [banners / path for path in split.loc[split["split"] == "test", "path"]]
    shown = read_record(test / PICTURES, Pictures, "")
    for row, thumbnail in zip(shown.rows, shown.thumbnails, strict=True):
        assert np.array_equal(thumbnail, read_square(files[row], THUMBNAIL_PX, fit))
    for path, thumbnail in shown.ood.items():
        assert np.array_equal(thumbnail, read_square(banners / path, THUMBNAIL_PX, fit))
    for each in read_record(test / EXPLANATIONS, ExplanationSet, "").about.each:
        assert np.array_equal(each.photograph, read_square(files[each.number], 32, fit))
    report(test, test)
    assert f"{FITS[fit]} (<code>data.fit={fit}</code>)" in (test / "report.html").read_text()
