"""Adversarial examples: the fast gradient sign method at growing strength, compared with noise of the same size."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from flowers.evaluation.scores import share_interval
from flowers.evaluation.selection import one_per_class_first
from flowers.explain.layers import finite_logits, to_batch

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""By how many of 255 levels each colour of each pixel is changed."""
NOISE_STRENGTHS = (1.0, 4.0, 8.0, 16.0)
"""Strengths of the noise; weaker noise changes too little to be worth the time."""
_AT_ONCE = 16


@dataclass(frozen=True)
class AdversarialExample:
    """A photograph that is classified correctly until it is changed.

    Attributes:
        number: The number that the caller gave the photograph.
        photograph: (H,W,3) uint8.
        change: (H,W,3), in levels: what was added.
        changed: (H,W,3) uint8: the sum, rounded if the strength is no whole number of levels.
        truth: Its class, which is predicted before the change.
        after: The class that is predicted after it.
        confidence: Probability of `truth` before the change.
        confidence_after: Probability of `after` after it.
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
    """The results of an attack.

    Attributes:
        table: Columns `change` (``gradient`` or ``noise``), `strength` in levels, `acc`, `acc_low`, `acc_high` (95 %
            interval) and `photographs`; both changes begin with strength 0.
        strength: The one with the lowest accuracy, the smallest if there are several. 0: no photograph is fooled.
        fooled: Examples at that strength, the most confident mistake of each class before the second of any.
    """

    table: pd.DataFrame
    strength: float
    fooled: list[AdversarialExample]


def attack(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    examples: int,
    seed: int,
    numbers: NDArray[np.integer] | None = None,
    groups: ArrayLike | None = None,
) -> Attack:
    """Change photographs so that a network takes them for another class.

    Each colour of each pixel moves by the strength in the direction that raises the loss (Goodfellow et al. 2015,
    "Explaining and Harnessing Adversarial Examples"), and stays in [0, 255]. Noise moves it as far in a random
    direction. Where noise does less harm, it is the direction that does the harm and not the size.

    captum's FGSM is not used: it computes the direction, which is the same for all strengths, for each of them, and
    does not change pixels with a gradient below 1e-6, which are many, since pixels are in levels.

    A photograph costs 12 forward passes and a backward pass.

    Args:
        network: Upright RGB pixels (B,3,H,W) float32 in [0, 255] to logits (B,K), in ``eval()``. It is not changed.
        pixels: (N,H,W,3), at least one.
        labels: True classes, (N,).
        examples: Largest number of examples.
        seed: Seeds the noise.
        numbers: The caller's numbers of the photographs, (N,); None: 0, 1, ….
        groups: Groups of near-duplicates, (N,), see :func:`flowers.evaluation.scores.share_interval`.

    Raises:
        ValueError: If there is no photograph, or a logit is not finite; it names the photograph's number.
    """
    if not len(pixels):
        raise ValueError("there is no photograph to change")
    numbers = np.arange(len(pixels)) if numbers is None else numbers
    generator = torch.Generator().manual_seed(seed)
    directions: list[NDArray[np.int8]] = []
    parts: dict[tuple[str, float], list[NDArray[np.float32]]] = {}
    for first in range(0, len(pixels), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        batch = to_batch(pixels[part], network)
        logits, direction = _loss_direction(network, batch, labels[part], numbers[part])
        directions.append(direction.permute(0, 2, 3, 1).to(torch.int8).cpu().numpy())
        noise = torch.randint(0, 2, batch.shape, generator=generator).to(batch.device) * 2.0 - 1.0
        for change, way, strengths in (("gradient", direction, STRENGTHS), ("noise", noise, (0.0, *NOISE_STRENGTHS))):
            for strength in strengths:
                with torch.no_grad():
                    changed = (batch + strength * way).clamp(0, 255)
                    answers = finite_logits(network, changed, numbers[part]) if strength else logits
                parts.setdefault((change, strength), []).append(answers.softmax(dim=1).cpu().numpy())
    probabilities = {case: np.concatenate(batches) for case, batches in parts.items()}
    rows = []
    for (change, strength), predicted in probabilities.items():
        right = predicted.argmax(axis=1) == labels
        rows.append((change, strength, float(right.mean()), *share_interval(right, groups), len(labels)))
    table = pd.DataFrame(rows, columns=["change", "strength", "acc", "acc_low", "acc_high", "photographs"])
    gradient = table[table["change"] == "gradient"]
    lowest = int(gradient["acc"].to_numpy().argmin())  # the first if there are several
    strength = float(gradient["strength"].iloc[lowest])
    signs = np.concatenate(directions)
    before, after = probabilities["gradient", 0.0], probabilities["gradient", strength]
    # Classified correctly before the change, wrongly after it.
    fooled = np.flatnonzero((before.argmax(axis=1) == labels) & (after.argmax(axis=1) != labels))
    fooled = fooled[np.argsort(-after[fooled].max(axis=1), kind="stable")]
    found = []
    for row in one_per_class_first(fooled, labels)[:examples].tolist():
        photograph = np.asarray(pixels[row])
        changed = np.clip(photograph + strength * signs[row].astype(np.float32), 0, 255)
        found.append(
            AdversarialExample(
                number=int(numbers[row]),
                photograph=photograph,
                change=(changed - photograph).astype(np.float32),
                changed=np.rint(changed).astype(np.uint8),
                truth=int(labels[row]),
                after=int(after[row].argmax()),
                confidence=float(before[row, labels[row]]),
                confidence_after=float(after[row].max()),
            )
        )
    return Attack(table, strength, found)


def _loss_direction(
    network: nn.Module, batch: Tensor, labels: NDArray[np.integer], numbers: NDArray[np.integer]
) -> tuple[Tensor, Tensor]:
    """Compute logits (B,K) and the sign (B,3,H,W) of the loss's gradient.

    The loss is -ln p. Its gradient rounds to 0 where p rounds to 1, so that a sure network would seem robust. The
    gradient of the log-odds against the class is the same divided by 1 - p: equal in sign, and it does not vanish.
    """
    truths = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(batch.device)[:, None]
    with torch.enable_grad():
        inputs = batch.clone().requires_grad_()
        logits = finite_logits(network, inputs, numbers)
        against = logits.scatter(1, truths, -torch.inf).logsumexp(dim=1) - logits.gather(1, truths)[:, 0]
        (gradient,) = torch.autograd.grad(against.sum(), inputs)
    return logits.detach(), gradient.sign()
