"""What surrounds the trainings of a Hydra sweep (``-m``): one MLflow run as their parent, and a summary of the best.

Hydra calls this; ``conf/config.yaml`` names it under ``hydra.callbacks``.
"""

import atexit
import os
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

PARENT_VARIABLE = "FLOWERS_PARENT_RUN"
"""Environment variable with the MLflow run that a sweep's trainings are children of; a launcher hands it on."""


class SweepSummary(Callback):
    """Collects what each training of a sweep returned, its validation accuracy, and ranks them."""

    def __init__(self) -> None:
        self._results: list[tuple[float, str, str]] = []
        self._failed = 0
        self._parent: str | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run, before any training could race to make the store."""
        if not config.tracking.enabled:
            return
        from flowers.config.cli import exit_on_user_error
        from flowers.config.schema import Tracking
        from flowers.tracking.parents import open_parent

        with exit_on_user_error():
            tracking = Tracking(**OmegaConf.to_container(config.tracking))  # type: ignore[arg-type]
            name = " ".join(config.hydra.overrides.task)
            self._parent = open_parent(tracking, experiment=config.data.name, name=f"sweep {name}", kind="sweep")
        os.environ[PARENT_VARIABLE] = self._parent
        atexit.register(self._abandon)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Note how a training went; one that failed has no figure."""
        score = job_return._return_value
        if isinstance(score, float):
            self._results.append((score, " ".join(job_return.overrides or []), str(config.get("out_dir"))))
        else:
            self._failed += 1

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and record the ranking."""
        import pandas as pd

        os.environ.pop(PARENT_VARIABLE, None)
        columns = ["val/acc", "overrides", "out_dir"]
        table = pd.DataFrame(sorted(self._results, reverse=True), columns=columns)
        if self._failed:
            print(f"\n{self._failed} of {self._failed + len(table)} trainings failed")
        if not table.empty:
            print(f"\n{len(table)} trainings, best first:\n{table.to_string(index=False, float_format='%.4f')}")
            print(f"best: {table['overrides'][0]}", flush=True)
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / "sweep.csv", index=False)
        if self._parent is not None:
            from flowers.tracking.parents import close_parent

            close_parent(self._parent, table, failed=self._failed)
            self._parent = None

    def _abandon(self) -> None:
        """Close the parent run of a sweep that was interrupted."""
        if self._parent is not None:
            from flowers.tracking.parents import abandon_parent

            abandon_parent(self._parent, "KILLED")
