"""The frozen-feature bank: what is frozen runs once per photograph and view, and its output is kept.

While the first layers of a network are frozen, what they make of a photograph changes only with its augmentation. So a
stage sees each photograph in a few augmented views, and from the second time that a view comes round, training begins
at the border of the frozen part.
"""

import math
import mmap
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from flowers.data.pixels import reserve
from flowers.errors import UserError
from flowers.models.nets import Net


def frozen_border(net: nn.Module, trained: Sequence[str]) -> int:
    """Count the leading parts of a network of which nothing trains; a pooling before the head is one of them."""
    if not isinstance(net, Net):  # whose children are not known to be applied in order
        return 0
    return next(i for i, (names, _) in enumerate(net.layer_parts()) if not set(names).isdisjoint(trained))


def apply_part(net: nn.Module, first: int, last: int | None, activations: Tensor) -> Tensor:
    """Apply the parts ``first`` … ``last - 1`` of a network in order."""
    if not isinstance(net, Net) or (first == 0 and last is None):
        return net(activations)
    for _, part in net.layer_parts()[first:last]:
        activations = part(activations)
    return activations


class FeatureBank:
    """Outputs of a frozen part for N photographs in V views, in memory or, where that is too small, in a file.

    They keep the dtype that the frozen part gave them; maps (B,C,h,w) lie channels-last, as convolutions want them.
    """

    def __init__(self, photographs: int, views: int, limit_bytes: int, folder: Path, at_once: int) -> None:
        """Make an empty bank for N photographs in V views.

        Args:
            photographs: N.
            views: V.
            limit_bytes: The most memory that it may take; a larger bank is a memory-mapped file.
            folder: Where the file would be; it has no name there, so that it goes with the process.
            at_once: Photographs in one pass through the frozen part.
        """
        self.photographs = photographs
        self.views = views
        self.limit_bytes, self.folder, self.at_once = limit_bytes, folder, at_once
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
        for first in range(0, self.photographs, self.at_once):
            rows = list(range(first, min(first + self.at_once, self.photographs)))
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
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes <= self.limit_bytes:
            return torch.empty(shape, dtype=dtype)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as stream:
                reserve(stream, nbytes, self.folder)
                return torch.frombuffer(mmap.mmap(stream.fileno(), nbytes), dtype=dtype).view(shape)
        except OSError as error:
            raise UserError(
                f"the features of the frozen layers, {nbytes / 2**30:.1f} GiB, do not fit into {self.folder} "
                f"({error.strerror}); make room, lower `views` of the stage, or raise model.features_gib."
            ) from error
