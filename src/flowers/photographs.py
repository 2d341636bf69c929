"""The photographs that a recipe means, and how they are divided."""

from pathlib import Path
from typing import TYPE_CHECKING

from flowers.recipe import locate
from flowers.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


def find_photographs(settings: Settings) -> "tuple[Path, pd.DataFrame]":
    """Find the photographs and their split, or make the split on the way, and say what intake refused.

    Returns:
        The folder that paths are relative to, and the rows of the split.
    """
    from flowers.data.split_table import read_splits

    data = settings.data
    if data.split_csv is not None:
        return Path(data.root), read_splits(Path(data.split_csv))
    from flowers.data.sources import prepare

    fill = None if data.source is None else locate("data.source", data.source, "flowers.data.")
    root, split, summary = prepare(data, fill)
    if settings.trainer.progress != "none":
        print(f"{root}: {summary}", flush=True)
    return root, split
