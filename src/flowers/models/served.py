"""A trained model as MLflow serves it: photographs in, a table of predictions out.

MLflow finds this module by its name in the logged model (``loader_module``) and takes it from the installed package.
The logged files are a graph of torch and a table in JSON, so that nothing which comes with a model is run or unpickled.
"""

import base64
import binascii
import contextlib
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from flowers.config.schema import Fit
from flowers.data.pixels import read_square
from flowers.sources.colour import to_rgb
from flowers.sources.photograph import PhotographError, check_samples

ABOUT = "flowers.json"
"""The file beside the graph, with what a :class:`PhotographModel` is made with."""
AT_ONCE = 64


class PhotographModel:
    """Predicts photographs of any size, prepared as they were for the training."""

    def __init__(self, graph: torch.nn.Module, classes: list[str], image_px: int, fit: Fit | None) -> None:
        """Surround a graph.

        Args:
            graph: From pixels (B,3,H,W) float32 in [0, 255] to probabilities (B,K).
            classes: Names of the K classes.
            image_px: Side of the squares that the graph takes.
            fit: How photographs become squares, as for the training; None: unknown, so the middle is kept.
        """
        self.graph, self.classes, self.image_px, self.fit = graph, classes, image_px, fit

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict photographs.

        Args:
            model_input: A list, a column, or a table of one column, of photographs: the bytes of a JPEG, PNG or another
                file; those bytes in base64, as JSON carries them; an image of Pillow; or an array (H,W,3) of whole
                numbers in [0, 255]. Or such a one alone; an array (N,H,W,3) of them; or what the graph takes, (N,3,H,W)
                float32 in [0, 255].
            params: None are known.

        Returns:
            A row for each: `prediction`, its `probability`, and the probability of each class, by the class's name.

        Raises:
            ValueError: If one of them is no photograph; it says which.
        """
        pixels = [self._square(number, each) for number, each in enumerate(_each(model_input), start=1)]
        with torch.inference_mode():
            parts = [
                self.graph(torch.from_numpy(np.stack(pixels[first : first + AT_ONCE]))).numpy()
                for first in range(0, len(pixels), AT_ONCE)
            ]
        probabilities = np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)
        table = pd.DataFrame(probabilities, columns=self.classes)
        answers = [self.classes[number] for number in probabilities.argmax(axis=1)]
        table.insert(0, "prediction", answers, allow_duplicates=True)  # a class may be called so
        table.insert(1, "probability", probabilities.max(axis=1, initial=0), allow_duplicates=True)
        return table

    def _square(self, number: int, photograph: Any) -> NDArray[np.float32]:
        """Prepare a photograph: (3,H,W) float32."""
        try:
            if isinstance(photograph, str):
                photograph = base64.b64decode(photograph.rpartition(",")[2], validate=True)  # behind "data:…,"
            if isinstance(photograph, Image.Image):
                check_samples(photograph)
                photograph = to_rgb(ImageOps.exif_transpose(photograph))  # as if it had been read from its file
            if isinstance(photograph, bytes | bytearray | memoryview):
                file = BytesIO(photograph)
            else:
                array = np.asarray(photograph)
                if array.dtype.kind == "f" and array.shape == (3, self.image_px, self.image_px):
                    return array.astype(np.float32)
                colours = array.dtype.kind in "ui" and array.shape[2:] in ((3,), (4,)) and array.size
                if not colours or array.min() < 0 or array.max() > 255:
                    raise ValueError(f"it is {array.dtype} of shape {array.shape}, not whole numbers (H,W,3) to 255")
                file = BytesIO()
                Image.fromarray(array.astype(np.uint8)).save(file, "PNG", compress_level=1)
            file.seek(0)
            return read_square(file, self.image_px, self.fit or "crop").transpose(2, 0, 1).astype(np.float32)
        except (PhotographError, ValueError, TypeError, binascii.Error) as error:
            raise ValueError(f"photograph {number} cannot be used: {error}") from error


def _each(model_input: Any) -> Iterator[Any]:
    """Give photographs one by one."""
    if isinstance(model_input, pd.DataFrame):
        model_input = model_input.iloc[:, 0]
    if isinstance(model_input, list) and model_input and isinstance(model_input[0], list):
        with contextlib.suppress(ValueError):  # of different sizes
            model_input = np.asarray(model_input)
    alone = isinstance(model_input, np.ndarray) and model_input.shape[2:] in ((3,), (4,))
    if alone or isinstance(model_input, str | bytes | bytearray | memoryview | Image.Image):
        yield model_input
    else:
        yield from model_input


def _load_pyfunc(path: str, model_config: Any = None) -> PhotographModel:
    """Open what was logged, as MLflow asks for it."""
    folder = Path(path)
    graph = torch.export.load(folder / "model.pt2").module()
    return PhotographModel(graph, **json.loads((folder / ABOUT).read_text(encoding="utf-8")))
