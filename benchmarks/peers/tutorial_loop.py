"""The loop of PyTorch's transfer-learning tutorial: `tutorial_loop.py SPLIT_CSV PHOTOGRAPHS WEIGHTS`."""

import json
import sys
from pathlib import Path

import pandas as pd
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPOCHS = 2


class Photographs(Dataset):
    """Decodes a file whenever it is asked for."""

    def __init__(self, table: pd.DataFrame, root: Path, classes: list[str], transform: transforms.Compose) -> None:
        self.rows = list(zip(table["path"], table["label"].map(classes.index), strict=True))
        self.root, self.transform = root, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Decode and transform one photograph."""
        path, label = self.rows[index]
        with Image.open(self.root / path) as image:
            return self.transform(image.convert("RGB")), label


def main() -> None:
    """Train all layers for two epochs, and print the accuracy."""
    split_csv, photographs, weights = sys.argv[1:]
    torch.manual_seed(0)
    table = pd.read_csv(split_csv)
    classes = sorted(table["label"].unique())
    finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    changes = {
        "train": [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *finish],
        "val": [transforms.Resize(256), transforms.CenterCrop(224), *finish],
    }
    loaders = {}
    for name, steps in changes.items():
        rows = table[table["split"] == name]
        data = Photographs(rows, Path(photographs), classes, transforms.Compose(steps))
        loaders[name] = DataLoader(data, batch_size=32, shuffle=name == "train", num_workers=2)
    overlay = {"file": weights}
    model = timm.create_model(
        "mobilenetv2_100", pretrained=True, num_classes=len(classes), pad_type="same", pretrained_cfg_overlay=overlay
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    right = 0
    for _ in range(EPOCHS):
        model.train()
        for images, labels in loaders["train"]:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loaders["val"])
    print(json.dumps({"accuracy": right / len(loaders["val"].dataset)}))


if __name__ == "__main__":
    main()
