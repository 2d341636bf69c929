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
    from flowers.api import Evaluation as Evaluation
    from flowers.api import Photographs as Photographs
    from flowers.api import compose as compose
    from flowers.commands.evaluate import evaluate as evaluate
    from flowers.commands.find_label_errors import find_label_errors as find_label_errors
    from flowers.commands.predict import predict as predict
    from flowers.commands.train import train as train
    from flowers.errors import UserError as UserError
    from flowers.evaluation.significance import smallest_difference as smallest_difference
    from flowers.models.trained import TrainedModel as TrainedModel
    from flowers.models.trained import open_model as open_model
    from flowers.notebook import sentences as sentences
    from flowers.notebook import start_notebook as start_notebook
    from flowers.report.image_grid import gallery_figure as gallery_figure

_HOMES = {
    "Evaluation": "api",
    "Photographs": "api",
    "TrainedModel": "models.trained",
    "UserError": "errors",
    "compose": "api",
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
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'flowers' has no attribute '{name}'")
    return getattr(importlib.import_module(f"flowers.{_HOMES[name]}"), name)
