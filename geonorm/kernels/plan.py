"""What to standardize, with which parameters, and in which blocks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from geonorm.kernels.pools import Pool
from geonorm.numerics import untracked

#: The bytes of one matrix of a block: ten of them fit into the last cache of most processors.
BLOCK = 2 << 20


@dataclass(frozen=True)
class Plan:
    """What to standardize: the pools, the statistic and eps.

    Args:
        mean: The pool of the mean, or ``None`` for no mean.
        scale: The pool of the scale, or ``None`` for no scale.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``.
        eps: Added to the second moment, inside the root.
    """

    mean: Pool | None
    scale: Pool | None
    statistic: str
    eps: float

    @property
    def aligned(self) -> bool:
        """Whether there is a scale, and a mean, if any, that pools the same rows."""
        return self.scale is not None and (self.mean is None or self.mean.rows == self.scale.rows)

    def only_mean(self) -> Plan:
        """The first step: the mean alone."""
        return Plan(self.mean, None, self.statistic, self.eps)

    def only_scale(self) -> Plan:
        """The second step, on what the mean has left: the scale alone."""
        return Plan(None, self.scale, "rms", self.eps)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors in the pools, in the order of :meth:`holding`."""
        none = (None, None)
        return tuple(
            tensor for pool in (self.mean, self.scale) for tensor in (none if pool is None else pool.tensors())
        )

    def holding(
        self,
        mean_index: Tensor | None,
        mean_count: Tensor | None,
        scale_index: Tensor | None,
        scale_count: Tensor | None,
    ) -> Plan:
        """The same plan with other tensors: derivatives and vmap wrap the tensors that they are handed, no others."""
        tensors = (mean_index, mean_count, scale_index, scale_count)
        if all(one is other for one, other in zip(tensors, self.tensors(), strict=True)):
            return self
        mean = None if self.mean is None else self.mean.holding(mean_index, mean_count)
        scale = None if self.scale is None else self.scale.holding(scale_index, scale_count)
        return Plan(mean, scale, self.statistic, self.eps)

    def blocks(self, nodes: int) -> list[Block]:
        """The parts of a batch that can be standardized one after the other, in the order of their rows.

        One part unless several pay: where samples follow each other, a block of them stays in the cache of a processor
        while it is read again and again, and what is computed in between is as small as a block.

        Args:
            nodes: The number of nodes of the batch.
        """
        whole = [Block(None, None, self)]
        if not self.aligned or self.scale.count.device.type != "cpu" or not untracked():
            return whole
        row = self.scale.columns.num_columns * self.scale.count.element_size()
        borders = self.scale.borders(max(BLOCK // max(row, 1), 1), nodes)
        if len(borders) < 3:
            return whole
        blocks = []
        for (first, first_pool), (last, last_pool) in pairwise(borders):
            rows, some = slice(first, last), slice(first_pool, last_pool)
            scale = self.scale.part(rows, some)
            mean = None if self.mean is None else scale.pooling(self.mean.columns)
            blocks.append(Block(rows, some, Plan(mean, scale, self.statistic, self.eps)))
        return blocks


@dataclass(frozen=True)
class Block:
    """Some samples that follow each other, with all their rows.

    Args:
        rows: Their rows; ``None`` for all.
        pools: Their places among the pools; ``None`` for all.
        plan: What to standardize in them.
    """

    rows: slice | None
    pools: slice | None
    plan: Plan

    def rows_of(self, matrix: Float[Tensor, "nodes columns"]) -> Float[Tensor, "rows columns"]:
        """The rows of the block."""
        return matrix if self.rows is None else matrix[self.rows]

    def pools_of(self, statistic: Float[Tensor, "pools groups"]) -> Float[Tensor, "some groups"]:
        """The statistics of the pools of the block."""
        return statistic if self.pools is None else statistic[self.pools]


class Assembly:
    """A matrix that is put together from its blocks, in the dtype of another.

    Args:
        like: The other matrix, of as many rows.
    """

    def __init__(self, like: Tensor) -> None:
        self.nodes, self.dtype = like.shape[0], like.dtype
        self.matrix: Tensor | None = None

    def put(self, block: Block, part: Tensor | None) -> None:
        """Fill in the rows of a block."""
        if part is None or block.rows is None:
            self.matrix = None if part is None else part.to(self.dtype)
            return
        if self.matrix is None:
            self.matrix = part.new_empty(self.nodes, part.shape[1], dtype=self.dtype)
        self.matrix[block.rows] = part


@dataclass  # not frozen, which would take longer than a small kernel
class Parameters:
    """Per column: the weight of the mean, gain and bias; per scale group: the exponent. ``None`` is 1, 1, 0 and 1."""

    alpha: Float[Tensor, " columns"] | None = None
    gamma: Float[Tensor, " columns"] | None = None
    beta: Float[Tensor, " columns"] | None = None
    tau: Float[Tensor, " groups"] | None = None

    def values(self) -> tuple[Tensor | None, ...]:
        """α, γ, β and τ."""
        return self.alpha, self.gamma, self.beta, self.tau
