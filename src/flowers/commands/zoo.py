"""Which network? Lists those with published weights: ``flowers zoo names=*dinov2* max_parameters_m=30``.

``names=`` keeps those that fit one of several patterns (``names=[resnet*,vit_small*]``), ``license=`` those under one;
``max_parameters_m``, ``max_multiply_adds_g``, ``max_image_px`` and ``min_imagenet_top1`` bound them. ``sort=`` orders
by a column, the best first, ``limit=`` says how many are shown, and ``out=FILE.csv`` writes the table.

``measure=true`` builds each that is shown, names its layer groups, and measures how many images a second it takes on
this machine while it is frozen and while all of it trains (a batch of ``batch_size=32``, in the precision that a
training would choose; random weights). Run it alone on the machine.

Parameters, multiply-adds, top-1 accuracy on ImageNet at the input size that the weights were trained for, and licences
are those that timm publishes (``zoo.csv``, beside the command). A network without an accuracy has no ImageNet
classifier, as DINOv2 and CLIP. Any of them is trained by ``flowers train experiment=linear_probe model.net.name=NAME``.
"""

import fnmatch
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional
from tqdm import tqdm

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.curation.split_table import write_table
from flowers.errors import UserError, suggestion
from flowers.models.backbones import Backbone
from flowers.models.inference import find_device, keep_freed_memory
from flowers.models.nets import layer_groups
from flowers.training.trainer import resolve_precision

CLASSES = 5
STEPS, WARM_STEPS = 5, 2
_ASCENDING = ("name", "image_px", "parameters_m", "multiply_adds_g", "license")
"""Columns whose smallest value comes first."""


@dataclass
class Arguments:
    """Keys of the command."""

    names: list[str] = field(default_factory=lambda: ["*"])
    license: str | None = None
    max_parameters_m: float | None = None
    max_multiply_adds_g: float | None = None
    max_image_px: int | None = None
    min_imagenet_top1: float | None = None
    sort: str = "imagenet_top1"
    limit: int = 20
    measure: bool = False
    batch_size: int = 32
    out: Path | None = None


def published_networks() -> pd.DataFrame:
    """List the networks with published weights, by what timm publishes of them.

    Returns:
        `name` with the tag of the weights; `image_px`, the input that they were trained for; `imagenet_top1`, accuracy
        on ImageNet's validation at that size in %, empty for weights without its classes; `parameters_m`, in millions;
        `multiply_adds_g` of one image, in thousand millions; `license` of the weights, empty if unknown.
    """
    # From the names and settings of timm 1.0.31, and results/ of its repository at aa4b5850 (2026-08-08).
    return pd.read_csv(Path(__file__).with_suffix(".csv")).fillna({"license": ""})


def choose(arguments: Arguments) -> pd.DataFrame:
    """Find the networks that fit, in the order that is asked for.

    Args:
        arguments: The command's; a network of which a bounded figure is not known does not fit.

    Returns:
        See :func:`published_networks`; those without a figure to sort by come last.

    Raises:
        UserError: If none fits, or a key cannot be used.
    """
    table = published_networks()
    if arguments.sort not in table:
        raise UserError(f"sort={arguments.sort}: {suggestion(arguments.sort, table.columns.tolist())}")
    for key, value in (("limit", arguments.limit), ("batch_size", arguments.batch_size)):
        if value < 1:
            raise UserError(f"{key}={value} must be at least 1.")
    fits = table["name"].map(lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in arguments.names))
    if not fits.any():
        known = table["name"].str.partition(".")[0].unique().tolist()
        raise UserError(f"names={arguments.names[0]}: {suggestion(arguments.names[0], known)}")
    if arguments.license is not None:
        licenses = sorted(set(table["license"]) - {""})
        if arguments.license not in licenses:
            raise UserError(f"license={arguments.license}: {suggestion(arguments.license, licenses)}")
        fits &= table["license"] == arguments.license
    for column in ("parameters_m", "multiply_adds_g", "image_px"):
        if (most := getattr(arguments, f"max_{column}")) is not None:
            fits &= table[column] <= most
    if arguments.min_imagenet_top1 is not None:
        fits &= table["imagenet_top1"] >= arguments.min_imagenet_top1
    if not fits.any():
        raise UserError("no network fits all of these keys; loosen a bound, or leave license= or names= out.")
    return table[fits].sort_values([arguments.sort, "name"], ascending=[arguments.sort in _ASCENDING, True])


