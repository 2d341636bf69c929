"""A served model takes photographs as people have them, prepared as they were for the training."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor, nn

from flowers.data.pixels import read_square
from flowers.models.served import PhotographModel

PX = 8


class Redness(nn.Module):
    """Sure of the second class as far as the image is red."""

    def forward(self, pixels: Tensor) -> Tensor:
        assert pixels.dtype == torch.float32
        assert pixels.shape[1:] == (3, PX, PX)
        red = pixels[:, 0].mean((1, 2)) / 255
        return torch.stack([1 - red, red], 1)


def model(classes: tuple[str, str] = ("green", "red"), fit: Any = "crop") -> PhotographModel:
    return PhotographModel(Redness(), list(classes), PX, fit)


def picture(width: int = 30, height: int = 20) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :, 0] = 255
    return pixels


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    "given",
    [
        encoded(picture()),
        bytearray(encoded(picture())),
        base64.b64encode(encoded(picture())).decode(),
        "data:image/png;base64," + base64.b64encode(encoded(picture())).decode(),
        Image.fromarray(picture()),
        picture(),
        np.dstack([picture(), np.full((20, 30), 255, np.uint8)]),
        picture().tolist(),
    ],
    ids=["bytes", "bytearray", "base64", "data-url", "pillow", "array", "rgba", "json"],
)
def test_a_photograph_alone_or_several_in_any_form(given: Any) -> None:
    with torch.inference_mode():
        square = read_square(BytesIO(encoded(picture())), PX).transpose(2, 0, 1)
        expected = Redness()(torch.from_numpy(square.astype(np.float32))[None]).numpy()[0]
    alone, two = model().predict(given), model().predict([given, given])
    assert list(alone.columns) == ["prediction", "probability", "green", "red"]
    np.testing.assert_allclose(alone[["green", "red"]].to_numpy(), [expected], atol=1e-6)
    assert len(two) == 2
    assert (two.to_numpy() == alone.to_numpy()).all()


def test_tables_batches_and_sizes() -> None:
    files = [encoded(picture(), "JPEG"), encoded(picture(9, 70), "JPEG")]
    expected = model().predict(files)
    for given in (pd.DataFrame({"photograph": files}), pd.Series(files), np.array(files, object)):
        assert model().predict(given).equals(expected)
    assert len(model().predict(np.stack([picture()] * 70))) == 70
    assert len(model().predict([picture().tolist(), picture(9, 70).tolist()])) == 2
    graphs = model().predict(np.full((2, 3, PX, PX), 255, np.float32))  # what the graph takes
    assert graphs["prediction"].tolist() == ["red", "red"]
    assert graphs["probability"].tolist() == [1, 1]
    assert model().predict([]).shape == (0, 4)


def test_an_oblong_becomes_a_square_as_in_the_training() -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, :10, 0] = wide[:, 30:, 0] = 255  # only the sides are red
    crop, squash = (model(fit=fit).predict(wide)["red"][0] for fit in ("crop", "squash"))
    assert crop == 0
    assert squash == pytest.approx(0.5, abs=0.05)
    assert model(fit=None).predict(wide)["red"][0] == 0


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("P", "PNG"), ("CMYK", "TIFF"), ("L", "PNG")])
def test_an_image_of_pillow_is_what_its_file_shows(mode: str, kind: str) -> None:
    class RightRedness(Redness):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels.clone().index_fill_(3, torch.arange(PX // 2), 0))

    exif, file = Image.Exif(), BytesIO()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(picture()).transpose(Image.Transpose.ROTATE_90).convert(mode).save(file, kind, exif=exif)
    served = PhotographModel(RightRedness(), ["green", "red"], PX, "squash")
    expected = served.predict(file.getvalue())["red"][0]
    with Image.open(BytesIO(file.getvalue())) as opened:
        assert served.predict(opened)["red"][0] == pytest.approx(expected, abs=0.01)
    assert expected > 0.1


def test_classes_may_be_called_like_the_columns() -> None:
    table = model(("prediction", "probability")).predict(picture())
    assert list(table.columns) == ["prediction", "probability", "prediction", "probability"]


@pytest.mark.parametrize(
    "bad",
    [
        *(b"nothing", "/etc/passwd", None, 3, picture() / 255, picture().astype(int) * 2, np.zeros((5, 5), np.uint8)),
        Image.fromarray(np.ones((5, 5), np.float32)),
    ],
)
def test_what_is_no_photograph_is_named(bad: Any) -> None:
    with pytest.raises(ValueError, match="photograph 2 cannot be used: "):
        model().predict([picture(), bad])


def test_a_path_is_not_opened(tmp_path: Path) -> None:
    """Whoever may ask a server must not read its files."""
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    with pytest.raises(ValueError, match="photograph 1 cannot be used"):
        model().predict(str(tmp_path / "a.png"))
