"""Which rows belong together, as the kernels read it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from geonorm.kernels.cpu import library


class Rows:
    """Which rows belong together, as the kernels read it.

    Args:
        number: The number of pools.
        ptr: Where each pool begins, and where the last one ends; ``None`` if every row is a pool.
        order: The rows, pool after pool, if they do not follow each other.
    """

    __slots__ = ("number", "order", "ptr")

    def __init__(self, number: int, ptr: Tensor | None = None, order: Tensor | None = None) -> None:
        self.number, self.ptr, self.order = number, ptr, order

    @classmethod
    def of_batch(cls, index: Tensor, number: int) -> Rows | None:
        """Read a batch vector of int64; ``None`` if a number in it is outside."""
        use, rows = library.kernels(), index.shape[0]
        index, ptr = index.contiguous(), torch.empty(number + 1, dtype=torch.int64)
        state = use.segments(index.data_ptr(), rows, number, ptr.data_ptr())
        if state == 0:
            return cls(number, ptr)
        order = torch.empty_like(index)
        if state < 0 or use.order(index.data_ptr(), rows, number, ptr.data_ptr(), order.data_ptr()) < 0:
            return None
        return cls(number, ptr, order)

    @classmethod
    def all(cls, rows: int) -> Rows:
        """One pool of all rows."""
        return _all_rows(rows)


@lru_cache(maxsize=64)
def _all_rows(rows: int) -> Rows:
    return Rows(1, torch.tensor([0, rows]))
