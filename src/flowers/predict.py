"""Classify photographs: ``python -m flowers.predict model=DIR photos=DIR out=predictions.csv``.

Writes a row for each photograph below ``photos``: its path, the predicted class, that class's probability, then the
probability of every class.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.commands import exit_on_user_error, read_arguments
from flowers.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Arguments:
    """Keys of the command."""

    model: Path
    photos: Path
    out: Path = Path("predictions.csv")


def predict(model_dir: Path, photos: Path) -> "tuple[pd.DataFrame, dict[str, str]]":
    """Classify every photograph in a folder, class folders or not.

    Args:
        model_dir: A folder that ``train`` wrote.
        photos: A folder, searched through all its sub-folders, or a single photograph.

    Returns:
        A table with ``path`` (relative to the folder), ``prediction``, ``probability`` and a column for each class; and
        why other files could not be read, by path.

    Raises:
        UserError: If the model or the folder cannot be used, or no photograph could be read.
    """
    import numpy as np
    import pandas as pd

    from flowers.data.intake import image_files
    from flowers.data.photograph import PhotographError
    from flowers.data.pixels import read_square
    from flowers.trained import open_model, probabilities

    model = open_model(model_dir)
    image_px = model.net.image_px
    root = photos.parent if photos.is_file() else photos
    files = [photos.name] if photos.is_file() else image_files(photos)
    names: list[str] = []
    squares: list[np.ndarray] = []
    refused: dict[str, str] = {}
    parts: list[np.ndarray] = []
    for position, name in enumerate(files, start=1):
        try:
            squares.append(read_square(root / name, image_px))
            names.append(name)
        except (PhotographError, OSError) as error:
            refused[name] = str(error)
        # In portions, so that memory does not grow with the folder.
        if squares and (len(squares) == 256 or position == len(files)):
            parts.append(probabilities(model.net, np.stack(squares)))
            squares.clear()
    if not parts:
        raise UserError(f"{photos} holds no photograph that can be read; name a folder of photographs with photos=DIR.")
    predicted = np.concatenate(parts)
    winners = predicted.argmax(axis=1)
    table = pd.DataFrame(
        {
            "path": names,
            "prediction": [model.classes[i] for i in winners],
            "probability": predicted[np.arange(len(predicted)), winners],
        }
    )
    return table.join(pd.DataFrame(predicted, columns=model.classes)), refused


def main() -> None:
    """Classify what the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments, __doc__)
        table, refused = predict(arguments.model, arguments.photos)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.out, index=False, float_format="%.6f")
        print(f"{arguments.out}: {len(table)} photographs")
        for name, reason in refused.items():
            print(f"not read: {name} ({reason})")


if __name__ == "__main__":
    main()
