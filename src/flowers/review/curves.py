"""What a training's learning curves tell."""

import pandas as pd

MEMORISING_FRAC = 0.05
"""From this lead of the training over the validation accuracy on, the page speaks of memorising."""


def stage_starts(history: pd.DataFrame) -> list[tuple[int, str]]:
    """Find the first epoch and the name of each stage of a history with columns `epoch` and `stage`."""
    begins = history["stage"].ne(history["stage"].shift())
    return [
        (int(epoch), str(name))
        for epoch, name in zip(history.loc[begins, "epoch"], history.loc[begins, "stage"], strict=True)
    ]
