"""On labels that are known to be wrong, the method finds them."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from flowers.curation.labels import CONFIDENT, COPIES, LOSS, SUSPECT_COLUMNS, confident_joint, rank_suspects

CLASSES = ["daisy", "roses", "tulips"]
COUNT, WRONG_FRAC = 1500, 0.1


def as_table(labels: NDArray[np.int64]) -> pd.DataFrame:
    rows = range(len(labels))
    return pd.DataFrame(
        {
            "path": [f"{row:04d}.jpg" for row in rows],
            "label": [CLASSES[label] for label in labels],
            "group": [f"{row:016x}" for row in rows],
        }
    )


@pytest.fixture
def noisy() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """True labels, given labels of which a tenth is wrong, and out-of-fold probabilities of a good network.

    The network is much less sure of tulips than of the other classes, as networks are.
    """
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, COUNT)
    given = np.where(rng.random(COUNT) < WRONG_FRAC, (true + rng.integers(1, 3, COUNT)) % 3, true)
    logits = rng.normal(0, 1, (COUNT, 3))
    logits[np.arange(COUNT), true] += np.array([4.0, 4.0, 2.5])[true]
    exps = np.exp(logits)
    return true, given, exps / exps.sum(axis=1, keepdims=True)


def test_the_joint_by_hand() -> None:
    # Thresholds 0.7 and 0.8, and none for the class without a label: nobody is confident of the second photograph.
    probabilities = np.array([[0.9, 0.1, 0], [0.5, 0.5, 0], [0.2, 0.8, 0]])
    np.testing.assert_array_equal(confident_joint(np.array([0, 0, 1]), probabilities), np.diag([2, 1, 0]))


def test_confidence_is_measured_against_each_class_s_own_threshold() -> None:
    # Thresholds 0.9, 0.45 and 0.6: 0.45 is confident of roses, and 0.5 of daisy is not.
    labels = np.array([0, 1, 2, 0])
    probabilities = np.array([[0.95, 0.05, 0], [0.5, 0.45, 0.05], [0.2, 0.2, 0.6], [0.85, 0.1, 0.05]])
    np.testing.assert_array_equal(confident_joint(labels, probabilities), np.diag([2, 1, 1]))
    assert CONFIDENT not in set(rank_suspects(as_table(labels), probabilities, CLASSES)["why"])


def test_the_joint_counts_each_label_s_photographs(noisy: tuple) -> None:
    true, given, probabilities = noisy
    joint = confident_joint(given, probabilities)
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(given))
    known = np.zeros((3, 3))
    np.add.at(known, (given, true), 1)
    # The share of wrong labels, and which are taken for which, is estimated to within a few of 1,500.
    assert abs((1 - joint.trace() / COUNT) - (given != true).mean()) < 0.03
    assert np.abs(joint - known).max() < 0.03 * COUNT


def test_a_label_that_nobody_is_confident_of_counts_as_right() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]])
    joint = confident_joint(np.array([0, 0]), probabilities)
    np.testing.assert_allclose(joint, np.diag([2, 0, 0]))


def test_wrong_labels_are_found(noisy: tuple) -> None:
    true, given, probabilities = noisy
    found = rank_suspects(as_table(given), probabilities, CLASSES)
    assert list(found) == SUSPECT_COLUMNS
    assert found["rank"].tolist() == list(range(1, len(found) + 1))
    wrong = {f"{row:04d}.jpg" for row in np.flatnonzero(true != given)}
    sure = found[found["why"] == CONFIDENT]
    hits = sure["path"].isin(wrong)
    assert hits.mean() > 0.75  # precision; of all labels a tenth is wrong
    assert hits.sum() / len(wrong) > 0.85  # recall
    assert hits.head(50).mean() > 0.95  # the first of the ranking are the surest
    truth = [CLASSES[true[int(path[:4])]] for path in sure["path"][hits]]
    assert (sure["suggested"][hits] == truth).mean() > 0.95


def test_right_labels_give_few_suspects(noisy: tuple) -> None:
    true, _, probabilities = noisy
    found = rank_suspects(as_table(true), probabilities, CLASSES)
    assert len(found) < 0.06 * COUNT
    assert (found["label"] != found["suggested"]).all()


def test_order_and_figures(noisy: tuple) -> None:
    _, given, probabilities = noisy
    table = as_table(given)
    same = [int(np.flatnonzero(given == label)[5]) for label in (0, 1)]
    groups = list(table["group"])
    groups[same[1]] = groups[same[0]]
    table["group"] = groups
    probabilities[same] = [[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]
    found = rank_suspects(table, probabilities, CLASSES)
    first = found.head(2)
    assert set(first["path"]) == set(table["path"][same])
    assert (first["why"] == COPIES).all()
    assert (first["suggested"] == "daisy").all()  # also of the copy that is called so
    assert COPIES not in set(found["why"][2:])
    for why in (CONFIDENT, LOSS):
        part = found[found["why"] == why]
        margins = part["probability_given"] - part["probability_suggested"]
        assert margins.is_monotonic_increasing
        assert (part["label"] != part["suggested"]).all()
    np.testing.assert_allclose(found["loss"], -np.log(found["probability_given"]), rtol=1e-6)
    order = found["why"].map({COPIES: 0, CONFIDENT: 1, LOSS: 2})
    assert order.is_monotonic_increasing


def test_a_large_loss_alone_is_a_reason() -> None:
    # Nowhere does another class reach its threshold, but the label of the last is nearly impossible.
    labels = np.array([0] * 10 + [1] * 10)
    probabilities = np.tile([0.99, 0.01, 0.0], (20, 1))
    probabilities[10:] = [0.01, 0.99, 0.0]
    probabilities[19] = [0.55, 0.0, 0.45]
    found = rank_suspects(as_table(labels), probabilities, CLASSES)
    assert found[["path", "suggested", "why"]].to_numpy().tolist() == [["0019.jpg", "daisy", LOSS]]
    assert np.isfinite(found["loss"]).all()
