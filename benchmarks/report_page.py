"""How long the page of a run takes beyond the forward pass, and how large it is: MobileNetV2, 550 test photographs."""

import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from flowers.commands.evaluate import evaluate
from flowers.commands.report import report
from flowers.commands.train import train
from flowers.config.compose import compose_config, read_settings
from flowers.curation.split_table import read_splits
from flowers.models.inference import predict_logits
from flowers.models.trained import open_model

RECIPE = (
    "experiment=mobilenetv2_finetune",
    "weights=null",  # how long it takes does not depend on what was learned
    "model.stages=[{name: all, epochs: 1, train: all, max_lr: 1e-3}]",
    "trainer.limit_train_batches=4",
    "progress=none",
    "tracking.enabled=false",
    "data=sample",
    "data.decisions=null",
    "data.source.counts={daisy: 132, dandelion: 132, roses: 132, sunflowers: 132, tulips: 132}",
    "data.split.test_frac=0.8333",
    "data.split.val_frac=0.05",
)


def measure() -> list[tuple[str, str]]:
    """Make the page of a network that was hardly trained, and time its parts."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        train(read_settings(compose_config([*RECIPE, "out_dir=out"])))
        out = Path("out")
        evaluate(out, out / "test", explanations=False)  # decodes all that is needed later
        model = open_model(out)
        split = read_splits(out / "split.csv")
        test = split[split["split"] == "test"].reset_index(drop=True)
        pixels = model.pixels(Path(model.run["photographs"]), test)
        forward_s = seconds(lambda: predict_logits(model.net, pixels, test["path"].tolist()))
        plain_s = seconds(lambda: evaluate(out, out / "test", explanations=False))
        explained_s = seconds(lambda: evaluate(out, out / "test"))
        page_s = seconds(lambda: report(out / "test", out / "test"))
        size = (out / "test/report.html").stat().st_size
    return [
        (f"forward pass of {len(test)} test photographs", f"{forward_s:.1f} s"),
        ("evaluate without explanations", f"{plain_s:.1f} s"),
        ("evaluate with explanations", f"{explained_s:.1f} s"),
        ("the page", f"{page_s:.1f} s, {size / 1e6:.1f} MB"),
    ]


def seconds(work: Callable[[], object]) -> float:
    """Time a call, in seconds of wall clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
