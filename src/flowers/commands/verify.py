"""Show that a recipe is reproducible here: ``flowers verify experiment=cnn_scratch``.

Trains three times, briefly: twice from start to end, and once interrupted after the first epoch and started again. All
three must write the same ``model.safetensors``, bit by bit.
"""

import tempfile
from pathlib import Path

from flowers.commands.train import train
from flowers.config.cli import run_command
from flowers.config.compose import change
from flowers.config.provenance import file_digest
from flowers.config.schema import Settings
from flowers.errors import UserError

BATCHES = 4
"""Batches in an epoch; enough for the optimiser, the averages and dropout to have a state that could be lost."""


def verify(settings: Settings) -> None:
    """Train three times and compare.

    Raises:
        UserError: If the models differ.
    """
    brief = shorten(settings)
    with tempfile.TemporaryDirectory() as folder:
        digests = {}
        for attempt in ("first", "second", "interrupted"):
            out = Path(folder) / attempt
            print(f"{attempt} training", flush=True)
            placed = change(brief, {"out_dir": str(out)})
            if attempt == "interrupted":
                train(placed, stop_after_epochs=1)
            train(placed)
            digests[attempt] = file_digest(out / "model.safetensors")
    different = [attempt for attempt, digest in digests.items() if digest != digests["first"]]
    if different:
        raise UserError(
            f"the {' and the '.join(different)} training of {settings.name} differs from the first, so it is not "
            "reproducible on this machine; try trainer.accelerator=cpu and trainer.precision=32-true."
        )
    print(f"{settings.name} is reproducible here: three trainings, one of them interrupted, gave the same weights")
    print(f"sha256 {digests['first']}")


def shorten(settings: Settings) -> Settings:
    """Keep the recipe but for its length: one epoch of each stage, two in all at least, a few batches each."""
    epochs = [min(stage.epochs, 1) for stage in settings.model.stages]
    if sum(epochs) < 2:
        epochs[max(number for number, count in enumerate(epochs) if count)] = 2
    return change(
        settings,
        {
            **{f"model.stages.{number}.epochs": count for number, count in enumerate(epochs)},
            "trainer.max_epochs": None,
            "trainer.max_time": None,
            "trainer.limit_train_batches": BATCHES,
            "progress": "lines",
            "tracking.enabled": False,
        },
    )


def main() -> None:
    """Verify the recipe that the command line names."""
    run_command(verify)
