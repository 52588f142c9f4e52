"""Which rows belong together, as the kernels read it: found on the device, once per batch vector, never waited for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from geonorm.kernels.triton.recipe import power_of_two

#: The kinds of rows, in the order of :mod:`geonorm.kernels.triton.rows`.
NODE, BATCH, SEGMENT = range(3)
#: Pools with more rows than this, on average, are worked through in parts of so many rows. The host knows no more than
#: the average: one long sample among many short ones is right all the same, but slow.
LONG = 256


@dataclass(frozen=True)
class Rows:
    """Which rows belong together.

    Args:
        number: The number of pools.
        kind: Whether each row is a pool, all rows are one, or they lie in segments.
        nodes: The number of rows; as many as pools where it is not given.
        ptr: Where each segment begins among the rows in ``order``, and where the last one ends.
        order: The rows, segment after segment.
    """

    number: int
    kind: int = NODE
    nodes: int = -1
    ptr: Tensor | None = None
    order: Tensor | None = None

    def __post_init__(self) -> None:
        if self.nodes < 0:
            object.__setattr__(self, "nodes", self.number)

    @classmethod
    def all(cls, nodes: int) -> Rows:
        """One pool of all rows."""
        return cls(1, BATCH, nodes)

    @classmethod
    def of_batch(cls, index: Tensor, number: int) -> Rows | None:
        """Read a batch vector of int64; ``None`` where the host sees that a number in it is outside."""
        if index.device.type == "cpu":
            if index.numel() and (int(index.min()) < 0 or int(index.max()) >= number):
                return None
            return cls._sorted(index, number)
        # A captured graph is replayed with other numbers in the same memory: it finds the order again.
        if torch.cuda.is_current_stream_capturing() or index.is_inference():
            return cls._sorted(index, number)
        return cls._remembered(index, number, torch.cuda.current_stream(index.device).cuda_stream)

    @classmethod
    def _remembered(cls, index: Tensor, number: int, stream: int) -> Rows:
        """Found once, as long as the batch vector stays what it is; another stream would not wait for this one."""
        state = (index._version, number, stream)
        known, rows = _known.get(index, (None, None))
        if known != state:
            rows = cls._sorted(index, number)
            # Numbers outside stop the device, as they do where torch adds rows up; nobody waits for the answer.
            torch._assert_async((rows.ptr[0] == 0) & (rows.ptr[-1] == rows.nodes))
            _known[index] = state, rows
        return rows

    @classmethod
    def _sorted(cls, index: Tensor, number: int) -> Rows:
        index, order = index.sort(stable=True)
        borders = torch.arange(number + 1, device=index.device)
        return cls(number, SEGMENT, index.shape[0], torch.searchsorted(index, borders), order)

    @property
    def average(self) -> int:
        """The number of rows of a pool, rounded up to a power of two."""
        return 1 if self.kind == NODE else power_of_two(-(-self.nodes // max(self.number, 1)))

    @property
    def in_parts(self) -> bool:
        """Whether pools are worked through in parts."""
        return self.kind != NODE and self.nodes > LONG * self.number

    @property
    def num_parts(self) -> int:
        """How many parts there are at most, without looking at the device."""
        return -(-self.nodes // LONG) + (self.number if self.kind == SEGMENT else 0)

    @cached_property
    def parts(self) -> tuple[Tensor, Tensor]:
        """The first part of each segment, and the segment of each part; parts that there are not have no rows."""
        lengths = self.ptr.diff()
        first = torch.cat([lengths.new_zeros(1), (lengths + LONG - 1).div(LONG, rounding_mode="floor").cumsum(0)])
        places = torch.arange(self.num_parts, device=first.device)
        pool = torch.searchsorted(first, places, right=True) - 1
        # Parts beyond the last one begin where the last pool ends.
        return first, pool.clamp(max=self.number - 1)


#: The rows of batch vectors, as long as these exist, with the version that was read, the number and the stream.
_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
