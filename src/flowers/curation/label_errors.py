"""Which labels are probably wrong: confident learning on probabilities of networks that had not seen the photograph.

Source of the method: C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", Journal of Artificial Intelligence Research 70, 2021.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = ["rank", "path", "label", "suggested", "probability_given", "probability_suggested", "loss", "why"]
COPIES, CONFIDENT, LOSS = "copies disagree", "confident in another class", "large loss"
"""The reasons, the surest first."""
LOSSES_FRAC = 0.01
"""Share of the photographs, those of the largest loss, that are suspects for their loss alone."""


def thresholds(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Say from which probability on a photograph counts as confidently of a class: what the class itself gets.

    Args:
        labels: (N,) given classes in 0 … K-1.
        probabilities: (N,K) out of fold; rows sum to 1.

    Returns:
        (K,) mean probability of the class over the photographs that bear its label; infinite where none does.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, weights=own, minlength=len(counts))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Find the class that each photograph is confidently of.

    Comparing each class with its own threshold, and not one class with another, is what makes the method robust where
    the network is surer of some classes than of others.

    Args:
        labels: (N,) given classes.
        probabilities: (N,K) out of fold.

    Returns:
        (N,) of the classes whose threshold is reached the most probable; -1 where none is.
    """
    above = probabilities >= thresholds(labels, probabilities)
    classes = np.where(above, probabilities, -1.0).argmax(axis=1)
    return np.where(above.any(axis=1), classes, -1)


def confident_joint(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Estimate how many photographs of each given label are truly of each class.

    Args:
        labels: (N,) given classes.
        probabilities: (N,K) out of fold.

    Returns:
        (K,K): rows the given, columns the true class; each row adds up to the number of photographs with its label. The
        entries off the diagonal, together and divided by N, estimate the share of wrong labels.
    """
    classes = probabilities.shape[1]
    true = confident_classes(labels, probabilities)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[true >= 0], true[true >= 0]), 1)
    given = np.bincount(labels, minlength=classes)
    rows = counts.sum(axis=1)
    counts[rows == 0] = np.eye(classes)[rows == 0]  # nothing is known of such a label, so it is taken at its word
    return counts / counts.sum(axis=1, keepdims=True) * given[:, None]


def rank_suspects(table: pd.DataFrame, probabilities: NDArray[np.floating], classes: list[str]) -> pd.DataFrame:
    """List the photographs whose labels a person should look at, those that are most surely wrong first.

    First come copies of one photograph under different labels, of which all but one are wrong for certain; then the
    photographs that are confidently of another class than their label's, by their margin (the probability of their
    label less that of the other class); then the largest losses of what is left.

    Args:
        table: N rows with `path`, `label` and `group` (of the same picture), as in a split.
        probabilities: (N,K) out of fold.
        classes: Names of the K columns.

    Returns:
        A row for each suspect with :data:`COLUMNS`: `rank` from 1, `suggested` (another class than `label`, except
        for a copy whose own label is the most probable of its copies'), both probabilities in [0, 1], `loss` in nats
        and `why`.
    """
    labels = table["label"].map(classes.index).to_numpy(dtype=np.int64)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    confident = confident_classes(labels, probabilities)
    wrong = (confident >= 0) & (confident != labels)
    suggested = np.where(wrong, confident, others.argmax(axis=1))

    copied = np.zeros(len(labels), dtype=bool)
    for positions in pd.Series(rows).groupby(table["group"].to_numpy()).indices.values():
        present = np.unique(labels[positions])
        if len(present) > 1:
            copied[positions] = True
            suggested[positions] = present[probabilities[positions].mean(axis=0)[present].argmax()]

    losses = -np.log(np.maximum(own.astype(np.float64), 1e-12))
    most = int(np.ceil(LOSSES_FRAC * len(labels)))
    large = np.zeros(len(labels), dtype=bool)
    large[np.argsort(-losses, kind="stable")[:most]] = True
    large &= others.max(axis=1) > own

    result = pd.DataFrame(
        {
            "path": table["path"].to_numpy(),
            "label": table["label"].to_numpy(),
            "suggested": [classes[i] for i in suggested],
            "probability_given": own,
            "probability_suggested": probabilities[rows, suggested],
            "loss": losses,
            "why": np.select([copied, wrong], [COPIES, CONFIDENT], LOSS),
            "order": np.select([copied, wrong], [0, 1], 2),
            "group": np.where(copied, table["group"], ""),
        }
    )
    result["margin"] = result["probability_given"] - result["probability_suggested"]
    result = result[copied | wrong | large].sort_values(["order", "group", "margin", "path"], ignore_index=True)
    result["rank"] = np.arange(1, len(result) + 1)
    return result[COLUMNS]
