"""Which labels are probably wrong, judged by networks that were not trained on the photograph.

Source of the method: C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", Journal of Artificial Intelligence Research 70, 2021; computed by cleanlab.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = ["rank", "path", "label", "suggested", "probability_given", "probability_suggested", "loss", "why"]
COPIES, CONFIDENT, LOSS = "copies disagree", "confident in another class", "large loss"
"""The reasons, the most certain first."""
LOSSES_FRAC = 0.01
"""Share of the photographs, those of the largest loss, that are suspects for their loss alone."""


def confident_joint(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Estimate how many photographs of each given label are truly of each class.

    Args:
        labels: (N,) given classes in 0 … K-1.
        probabilities: (N,K) out of fold; rows sum to 1.

    Returns:
        (K,K): rows the given, columns the true class; each row adds up to the number of photographs with its label. The
        entries off the diagonal, together and divided by N, estimate the share of wrong labels.
    """
    from cleanlab.count import compute_confident_joint  # takes a second or two to import

    return np.asarray(compute_confident_joint(labels, probabilities, calibrate=True), dtype=np.int64)


def rank_suspects(table: pd.DataFrame, probabilities: NDArray[np.floating], classes: list[str]) -> pd.DataFrame:
    """List the photographs whose labels a person should look at, the most certainly wrong first.

    First come copies of one photograph under different labels, of which all but one are certainly wrong. Then come the
    photographs that are confidently of another class than their label's, by their margin (the probability of the label
    less that of the most probable other class); then the largest losses of the rest.

    Args:
        table: N rows with `path`, `label` and `group` (of the same picture), as in a split.
        probabilities: (N,K) out of fold; rows sum to 1.
        classes: Names of the K columns.

    Returns:
        A row for each suspect with :data:`COLUMNS`: `rank` from 1, `suggested` (another class than `label`, except
        for a copy whose own label is the most probable of its copies'), both probabilities in [0, 1], `loss` in nats
        and `why`.
    """
    from cleanlab.filter import find_label_issues

    labels = table["label"].map(classes.index).to_numpy(dtype=np.int64)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    suggested = others.argmax(axis=1)
    wrong = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)

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
