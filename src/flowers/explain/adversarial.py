"""How little it takes to fool a network: the fast gradient sign method at growing strength, beside noise."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowers.evaluation.calibration import share_interval
from flowers.explain.attribution import device_of, finite_logits, to_network

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""By how many of 255 levels each colour of each pixel is changed."""
NOISE_STRENGTHS = (1.0, 4.0, 8.0, 16.0)
"""Where noise is measured too; below a level it does nothing worth the time."""
_AT_ONCE = 16


@dataclass(frozen=True)
class Fooled:
    """A photograph that was right until it was changed.

    Attributes:
        number: The photograph's, as the caller counts.
        photograph: (H,W,3) uint8.
        change: (H,W,3): what was added, in levels.
        changed: (H,W,3) uint8: what it became (rounded, if the strength is no whole number of levels).
        truth: Its class, which was predicted before.
        after: What is predicted now.
        confidence: Probability of `truth` before.
        confidence_after: Probability of `after` now.
    """

    number: int
    photograph: NDArray[np.uint8]
    change: NDArray[np.float32]
    changed: NDArray[np.uint8]
    truth: int
    after: int
    confidence: float
    confidence_after: float


@dataclass(frozen=True)
class Attack:
    """What came of it.

    Attributes:
        table: Columns `change` (``gradient`` or ``noise``), `strength` in levels, `acc`, `acc_low`, `acc_high` (95 %
            Wilson interval) and `photographs`; both changes begin with strength 0.
        strength: At which most are fooled; of several the smallest. 0: none is.
        fooled: Examples at that strength: of each class its most surely fooled before any class gets a second.
    """

    table: pd.DataFrame
    strength: float
    fooled: list[Fooled]


def attack(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    examples: int,
    seed: int,
    numbers: NDArray[np.integer] | None = None,
) -> Attack:
    """Change photographs against a network.

    Each colour of each pixel moves by the strength in the direction that raises the loss (Goodfellow et al. 2015,
    "Explaining and Harnessing Adversarial Examples"), and stays in [0, 255]. Noise moves it as far in a direction drawn
    by lot: what it spares shows that the direction does the harm and not the size.

    captum's FGSM is not used: it computes the direction, which all strengths have in common, for each of them, and
    leaves alone what has a gradient below 1e-6, as many pixels in levels have.

    A photograph costs 12 forward passes and a backward pass.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K), in ``eval()``. It is left as it is.
        pixels: (N,H,W,3), at least one.
        labels: True classes, (N,).
        examples: Most examples.
        seed: Seeds the noise.
        numbers: What the caller calls the photographs, (N,); None: 0, 1, ….

    Raises:
        ValueError: If there is no photograph, or a logit is not finite; it names the photograph's number.
    """
    if not len(pixels):
        raise ValueError("there is no photograph to change")
    numbers = np.arange(len(pixels)) if numbers is None else numbers
    generator = torch.Generator().manual_seed(seed)
    signs: list[NDArray[np.int8]] = []
    chances: dict[tuple[str, float], list[NDArray[np.float32]]] = {}
    for first in range(0, len(pixels), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        batch = to_network(pixels[part], device_of(network))
        logits, direction = _uphill(network, batch, labels[part], numbers[part])
        signs.append(direction.permute(0, 2, 3, 1).to(torch.int8).cpu().numpy())
        noise = torch.randint(0, 2, batch.shape, generator=generator).to(batch.device) * 2.0 - 1.0
        chances.setdefault(("gradient", 0.0), []).append(_chances(logits))
        for change, way, strengths in (("gradient", direction, STRENGTHS[1:]), ("noise", noise, NOISE_STRENGTHS)):
            for strength in strengths:
                with torch.no_grad():
                    changed = (batch + strength * way).clamp(0, 255)
                    logits = finite_logits(network, changed, numbers[part])
                chances.setdefault((change, strength), []).append(_chances(logits))
    answers = {case: np.concatenate(parts) for case, parts in chances.items()}
    answers["noise", 0.0] = answers["gradient", 0.0]
    table = _tabulate(answers, labels)
    gradient = table[table["change"] == "gradient"]
    lowest = int(gradient["acc"].to_numpy().argmin())  # the first of several
    strength = float(gradient["strength"].iloc[lowest])
    found = _fooled(pixels, np.concatenate(signs), labels, numbers, answers, strength, examples)
    return Attack(table, strength, found)


def _uphill(
    network: nn.Module, batch: Tensor, labels: NDArray[np.integer], numbers: NDArray[np.integer]
) -> tuple[Tensor, Tensor]:
    """Compute logits (B,K) and the sign (B,3,H,W) of the loss's gradient.

    The loss is -ln p, whose gradient rounds to 0 where p does to 1: a sure network would seem robust. That of the
    log-odds against the class is the same divided by 1 - p: equal in sign, and never lost.
    """
    truths = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(batch.device)[:, None]
    with torch.enable_grad():
        inputs = batch.clone().requires_grad_()
        logits = finite_logits(network, inputs, numbers)
        against = logits.scatter(1, truths, -torch.inf).logsumexp(dim=1) - logits.gather(1, truths)[:, 0]
        (gradient,) = torch.autograd.grad(against.sum(), inputs)
    return logits.detach(), gradient.sign()


def _chances(logits: Tensor) -> NDArray[np.float32]:
    chances: NDArray[np.float32] = logits.softmax(dim=1).cpu().numpy()
    return chances


def _tabulate(answers: dict[tuple[str, float], NDArray[np.float32]], labels: NDArray[np.integer]) -> pd.DataFrame:
    rows = []
    for change, strength in sorted(answers):
        right = int((answers[change, strength].argmax(axis=1) == labels).sum())
        rows.append((change, strength, right / len(labels), *share_interval(right, len(labels)), len(labels)))
    return pd.DataFrame(rows, columns=["change", "strength", "acc", "acc_low", "acc_high", "photographs"])


def _fooled(
    pixels: NDArray[np.uint8],
    signs: NDArray[np.int8],
    labels: NDArray[np.integer],
    numbers: NDArray[np.integer],
    answers: dict[tuple[str, float], NDArray[np.float32]],
    strength: float,
    examples: int,
) -> list[Fooled]:
    """Take examples: right before, wrong after."""
    before, after = answers["gradient", 0.0], answers["gradient", strength]
    was_right = before.argmax(axis=1) == labels
    places = np.flatnonzero(was_right & (after.argmax(axis=1) != labels))
    places = places[np.argsort(-after[places].max(axis=1), kind="stable")]
    turns: dict[int, int] = {}
    ranks = []
    for place in places:
        label = int(labels[place])
        turns[label] = turns.get(label, 0) + 1
        ranks.append(turns[label])
    found = []
    for place in places[np.argsort(ranks, kind="stable")][:examples]:
        photograph = np.asarray(pixels[place])
        changed = np.clip(photograph + strength * signs[place].astype(np.float32), 0, 255)
        found.append(
            Fooled(
                number=int(numbers[place]),
                photograph=photograph,
                change=(changed - photograph).astype(np.float32),
                changed=np.rint(changed).astype(np.uint8),
                truth=int(labels[place]),
                after=int(after[place].argmax()),
                confidence=float(before[place, labels[place]]),
                confidence_after=float(after[place].max()),
            )
        )
    return found
