"""The frozen-feature bank: what is frozen runs once per photograph and view, and its output is kept.

While the first layers of a network are frozen, what they make of a photograph changes only with its augmentation. So a
stage sees each photograph in a few augmented views, and from the second time that a view comes round, training begins
at the border of the frozen part.
"""

import os
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from flowers.errors import UserError
from flowers.models.nets import Net

BATCH = 64
"""Photographs in one pass through the frozen part."""


PartCall = Callable[[nn.Module, int, int | None, Tensor], Tensor]


def frozen_border(net: nn.Module, trained: Sequence[str]) -> int:
    """Count the leading children of a network that do not train; a pooling before the head is one of them."""
    if not isinstance(net, Net):  # whose children are not known to be applied in order
        return 0
    names = [name for name, _ in net.named_children()]
    return next(i for i, name in enumerate(names) if name in trained)


def apply_part(net: nn.Module, first: int, last: int | None, activations: Tensor) -> Tensor:
    """Apply the children ``first`` … ``last - 1`` of a network in order."""
    if first == 0 and last is None:
        whole: Tensor = net(activations)
        return whole
    for child in list(net.children())[first:last]:
        activations = child(activations)
    return activations


class FeatureBank:
    """Outputs of a frozen part for N photographs in V views, in memory or, where that is too small, in a file.

    They keep the dtype that the frozen part gave them; maps (B,C,h,w) lie channels-last, as convolutions want them.
    """

    _numbers = count()

    def __init__(self, photographs: int, views: int, limit_bytes: int, folder: Path) -> None:
        """Make an empty bank for N photographs in V views.

        Args:
            photographs: N.
            views: V.
            limit_bytes: The most memory that it may take; a larger bank is a memory-mapped file.
            folder: Where the file would be; it is unlinked at once, so that it goes with the process.
        """
        self.photographs = photographs
        self.views = views
        self.limit_bytes, self.folder = limit_bytes, folder
        self._store: Tensor | None = None  # (V,N,D) or (V,N,h,w,C)
        self._filled: set[int] = set()

    def fill(self, view: int, compute: Callable[[list[int]], Tensor]) -> None:
        """Compute a view, unless it is there.

        Args:
            view: In [0, V).
            compute: Maps rows of photographs to (B,D) or (B,C,h,w), the same shape and dtype each time.
        """
        if view in self._filled:
            return
        for first in range(0, self.photographs, BATCH):
            rows = list(range(first, min(first + BATCH, self.photographs)))
            features = compute(rows).detach()
            if features.ndim == 4:
                features = features.permute(0, 2, 3, 1)  # (B,C,h,w) -> (B,h,w,C)
            if self._store is None:
                self._store = self._allocate((self.views, self.photographs, *features.shape[1:]), features.dtype)
            self._store[view, rows[0] : rows[-1] + 1] = features.cpu()
        self._filled.add(view)

    def take(self, view: int, rows: Tensor) -> Tensor:
        """Look up features.

        Args:
            view: One that was filled.
            rows: (B,) int64.

        Returns:
            (B,D), or (B,C,h,w) channels-last.
        """
        assert self._store is not None
        assert view in self._filled
        features = self._store[view].index_select(0, rows)
        return features.permute(0, 3, 1, 2) if features.ndim == 4 else features

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = torch.Size(shape).numel()
        if size * dtype.itemsize <= self.limit_bytes:
            return torch.empty(shape, dtype=dtype)
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"features-{next(self._numbers)}.bin"
        try:
            with path.open("wb") as stream:  # a full disk is found here, and not by a signal in the middle of the work
                os.posix_fallocate(stream.fileno(), 0, size * dtype.itemsize)
            return torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(shape)
        except OSError as error:
            raise UserError(
                f"the features of the frozen layers, {size * dtype.itemsize / 2**30:.1f} GiB, do not fit into "
                f"{folder} ({error.strerror}); make room, lower `views` of the stage, or raise model.features_gib."
            ) from error
        finally:
            path.unlink(missing_ok=True)


def compile_part() -> PartCall:
    """Compile :func:`apply_part`; where the compiler fails, warn once and go on without.

    Returns:
        A function to be called in its stead.
    """
    compiled = torch.compile(apply_part)
    failed = False

    def call(net: nn.Module, first: int, last: int | None, activations: Tensor) -> Tensor:
        nonlocal failed
        if not failed:
            try:
                result: Tensor = compiled(net, first, last, activations)
            except Exception as error:  # no C++ compiler, an operator it does not know …
                failed = True
                reason = " ".join(str(error).split())[:160]
                print(f"flowers: torch.compile failed ({reason}); training goes on without it.", file=sys.stderr)
            else:
                return result
        return apply_part(net, first, last, activations)

    return call
