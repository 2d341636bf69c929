"""From split.csv to batches: the store of decoded pixels, augmentation, the LightningDataModule."""
