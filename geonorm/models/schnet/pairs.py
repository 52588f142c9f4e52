"""The pairs of atoms of a batch of molecules, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.layers.neighbors import count_neighbors
from geonorm.numerics import safe_norm


@dataclass(frozen=True)
class Pairs:
    r"""Every pair of neighbouring atoms once, and perhaps every atom with itself.

    A filter depends on the distance alone, so one filter serves both directions of a pair: half the work of a list of
    directed edges.

    Args:
        first: The one atom of each pair, ``[pairs]``.
        second: The other, of the same molecule, ``[pairs]``.
        distances: Å, ``[pairs]``; with ``with_self`` a last entry more, the distance zero of an atom to itself.
        num_nodes: The number of atoms of the batch.
        with_self: Every atom is a neighbour of its own too.
    """

    first: Int[Tensor, " pairs"]
    second: Int[Tensor, " pairs"]
    distances: Float[Tensor, " distances"]
    num_nodes: int
    with_self: bool = False

    @classmethod
    def of(
        cls,
        pos: Float[Tensor, "nodes 3"],
        batch: Int[Tensor, " nodes"],
        batch_size: int,
        cutoff: float | int | None = None,
        with_self: bool = False,
    ) -> Pairs:
        """Find the pairs of a batch.

        Args:
            pos: Positions of the atoms in Å, ``[nodes, 3]``.
            batch: The molecule of each atom, ``[nodes]``, sorted or not.
            batch_size: The number of molecules.
            cutoff: Keep pairs up to this distance in Å; ``None`` keeps all.
            with_self: Let every atom be a neighbour of its own.

        Returns:
            The pairs.
        """
        first, second = pairs_of_samples(batch, batch_size)
        distances = safe_norm(pos[first] - pos[second])
        if cutoff is not None:
            near = torch.nonzero(distances.detach() <= cutoff).squeeze(1)
            first, second, distances = first[near], second[near], distances[near]
        if with_self:
            distances = torch.cat([distances, distances.new_zeros(1)])
        return cls(first, second, distances, len(pos), with_self)

    def num_neighbors(self) -> Int[Tensor, " nodes"]:
        """The number of neighbours of each atom, ``[nodes]``; itself counts where it is one."""
        return count_neighbors(torch.cat([self.first, self.second]), self.num_nodes) + int(self.with_self)

    def edges(self) -> tuple[Int[Tensor, " edges"], Float[Tensor, " edges"]]:
        """The receivers and the distances of the directed edges: both directions of every pair, then the atoms."""
        receivers, pair = torch.cat([self.first, self.second]), self.distances[: len(self.first)]
        distances = torch.cat([pair, pair])
        if self.with_self:
            own = torch.arange(self.num_nodes, device=receivers.device)
            receivers, distances = (
                torch.cat([receivers, own]),
                torch.cat([distances, self.distances[-1:].expand(len(own))]),
            )
        return receivers, distances

    def sum(
        self, x: Float[Tensor, "nodes channels"], filters: Float[Tensor, "distances channels"]
    ) -> Float[Tensor, "nodes channels"]:
        r"""Add up, for every atom, its neighbours' features times the filter of their distance.

        $$ y_i=\sum_{j\in\mathcal N(i)}x_j\odot W(d_{ij}) $$

        Args:
            x: The features of the atoms.
            filters: One row for each of :attr:`distances`.

        Returns:
            The sums, ``[nodes, channels]``.
        """
        pair = filters[: len(self.first)]
        y = x * filters[-1] if self.with_self else torch.zeros_like(x)
        y = y.index_add(0, self.first, x[self.second] * pair)
        return y.index_add(0, self.second, x[self.first] * pair)


def pairs_of_samples(
    batch: Int[Tensor, " nodes"], batch_size: int
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """All pairs of different nodes of one sample, each once.

    Args:
        batch: The sample of each node, ``[nodes]``, sorted or not.
        batch_size: The number of samples.

    Returns:
        The two nodes of each pair, ``[pairs]`` each.
    """
    order = torch.argsort(batch, stable=True)
    counts = torch.bincount(batch, minlength=batch_size)
    ends = counts.cumsum(0)[batch[order]]
    # In sorted order the partners of a node are the nodes from its own place to the end of its sample.
    place = torch.arange(len(batch), device=batch.device)
    partners = ends - place - 1
    first = place.repeat_interleave(partners)
    begin = partners.cumsum(0) - partners
    second = first + 1 + torch.arange(len(first), device=batch.device) - begin[first]
    return order[first], order[second]
