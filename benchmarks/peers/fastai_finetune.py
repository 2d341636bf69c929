"""fastai's own fine-tuning, as its documentation has it: `fastai_finetune.py SPLIT_CSV PHOTOGRAPHS WEIGHTS`."""

import json
import sys

import pandas as pd
from fastai.vision.all import ImageDataLoaders, Resize, accuracy, aug_transforms, set_seed, vision_learner


def main() -> None:
    """Train the head for one epoch, then everything for three, and print the accuracy."""
    split_csv, photographs, weights = sys.argv[1:]
    set_seed(0, reproducible=True)
    table = pd.read_csv(split_csv)
    table["is_valid"] = table["split"] == "val"
    loaders = ImageDataLoaders.from_df(
        table,
        path=photographs,
        fn_col="path",
        label_col="label",
        valid_col="is_valid",
        item_tfms=Resize(224),
        batch_tfms=aug_transforms(),
        bs=64,
    )
    learner = vision_learner(
        loaders,
        "mobilenetv2_100",
        metrics=accuracy,
        pretrained=True,
        pretrained_cfg_overlay={"file": weights},
        pad_type="same",
    )
    learner.fine_tune(3, freeze_epochs=1)
    final = float(learner.validate()[1])
    print("\n" + json.dumps({"accuracy": final}))


if __name__ == "__main__":
    main()
