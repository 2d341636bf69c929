"""Photographs that lie anywhere in a folder, without classes, manifest or split, as a network answers to them."""

from pathlib import Path

import numpy as np

from flowers.data.intake import image_files
from flowers.data.photograph import PhotographError
from flowers.data.pixels import read_square
from flowers.errors import UserError
from flowers.trained import Answers, TrainedModel, answer

AT_ONCE = 256
"""Photographs held at a time, so that memory does not grow with the folder."""


def answer_folder(model: TrainedModel, photos: Path, key: str) -> tuple[list[str], Answers, dict[str, str]]:
    """Apply a model to every photograph in a folder.

    Args:
        model: The model.
        photos: The folder, searched through all its sub-folders, or a single photograph.
        key: What the user named it with.

    Returns:
        The photographs' paths, relative to the folder; what the network makes of them; and why other files could not
        be read, by path.

    Raises:
        UserError: If the folder cannot be read, or holds no photograph.
    """
    root = photos.parent if photos.is_file() else photos
    files = [photos.name] if photos.is_file() else image_files(photos)
    names: list[str] = []
    squares: list[np.ndarray] = []
    refused: dict[str, str] = {}
    parts: list[Answers] = []
    for position, name in enumerate(files, start=1):
        try:
            squares.append(read_square(root / name, model.net.image_px))
            names.append(name)
        except (PhotographError, OSError) as error:
            refused[name] = str(error)
        if squares and (len(squares) == AT_ONCE or position == len(files)):
            parts.append(answer(model.net, np.stack(squares), names[-len(squares) :]))
            squares.clear()
    if not parts:
        raise UserError(f"{photos} holds no photograph that can be read; name a folder of photographs with {key}=DIR.")
    logits, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return names, Answers(logits, features), refused
