"""Divide a data set: ``flowers split data=sample``.

Reads ``artifacts/download/manifest.csv`` and writes ``split.csv``, a table that can be read, compared and versioned.
Nothing else decides which photograph is in which split.
"""

from pathlib import Path

import pandas as pd

from flowers.config.cli import run_command
from flowers.config.compose import read_data
from flowers.config.schema import Settings
from flowers.curation.manifest import read_manifest
from flowers.curation.prepare import divide
from flowers.curation.split_table import SPLITS, write_splits
from flowers.errors import UserError

MANIFEST = Path("artifacts/download/manifest.csv")


def split(settings: Settings) -> None:
    """Write ``out_dir/split.csv``.

    Raises:
        UserError: If there is no manifest, or the photographs cannot be divided as wished.
    """
    if not MANIFEST.exists():
        raise UserError(f"{MANIFEST} does not exist; run `dvc repro download` first.")
    table, summary = divide(read_manifest(MANIFEST), read_data(settings), MANIFEST.parent / settings.data.name)
    out = Path(settings.out_dir) / "split.csv"
    write_splits(table, out)
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=SPLITS, fill_value=0)
    print(f"{out}:\n{counts.to_string()}")
    print(summary, flush=True)


def main() -> None:
    """Divide the data set that the command line names."""
    run_command(split)
