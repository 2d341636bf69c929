"""What :mod:`flowers` offers beside the commands' own functions: photographs and evaluated trainings, looked at.

Notebooks use it, and nothing deeper. Figures are matplotlib's, and tables are pandas'.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from flowers.commands.data_card import PIPELINE, look_into
from flowers.config.compose import change, compose_config, instantiate, names_in, read_data, read_settings
from flowers.config.schema import Settings
from flowers.config.store_address import Address, address_of
from flowers.data.augment import Augment, AugmentParams, transform
from flowers.data.pixels import open_store
from flowers.errors import UserError, suggestion
from flowers.evaluation.results import Place, comparable, own_places, read_experiments
from flowers.evaluation.selection import choose
from flowers.evaluation.significance import rank
from flowers.explain.attribution import Explanations, explain
from flowers.models.inference import PixelLogits, calibrated
from flowers.models.trained import TrainedModel, open_model
from flowers.notebook import sentences
from flowers.report import data_card, leaderboard
from flowers.report import evaluation as page
from flowers.report.confusion import confusion_figure
from flowers.report.curves import curves_figure, side_by_side_figure, stage_starts
from flowers.report.explanations import sheet
from flowers.report.html import noun_of
from flowers.report.image_grid import gallery_figure, strip
from flowers.report.reliability import coverage_figure, reliability_figure
from flowers.tracking.runs import list_trainings, read_curves

if TYPE_CHECKING:
    from IPython.display import Markdown
    from matplotlib.figure import Figure

BLANK = 0.5
"""What an erased box is filled with; a training fills it with its network's mean."""
SPLIT = "split/split.csv"


def compose(*words: str) -> Settings:
    """Compose a configuration from ``conf/``, as a command does.

    Args:
        words: As on the command line: ``experiment=cnn_scratch``, ``out_dir=OUT``, ``trainer.max_epochs=3``.

    Raises:
        UserError: If a word cannot be used; it names the key.
    """
    return read_settings(compose_config(words))


class Photographs:
    """A data set: what is in it, how it is divided, and what a training makes of it.

    Attributes:
        settings: The recipe's configuration, on these photographs.
        root: Folder that paths are relative to.
        table: A row for each of the N photographs: `path`, `label`, `split` (train, val, test), `group` (of
            near-duplicates), `width_px`, `height_px` and others.
        pixels: Thumbnails of the same, (N,H,H,3) uint8.
        findings: What a training on them has to reckon with, in sentences.
    """

    def __init__(self, photographs: str, *words: str) -> None:
        """Take in, divide and count photographs; they are read and never changed.

        Args:
            photographs: A data set of ``conf/data``, or a folder of class folders (`./NAME` where it is called like
                one of those).
            words: Of the recipe, as on the command line.

        Raises:
            UserError: If the photographs or a word cannot be used.
        """
        self.settings = settings_for(photographs, *words)
        self._data = read_data(self.settings)
        self._contents = look_into(self._data)
        self.root, self.table, self.pixels = self._contents.root, self._contents.table, self._contents.pixels
        self.findings = [
            f"{len(self.table)} {noun_of(self._data.name)}s of {self.root}",
            *data_card.findings(self._contents.found),
        ]

    def classes(self, most: int = 20) -> "Figure":
        """Draw a row of training photographs for each class, of so many classes at most."""
        names = sorted(self.table["label"].unique())[:most]
        rows = [data_card.montage(self.table, self.pixels, name, rows=1) for name in names]
        return gallery_figure(rows, names, columns=1)

    def cues(self) -> pd.DataFrame:
        """Tell how often the class can be guessed from single numbers: `right`, `from` and `to` (95 %), `chance`."""
        table = pd.DataFrame(self._contents.found["cues"]).set_index("cue").rename(data_card.CUES)
        return table.drop(columns="leaks").set_axis(["right", "from", "to (95 %)", "chance"], axis=1)

    def alike(self, most: int = 8) -> "Figure | Markdown":
        """Draw photographs that are alike and not for the test; a sentence if there are none."""
        alike = self.table.duplicated("group", keep=False) & (self.table["split"] != "test")
        rows = self.table[alike].sort_values(["group", "path"]).head(most)
        words = (rows["label"] + "\nall in " + rows["split"]).tolist()
        return (
            gallery_figure(self.pixels[rows.index], words, columns=8)
            if words
            else sentences(["No two were found to be alike outside the test."])
        )

    def augmented(self, epochs: Sequence[int], most: int = 4) -> "Figure":
        """Draw photographs of several classes beside what the recipe makes of them in some epochs, counted from 1."""
        train = self.table[self.table["split"] == "train"].reset_index(drop=True)
        rows = train.drop_duplicates("label").index[:most].tolist()
        shown = self.read(train.loc[rows])
        augment = instantiate("model.augment", self.settings.model.augment)
        views = augmented_views(augment, self.settings.seed, shown, rows, len(train), epochs)
        pictures = [picture for number in range(len(rows)) for picture in (shown[number], *views[:, number])]
        captions = [words for row in rows for words in (train["label"][row], *(f"epoch {epoch}" for epoch in epochs))]
        return gallery_figure(pictures, captions, columns=1 + len(epochs))

    def read(self, table: pd.DataFrame, size_px: int = 128) -> NDArray[np.uint8]:
        """Read photographs that a table names by `path` and `sha256`, (N,H,H,3) uint8."""
        return open_store(self.root, table, size_px, Path(self._data.cache_dir), self._data.fit)


