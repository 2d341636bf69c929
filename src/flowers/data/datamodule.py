"""Batches of decoded photographs for Lightning.

The one module of the room that knows Lightning.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from flowers.config.provenance import derive_seed
from flowers.config.schema import MIN_SIDE_PX, Data, Fit, Split
from flowers.curation.manifest import describe_fit
from flowers.curation.prepare import find_photographs
from flowers.data.pixels import open_store, take_rows
from flowers.errors import UserError, suggestion


class Batch(NamedTuple):
    """What a network is given.

    Attributes:
        images: (B,3,H,W) uint8, channels-last in memory; empty if nobody needs them.
        labels: (B,) int64.
        ids: (B,) int64, the photographs' rows in their split.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


class PhotoDataset(Dataset[Batch]):
    """Decoded photographs, fetched by whole batches of row numbers.

    Attributes:
        paths: What each is called.
        with_images: Whether batches hold images; without, they tell which photographs are meant, and their labels.
    """

    def __init__(
        self, table: pd.DataFrame, classes: list[str], root: Path, image_px: int, cache_dir: Path, fit: Fit = "crop"
    ) -> None:
        codes = pd.Index(classes).get_indexer(pd.Index(table["label"]))
        if (codes < 0).any():
            unknown = sorted(set(table["label"]) - set(classes))
            raise ValueError(f"labels {unknown} are not among the classes {classes}")
        self.paths = list(table["path"])
        self.labels = torch.from_numpy(codes.astype(np.int64))
        self.pixels = open_store(root, table, image_px, cache_dir, fit)
        self.with_images = True

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: list[int]) -> Batch:
        """Make the batch of the given rows."""
        images = self.images(rows) if self.with_images else torch.empty(0, dtype=torch.uint8)
        return Batch(images, self.labels[rows], torch.tensor(rows))

    def images(self, rows: list[int]) -> Tensor:
        """Copy the given rows out of the store: (B,3,H,W) uint8."""
        # (B,H,W,3) in the store; the view is channels-last as it stands
        return torch.from_numpy(take_rows(self.pixels, rows)).permute(0, 3, 1, 2)


class ShuffledBatches(Sampler[list[int]]):
    """Row numbers in a new order each epoch, a function of (seed, epoch) alone, in batches of equal size.

    What is left over at the end of an epoch waits for a later one; a data set smaller than a batch is one batch.
    Lightning calls ``set_epoch``.
    """

    def __init__(self, count: int, batch_size: int, seed: int, weights: np.ndarray | None = None) -> None:
        """Draw rows in [0, count), all of them or in proportion to (count,) weights of mean 1."""
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of that epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(derive_seed(self.seed, "shuffle", self.epoch))
        order = rng.permutation(self.count)
        if self.weights is not None:
            # Systematic sampling: a row comes as often as its weight says, rounded up or down. The last of the running
            # sums is `count` but for rounding, which must not lead beyond the last row.
            sums = self.weights[order].cumsum()
            drawn = np.searchsorted(sums, np.arange(self.count) + rng.random(), side="right")
            order = rng.permutation(order[drawn.clip(max=self.count - 1)])
        for first in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[first : first + self.batch_size].tolist()


