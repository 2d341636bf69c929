"""Outliers are found by what they lie far from, whatever the scale."""

from collections.abc import Callable

import numpy as np
import pytest

from flowers.evaluation.ood import (
    Mahalanobis,
    OutlierScores,
    Residual,
    energy,
    joined,
    ood_percentile,
    principal_axes,
    separation,
)
from flowers.models.inference import ModelOutputs, Validation

RNG = np.random.default_rng(0)
WIDTH = 8


def draw(count: int, classes: range = range(3), rng: np.random.Generator = RNG) -> Validation:
    """Make features about the corners of a simplex, and logits that tell the first three apart."""
    labels = rng.choice(list(classes), count)
    features = rng.normal(0, np.linspace(0.05, 0.25, WIDTH), (count, WIDTH)) + np.eye(WIDTH)[labels]
    return Validation(8 * features[:, :3] + rng.normal(0, 0.3, (count, 3)), features, labels)


def answers(known: Validation) -> ModelOutputs:
    return ModelOutputs(known.logits, known.features)


KNOWN = draw(60)


def test_mahalanobis_is_the_distance_by_the_shrunk_covariance() -> None:
    found = Mahalanobis(KNOWN.features, KNOWN.labels)
    unit = KNOWN.features / np.linalg.norm(KNOWN.features, axis=1, keepdims=True)
    means = np.stack([unit[KNOWN.labels == k].mean(axis=0) for k in range(3)])
    within = unit - means[KNOWN.labels]
    plain = within.T @ within / len(within)
    shrunk = found.axes.T @ np.diag(found.variances) @ found.axes
    share = 1 - (shrunk[0, 1] / plain[0, 1])
    assert 0 < share < 0.5
    np.testing.assert_allclose(shrunk, (1 - share) * plain + share * np.trace(plain) / WIDTH * np.eye(WIDTH))
    gaps = unit[:, None] - means
    slow = np.einsum("nkd,de,nke->nk", gaps, np.linalg.inv(shrunk), gaps).min(axis=1)
    np.testing.assert_allclose(found(KNOWN.features), slow)
    np.testing.assert_allclose(found(7 * KNOWN.features), slow)


def test_mahalanobis_of_fewer_photographs_than_features_counts_the_other_directions() -> None:
    few = draw(5)
    found = Mahalanobis(few.features, few.labels)
    assert len(found.axes) == 5
    whole = found.axes.T @ np.diag(found.variances - found.rest) @ found.axes + found.rest * np.eye(WIDTH)
    unit = KNOWN.features / np.linalg.norm(KNOWN.features, axis=1, keepdims=True)
    gaps = unit[:, None] - found.means
    slow = np.einsum("nkd,de,nke->nk", gaps, np.linalg.inv(whole), gaps).min(axis=1)
    np.testing.assert_allclose(found(KNOWN.features), slow)


def test_residual_is_what_the_principal_axes_leave() -> None:
    found = Residual(KNOWN.features, KNOWN.logits)
    centred = KNOWN.features - KNOWN.features.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred)
    shares = np.cumsum(variances[::-1]) / variances.sum()
    minor = vectors[:, ::-1][:, len(found.axes) :]
    assert shares[len(found.axes) - 2] < 0.9 <= shares[len(found.axes) - 1]
    outside = np.linalg.norm(centred @ minor, axis=1)
    scale = KNOWN.logits.max(axis=1).mean() / outside.mean()
    np.testing.assert_allclose(found(*answers(KNOWN)[::-1]), scale * outside + energy(KNOWN.logits))


@pytest.mark.parametrize("shape", [(5, 8), (20, 8)])
def test_axes_are_those_of_the_covariance_however_many_rows_there_are(shape: tuple[int, int]) -> None:
    rows = RNG.normal(size=shape)
    axes, variances = principal_axes(rows)
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-12)
    np.testing.assert_allclose(axes.T @ np.diag(variances) @ axes, rows.T @ rows / len(rows), atol=1e-12)
    assert (np.diff(variances) <= 0).all()


