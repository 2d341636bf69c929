"""Which score notices what a network was never taught: the comparison that chose those of ``flowers.evaluation.ood``.

    python -m benchmarks.outlier_scores [--photographs PHOTOS --weights WEIGHTS]

Networks learn four of the five rendered species, each species left out in turn. They are then shown the species left
out, other plants and meadows, and what is no plant at all: charts, text, coloured boxes, colour gradients, noise. The
pictures are rendered anew, by another seed than the default data set, so that its test plays no part in the choice.

WEIGHTS, for timm's ``mobilenetv2_100`` (``pad_type="same"``), adds a linear probe. PHOTOS, class folders, adds what the
scores make of the left-out species of real photographs: a report, for nothing is chosen by it.
"""

import argparse
import io
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from benchmarks.ordering import QUIET
from benchmarks.photographs import call
from flowers.commands.train import train
from flowers.config.compose import compose_config, read_settings
from flowers.data.pixels import read_square
from flowers.evaluation.ood import FOLDS, Mahalanobis, Residual, energy, joined, separation
from flowers.models.inference import ModelOutputs, Validation, calibrated, predict_logits
from flowers.models.trained import TrainedModel, open_model

Pixels = NDArray[np.uint8]

SEED = 100
NEIGHBOURS = 10
EACH = 40
"""Pictures of each kind that is no plant."""
NO_PLANTS = ("charts", "text", "boxes", "gradients", "noise")
SINGLE = ("neighbours", "distance", "residual", "energy", "unsure")


def main() -> None:
    """Train, score, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outlier_scores",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for data, changes in (("sample", [f"data.source.seed={SEED}"]), ("other_plants", [])):
            call("download", f"data={data}", f"out_dir={folder}/{data}", *changes)
        pretrained = fit("species_pretrain", folder / "pretrained", [f"data.source.seed={2 * SEED}"]).folder
        starts = {"cnn_scratch": [], "sample_finetune": [f"weights={pretrained}/model.safetensors"]}
        if options.weights:
            starts["linear_probe"] = [f"weights={options.weights.resolve()}", "model.net.options.pad_type=same"]
        others = folder / "other_plants/other_plants"
        rows: list[dict[str, object]] = []
        for network, words in starts.items():
            for left_out, model in without_each(network, folder / "sample/sample", folder / network, words):
                pictures = {"species left out": files(left_out, model), "other plants": files(others, model)}
                rows += compare(model, pictures | no_plants(model.net.image_px), network)
            show(f"{network}, rendered", [row for row in rows if row["network"] == network])
        show("all rendered: what chooses", rows)
        if options.photographs and options.weights:
            real = without_each("linear_probe", options.photographs, folder / "real", starts["linear_probe"])
            seen = [compare(model, {left_out.name: files(left_out, model)}, "linear_probe") for left_out, model in real]
            show("linear_probe, species left out of real photographs: a report", [row for rows in seen for row in rows])


def fit(experiment: str, out: Path, words: Sequence[str]) -> TrainedModel:
    """Train an experiment."""
    seeds = [f"seed={SEED}", f"data.split.seed={SEED}", f"data.cache_dir={out.parent}/pixels"]
    train(read_settings(compose_config([f"experiment={experiment}", f"out_dir={out}", *seeds, *QUIET, *words])))
    return open_model(out)


def without_each(
    network: str, photographs: Path, folder: Path, words: Sequence[str]
) -> Iterator[tuple[Path, TrainedModel]]:
    """Train on all classes but one, in turn: the folder of that one, and the model."""
    classes = sorted(each for each in photographs.iterdir() if each.is_dir())
    for left_out in classes:
        root = folder / f"without {left_out.name}"
        root.mkdir(parents=True)
        for each in classes:
            if each != left_out:
                (root / each.name).symlink_to(each.resolve())
        yield left_out, fit(network, folder / left_out.name, [*words, "data=folder", f"data.root={root}"])


def files(folder: Path, model: TrainedModel) -> Pixels:
    """Read the photographs of a folder as the model would see them."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    return np.stack([read_square(path, model.net.image_px, model.fit) for path in found])


def no_plants(side_px: int) -> dict[str, Pixels]:
    """Draw what is no plant: (EACH,H,H,3) of each kind."""
    rng = np.random.default_rng(SEED)
    kinds = {"charts": chart, "text": page, "boxes": boxes, "gradients": gradient}
    drawn = {kind: [draw(rng) for _ in range(EACH)] for kind, draw in kinds.items()}
    drawn["noise"] = [Image.fromarray(rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)) for _ in range(EACH)]
    size = (side_px, side_px)
    return {
        kind: np.stack([np.asarray(each.convert("RGB").resize(size, Image.Resampling.BICUBIC)) for each in pictures])
        for kind, pictures in drawn.items()
    }


