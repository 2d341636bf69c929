"""Look for a learning rate: ``flowers lr_find experiment=mobilenetv2_finetune from_stage=2``.

Trains a stage for a few dozen steps while the rate rises from 1e-7 to 1, draws the loss against it, and recommends one
rate, the one at which the smoothed loss falls most steeply, for the stage's highest ``max_lr``. The ratios between
layer groups stay as the stage has them. With ``from_stage=N`` the network is what stage N-1 left in ``out_dir``. The
sweep works on a copy: no model is changed. Writes ``lr_find.png`` and ``lr_find.csv``.
"""

import tempfile
from pathlib import Path

import pandas as pd
import torch

from flowers.commands.train import build_training
from flowers.config.cli import run_command
from flowers.config.compose import as_dict, change
from flowers.config.schema import Settings
from flowers.curation.split_table import write_table
from flowers.errors import UserError
from flowers.report.curves import rates_figure, save_figure
from flowers.tracking.runs import announce_store, tracked_run
from flowers.training.checkpoints import start_checkpoint
from flowers.training.rate_finder import STEPS, RateSweep, recommend
from flowers.training.stages import peak_rates, trained_groups
from flowers.training.trainer import make_trainer, quiet_lightning


def lr_find(settings: Settings) -> float | None:
    """Sweep, and write and record the curve.

    Returns:
        The recommended rate, see :func:`recommend`; None if the loss never fell.

    Raises:
        UserError: If something that the user gave cannot be used.
    """
    announce_store(settings)
    out = Path(settings.out_dir)
    start = start_checkpoint(out, settings)
    with tempfile.TemporaryDirectory() as folder:
        sweep = _sweep(settings, start, Path(folder))
    rates = sweep.rates[: len(sweep.losses)]
    found = recommend(rates, sweep.losses)
    stage = settings.model.stages[settings.from_stage - 1]
    save_figure(rates_figure(rates, sweep.losses, found, f"{settings.name}, stage {stage.name}"), out / "lr_find.png")
    table = pd.DataFrame({"lr": rates, "loss": sweep.losses, "smoothed": found.smooth})
    write_table(table, out / "lr_find.csv", "%.6g")
    if settings.tracking.enabled:
        with tracked_run(settings, f"{settings.name} lr_find", {"kind": "lr_find", "recipe": settings.name}) as run:
            run.log_file(out / "lr_find.png")
            run.log_file(out / "lr_find.csv")
            run.log_metrics({} if found.rate is None else {"lr_find/rate": found.rate})
    advice = "no rate is recommended" if found.rate is None else f"recommended max_lr {found.rate:.1e}"
    print(f"{out}/lr_find.png: {advice}: {found.why}")
    return found.rate


def _sweep(settings: Settings, start: Path | None, folder: Path) -> RateSweep:
    stage = as_dict(settings)["model"]["stages"][settings.from_stage - 1]
    stage["epochs"] = STEPS  # each has at least one step
    datamodule, model = build_training(change(settings, {"model.stages": [stage]}))
    if start is not None:
        state = torch.load(start, map_location="cpu", weights_only=True)["state_dict"]
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f"{start} does not fit the network of this recipe; name the out_dir of a training of the same recipe."
            ) from error
    sweep = RateSweep(peak_rates(stage["max_lr"], trained_groups(stage["train"], model.groups)))
    with quiet_lightning():
        trainer = make_trainer(
            settings.trainer,
            folder,
            max_epochs=STEPS,
            callbacks=[sweep],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            limit_val_batches=0,
        )
        trainer.fit(model, datamodule=datamodule)
    return sweep


def main() -> None:
    """Look for the rate of the recipe that the command line names."""
    run_command(lambda settings: str(lr_find(settings)))  # a rate is nothing that a sweep could rank
