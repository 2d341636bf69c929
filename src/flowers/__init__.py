"""Photographs of flowers in; a trained, explained and honestly measured classifier out.

What scripts and notebooks use. It is imported when it is first asked for, so that ``import flowers`` takes no time::

    from pathlib import Path

    import flowers

    settings = flowers.compose("experiment=cnn_scratch", "data=folder", "data.root=PHOTOS", "out_dir=runs/mine")
    flowers.train(settings)
    flowers.evaluate(Path("runs/mine"), Path("runs/mine/test"))
    table, refused = flowers.predict(Path("runs/mine"), Path("NEW"))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowers.api import (
        Evaluation,
        Photographs,
        compose,
    )
    from flowers.commands.evaluate import evaluate
    from flowers.commands.find_label_errors import find_label_errors
    from flowers.commands.predict import predict
    from flowers.commands.train import train
    from flowers.errors import UserError
    from flowers.evaluation.significance import smallest_difference
    from flowers.models.trained import TrainedModel, open_model
    from flowers.notebook import sentences, start_notebook
    from flowers.report.image_grid import gallery_figure

__all__ = [
    "Evaluation",
    "Photographs",
    "TrainedModel",
    "UserError",
    "compose",
    "evaluate",
    "find_label_errors",
    "gallery_figure",
    "open_model",
    "predict",
    "sentences",
    "smallest_difference",
    "start_notebook",
    "train",
]

_ELSEWHERE = {
    "TrainedModel": "models.trained",
    "UserError": "errors",
    "evaluate": "commands.evaluate",
    "find_label_errors": "commands.find_label_errors",
    "gallery_figure": "report.image_grid",
    "open_model": "models.trained",
    "predict": "commands.predict",
    "sentences": "notebook",
    "smallest_difference": "evaluation.significance",
    "start_notebook": "notebook",
    "train": "commands.train",
}


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'flowers' has no attribute '{name}'")
    return getattr(importlib.import_module(f"flowers.{_ELSEWHERE.get(name, 'api')}"), name)