class Evaluation:
    """A training that ``evaluate`` has measured: its test, and what explains it.

    Attributes:
        model: The trained model.
        name: The recipe's.
        classes: Names of the K classes.
        scores: ``metrics.json``: ``test/acc`` and others in [0, 1], their intervals.
        history: A row for each epoch.
        counts: Which class was taken for which, (K,K): rows truth, columns prediction.
        findings: What the figures show, in sentences.
    """

    def __init__(self, folder: str | Path, allow: Sequence[str] = (), device: str | None = None) -> None:
        """Open a training.

        Args:
            folder: What ``train`` wrote, and ``evaluate`` measured.
            allow: Packages beside ours whose classes the model may name.
            device: Where its network runs: ``cpu``, ``gpu``; None: as it was trained, where there is a GPU.

        Raises:
            UserError: If it is not there or not evaluated; with the command that makes it.
        """
        self._place = find_training(Path(folder))
        self.model: TrainedModel = open_model(self._place.trained, allow, device)
        self._run = page.read_run(self._place.evaluated)
        self.name, self.classes, self.scores = self._run.name, self._run.classes, self._run.scores
        self.history, self.counts = self._run.history, self._run.counts
        self.findings = page.findings(self._run)

    @functools.cached_property
    def trainings(self) -> pd.DataFrame:
        """The trainings on the same split that MLflow remembers, the best on the validation photographs first."""
        return list_trainings(*self._store, self._run.run["split_sha256"])

    @property
    def _store(self) -> Address:
        return address_of(self.model.settings)

    def ranking(self) -> list[str]:
        """Say which of the trainings beside this one are shown to be better than which, on the same test."""
        experiments, test = read_experiments(own_places(comparable(self._place.trained)))
        return leaderboard.findings(rank(experiments, [], test["truth"].to_numpy(), test["group"].to_numpy()))

    def curves(self) -> "Figure":
        """Draw how it learned."""
        return curves_figure(self.history, stage_starts(self.history), self.name)

    def curves_beside(self, most: int = 8) -> "Figure":
        """Draw how it learned, beside others of :attr:`trainings`."""
        others = self.trainings[self.trainings["run_id"] != self._run.run["mlflow_run_id"]]
        others = others.drop_duplicates("name").head(most)
        uri = self._store.uri
        found = {name: read_curves(uri, run_id) for name, run_id in zip(others["name"], others["run_id"], strict=True)}
        return side_by_side_figure({**found, self.name: self.history}, self.name, "How they learned")

    def confusion(self) -> "Figure":
        """Draw which class was taken for which."""
        return confusion_figure(self.counts, self.classes, f"{self.name}: test")

    def per_class(self) -> pd.DataFrame:
        """Give each class's `precision`, `recall`, `f1`, its photographs, and what it was taken for most often."""
        rows = page.class_rows(self._run).set_index("class")
        rows["taken_for"] = [f"{pair[0]} ({pair[1]})" if pair else "" for pair in rows["taken_for"]]
        return rows[["precision", "recall", "f1", "support", "train", "taken_for"]].sort_values("f1")

    def reliability(self) -> "Figure":
        """Draw accuracy against confidence."""
        title = f"{self.name}: does it know what it knows?"
        return reliability_figure(self._run.confidence, self._run.right, title, self._run.noun, self._run.groups)

    def coverage(self) -> "Figure":
        """Draw how errors grow with the share of photographs that get a prediction."""
        title = f"{self.name}: fewer answers, fewer mistakes"
        answers, rows = (self._run.confidence, self._run.right), self.scores["selective_prediction"]
        return coverage_figure(*answers, rows, title, self._run.noun)

    @functools.cached_property
    def mistakes(self) -> pd.DataFrame:
        """Mistakes of the highest loss on **validation** photographs, or what it is least sure of where there are none.

        Columns `path`, `label`, `sha256` and others of the split, `number` (their place among the validation
        photographs), `prediction` and `probability`.
        """
        validation = self.model.validation
        assert validation is not None  # find_training has looked
        val = self._run.split[self._run.split["split"] == "val"].reset_index(drop=True)
        probabilities = calibrated(validation.logits, self.model.temperature)
        chosen = choose(validation.labels, probabilities, count=16)
        numbers = chosen.worst or chosen.unsure or chosen.best
        return val.loc[numbers].assign(
            number=numbers,
            prediction=[self.classes[k] for k in probabilities[numbers].argmax(axis=1)],
            probability=probabilities[numbers].max(axis=1),
        )

    def read(self, table: pd.DataFrame) -> NDArray[np.uint8]:
        """Read photographs that a table names by `path` and `sha256` as the network sees them, (N,H,H,3) uint8."""
        return np.array(self.model.pixels(self.model.photographs(table), table))

    def explain(self, table: pd.DataFrame) -> Explanations:
        """Explain what the network predicts for photographs that a table names by `path`, `label` and `sha256`."""
        labels = np.array(table["label"].map(self.classes.index), np.int64)  # a copy: pandas' own cannot be written
        network = PixelLogits(self.model.net, self.model.temperature).eval()
        return explain(network, self.read(table), labels, self.name)

    def maps(
        self, explained: Explanations, wanted: Sequence[str] = ("photograph", "cam", "cam_truth", "occlusion")
    ) -> "Figure":
        """Draw explanations: a row for each photograph, with the maps that are wanted and that its network allows."""
        strips = [strip(each, self.classes) for each in explained.each]
        return sheet([[panel for panel in panels if panel.method in wanted] for panels in strips])


