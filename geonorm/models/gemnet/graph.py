"""Edges within the cutoff, their reverses, and the pairs of edges that end at one atom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Edges:
    """All ordered pairs of atoms of one molecule within the cutoff: pairs first, then the same pairs reversed.

    Args:
        source: The atom c of each edge c → a, ``[edges]``.
        target: Its atom a, ``[edges]``.
        num_atoms: The number of atoms of the batch.
    """

    source: Int[Tensor, " edges"]
    target: Int[Tensor, " edges"]
    num_atoms: int

    def swap(self, x: Float[Tensor, "edges *columns"]) -> Float[Tensor, "edges *columns"]:
        """Give every edge the row of its reverse."""
        return x.roll(len(self.source) // 2, 0)

    def sum(self, x: Float[Tensor, "edges columns"]) -> Float[Tensor, "atoms columns"]:
        """Add the rows of the edges that end at each atom."""
        return x.new_zeros(self.num_atoms, x.shape[1]).index_add(0, self.target, x)


@dataclass(frozen=True)
class Triplets:
    r"""Pairs of different edges (e, k) that end at the same atom, and a place for each in a padded table of atoms.

    Args:
        out_edge: e = c → a of each triplet, ascending, ``[triplets]``.
        in_edge: k = b → a with b ≠ c, ``[triplets]``.
        slot: A place for each edge among the ``width`` places of its target, ``[edges]``.
        width: The largest number of edges that end at one atom, and at least one.
        num_atoms: The number of atoms of the batch.
    """

    out_edge: Int[Tensor, " triplets"]
    in_edge: Int[Tensor, " triplets"]
    slot: Int[Tensor, " edges"]
    width: int
    num_atoms: int

    def matrices(self, values: Float[Tensor, "triplets degrees"]) -> Float[Tensor, "atoms out_degrees width"]:
        """One matrix for each atom, from its edges k to its edges e and the degrees; zero where there is no triplet."""
        place = self.slot[self.out_edge] * self.width + self.slot[self.in_edge] % self.width
        table = values.new_zeros(self.num_atoms * self.width**2, values.shape[1]).index_copy(0, place, values)
        table = table.view(self.num_atoms, self.width, self.width, values.shape[1]).transpose(2, 3)
        return table.reshape(self.num_atoms, self.width * values.shape[1], self.width)

    def sum(
        self, matrices: Float[Tensor, "atoms out_degrees width"], x: Float[Tensor, "edges channels"]
    ) -> Float[Tensor, "edges degrees channels"]:
        r"""Add the features of the incoming edges, weighed for every degree: $s_{elf}=\sum_kY_{ekl}x_{kf}$."""
        table = x.new_zeros(self.num_atoms * self.width, x.shape[1]).index_copy(0, self.slot, x)
        sums = matrices @ table.view(self.num_atoms, self.width, x.shape[1])
        return sums.view(self.num_atoms * self.width, matrices.shape[1] // self.width, x.shape[1])[self.slot]


def build_edges(pos: Float[Tensor, "atoms 3"], batch: Int[Tensor, " atoms"], cutoff: float) -> Edges:
    """Find all pairs of different places within the cutoff, in every molecule.

    Args:
        pos: Positions, ``[atoms, 3]``.
        batch: The molecule of each atom, sorted or not, ``[atoms]``.
        cutoff: In the length unit of the positions.

    Returns:
        The edges.
    """
    with torch.no_grad():
        order = torch.argsort(batch, stable=True)
        place = torch.arange(len(batch), device=pos.device)
        sizes = torch.bincount(batch)
        # After an atom come, in its molecule, that many more.
        after = sizes.cumsum(0)[batch[order]] - place - 1
        first = place.repeat_interleave(after)
        second = first + 1 + _count_within(after, first)
        first, second = order[first], order[second]
        d = (pos[first] - pos[second]).norm(dim=1)
        close: Bool[Tensor, " pairs"] = (d > 0) & (d < cutoff)
        first, second = first[close], second[close]
    return Edges(torch.cat([first, second]), torch.cat([second, first]), len(batch))


def build_triplets(edges: Edges) -> Triplets:
    """Find all pairs of different edges that end at the same atom: n (n - 1) at an atom of n edges.

    Args:
        edges: The edges.

    Returns:
        The triplets.
    """
    target = edges.target
    counts = torch.bincount(target, minlength=edges.num_atoms)
    start = counts.cumsum(0) - counts
    order = torch.argsort(target, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start[target[order]]
    others = counts[target] - 1
    out_edge = torch.arange(len(order), device=order.device).repeat_interleave(others)
    among = _count_within(others, out_edge)
    among = among + (among >= rank[out_edge])  # skips the edge itself
    in_edge = order[start[target[out_edge]] + among]
    width = max(1, int(counts.max())) if len(counts) else 1
    return Triplets(out_edge, in_edge, target * width + rank, width, edges.num_atoms)


def _count_within(repeats: Int[Tensor, " groups"], group: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Number the rows of each group from zero, where group g has ``repeats[g]`` rows that follow each other."""
    start = repeats.cumsum(0) - repeats
    return torch.arange(len(group), device=group.device) - start[group]
