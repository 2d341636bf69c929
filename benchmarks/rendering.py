"""How long the default data set takes to render."""

import statistics
import tempfile
import time
from pathlib import Path

from flowers.config.compose import compose_config
from flowers.sources.synthetic.sample import render

REPEATS = 3


def measure() -> list[tuple[str, str]]:
    """Render `conf/data/sample.yaml` as it is, on all processors."""
    source = {str(name): value for name, value in compose_config(["data=sample"]).data.source.items()}
    del source["_target_"]
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            render(Path(folder) / "sample", **source)
            times.append(time.perf_counter() - start)
    images = sum(source["counts"].values())
    median = statistics.median(times)
    return [(f"{images:,} images of {source['size_px']} px", f"{median:.1f} s (median of {REPEATS})")]
