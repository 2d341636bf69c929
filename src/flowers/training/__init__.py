"""How a network is trained: LightningModule, stages, feature bank, checkpoints. Which optimiser: `conf/model`."""
