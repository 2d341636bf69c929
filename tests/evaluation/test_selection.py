import numpy as np
import pytest

from flowers.evaluation.selection import choose, spread


def test_worst_best_and_unsure() -> None:
    probabilities = np.array(
        [
            [0.9, 0.1, 0.0],  # 0: right, the surest of class 0
            [0.8, 0.2, 0.0],  # 1: right
            [0.05, 0.9, 0.05],  # 2: wrong, loss of 0.05
            [0.02, 0.9, 0.08],  # 3: wrong, the worst
            [0.4, 0.2, 0.4],  # 4: right by a hair (ties go to the lower class)
            [0.1, 0.7, 0.2],  # 5: right, the only one of class 1
            [0.4, 0.35, 0.25],  # 6: wrong, but unsure
        ]
    )
    labels = np.array([0, 0, 0, 0, 0, 1, 1])
    chosen = choose(labels, probabilities, 2)
    assert chosen.worst == [3, 2]
    assert chosen.best == [0, 5]  # class 1 before class 0 gets a second
    assert chosen.unsure == [4, 6]
    assert choose(labels, probabilities, 10).best == [0, 5, 1, 4]


def test_choice_where_all_or_none_are_right() -> None:
    sure = np.eye(3)
    assert choose(np.arange(3), sure, 5).worst == []
    assert choose(np.arange(3), sure, 5).best == [0, 1, 2]
    assert choose(np.array([1, 2, 0]), sure, 2).best == []
    assert choose(np.array([1, 2, 0]), sure, 2).worst == [0, 1]
    assert choose(np.array([1, 2, 0]), sure, 2).unsure == [2]
    assert choose(np.array([0]), np.array([[0.6, 0.4]]), 3).best == [0]
    assert choose(np.array([0]), np.array([[1.0]]), 3).best == [0]  # one class
    nothing = choose(np.array([], dtype=int), np.zeros((0, 3)), 3)
    assert (nothing.worst, nothing.best, nothing.unsure) == ([], [], [])


def test_choice_of_many_classes_is_bounded_and_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(102, 0.05), 800)
    labels = np.where(rng.random(800) < 0.7, probabilities.argmax(axis=1), rng.integers(0, 102, 800))
    first, second = (choose(labels, probabilities, 12) for _ in range(2))
    assert first == second
    numbers = [*first.worst, *first.best, *first.unsure]
    assert len(numbers) == len(set(numbers)) == 36
    assert len({labels[number] for number in first.best}) == 12
    losses = probabilities[first.worst, labels[first.worst]]
    assert (np.diff(losses) >= 0).all()


@pytest.mark.parametrize(
    ("labels", "probabilities", "said"),
    [
        (np.array([0, 1]), np.array([[1.0, 0.0]]), "do not fit"),
        (np.array([2]), np.array([[1.0, 0.0]]), "none of the 2 classes"),
        (np.array([0]), np.array([[np.nan, 0.0]]), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(labels: np.ndarray, probabilities: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose(labels, probabilities, 3)


def test_spread_gives_each_class_its_share() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 60, 40]))
    chosen = spread(labels, 20)
    assert (np.bincount(labels[chosen]) == [10, 6, 4]).all()
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(spread(labels, 500), np.arange(200))
    assert not len(spread(labels[:0], 5))