@pytest.mark.parametrize("known", [1, 2, 3, 9, 30])
@pytest.mark.parametrize("features", [lambda kept: kept, lambda kept: 0 * kept, lambda kept: kept[:, :1]])
def test_few_photographs_and_empty_or_single_features_are_enough(
    known: int, features: Callable[[np.ndarray], np.ndarray]
) -> None:
    few, others = (Validation(each.logits, features(each.features), each.labels) for each in (draw(known), draw(9)))
    table = OutlierScores(few, 1.0).table(["x"] * 9, answers(others))
    assert np.isfinite(table.drop(columns="path").to_numpy(float)).all()
    assert table["ood_percentile"].between(0, 1).all()


def test_the_unknown_lies_farther() -> None:
    scores = OutlierScores(KNOWN, 1.0)
    ordinary, unknown = (scores.table([""] * 200, answers(draw(200, kinds))) for kinds in (range(3), range(4, 7)))
    for kind in ("outlier", "distance", "residual"):
        assert separation(ordinary[kind].to_numpy(), unknown[kind].to_numpy()) > 0.99
        assert separation(unknown[kind].to_numpy(), ordinary[kind].to_numpy()) < 0.01
    assert (unknown["ood_percentile"] > 0.95).mean() > 0.95
    assert (ordinary["ood_percentile"] > 0.95).mean() < 0.12
    assert ood_percentile(np.array([-1.0, 9.0]), np.arange(4.0)).tolist() == [0, 4 / 5]


def test_a_model_without_validation_features_is_left_with_the_energy() -> None:
    table = OutlierScores(None, 1.0).table([""] * 60, answers(KNOWN))
    np.testing.assert_array_equal(table["outlier"], energy(KNOWN.logits))
    assert table[["ood_percentile", "distance", "residual"]].isna().all().all()


def test_energy_is_high_where_all_logits_are_low() -> None:
    assert energy(np.array([[0.0, 0.0], [1000.0, 0.0], [-5.0, -5.0]])).tolist() == pytest.approx(
        [-np.log(2), -1000, 5 - np.log(2)]
    )


def test_joined_scores_notice_what_one_of_them_does() -> None:
    ordinary = RNG.normal(0, 1, (2, 200))
    ood = np.c_[RNG.normal([[3], [0]], 1, (2, 50)), RNG.normal([[0], [3]], 1, (2, 50))]
    together, own = joined(ood, ordinary), joined(ordinary, ordinary, among_themselves=True)
    for known, others in zip(ordinary, ood, strict=True):
        assert separation(own, together) > separation(known, others) + 0.05
    # Of M others, none is farther than the first and all are than the second.
    assert joined(np.array([[9.0, -9.0]]), np.arange(4.0)[None]).tolist() == pytest.approx([np.log(5), 0])


@pytest.mark.slow
@pytest.mark.parametrize(("known", "copies"), [(50, 1), (150, 1), (150, 3), (600, 1)])
def test_of_ordinary_photographs_as_many_are_above_a_percentile_as_it_says(known: int, copies: int) -> None:
    rng = np.random.default_rng(known)
    above = []
    for _ in range(60):
        val = draw(known // copies, rng=rng)
        val = Validation(*(np.repeat(each, copies, axis=0) for each in val))
        scores = OutlierScores(val, 1.0, np.repeat(np.arange(known // copies), copies))
        found = scores.table([""] * 500, answers(draw(500, rng=rng)))["ood_percentile"]
        above.append([(found > level).mean() for level in (0.99, 0.95, 0.5)])
    rare, alarming, half = np.mean(above, axis=0)
    alone = known // copies  # copies of a photograph say no more than one
    assert rare <= 0.011
    assert 0.02 < alarming <= 0.053
    assert half == pytest.approx(0.5, abs=3 / alone)
    assert rare > 0.004 or alone < 99
