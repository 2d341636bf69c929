"""Every key of the configuration, with its unit and meaning.

Hydra composes the YAML files of ``conf/``; :func:`flowers.config.compose.read_settings` then converts the result into these
dataclasses, which lock it: a key that is not here (or not a parameter of what a ``_target_`` names) is refused by
name. Defaults stand in ``conf/``; a field has one here, which means "not at all", only where few will ever set it or a
row of a list may leave it out. This module imports nothing heavy, so that ``--help`` is quick.
"""

from dataclasses import dataclass
from typing import Any

HUB = "hub"
"""Value of `weights`: those that are published for the architecture, fetched over the network."""


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
    """Photographs whose difference hashes differ in at most so many of 512 bits are taken for the same picture and kept
    in one split, see :mod:`flowers.curation.duplicates`; -1: only files of the same bytes."""
    per_class: list[int] | None = None
    """Instead of shares: how many photographs of each class train, and how many validate; the others are the test."""
    official: int | None = None
    """Instead of shares: which of the divisions that the data set was published with, from 1."""


@dataclass
class Data:
    """Which photographs, and where what is derived from them lies."""

    name: str
    root: str
    """Folder of class folders. With a `source` it is where the source puts them."""
    source: dict[str, Any] | None
    """What fills `root`: a `_target_` in `flowers.data` and its parameters; null: the photographs are there."""
    strict: bool
    """Refuse the whole folder if any file in it is refused, instead of setting that file aside."""
    decisions: str | None
    """A table of what a person decided about single photographs (:mod:`flowers.curation.label_edits`): to drop one, or count
    it as another class. It is applied when the photographs are split; null: there is none."""
    split: Split
    split_csv: str | None
    """A split made earlier (the DVC stage's); null: intake and split are done on the way."""
    cache_dir: str
    """Where decoded pixels are kept between runs. Can be deleted at any time."""


@dataclass
class Augment:
    """Random changes of a training image, drawn anew for each image and epoch; see :mod:`flowers.data.augment`."""

    flip: bool
    """Mirror half of the images left to right."""
    rotation_deg: float
    """Rotate by up to this angle either way."""
    zoom_frac: float
    """Scale by a factor between 1/(1+z) and 1+z."""
    aspect_frac: float
    """Stretch one axis against the other by a factor between 1/(1+a) and 1+a."""
    translation_frac: float
    """Shift by up to this fraction of the image along each axis."""
    brightness: float
    """Scale the light by a factor between 1-b and 1+b."""
    contrast: float
    """Scale the distance from the image's mean grey by a factor between 1-c and 1+c."""
    saturation: float
    """Scale the distance from each pixel's grey by a factor between 1-s and 1+s."""
    erase_frac: float
    """Blank a box of up to this share of the area in half of the images (Zhong et al. 2017)."""
    mixup_alpha: float
    """Blend pairs of images and labels with weights from Beta(a, a) (Zhang et al. 2018); 0: never."""
    cutmix_alpha: float
    """Cut boxes of an area from Beta(a, a) out of other images (Yun et al. 2019), instead of MixUp; 0: never."""


@dataclass
class Learning:
    """The loss and the optimiser; what trains when and at which rate is said by the stages."""

    batch_size: int
    optimizer: str
    """`adamw` or `sgd` (with Nesterov momentum)."""
    momentum: float
    """First-moment decay: momentum of SGD, first beta of AdamW."""
    weight_decay: float
    """Decoupled decay (AdamW) or L2 penalty (SGD) of weights with two or more dimensions; never of biases and norms."""
    label_smoothing: float
    """Share of the target spread evenly over all classes, in [0, 1)."""
    ema_decay: float
    """Decay of the weights' exponential moving average, which is then what is validated and saved; 0: none."""
    clip_norm: float
    """Largest global gradient norm; 0: no clipping."""
    class_weights: str = "none"
    """For classes of unequal size, what a photograph counts in the loss: the same (`none`), so much that each class
    counts the same (`inverse`), or half way there (`sqrt`)."""
    sampling: str = "none"
    """For classes of unequal size, how often a photograph is drawn: once an epoch (`none`), so often that each class
    comes as often (`inverse`), or half way there (`sqrt`). An epoch is as long as ever: some of a large class wait."""


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
    """Instead of `learning.weight_decay` in this stage."""
    dropout: float | None = None
    """Instead of the network's own dropout in this stage, in [0, 1)."""


@dataclass
class Trainer:
    """Where and how precisely the arithmetic is done, and how much of each epoch."""

    accelerator: str
    """`auto`, `cpu` or `gpu`."""
    precision: str
    """`32-true`, `bf16-mixed`, or `auto`: bf16 where the processor has instructions for it."""
    train_batches: int | None
    """Stop every epoch after this many batches; null: all of them."""
    progress: str
    """`auto` (a bar on a terminal, else lines), `lines` or `none`."""
    features_gib: float
    """Memory for the outputs of frozen layers; what is larger goes to a memory-mapped file. 0: keep none and run the
    frozen layers each time (slower, with the same result)."""
    compile: bool
    """Compile the training step with `torch.compile`; where that fails, training goes on without, after a warning."""
    from_stage: int
    """Go on from the end of the stage before this one, which an earlier training left in `out_dir`; 1: start anew."""


@dataclass
class Tracking:
    """The MLflow store."""

    enabled: bool
    uri: str
    """An MLflow address; `sqlite:///mlflow.db` is where a plain `mlflow ui` looks."""
    system_metrics_s: float
    """Seconds between two samples of processor and memory use; 0: none."""


@dataclass
class Settings:
    """All that decides what a training does."""

    name: str
    """The recipe's name, which names the MLflow run too."""
    seed: int
    out_dir: str
    """Where the trained model and its record land."""
    data: Data
    augment: Augment
    model: dict[str, Any]
    """`_target_`: a network class in `flowers.models`; the other keys are its parameters."""
    weights: str | None
    """What the network starts from, its head excepted: a file (`.safetensors`, or `.pth` of plain tensors), or `hub`
    for the published weights of a backbone; null: random weights."""
    weights_sha256: str | None
    """Digest that the weights file must have; null: not checked. Written by `compose`."""
    learning: Learning
    stages: list[Stage]
    trainer: Trainer
    tracking: Tracking
