"""What surrounds the trainings of a Hydra sweep (``-m``): one MLflow run as their parent, and a summary of the best.

Hydra calls this; ``conf/config.yaml`` names it under ``hydra.callbacks``.
"""

import atexit
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from flowers.tracking.naming import KIND

if TYPE_CHECKING:
    import pandas as pd

    from flowers.tracking.log import OpenRun

PARENT_VARIABLE = "FLOWERS_PARENT_RUN"
"""Environment variable with the MLflow run that trainings are children of; a launcher hands it on."""


class SweepSummary(Callback):
    """Collects what each training of a sweep returned, its validation accuracy, and ranks them."""

    def __init__(self) -> None:
        self._results: list[tuple[float, str, str]] = []
        self._failed = 0
        self._run: OpenRun | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run, before any training could race to make the store."""
        if not config.tracking.enabled:
            return
        from flowers.config.cli import exit_on_user_error
        from flowers.tracking.log import OpenRun

        name = f"sweep {' '.join(config.hydra.overrides.task)}"
        with exit_on_user_error():
            self._run = OpenRun(config.tracking.uri, config.data.name, name=name, run_id=None, tags={KIND: "sweep"})
        os.environ[PARENT_VARIABLE] = self._run.run_id
        atexit.register(self._close, "KILLED")  # unless it was closed before

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Note how a training went; one that failed has no result."""
        score = job_return._return_value
        if isinstance(score, float):
            self._results.append((score, " ".join(job_return.overrides or []), str(config.get("out_dir"))))
        else:
            self._failed += 1

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and record the ranking."""
        import pandas as pd

        os.environ.pop(PARENT_VARIABLE, None)
        table = pd.DataFrame(sorted(self._results, reverse=True), columns=["val/acc", "overrides", "out_dir"])
        if self._failed:
            print(f"\n{self._failed} of {self._failed + len(table)} trainings failed")
        if not table.empty:
            print(f"\n{len(table)} trainings, best first:\n{table.to_string(index=False, float_format='%.4f')}")
            print(f"best: {table['overrides'][0]}", flush=True)
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / "sweep.csv", index=False)
        self._close("FAILED" if self._failed else "FINISHED", table)

    def _close(self, status: str, table: "pd.DataFrame | None" = None) -> None:
        """Close the parent run, with the ranking if there is one; if the store is locked, say so and leave it."""
        if self._run is None:
            return
        from flowers.errors import UserError
        from flowers.tracking.store import store_access

        run, self._run = self._run, None
        try:
            with store_access(run.uri):
                if table is not None:
                    run.client.log_table(run.run_id, table, "sweep.json")
                if table is not None and not table.empty:
                    run.log_tags({f"best.{name}": table[name][0] for name in ("overrides", "out_dir")})
                    run.log_metrics({"best/val/acc": table["val/acc"][0]})
        except UserError as error:
            print(f"flowers: {error} The sweep's own run there is incomplete.", file=sys.stderr)
        run.close(status, quiet=True)
