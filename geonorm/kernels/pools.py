"""Pools of entries that share a statistic: rows (nodes of a sample) times columns (channels and components)."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from geonorm.axes import Segments
from geonorm.numerics import accumulation_dtype
from geonorm.processes import global_sum

#: The rows whose pools are segments of the batch, and those whose pools reach over all processes.
SEGMENTED = ("sample", "type")
SHARED = ("type", "batch")


class Columns(nn.Module):
    """A partition of the columns of a feature matrix into groups that share a statistic.

    Args:
        keys: For each column the name of its group; ``None`` leaves the column out.
        divisors: For each column what it is divided by in the weighted sum over its group: the size of the group gives
            the mean. They are integers, which no change of the module's dtype rounds.
    """

    def __init__(self, keys: Sequence[Hashable | None], divisors: Sequence[int]) -> None:
        super().__init__()
        members: dict[Hashable, list[int]] = {}
        for column, key in enumerate(keys):
            if key is not None:
                members.setdefault(key, []).append(column)
        #: Everything that makes these columns what they are, in words that a compiled graph can hold.
        names = list(members)
        self.words = json.dumps([[None if key is None else names.index(key) for key in keys], list(divisors)])
        # Groups of equal size are reduced together by one reshape, so columns are visited in order of group size.
        groups = list(members.values())
        by_size = sorted(range(len(groups)), key=lambda number: len(groups[number]))
        order = [column for number in by_size for column in groups[number]]
        everything = list(range(len(keys)))
        self.num_columns = len(keys)
        self.num_groups = len(groups)
        self.sizes = [(size, len(list(same))) for size, same in groupby(len(groups[number]) for number in by_size)]
        self.complete = len(order) == len(keys)
        self.each = order == everything and len(groups) == len(keys)
        self.all = len(groups) == 1 and self.complete
        self.single = len(groups) == len(order)
        self._register("order", None if order == everything else torch.tensor(order, dtype=torch.long))
        rank = {number: position for position, number in enumerate(by_size)}
        positions = [rank[number] for number in range(len(groups))]
        self._register("position", None if positions == sorted(positions) else torch.tensor(positions))
        group_of = {column: number for number, group in enumerate(groups) for column in group}
        self.groups = tuple(group_of.get(column, len(groups)) for column in everything)
        expand = torch.tensor(self.groups, dtype=torch.long)
        self._register("group", None if self.each or self.all else expand)
        used = {divisor for divisor, key in zip(divisors, keys, strict=True) if key is not None}
        self.uniform = used.pop() if len(used) == 1 else None
        self._register("divisor", None if self.uniform else torch.tensor(divisors, dtype=torch.long))
        self._register("group_size", torch.tensor([len(group) for group in groups], dtype=torch.long))

    def _register(self, name: str, value: Tensor | None) -> None:
        self.register_buffer(name, value, persistent=False)

    def weigh(self, values: Float[Tensor, "rows _"]) -> Float[Tensor, "rows _"]:
        """Divide each column by its divisor; a column that stands for all of them becomes all of them where needed."""
        if self.divisor is not None:
            return values / self.divisor
        return values if self.uniform == 1 else values / self.uniform

    def sum(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows groups"]:
        """Add the columns of each group."""
        if self.each:
            return values
        if self.all:
            return values.sum(1, keepdim=True)
        if self.order is not None:
            values = values.index_select(1, self.order)
        parts, start = [], 0
        for size, number in self.sizes:
            part = values[:, start : start + size * number]
            parts.append(part if size == 1 else part.reshape(-1, number, size).sum(2))
            start += size * number
        sums = parts[0] if len(parts) == 1 else torch.cat([*parts, values[:, :0]], 1)
        return sums if self.position is None else sums.index_select(1, self.position)

    def expand(self, values: Shaped[Tensor, "rows groups"]) -> Shaped[Tensor, "rows _"]:
        """Give each column the value of its group, zero where it has none; one group stays one column."""
        if self.each or self.all:
            return values
        if not self.complete:
            values = torch.cat([values, values.new_zeros(values.shape[0], 1)], 1)
        return values.index_select(1, self.group)


@dataclass(frozen=True)
class Pool:
    """The entries that share one statistic.

    Args:
        rows: ``"node"``, ``"sample"``, ``"type"`` or ``"batch"``: which rows are pooled. Samples belong to one process,
            types and the batch to all of them.
        columns: Which columns are pooled.
        segments: Which row belongs to which sample or type; needed when ``rows`` is one of these.
        rows_held: The number of rows of each pool, in all processes, ``[pools, 1]``.
        count: The same, but at least one: what sums are divided by.
    """

    rows: str
    columns: Columns
    segments: Segments | None
    rows_held: Float[Tensor, "pools 1"]
    count: Float[Tensor, "pools 1"]

    @classmethod
    def build(cls, rows: str, columns: Columns, x: Float[Tensor, "nodes columns"], segments: Segments | None) -> Pool:
        """Count the rows of every pool of the batch ``x``."""
        dtype = accumulation_dtype(x.dtype)
        if rows == "node":
            held = torch.ones(1, 1, dtype=dtype, device=x.device)
        elif rows in SEGMENTED:
            held = segments.counts(x)[:, None]
            held = global_sum(held) if rows in SHARED else held
        else:
            held = global_sum(torch.full((1, 1), x.shape[0], dtype=dtype, device=x.device))
        return cls(rows, columns, segments, held, held.clamp(min=1))

    def tensors(self) -> tuple[Tensor | None, Tensor]:
        """The sample of each row, and the number of rows."""
        return None if self.segments is None else self.segments.index, self.count

    def holding(self, index: Tensor | None, count: Tensor) -> Pool:
        """The same pool with other tensors."""
        segments = self.segments
        if segments is not None:
            segments = Segments(index, segments.num_samples, segments.num_nodes)
        return Pool(self.rows, self.columns, segments, self.rows_held, count)

    def pooling(self, columns: Columns) -> Pool:
        """The same rows, with other columns."""
        return Pool(self.rows, columns, self.segments, self.rows_held, self.count)

    def part(self, rows: slice, pools: slice) -> Pool:
        """Some pools that follow each other, with all their rows."""
        if self.rows == "node":
            return self
        segments = self.segments.part(rows, pools)
        return Pool(self.rows, self.columns, segments, self.rows_held[pools], self.count[pools])

    def borders(self, rows: int, nodes: int) -> list[tuple[int, int]]:
        """Where parts of about so many rows begin and end, as (row, pool); empty if there is one part only."""
        if nodes < 2 * rows or self.rows in SHARED:
            return []
        if self.rows == "node":
            return [(row, row) for row in (*range(0, nodes, rows), nodes)]
        if self.segments.starts is None:
            return []
        ends = torch.cat([self.segments.starts[1:], self.segments.starts.new_tensor([nodes])])
        _, number = ((ends - 1).clamp(min=0) // rows).unique_consecutive(return_counts=True)
        last = number.cumsum(0)
        return [(0, 0), *zip(ends[last - 1].tolist(), last.tolist(), strict=True)]

    def row_sum(self, values: Float[Tensor, "nodes columns"]) -> Float[Tensor, "pools columns"]:
        """Add the rows of each pool that this process holds; columns stay apart."""
        if self.rows == "node":
            return values
        return self.segments.sum(values) if self.rows in SEGMENTED else values.sum(0, keepdim=True)

    def count_here(self, values: Float[Tensor, "nodes columns"]) -> Float[Tensor, "pools 1"]:
        """The number of rows of each pool that this process holds."""
        return self.row_sum(torch.ones_like(values[:, :1])) if self.rows in SHARED else self.count

    def finish(self, row_sums: Float[Tensor, "pools columns"]) -> Float[Tensor, "pools groups"]:
        """From row sums of this process to the sums over whole pools, of all processes."""
        sums = self.columns.sum(row_sums)
        return global_sum(sums) if self.rows in SHARED else sums

    def mean(self, values: Float[Tensor, "nodes columns"]) -> Float[Tensor, "pools groups"]:
        """The weighted mean of each pool: plain where every column is divided by the size of its group."""
        columns = self.columns
        if not columns.all or self.rows == "node":
            return self.mean_of_sums(self.row_sum(values))
        # One thin column is cheaper to add over rows than a wide matrix.
        sums = self.row_sum((values if columns.divisor is None else columns.weigh(values)).sum(1, keepdim=True))
        sums = global_sum(sums) if self.rows in SHARED else sums
        return (sums if columns.divisor is not None else columns.weigh(sums)) / self.count

    def mean_of_sums(self, row_sums: Float[Tensor, "pools columns"]) -> Float[Tensor, "pools groups"]:
        """The same, from the row sums of this process."""
        if self.columns.divisor is None:
            return self.columns.weigh(self.finish(row_sums) / self.count)
        return self.finish(self.columns.weigh(row_sums)) / self.count

    def expand_rows(self, values: Float[Tensor, "pools _"]) -> Float[Tensor, "rows _"]:
        """Give every row the value of its pool (one row that broadcasts when there is one pool)."""
        return self.segments.expand(values) if self.rows in SEGMENTED else values

    def expand(self, values: Float[Tensor, "pools groups"]) -> Float[Tensor, "rows _"]:
        """Give every entry the value of its pool."""
        return self.expand_rows(self.columns.expand(values))
