"""How a network is trained: the LightningModule, the stage table, the feature bank, callbacks, checkpoints."""
