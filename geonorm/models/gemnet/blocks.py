"""The blocks of GemNet-T: messages of triplets, interaction, update of atoms, output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.models.gemnet.graph import Edges, Triplets
from geonorm.models.gemnet.layers import Dense, PairDense, residuals
from geonorm.models.gemnet.normalization import Normalization, draw_weight, joined, rescaled, scaling_layer
from geonorm.models.gemnet.sizes import Sizes


@dataclass(frozen=True)
class Geometry:
    """What all blocks share of one batch: its graph, and its bases after the shared projections.

    Args:
        edges: The edges.
        triplets: The triplets.
        triplet_filter: Radial basis for the messages of triplets, ``[edges, rbf_channels]``.
        atom_filter: Radial basis for the update of atoms, ``[edges, rbf_channels]``.
        output_filter: Radial basis for the output blocks, ``[edges, rbf_channels]``.
        radial: Radial part of the circular basis, ``[edges, cbf_channels, num_spherical]``.
        angular: Its angular part, from :meth:`~geonorm.models.gemnet.graph.Triplets.matrices`.
        atom_batch: The molecule of each atom, ``[atoms]``.
        edge_batch: The molecule of each edge, ``[edges]``.
        batch_size: The number of molecules.
    """

    edges: Edges
    triplets: Triplets
    triplet_filter: Float[Tensor, "edges rbf_channels"]
    atom_filter: Float[Tensor, "edges rbf_channels"]
    output_filter: Float[Tensor, "edges rbf_channels"]
    radial: Float[Tensor, "edges cbf_channels num_spherical"]
    angular: Float[Tensor, "atoms out_degrees width"]
    atom_batch: Int[Tensor, " atoms"]
    edge_batch: Int[Tensor, " edges"]
    batch_size: int


class Bilinear(nn.Module):
    r"""Sum the messages of the triplets of an edge in a bilinear form with the circular basis.

    $$ o_{eg}=\sum_{f,i}\Big(\sum_l\tilde R_{eil}\sum_kY_{ekl}\,x_{kf}\Big)W_{gfi} $$

    The sum over incoming edges k comes first, so that no tensor has triplets, channels and basis at once.

    Args:
        inputs: The number of columns f of x.
        basis: The number of functions i of the circular basis after its projection.
        outputs: The number of columns g.
        normalization: How to draw W.
    """

    def __init__(self, inputs: int, basis: int, outputs: int, normalization: Normalization) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, basis))
        draw_weight(self.weight, 2, normalization.initialization)

    def forward(
        self,
        x: Float[Tensor, "edges inputs"],
        radial: Float[Tensor, "edges basis degrees"],
        angular: Float[Tensor, "atoms out_degrees width"],
        triplets: Triplets,
    ) -> Float[Tensor, "edges outputs"]:
        """Sum over the triplets of each edge."""
        sums = triplets.sum(angular, x)
        filtered = torch.bmm(sums.transpose(1, 2), radial.transpose(1, 2))
        return nn.functional.linear(filtered.flatten(1), self.weight.flatten(1))

    def extra_repr(self) -> str:
        """The numbers of input columns, basis functions and output columns."""
        outputs, inputs, basis = self.weight.shape
        return f"{inputs}, {basis}, {outputs}"


class TripletInteraction(nn.Module):
    r"""Messages from the edges b → a to the edges c → a, which also update a → c.

    Args:
        sizes: The widths.
        normalization: What normalizes it; two places of its factors are here.
    """

    def __init__(self, sizes: Sizes, normalization: Normalization) -> None:
        super().__init__()
        edge, triplet, bilinear = sizes.edge_channels, sizes.triplet_channels, sizes.bilinear_channels
        self.skip_scaling = normalization.skip_scaling
        self.dense_in = Dense(edge, edge, normalization)
        self.filter = Dense(sizes.rbf_channels, edge, normalization, activation=False)
        self.scale_filter = scaling_layer(edge, normalization.factors)
        self.dense_down = Dense(edge, triplet, normalization)
        self.bilinear = Bilinear(triplet, sizes.cbf_channels, bilinear, normalization)
        self.scale_sum = scaling_layer(bilinear, normalization.factors)
        self.dense_out = Dense(bilinear, edge, normalization)
        self.dense_back = Dense(bilinear, edge, normalization)

    def forward(self, m: Float[Tensor, "edges channels"], geometry: Geometry) -> Float[Tensor, "edges channels"]:
        """The messages to every edge."""
        rows = geometry.edge_batch, geometry.batch_size
        x = self.dense_in(m)
        filtered = x * self.filter(geometry.triplet_filter)
        down = self.dense_down(rescaled(self.scale_filter, filtered, lambda: x, *rows))
        summed = self.bilinear(down, geometry.radial, geometry.angular, geometry.triplets)
        summed = rescaled(self.scale_sum, summed, lambda: down[geometry.triplets.in_edge], *rows)
        return joined(self.dense_out(summed), geometry.edges.swap(self.dense_back(summed)), self.skip_scaling)


class AtomUpdate(nn.Module):
    r"""The sum of the filtered edges that end at an atom, rescaled, and layers on it.

    $$ h_a=\mathrm{Res}\,D\Big(\alpha\sum_{e\to a}m_e\odot V\rho_e\Big) $$

    Args:
        sizes: The widths.
        normalization: What normalizes it; one place of its factors is here.
    """

    def __init__(self, sizes: Sizes, normalization: Normalization) -> None:
        super().__init__()
        self.filter = Dense(sizes.rbf_channels, sizes.edge_channels, normalization, activation=False)
        self.scale = scaling_layer(sizes.edge_channels, normalization.factors)
        self.layers = nn.Sequential(
            Dense(sizes.edge_channels, sizes.atom_channels, normalization),
            *residuals(sizes.num_atom, sizes.atom_channels, normalization),
        )

    def forward(
        self, m: Float[Tensor, "edges channels"], rho: Float[Tensor, "edges rbf_channels"], geometry: Geometry
    ) -> Float[Tensor, "atoms atom_channels"]:
        """The update of every atom from the edges and the filter's input."""
        summed = geometry.edges.sum(m * self.filter(rho))
        return self.layers(rescaled(self.scale, summed, lambda: m, geometry.atom_batch, geometry.batch_size))


