"""Message and update of scalars and vectors, and the places where a normalization may stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.models.gemnet.basis import envelope
from geonorm.models.gemnet.graph import build_edges
from geonorm.models.schnet.initialization import xavier

#: Below this a length counts as its square: a length itself has no derivative at zero, where lone atoms are.
SOFT = 0.1


def soft_length(v: Float[Tensor, "*rows 3"]) -> Float[Tensor, "*rows"]:
    r"""A length that is smooth at zero, $\sqrt{\|v\|^2+a^2}-a$ with $a=0.1$."""
    square = v.square().sum(-1)
    return square / ((square + SOFT**2).sqrt() + SOFT)


def waves(d: Float[Tensor, " edges"], number: int, cutoff: float) -> Float[Tensor, "edges number"]:
    r"""The radial basis $\sin(n\pi d/c)/d$ for n from 1, at positive distances."""
    order = torch.arange(1, number + 1, dtype=d.dtype, device=d.device)
    return torch.sin(d[:, None] * (order * (math.pi / cutoff))) / d[:, None]


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear maps with a SiLU between them."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs)).apply(xavier)


@dataclass(frozen=True)
class Graph:
    """The edges of a batch, and what normalization layers may ask for.

    Args:
        source: The atom j of each edge j → i, ``[edges]``.
        target: Its atom i, ``[edges]``.
        unit: The direction from j to i, ``[edges, 3]``.
        basis: The radial basis, ``[edges, num_radial]``.
        window: The weight of each edge, which ends smoothly at the cutoff, ``[edges, 1]``.
        known: Further arguments of layers by their names: ``batch``, ``batch_size``, ``types``, ``num_neighbors``,
            ``receivers`` and ``distances``.
    """

    source: Int[Tensor, " edges"]
    target: Int[Tensor, " edges"]
    unit: Float[Tensor, "edges 3"]
    basis: Float[Tensor, "edges num_radial"]
    window: Float[Tensor, "edges 1"]
    known: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        pos: Float[Tensor, "atoms 3"],
        types: Int[Tensor, " atoms"],
        batch: Int[Tensor, " atoms"],
        batch_size: int,
        cutoff: float,
        num_radial: int,
    ) -> Graph:
        """Find the edges of a batch of molecules.

        Args:
            pos: Positions, ``[atoms, 3]``.
            types: The type of each atom, ``[atoms]``.
            batch: The molecule of each atom, sorted or not, ``[atoms]``.
            batch_size: The number of molecules.
            cutoff: In the length unit of the positions.
            num_radial: The number of radial functions.

        Returns:
            The graph.
        """
        edges = build_edges(pos, batch, cutoff)
        vectors = pos[edges.target] - pos[edges.source]
        distances = vectors.norm(dim=1)
        known = {
            "batch": batch,
            "batch_size": batch_size,
            "types": types,
            "num_neighbors": torch.bincount(edges.target, minlength=len(pos)),
            "receivers": edges.target,
            "distances": distances,
        }
        basis, window = waves(distances, num_radial, cutoff), envelope(distances / cutoff)[:, None]
        return cls(edges.source, edges.target, vectors / distances[:, None], basis, window, known)


class Message(nn.Module):
    r"""Sums over neighbours: of filtered scalars, of filtered vectors, and of directions.

    $$ (a,b,c)_{ij}=\varphi(s_j)\odot W(d_{ij}),\qquad
       \Delta s_i=\sum_ja_{ij},\qquad \Delta\mathbf v_i=\sum_jb_{ij}\,\mathbf v_j+c_{ij}\,\mathbf e_{ij} $$

    Args:
        width: The number of scalars, and of vectors.
        num_radial: The number of radial functions.
    """

    def __init__(self, width: int, num_radial: int) -> None:
        super().__init__()
        self.scalars = perceptron(width, width, 3 * width)
        self.filters = nn.Linear(num_radial, 3 * width).apply(xavier)

    def forward(
        self, s: Float[Tensor, "atoms width"], v: Float[Tensor, "atoms width 3"], graph: Graph
    ) -> tuple[Float[Tensor, "atoms width"], Float[Tensor, "atoms width 3"]]:
        """Return the sums over the neighbours of each atom."""
        edges = self.scalars(s)[graph.source] * (self.filters(graph.basis) * graph.window)
        a, b, c = edges.chunk(3, 1)
        moved = b[:, :, None] * v[graph.source] + c[:, :, None] * graph.unit[:, None, :]
        return torch.zeros_like(s).index_add(0, graph.target, a), torch.zeros_like(v).index_add(0, graph.target, moved)


class Update(nn.Module):
    r"""What the scalars and the vectors of an atom tell each other.

    $$ (a,b,c)_i=\psi\big(s_i,|V\mathbf v_i|\big),\qquad
       \Delta s_i=a_i+b_i\odot\langle U\mathbf v_i,V\mathbf v_i\rangle,\qquad \Delta\mathbf v_i=c_i\odot U\mathbf v_i $$

    U and V mix channels, and $|\cdot|$ is smooth at zero.

    Args:
        width: The number of scalars, and of vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, 2 * width, bias=False).apply(xavier)
        self.scalars = perceptron(2 * width, width, 3 * width)

    def forward(
        self, s: Float[Tensor, "atoms width"], v: Float[Tensor, "atoms width 3"]
    ) -> tuple[Float[Tensor, "atoms width"], Float[Tensor, "atoms width 3"]]:
        """Return what is added to scalars and vectors."""
        one, other = self.mix(v.mT).mT.chunk(2, 1)
        a, b, c = self.scalars(torch.cat([s, soft_length(other)], 1)).chunk(3, 1)
        return a + b * (one * other).sum(2), c[:, :, None] * one


class Block(nn.Module):
    """A message and an update, each added to what was there, with two places for a normalization.

    Layers that act on messages stand where the sums over neighbours are, before they are added; all others stand after
    the update.

    Args:
        width: The number of scalars, and of vectors.
        num_radial: The number of radial functions.

    Attributes:
        sums: What normalizes the sums over neighbours, or ``None``.
        after: What normalizes the result, or ``None``.
    """

    def __init__(self, width: int, num_radial: int) -> None:
        super().__init__()
        self.message, self.update = Message(width, num_radial), Update(width)
        self.sums: nn.Module | None = None
        self.after: nn.Module | None = None

    def forward(
        self, s: Float[Tensor, "atoms width"], v: Float[Tensor, "atoms width 3"], graph: Graph
    ) -> tuple[Float[Tensor, "atoms width"], Float[Tensor, "atoms width 3"]]:
        """Return the new scalars and vectors.

        Args:
            s: Scalars, ``[atoms, width]``.
            v: Vectors, ``[atoms, width, 3]``.
            graph: The edges.

        Returns:
            Both, normalized.
        """
        ds, dv = self.message(s, v, graph)
        if self.sums is not None:
            ds, dv = self.sums(ds, dv, graph.known, (s, v))
        s, v = s + ds, v + dv
        ds, dv = self.update(s, v)
        s, v = s + ds, v + dv
        return (s, v) if self.after is None else self.after(s, v, graph.known)
