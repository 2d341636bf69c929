"""How a network is trained: LightningModule, stage table, feature bank, checkpoints. Values, optimisers too: conf/."""
