"""What classes of unequal size weigh against each other."""

import torch
from torch import Tensor

from flowers.errors import UserError, suggestion

UNBALANCED = "none"
_EXPONENTS = {UNBALANCED: 0.0, "inverse": 1.0, "sqrt": 0.5}


def photograph_weights(key: str, balance: str, labels: Tensor) -> Tensor:
    """Weigh each photograph by its class's size.

    Args:
        key: The setting that `balance` comes from, for the error.
        balance: `none`: all the same; `inverse`: each class the same in all; `sqrt`: half way there.
        labels: (N,) int64.

    Returns:
        (N,) float32 of mean 1.

    Raises:
        UserError: If `balance` is none of these.
    """
    if balance not in _EXPONENTS:
        raise UserError(f"{key}='{balance}': {suggestion(balance, _EXPONENTS)}")
    sizes = torch.bincount(labels)[labels].double()
    weights = sizes ** -_EXPONENTS[balance]
    return (weights / weights.mean()).float()


def class_weights(key: str, balance: str, labels: Tensor, num_classes: int) -> Tensor:
    """Give the weight that :func:`photograph_weights` gives each photograph of a class.

    Returns:
        (K,) float32; 1 for a class without photographs.
    """
    weights = torch.ones(num_classes)
    weights[labels] = photograph_weights(key, balance, labels)
    return weights