class InteractionBlock(nn.Module):
    """Edges hear of triplets, atoms of edges, and edges of atoms.

    Args:
        sizes: The widths.
        normalization: What normalizes it.
    """

    def __init__(self, sizes: Sizes, normalization: Normalization) -> None:
        super().__init__()
        edge = sizes.edge_channels
        self.skip_scaling = normalization.skip_scaling
        self.dense_skip = Dense(edge, edge, normalization)
        self.triplets = TripletInteraction(sizes, normalization)
        self.before_skip = residuals(sizes.num_before_skip, edge, normalization)
        self.after_skip = residuals(sizes.num_after_skip, edge, normalization)
        self.atom_update = AtomUpdate(sizes, normalization)
        self.concat = PairDense(sizes.atom_channels, edge, edge, normalization)
        self.after_concat = residuals(sizes.num_concat, edge, normalization)

    def forward(
        self, h: Float[Tensor, "atoms atom_channels"], m: Float[Tensor, "edges channels"], geometry: Geometry
    ) -> tuple[Float[Tensor, "atoms atom_channels"], Float[Tensor, "edges channels"]]:
        """The next atoms and edges."""
        x = joined(self.dense_skip(m), self.triplets(m, geometry), self.skip_scaling)
        m = self.after_skip(joined(m, self.before_skip(x), self.skip_scaling))
        h = joined(h, self.atom_update(m, geometry.atom_filter, geometry), self.skip_scaling)
        concatenated = self.concat(h, m, geometry.edges.source, geometry.edges.target)
        return h, joined(m, self.after_concat(concatenated), self.skip_scaling)


class OutputBlock(nn.Module):
    """One number for every atom, and one for every edge if forces are direct.

    Args:
        sizes: The widths.
        normalization: What normalizes it; one place of its factors is here, or two.
        direct: Whether to give the numbers of the edges.
    """

    def __init__(self, sizes: Sizes, normalization: Normalization, direct: bool) -> None:
        super().__init__()
        edge = sizes.edge_channels
        self.atom_update = AtomUpdate(sizes, normalization)
        self.energy = Dense(sizes.atom_channels, 1, normalization, activation=False)
        self.direct = direct
        if direct:
            self.filter = Dense(sizes.rbf_channels, edge, normalization, activation=False)
            self.scale_force = scaling_layer(edge, normalization.factors)
            self.force = nn.Sequential(
                Dense(edge, edge, normalization),
                *residuals(sizes.num_atom, edge, normalization),
                Dense(edge, 1, normalization, activation=False),
            )

    def forward(
        self, m: Float[Tensor, "edges channels"], geometry: Geometry
    ) -> tuple[Float[Tensor, "atoms 1"], Float[Tensor, "edges 1"] | None]:
        """Energies of the atoms, and forces along the edges if they are direct."""
        energies = self.energy(self.atom_update(m, geometry.output_filter, geometry))
        if not self.direct:
            return energies, None
        filtered = m * self.filter(geometry.output_filter)
        rows = geometry.edge_batch, geometry.batch_size
        return energies, self.force(rescaled(self.scale_force, filtered, lambda: m, *rows))
