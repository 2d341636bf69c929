from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from flowers.config.schema import Split
from flowers.curation.manifest import scan
from flowers.curation.split_table import write_splits
from flowers.curation.splits import assign_splits
from flowers.data.datamodule import Batch, PhotoDataModule, PhotoDataset, ShuffledBatches
from flowers.data.pixels import read_square
from flowers.errors import UserError

SHARES = Split(val_frac=0.15, test_frac=0.15, folds=5, seed=0, near_bits=-1)
CLASSES = ["daisy", "roses", "sunflowers"]


@pytest.fixture(scope="module")
def split(photographs: Path) -> pd.DataFrame:
    manifest = scan(photographs, strict=True)
    return assign_splits(manifest, SHARES)


def module_of(split: pd.DataFrame, root: Path, tmp_path: Path, batch_size: int = 5) -> PhotoDataModule:
    write_splits(split, tmp_path / "split.csv")
    module = PhotoDataModule(
        name="photographs",
        root=str(root),
        source=None,
        strict=True,
        decisions=None,
        split=SHARES,
        split_csv=str(tmp_path / "split.csv"),
        cache_dir=str(tmp_path / "cache"),
        image_px=24,
        batch_size=batch_size,
        sampling="none",
        seed=3,
    )
    module.setup("fit")
    return module


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (12, 4), (7, 1), (5, 5), (3, 8)])
def test_an_epoch_is_the_beginning_of_a_permutation_in_whole_batches(count: int, batch_size: int) -> None:
    sampler = ShuffledBatches(count, batch_size, seed=0)
    seen = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == max(1, count // batch_size)
        assert {len(rows) for rows in batches} == {min(batch_size, count)}
        rows = [row for batch in batches for row in batch]
        assert len(rows) == len(set(rows))
        assert set(rows) <= set(range(count))
        seen |= set(rows)
    assert seen == set(range(count))  # what is left over in one epoch comes in another


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = ShuffledBatches(50, 10, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 4) == order(1, 4)
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_rows_are_drawn_as_often_as_they_weigh() -> None:
    weights = np.array([4.0] * 5 + [0.625] * 80 + [2.0] * 15)  # of mean 1
    sampler = ShuffledBatches(100, 10, seed=0, weights=weights)
    drawn = np.zeros(100)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        rows = [row for batch in sampler for row in batch]
        assert len(rows) == 100
        counts = np.bincount(rows, minlength=100)
        assert (np.floor(weights) <= counts).all()
        assert (counts <= np.ceil(weights)).all()
        drawn += counts
    np.testing.assert_allclose(drawn / 200, weights, atol=0.15)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_validation_leaves_nothing_out(batch_size: int, split: pd.DataFrame, photographs: Path, tmp_path: Path) -> None:
    loader = module_of(split, photographs, tmp_path, batch_size).val_dataloader()
    sizes = [len(batch.ids) for batch in loader]
    assert [row for batch in loader for row in batch.ids.tolist()] == list(range(6))
    assert len(sizes) == len(loader)
    assert max(sizes) <= 2 * batch_size


def test_a_batch_is_the_photographs_with_their_labels(split: pd.DataFrame, photographs: Path, tmp_path: Path) -> None:
    module = module_of(split, photographs, tmp_path)
    assert module.classes == CLASSES
    for name, loader in (("train", module.train_dataloader()), ("val", module.val_dataloader())):
        table = split[split["split"] == name].reset_index(drop=True)
        for batch in loader:
            assert isinstance(batch, Batch)
            assert batch.images.dtype == torch.uint8
            assert batch.images.shape[1:] == (3, 24, 24)
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            assert batch.labels.dtype == batch.ids.dtype == torch.int64
            for image, label, row in zip(batch.images, batch.labels, batch.ids.tolist(), strict=True):
                assert CLASSES[label] == table["label"][row]
                wanted = read_square(photographs / table["path"][row], 24)
                assert np.array_equal(image.permute(1, 2, 0).numpy(), wanted)


def test_a_batch_is_one_copy_of_the_store_which_it_cannot_change(
    split: pd.DataFrame, photographs: Path, tmp_path: Path
) -> None:
    train = module_of(split, photographs, tmp_path).train
    batch = train[[3, 1]]
    before = train.pixels[[3, 1]].copy()
    assert batch.images.permute(0, 2, 3, 1).is_contiguous()
    batch.images.zero_()
    assert np.array_equal(train.pixels[[3, 1]], before)


def test_test_photographs_are_in_no_batch(split: pd.DataFrame, photographs: Path, tmp_path: Path) -> None:
    for row in split[split["split"] == "test"].itertuples():
        assert (photographs / str(row.path)).exists()
    # With the test photographs gone, nothing is missed: they are not even opened.
    copies = tmp_path / "copies"
    for row in split[split["split"] != "test"].itertuples():
        (copies / str(row.path)).parent.mkdir(parents=True, exist_ok=True)
        (copies / str(row.path)).write_bytes((photographs / str(row.path)).read_bytes())
    module = module_of(split, copies, tmp_path)
    counts = split["split"].value_counts()
    assert (len(module.train), len(module.val)) == (counts["train"], counts["val"]) == (24, 6)
    contents = np.concatenate([module.train.pixels, module.val.pixels])
    tests = split[split["split"] == "test"]
    for row in tests.itertuples():
        image = read_square(photographs / str(row.path), 24)
        assert not (contents == image).all(axis=(1, 2, 3)).any()


def test_a_data_set_smaller_than_a_batch_is_one_batch(split: pd.DataFrame, photographs: Path, tmp_path: Path) -> None:
    module = module_of(split, photographs, tmp_path, batch_size=1000)
    for loader, count in ((module.train_dataloader(), 24), (module.val_dataloader(), 6)):
        [batch] = list(loader)
        assert sorted(batch.ids.tolist()) == list(range(count))


def test_labels_and_splits_that_do_not_fit_are_refused(split: pd.DataFrame, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels \['sunflowers'\] are not among the classes"):
        PhotoDataset(split, CLASSES[:2], photographs, 24, tmp_path)
    with pytest.raises(UserError, match="no photograph for val"):
        module_of(split[split["split"] != "val"], photographs, tmp_path)
