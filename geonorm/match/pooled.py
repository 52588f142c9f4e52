"""Families of directions with disjoint members, as pool numbers instead of matrices, and the space that they span."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

#: Eigenvalues of the Gram matrix of unit vectors below this: they depend on each other, up to an angle of a hundredth.
DEPENDENT = 5e-5


@dataclass(frozen=True)
class Pooled:
    """Unit vectors of which no two share an entry.

    Args:
        pool: For each entry of the input the member it belongs to, or -1.
        values: The value of the entry in that member.
        number: The number of members.
    """

    pool: Int[Tensor, " inputs"]
    values: Float[Tensor, " inputs"]
    number: int

    @classmethod
    def of(
        cls,
        pool: Int[Tensor, " inputs"],
        values: Float[Tensor, " inputs"],
        kept: Bool[Tensor, " members"] | None = None,
    ) -> Pooled:
        """Divide each member by its length; those of length zero are left out."""
        number = int(pool.max()) + 1 if len(pool) else 0
        length = values.new_zeros(number).index_add(0, pool, values.square()).sqrt()
        unit = values / torch.where(length > 0, length, 1)[pool]
        return cls(pool, unit, number).only(length > 0 if kept is None else kept & (length > 0))

    def only(self, kept: Bool[Tensor, " members"]) -> Pooled:
        """Some of the members."""
        number = torch.cat([torch.where(kept, kept.cumsum(0) - 1, -1), torch.tensor([-1])])  # the last is that of -1
        pool = number[self.pool]
        return Pooled(pool, torch.where(pool >= 0, self.values, 0), int(kept.sum()))

    def coefficients(self, rows: Float[Tensor, "some inputs"]) -> Float[Tensor, "some members"]:
        """The products of rows with each member."""
        return rows.new_zeros(len(rows), self.number + 1).index_add(
            1, self.pool % (self.number + 1), rows * self.values
        )[:, : self.number]

    def combine(self, coefficients: Float[Tensor, "some members"]) -> Float[Tensor, "some inputs"]:
        """Sums of members with coefficients."""
        padded = torch.nn.functional.pad(coefficients, (0, 1))
        return padded[:, self.pool] * self.values

    def without(self, rows: Float[Tensor, "some inputs"]) -> Float[Tensor, "some inputs"]:
        """What remains of rows when the members are projected out."""
        return rows - self.combine(self.coefficients(rows))

    def contains(self, other: Pooled, angle: float) -> Bool[Tensor, " members"]:
        """Which members of another family lie in the span of this one."""
        # The square of the projection of a member: it meets each member here in one number.
        both = (self.pool >= 0) & (other.pool >= 0)
        pair, where = torch.stack([self.pool[both], other.pool[both]]).unique(dim=1, return_inverse=True)
        product = self.values.new_zeros(pair.shape[1]).index_add(0, where, (self.values * other.values)[both])
        length = self.values.new_zeros(other.number).index_add(0, pair[1], product.square())
        return 1 - length < angle**2


class Span:
    """The space that families of members span, with single further directions; it grows.

    Members of different families meet only where they share entries, so that the Gram matrix of all of them falls
    into small blocks.
    """

    def __init__(self, inputs: int) -> None:
        self.inputs, self.rank = inputs, 0
        self.families: list[Pooled] = []
        self.single = torch.zeros(0, inputs, dtype=torch.float64)
        self._groups: list[tuple[Tensor, Tensor]] = []

    def add(self, *families: Pooled) -> int:
        """Add families; the number of directions that they bring."""
        before, known, groups = self.rank, self.families, self._groups
        self.families = known + [family for family in families if family.number]
        if len(self.families) > len(known):
            self._solve()
            single = _orthonormal(self._outside(self.single), DEPENDENT**0.5)
            self.rank += len(single)
            if self.rank > before:
                self.single = single
            else:
                self.rank, self.families, self._groups = before, known, groups
        return self.rank - before

    def add_single(self, rows: Float[Tensor, "some inputs"], angle: float) -> int:
        """Add single directions, of unit length; those nearly inside are left out."""
        new = _orthonormal(self.without(rows), angle)
        self.single = torch.cat([self.single, new])
        self.rank += len(new)
        return len(new)

    def without(self, rows: Float[Tensor, "some inputs"]) -> Float[Tensor, "some inputs"]:
        """What remains of rows when the space is projected out."""
        for _ in range(2):  # rounding of the first time is removed by the second
            rows = self._outside(rows)
            rows = rows - rows @ self.single.T @ self.single
        return rows

    def _outside(self, rows: Tensor) -> Tensor:
        if not self.families:
            return rows
        found = torch.cat([family.coefficients(rows) for family in self.families], 1)
        weights = torch.zeros_like(found)
        for members, inverse in self._groups:
            weights[:, members] = torch.einsum("kgi,gij->kgj", found[:, members], inverse)
        parts = weights.split([family.number for family in self.families], 1)
        return rows - sum(family.combine(part) for family, part in zip(self.families, parts, strict=True))

    def _solve(self) -> None:
        """The pseudoinverse of the Gram matrix, for groups of blocks of one size, and the rank."""
        offsets = torch.tensor([0] + [family.number for family in self.families]).cumsum(0).tolist()
        member = [
            torch.where(f.pool >= 0, f.pool + start, -1) for f, start in zip(self.families, offsets, strict=False)
        ]
        block = _blocks(member, offsets[-1], self.inputs)
        _, block, size = block.unique(return_inverse=True, return_counts=True)
        order = block.argsort(stable=True)
        place = torch.arange(len(order)) - (size.cumsum(0) - size)[block[order]]
        within = torch.zeros_like(order).scatter(0, order, place)
        self._groups, self.rank = [], 0
        for each in size.unique().tolist():
            blocks = torch.nonzero(size == each)[:, 0]
            number = torch.full((len(size),), -1).scatter(0, blocks, torch.arange(len(blocks)))
            gram = torch.zeros(len(blocks) * each * each, dtype=torch.float64)
            for one, left in zip(self.families, member, strict=True):
                for other, right in zip(self.families, member, strict=True):
                    both = torch.nonzero((left >= 0) & (right >= 0) & (number[block[left]] >= 0))[:, 0]
                    i, j = left[both], right[both]
                    place = (number[block[i]] * each + within[i]) * each + within[j]
                    gram.index_add_(0, place, (one.values * other.values)[both])
            values, vectors = torch.linalg.eigh(gram.reshape(-1, each, each))
            kept = values > DEPENDENT
            self.rank += int(kept.sum())
            inverse = torch.where(kept, 1 / values.clamp(min=DEPENDENT), 0)
            members = order[size[block[order]] == each].reshape(-1, each)
            self._groups.append((members, (vectors * inverse[:, None, :]) @ vectors.mT))


def _blocks(member: list[Int[Tensor, " inputs"]], number: int, inputs: int) -> Int[Tensor, " members"]:
    """For every member the block it is in: members that share entries, directly or over others."""
    label = torch.arange(number)
    entry = torch.full((inputs,), number)
    while True:
        for each in member:
            used = each >= 0
            entry[used] = torch.minimum(entry[used], label[each[used]])
        lowest = label.clone()
        for each in member:
            used = each >= 0
            lowest.scatter_reduce_(0, each[used], entry[used], "amin")
        if torch.equal(lowest, label):
            return label
        label = lowest


def _orthonormal(rows: Float[Tensor, "some inputs"], angle: float) -> Float[Tensor, "rank inputs"]:
    """An orthonormal basis of what rows span, up to a sine."""
    if not len(rows):
        return rows
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    return directions[values > angle]
