"""What the configuration consists of, beside the classes that it names.

Hydra composes the YAML files of ``conf/``; :func:`flowers.config.compose.read_settings` then locks the result: a node
with a ``_target_`` takes the parameters of the class that it names, with their types; all else stands here. Defaults
stand in ``conf/``. This module imports nothing heavy, so that ``--help`` is quick.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Settings = Any
"""OmegaConf's ``DictConfig`` of a configuration that is complete, resolved and checked, read by attribute:
``settings.data.root``. Never changed: :func:`flowers.config.compose.change` makes another one."""

HUB = "hub"
"""Value of `weights`: those that are published for the architecture, fetched over the network."""

Fit = Literal["crop", "pad", "squash"]
FITS: dict[Fit, str] = {"crop": "centre square", "pad": "whole, with grey bars", "squash": "whole, squeezed"}
"""Values of `data.fit`, and what a network then sees of an oblong photograph; part of the names of pixel stores."""

MIN_SIDE_PX = 8
"""What `data.min_side_px` is by default: smaller are the dots that web pages are spaced and counted with."""


@dataclass
class Split:
    """How photographs are divided, see :func:`flowers.curation.splits.assign_splits`."""

    val_frac: float
    """Share of the photographs for validation, in (0, 1)."""
    test_frac: float
    """Share of the photographs for the test, in [0, 1); 0 makes an 80/20 kind of split without a test."""
    folds: int
    """Number of cross-validation folds that train and validation photographs are numbered by, at least 2."""
    seed: int
    near_bits: int
    """Photographs whose difference hashes differ in at most so many of 512 bits, also once one is mirrored or turned,
    are taken for the same picture and kept in one split (:mod:`flowers.curation.duplicates`), as are parts of a picture
    that lost up to 5 % at each edge (:mod:`flowers.curation.overlay`); -1: only files of the same bytes."""
    per_class: list[int] | None = None
    """Instead of shares: how many photographs of each class train, and how many validate; the others are the test."""
    official: int | None = None
    """Instead of shares: which of the divisions that the data set was published with, from 1. What came divided in its
    folders or its table is used so without it."""


@dataclass
class Data:
    """Which photographs, and where what is derived from them lies."""

    name: str
    root: str
    """Folder of class folders. With a `source` it is where the source puts them."""
    source: dict[str, Any] | None
    """What fills `root`: a `_target_` in `flowers.sources` and its parameters; null: the photographs are there."""
    strict: bool
    """Refuse the whole folder if any file in it is refused, instead of setting that file aside."""
    decisions: str | None
    """A table of what a person decided about single photographs (:mod:`flowers.curation.labels`): to drop one, or
    count it as another class. It is applied when the photographs are split; null: there is none."""
    split: Split
    split_csv: str | None
    """A split made earlier (the DVC stage's); null: intake and split are done on the way."""
    cache_dir: str
    """Where decoded pixels are kept between runs. Can be deleted at any time."""
    fit: Fit = field(default="crop", compare=False)
    """How an oblong photograph becomes a square, see :data:`FITS`. Data sets that differ in it alone are the same
    photographs."""
    layout: str = "auto"
    """What says the class: folders in `root`, understood as `classes` (one each), `divided` (parts such as train and
    test, with class folders in them) or `auto` (as they look, see :func:`flowers.sources.layouts.list_folders`); or
    `table`, which a `table` alone means too."""
    table: str | None = None
    """A table of labels for the photographs in `root`, see :func:`flowers.sources.label_table.list_table`; null: their
    folders say the class."""
    table_columns: list[str] | None = None
    """Names of the table's columns of files and of labels; null: they are found."""
    min_side_px: int = MIN_SIDE_PX
    """A photograph whose shorter side is below is refused, at intake and in predictions."""


@dataclass
class Stage:
    """One row of the stage table, see :mod:`flowers.training.stages`."""

    name: str
    epochs: int
    """Number of epochs; 0 skips the stage."""
    train: Any
    """Which layer groups train: `all`, `head`, `last:N`, or a list of group names."""
    max_lr: Any
    """The one-cycle's peak rate: a number, or [first group's, last group's] spread geometrically between."""
    warmup_frac: float = 0.25
    """Share of the stage's steps in which the rate rises to its peak."""
    start_div: float = 25.0
    """The rate starts at its peak divided by this."""
    end_div: float = 1e4
    """The rate ends at its start divided by this."""
    views: int = 2
    """In how many augmented views the frozen first layers see each photograph; their outputs are kept, so that further
    epochs skip them. 1: a single view without augmentation; 0: a new view in each epoch, and nothing is kept."""
    weight_decay: float | None = None
    """Instead of the optimiser's weight decay in this stage."""
    dropout: float | None = None
    """Instead of the network's own dropout in this stage, in [0, 1)."""
    image_px: int | None = None
    """Side to which training images are reduced in this stage, at most the network's, for a network that takes images
    of any size (progressive resizing); null: the network's. Validation always has the network's."""


@dataclass
class Tracking:
    """The MLflow store."""

    enabled: bool
    uri: str | None
    """An MLflow address; null: `MLFLOW_TRACKING_URI` if it is set, else `sqlite:///mlflow.db`."""
    system_metrics_s: float
    """Seconds between two samples of processor and memory use; 0: none."""
    experiment: str | None = None
    """The MLflow experiment, made if it is new; null: `MLFLOW_EXPERIMENT_NAME` or `MLFLOW_EXPERIMENT_ID` if one is set,
    else the name of the data set."""


@dataclass
class Configuration:
    """The keys of a configuration; what the nodes take whose type is not stated here, their classes say."""

    name: str
    """The recipe's name, which names the MLflow run too."""
    seed: int
    out_dir: str
    """Where the trained model and its record land."""
    weights: str | None
    """What the network starts from, its head excepted: a file (.safetensors, or .pth of plain tensors), or `hub` for
    the published weights of a backbone; null: random weights."""
    weights_sha256: str | None
    """Digest that the file must have; null: not checked. Written by `compose`."""
    from_stage: int
    """Go on from the end of the stage before, which an earlier training left in out_dir; 1: anew."""
    progress: str
    """`auto` (a bar on a terminal, else lines), `lines` or `none`."""
    data: dict[str, Any]
    model: dict[str, Any]
    trainer: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any]
    tracking: Tracking
    save_best: Literal["val/acc", "val/loss"] | None = None
    """Which epoch's weights become the model: those of the best one by this figure, of equal ones the latest; null: the
    last one's. The figure of a chosen epoch reads a little too high, as it chose; the test does not."""