class PhotoDataModule(lightning.LightningDataModule):
    """The photographs of a split, for Lightning: training and validation; the test only for ``trainer.test``.

    A loader's sampler yields lists of rows, and the data set returns each as a whole batch. There are no worker
    processes: a batch is a slice of decoded pixels, and on a small machine workers would take the processor from
    training.

    Attributes:
        root: Folder that paths are relative to; from ``prepare_data`` on.
        split: Rows of ``split.csv``; from ``prepare_data`` on.
        classes: Names in the order of the labels; from ``prepare_data`` on.
        image_px: Side of the decoded images, which must be known at ``setup``.
        train: The training photographs; from ``setup`` on.
        val: The validation photographs; from ``setup`` on.
    """

    root: Path
    split: pd.DataFrame
    classes: list[str]
    train: PhotoDataset
    val: PhotoDataset
    test: PhotoDataset

    def __init__(
        self,
        *,
        name: str,
        root: str,
        source: dict[str, Any] | None,
        strict: bool,
        decisions: str | None,
        split: Split,
        split_csv: str | None,
        cache_dir: str,
        image_px: int | None,
        batch_size: int,
        sampling: str,
        seed: int,
        fit: Fit = "crop",
        layout: str = "auto",
        table: str | None = None,
        table_columns: list[str] | None = None,
        min_side_px: int = MIN_SIDE_PX,
    ) -> None:
        """Take the settings; nothing is read yet.

        Args:
            name: See :class:`flowers.config.schema.Data`, as for all down to `cache_dir`.
            root: Folder of class folders.
            source: What fills it.
            strict: Whether one bad file refuses all.
            decisions: Table of decisions about single photographs.
            split: How photographs are divided, see :class:`flowers.config.schema.Split`.
            split_csv: A split made earlier.
            cache_dir: Where decoded pixels are kept.
            image_px: Side of the decoded images; None: what the network wants, to be set before ``setup``.
            batch_size: Photographs in a training batch, at least 1.
            sampling: How often a photograph is drawn, for classes of unequal size: once an epoch (`none`), so often
                that each class comes as often (`inverse`), or half way there (`sqrt`). An epoch is as long as ever.
            seed: Of the order of training photographs.
            fit: How an oblong photograph becomes a square: its middle is taken (`crop`, as versions did that had no
                choice), grey bars fill it up (`pad`), or it is squeezed (`squash`).
            layout: How folders are understood, see :class:`flowers.config.schema.Data`.
            table: A table of labels.
            table_columns: Its columns of files and labels.
            min_side_px: A photograph whose shorter side is below is refused.

        Raises:
            UserError: If a value is out of range.
        """
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size} must be at least 1; correct the recipe.")
        photograph_weights("data.sampling", sampling, torch.zeros(1, dtype=torch.int64))  # refuses unknown words
        divided = split if isinstance(split, Split) else Split(**split)  # Hydra gives the keys
        where = (name, root, source, strict, decisions, divided, split_csv, cache_dir)
        self.data = Data(*where, fit, layout, table, table_columns, min_side_px)
        self.image_px = image_px
        self.batch_size = batch_size
        self.sampling = sampling
        self.seed = seed
        self.summary = ""

    def prepare_data(self) -> None:
        """Find the photographs and their split; take the folder in and divide it where that was not done before.

        Raises:
            UserError: If the photographs or the split cannot be used.
        """
        if not hasattr(self, "split"):
            self.root, self.split, self.summary = find_photographs(self.data)
            self.classes = sorted(self.split["label"].unique())

    def setup(self, stage: str) -> None:
        """Decode what is not yet in the store.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            UserError: If a photograph cannot be decoded.
        """
        self.prepare_data()
        for name in ("test",) if stage in ("test", "predict") else ("train", "val"):
            if not hasattr(self, name):
                rows = self.split[self.split["split"] == name]
                assert self.image_px is not None, "set image_px to the network's before setup"
                place = (self.root, self.image_px, Path(self.data.cache_dir), self.data.fit)
                setattr(self, name, PhotoDataset(rows, self.classes, *place))

    def notes(self) -> list[str]:
        """Say what a network sees otherwise of many training photographs, see :func:`describe_fit`; after ``setup``."""
        assert self.image_px is not None
        return describe_fit([self.root / path for path in self.train.paths], self.image_px, self.data.fit)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load the training photographs, shuffled."""
        weights = None
        if self.sampling != UNBALANCED:
            weights = photograph_weights("data.sampling", self.sampling, self.train.labels).double().numpy()
        sampler = ShuffledBatches(len(self.train), self.batch_size, self.seed, weights)
        return DataLoader(self.train, batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Load the validation photographs, in order."""
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Load the test photographs, in order; no command of this package does so before ``evaluate``."""
        return self._in_order(self.test)

    predict_dataloader = test_dataloader

    def _in_order(self, dataset: PhotoDataset) -> DataLoader[Batch]:
        sampler = BatchSampler(range(len(dataset)), 2 * self.batch_size, drop_last=False)
        return DataLoader(dataset, batch_size=None, sampler=sampler)


UNBALANCED = "none"
_EXPONENTS = {UNBALANCED: 0.0, "inverse": 1.0, "sqrt": 0.5}


def photograph_weights(key: str, balance: str, labels: Tensor) -> Tensor:
    """Weigh each photograph by its class's size.

    Args:
        key: The setting that `balance` comes from, for the error.
        balance: `none`: all the same; `inverse`: each class the same in all; `sqrt`: half way there.
        labels: (N,) int64.

    Returns:
        (N,) float32 of mean 1.

    Raises:
        UserError: If `balance` is none of these.
    """
    if balance not in _EXPONENTS:
        raise UserError(f"{key}='{balance}': {suggestion(balance, _EXPONENTS)}")
    sizes = torch.bincount(labels)[labels].double()
    weights = sizes ** -_EXPONENTS[balance]
    return (weights / weights.mean()).float()


def class_weights(key: str, balance: str, labels: Tensor, num_classes: int) -> Tensor:
    """Give the weight that :func:`photograph_weights` gives each photograph of a class.

    Returns:
        (K,) float32; 1 for a class without photographs.
    """
    weights = torch.ones(num_classes)
    weights[labels] = photograph_weights(key, balance, labels)
    return weights