def measured(names: Sequence[str], batch_size: int) -> pd.DataFrame:
    """Build networks with random weights and measure how fast they are on this machine.

    Args:
        names: In timm.
        batch_size: Images in a batch.

    Returns:
        Their rows: `layer_groups`, from the input to the head; `frozen_images_s` and `trained_images_s`, medians over
        batches through the frozen network, and through forward, backward and AdamW's step of all layers.
    """
    keep_freed_memory()
    rows = []
    for name in tqdm(names, desc="measuring", unit=" networks", disable=None, leave=False):
        net = Backbone(CLASSES, name, None, "linear", "avg", 0, 0, {})
        speeds = [images_per_s(net, batch_size, trained) for trained in (False, True)]
        rows.append((" ".join(layer_groups(net)), *speeds))
    return pd.DataFrame(rows, columns=["layer_groups", "frozen_images_s", "trained_images_s"])


def images_per_s(net: Backbone, batch_size: int, trained: bool) -> float:
    """Time a network on a batch of noise: the median of :data:`STEPS` steps, after :data:`WARM_STEPS` others."""
    device = find_device("auto", "device")
    net = net.to(device).to(memory_format=torch.channels_last).train(trained)
    images = torch.randn(batch_size, 3, net.image_px, net.image_px, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch_size, device=device) % CLASSES
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    half = resolve_precision("auto", "auto") == "bf16-mixed"
    times = []
    for _ in range(WARM_STEPS + STEPS):
        begun = time.perf_counter()
        with torch.set_grad_enabled(trained), torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = net(images)
        if trained:
            optimizer.zero_grad()
            functional.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
        logits.sum().item()  # a GPU answers when it has computed
        times.append(time.perf_counter() - begun)
    return batch_size / statistics.median(times[WARM_STEPS:])


def listing(table: pd.DataFrame, found: int) -> str:
    """Write networks as lines of a terminal, and of how many they are the first."""
    shown = pd.DataFrame({"network": table["name"], "top-1": _figures(table["imagenet_top1"], "{:.1f} %")})
    shown["parameters"] = _figures(table["parameters_m"], "{:.1f} M")
    shown["multiply-adds"] = _figures(table["multiply_adds_g"], "{:.2f} G")
    shown["input"] = _figures(table["image_px"], "{} px")
    shown["license"] = table["license"].replace("", "–")
    if "layer_groups" in table:
        shown["frozen"] = _figures(table["frozen_images_s"], "{:.0f}/s")
        shown["trained"] = _figures(table["trained_images_s"], "{:.1f}/s")
    lines = shown.to_string(index=False, justify="right").splitlines()
    if "layer_groups" in table:
        lines += ["", *(f"{row.name}: {row.layer_groups}" for row in table.itertuples(index=False))]
    if found > len(table):
        lines += ["", f"the first {len(table)} of {found}; limit= shows more"]
    return "\n".join(lines)


def _figures(column: pd.Series, form: str) -> pd.Series:
    return column.map(lambda value: "–" if pd.isna(value) else form.format(value))


def main() -> None:
    """List the networks that the command line asks for."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        chosen = choose(arguments)
        table = chosen.head(arguments.limit).reset_index(drop=True)
        if arguments.measure:
            table = table.join(measured(table["name"].tolist(), arguments.batch_size))
        print(listing(table, len(chosen)), flush=True)
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            write_table(table, arguments.out, "%.6g")