def settings_for(photographs: str, *overrides: str) -> Settings:
    """Compose the configuration of a command on photographs; on those of the pipeline, where it has them, as it does.

    Args:
        photographs: A name of ``conf/data``, or a folder of class folders (`./NAME` where it is called like a name).
        overrides: Further ones, as on the command line.

    Raises:
        UserError: If there is neither such a data set nor such a folder, or an override cannot be used.
    """
    names = names_in("data")
    if photographs in names:
        chosen = [f"data={photographs}"]
        if (PIPELINE / "download" / photographs).is_dir() and (PIPELINE / SPLIT).is_file():
            chosen += [f"data.root={PIPELINE / 'download' / photographs}", f"data.split_csv={PIPELINE / SPLIT}"]
            # The photographs are there, and the split has the decisions.
            chosen += ["data.source=null", "data.decisions=null"]
    elif Path(photographs).is_dir():
        chosen = ["data=folder", "data.root=."]
    else:
        raise UserError(
            f"'{photographs}' is neither a folder nor a data set of conf/data: {suggestion(photographs, names)}"
        )
    # What only a command has.
    settings = compose("name=notebook", "out_dir=.", *chosen, *overrides)
    if photographs not in names:  # any characters, which an override could not hold
        settings = change(settings, {"data.root": photographs})
    return settings


def find_training(folder: Path) -> Place:
    """Find a training and its evaluation.

    Raises:
        UserError: If it is not there or not evaluated; with the command that makes it.
    """
    if not (folder / "run.json").is_file():
        raise UserError(
            f"{folder} holds no training yet: call `make repro`, or name the folder of a training of your own (its "
            "out_dir)."
        )
    if not (folder / "validation.npz").is_file():
        raise UserError(f"{folder} is of an earlier version of flowers (it has no validation.npz): train again.")
    return own_places([folder])[0]


def augmented_views(
    augment: Augment, seed: int, pixels: np.ndarray, rows: Sequence[int], count: int, epochs: Sequence[int]
) -> np.ndarray:
    """Augment training photographs as a training does in some epochs.

    Blending with other photographs (MixUp, CutMix) depends on the batch and is left out.

    Args:
        augment: The recipe's.
        seed: The recipe's.
        pixels: (B,H,W,3) uint8, at the size that the network sees.
        rows: Their B places among the training photographs of the split.
        count: How many training photographs there are.
        epochs: E of them, counted from 1 as in ``history.csv``.

    Returns:
        (E,B,H,W,3) uint8.
    """
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)  # a copy: a store is read-only
    mean, std = torch.full((3,), BLANK), torch.ones(3)
    places = torch.as_tensor(list(rows))
    views = []
    for epoch in epochs:
        draws = AugmentParams(count, seed=seed, epoch=epoch - 1, mixup_alpha=0)
        view = transform(images, *draws.of(places), augment, mean, std)
        views.append(((view + BLANK) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
    return torch.stack(views).numpy()
