"""Classes of unequal size weigh what the settings say."""

import pytest
import torch

from flowers.data.datamodule import class_weights, photograph_weights
from flowers.errors import UserError

LABELS = torch.tensor([0] * 16 + [1] * 4 + [2])


@pytest.mark.parametrize(
    ("balance", "of_each_class"), [("none", [16, 4, 1]), ("sqrt", [4, 2, 1]), ("inverse", [1, 1, 1])]
)
def test_a_class_weighs_its_size_to_a_power(balance: str, of_each_class: list[float]) -> None:
    weights = photograph_weights("key", balance, LABELS)
    assert weights.mean().item() == pytest.approx(1)
    sums = torch.zeros(3).index_add(0, LABELS, weights)
    torch.testing.assert_close(sums / sums[2], torch.tensor(of_each_class, dtype=torch.float32))


def test_by_class_it_is_the_same_and_a_class_without_photographs_weighs_one() -> None:
    by_class = class_weights("key", "sqrt", LABELS, 4)
    torch.testing.assert_close(by_class[LABELS], photograph_weights("key", "sqrt", LABELS))
    assert by_class[3] == 1


def test_an_unknown_balance_is_named() -> None:
    with pytest.raises(UserError, match=r"data\.sampling='invers'.*inverse"):
        photograph_weights("data.sampling", "invers", LABELS)