def chart(rng: np.random.Generator) -> Image.Image:
    """Plot random walks."""
    figure, axes = plt.subplots(figsize=(2.24, 2.24), dpi=100)
    axes.plot(rng.normal(size=(30, 3)).cumsum(axis=0))
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    plt.close(figure)
    return Image.open(stream)


def page(rng: np.random.Generator) -> Image.Image:
    """Write lines of letters."""
    picture = Image.new("RGB", (224, 224), "white")
    for y in range(6, 220, 12):
        ImageDraw.Draw(picture).text((8, y), "".join(rng.choice(list("abcdefgh ijklmno prst"), 34)), fill="black")
    return picture


def boxes(rng: np.random.Generator) -> Image.Image:
    """Draw boxes, as on a screen."""
    picture = Image.new("RGB", (224, 224), tuple(rng.integers(200, 256, 3).tolist()))
    for _ in range(8):
        (x, y), (width, height) = rng.integers(0, 180, 2).tolist(), rng.integers(15, 90, 2).tolist()
        colour = tuple(rng.integers(0, 256, 3).tolist())
        ImageDraw.Draw(picture).rectangle([x, y, x + width, y + height], fill=colour, outline="black")
    return picture


def gradient(rng: np.random.Generator) -> Image.Image:
    """Pass from one colour to another."""
    (one, other), angle = rng.integers(0, 256, (2, 3)), rng.random() * 2 * np.pi
    y, x = np.mgrid[-0.5:0.5:224j, -0.5:0.5:224j]
    share = 0.5 + (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
    return Image.fromarray((one + (other - one) * share[..., None]).astype(np.uint8))


def compare(model: TrainedModel, pictures: dict[str, Pixels], network: str) -> list[dict[str, object]]:
    """Compute how well each score, and each joined with others, tells pictures from test photographs, by their kind."""
    test = model.split().query("split == 'test'").reset_index(drop=True)
    pixels = np.asarray(model.pixels(model.photographs(test), test))
    known, temperature = model.validation, model.temperature
    assert known is not None
    ordinary = single_scores(known, known, temperature)
    for rest, fold in KFold(FOLDS).split(known.labels):
        others, left = (Validation(*(each[rows] for each in known)) for rows in (rest, fold))
        ordinary[:, fold] = single_scores(others, left, temperature)
    ordinary[0] = neighbours(known.features, known.features, itself=1)
    scored = {kind: single_scores(known, answer(model, each), temperature) for kind, each in pictures.items()}
    tested = single_scores(known, answer(model, pixels), temperature)
    found: list[dict[str, object]] = []
    for count in range(1, 4):
        for rows in map(list, combinations(range(len(SINGLE)), count)):
            name = " + ".join(SINGLE[row] for row in rows)
            inside = joined(tested[rows], ordinary[rows]) if count > 1 else tested[rows[0]]
            for kind, scores in scored.items():
                outside = joined(scores[rows], ordinary[rows]) if count > 1 else scores[rows[0]]
                share = separation(inside, outside)
                found.append({"network": network, "score": name, "kind": kind, "separation": share})
    return found


def answer(model: TrainedModel, pixels: Pixels) -> ModelOutputs:
    """Apply the network."""
    return predict_logits(model.net, pixels, [""] * len(pixels))


def single_scores(known: Validation, asked: Validation | ModelOutputs, temperature: float) -> NDArray[np.float64]:
    """Score what is asked by what is known, in the order of :data:`SINGLE`."""
    return np.stack(
        [
            neighbours(known.features, asked.features),
            Mahalanobis(known.features, known.labels)(asked.features),
            Residual(known.features, known.logits)(asked.features, asked.logits),
            energy(asked.logits),
            1 - calibrated(asked.logits, temperature).max(axis=1),
        ]
    )


def neighbours(known: NDArray[np.floating], asked: NDArray[np.floating], itself: int = 0) -> NDArray[np.float64]:
    """Measure the cosine distance to the tenth nearest (Sun et al. 2022, "Deep nearest neighbors")."""
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + itself, metric="cosine").fit(known + 1e-12)
    return search.kneighbors(asked + 1e-12)[0][:, -1]


def show(title: str, rows: list[dict[str, object]]) -> None:
    """Print means over the networks, all that is no plant as one kind, and the mean of the kinds; the best first."""
    table = pd.DataFrame(rows).pivot_table(index="score", columns="kind", values="separation", aggfunc="mean")
    no_plant = [kind for kind in NO_PLANTS if kind in table]
    if no_plant:
        table = table.drop(columns=no_plant).assign(**{"no plant": table[no_plant].mean(axis=1)})
    table["mean"] = table.mean(axis=1)
    print(f"\n## {title}\n\n{(100 * table).sort_values('mean', ascending=False).round(1).to_markdown()}", flush=True)


if __name__ == "__main__":
    main()
