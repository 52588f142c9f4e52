"""GemNet-T: energies and forces from distances and from the angles between neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import Segments
from geonorm.layers.modern.scale_factor import fit_scale_factors
from geonorm.models.allegro import default_device
from geonorm.models.forces import with_forces
from geonorm.models.gemnet.basis import RadialBasis, SphericalBesselBasis, legendre
from geonorm.models.gemnet.blocks import Geometry, InteractionBlock, OutputBlock
from geonorm.models.gemnet.graph import build_edges, build_triplets
from geonorm.models.gemnet.layers import AtomEmbedding, Dense, PairDense
from geonorm.models.gemnet.normalization import Normalization, draw_weight, named_normalization
from geonorm.models.gemnet.sizes import Sizes, named_sizes
from geonorm.models.measured import Measured


class GemNet(nn.Module):
    r"""Energies and forces by GemNet-T, written from its description, with each normalizer switchable by itself.

    $$ E=\sum_a\sum_{b=0}^Bt^{(b)}_a,\qquad F_a=-\frac{\partial E}{\partial r_a}\ \ \text{or}\ \
       \sum_{e=c\to a}f_e\,\frac{r_a-r_c}{d_e} $$

    Four mechanisms keep the size of activations (:class:`Normalization`): scale factors after filters and sums over
    neighbours, fitted before training and constant from then on; $1/\sqrt2$ after every sum of two terms; SiLU/0.6; and
    the initialization. A layer of the tables can take the place of the factors: BatchNorm over rows then lets molecules
    of a batch see each other.

    ``geonorm.check_network(model, {"z": z, "pos": pos, "batch": batch}, task, outputs={"output 1": "1o"})`` finds what
    lets molecules see each other.

    Energies have the dtype of the network, forces that of the positions where they are gradients. An atom without
    neighbours has no energy, as long as no layer with a bias or a mean stands in the place of the factors. Building
    draws from no global random state.

    Args:
        size: ``"default"`` as published, ``"small"``, or :class:`Sizes` of your own.
        normalization: A name of :data:`~geonorm.models.gemnet.NORMALIZATIONS` or a combination of your own.
        forces: ``"gradient"`` of the energy, or ``"direct"`` from the edges, which conserves no energy.
        cutoff: In the length unit of the positions.
        coupled: Give an edge and its reverse the mean of their direct forces, so that the forces of a molecule add up
            to zero.
        seed: Of the weights.
        device: Where the weights live; None takes GEONORM_DEVICE, else the CPU.
        **sizes: Fields of :class:`Sizes` to change.

    Raises:
        ValueError: If a name is unknown, or a number out of range.

    Source: Gasteiger, Becker and Günnemann 2021 (arXiv 2106.08903); TUM-DAML/gemnet_pytorch at a0164f7 for sizes.
    """

    def __init__(
        self,
        size: str | Sizes = "default",
        normalization: str | Normalization = "fitted",
        forces: str = "gradient",
        cutoff: float | int = 5.0,
        coupled: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        **sizes: int,
    ) -> None:
        super().__init__()
        if forces not in ("gradient", "direct"):
            raise ValueError(f"forces is {forces!r}, expected 'gradient' or 'direct'")
        if not cutoff > 0:
            raise ValueError(f"cutoff is {cutoff}, expected a positive length")
        self.sizes, self.normalization = named_sizes(size, **sizes), named_normalization(normalization)
        self.forces, self.cutoff, self.coupled = forces, float(cutoff), coupled
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build()
        self.to(default_device(device))

    def _build(self) -> None:
        sizes, how = self.sizes, self.normalization
        self.radial_basis = RadialBasis(sizes.num_radial, self.cutoff)
        self.circular_basis = SphericalBesselBasis(sizes.num_spherical, sizes.num_radial, self.cutoff)
        self.triplet_filter, self.atom_filter, self.output_filter = (
            Dense(sizes.num_radial, sizes.rbf_channels, how, activation=False) for _ in range(3)
        )
        self.circular_filter = nn.Parameter(torch.empty(sizes.cbf_channels, sizes.num_spherical, sizes.num_radial))
        draw_weight(self.circular_filter, 2, how.initialization)
        self.embedding = AtomEmbedding(sizes.atom_channels, sizes.num_elements)
        self.edge_embedding = PairDense(sizes.atom_channels, sizes.num_radial, sizes.edge_channels, how)
        self.interactions = nn.ModuleList(InteractionBlock(sizes, how) for _ in range(sizes.num_blocks))
        direct = self.forces == "direct"
        self.outputs = nn.ModuleList(OutputBlock(sizes, how, direct) for _ in range(sizes.num_blocks + 1))

    def forward(
        self,
        z: Int[Tensor, " atoms"],
        pos: Float[Tensor, "atoms 3"],
        batch: Int[Tensor, " atoms"] | None = None,
        batch_size: int | None = None,
    ) -> tuple[Float[Tensor, " molecules"], Float[Tensor, "atoms 3"]]:
        """Return energies and forces.

        In training mode both can be differentiated, unless gradients are switched off; in evaluation mode they are
        detached. Forces come out under ``torch.no_grad`` and ``torch.inference_mode`` too.

        Args:
            z: Nuclear charges, ``[atoms]``.
            pos: Positions, ``[atoms, 3]``.
            batch: The molecule of each atom, sorted or not, ``[atoms]``; one molecule if it is missing.
            batch_size: The number of molecules.

        Returns:
            Energies ``[molecules]`` and forces ``[atoms, 3]``, in the units in which they were trained.
        """
        if self.forces == "direct":
            energy, forces = self._predict(z, pos, batch, batch_size)
            return (energy, forces) if self.training else (energy.detach(), forces.detach())
        given = (z,) if batch is None else (z, batch)

        def energies(pos: Tensor, z: Tensor, batch: Tensor | None = None) -> Tensor:
            return self.energy(z, pos, batch, batch_size)

        return with_forces(energies, pos, *given, training=self.training)

    def energy(
        self,
        z: Int[Tensor, " atoms"],
        pos: Float[Tensor, "atoms 3"],
        batch: Int[Tensor, " atoms"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, " molecules"]:
        """Return the energies alone, in either mode differentiable by whatever requires gradients.

        Args:
            z: Nuclear charges, ``[atoms]``.
            pos: Positions, ``[atoms, 3]``.
            batch: The molecule of each atom, ``[atoms]``.
            batch_size: The number of molecules.

        Returns:
            Energies ``[molecules]``.
        """
        return self._predict(z, pos, batch, batch_size)[0]

    def measured_layers(self) -> dict[str, Measured]:
        """The layers whose sizes :func:`geonorm.experiments.layer_sizes` reports, in order of depth.

        Of every block: its two places of factors at triplets and the message that comes of them, its place of factors
        at atoms, atoms and edges after the block, and the energies of atoms that its output block adds.
        """
        layers: dict[str, Measured] = {"edge embedding": self.edge_embedding, "output 0": (self.outputs[0], 0)}
        for number, (block, output) in enumerate(zip(self.interactions, self.outputs[1:], strict=True), start=1):
            layers |= {
                f"triplet filter {number}": block.triplets.scale_filter,
                f"triplet sum {number}": block.triplets.scale_sum,
                f"triplet message {number}": block.triplets,
                f"atom sum {number}": block.atom_update.scale,
                f"atoms {number}": (block, 0),
                f"edges {number}": (block, 1),
                f"output {number}": (output, 0),
            }
        return layers

    def fit(self, batches: Iterable) -> dict[str, float]:
        """Fit the scale factors, one after the other, to batches of the training set (25 of 32 as published).

        Factors are fitted in the order in which the network meets them; that of creation gives the same, since none
        depends on one that is met later.

        Args:
            batches: Tuples ``(z, pos, batch)`` or ``(z, pos, batch, batch_size)``, or mappings or data objects with
                these entries and any others.

        Returns:
            The factors by the names of their modules; none where there is nothing to fit.

        Raises:
            ValueError: If the batches hold too few rows for a variance.
        """
        if self.normalization.factors != "fitted":
            return {}
        return fit_scale_factors(self, batches, call=lambda model, batch: model._predict(*_arguments(batch)))

    def _predict(
        self, z: Tensor, pos: Tensor, batch: Tensor | None = None, batch_size: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Energies, and forces if they are direct."""
        geometry, basis, unit = self._geometry(pos, batch, batch_size)
        source, target = geometry.edges.source, geometry.edges.target
        h = self.embedding(z)
        m = self.edge_embedding(h, basis, source, target)
        energies, along = self.outputs[0](m, geometry)
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            h, m = interaction(h, m, geometry)
            more, further = output(m, geometry)
            energies = energies + more
            along = None if along is None else along + further
        energy = energies.new_zeros(geometry.batch_size).index_add(0, geometry.atom_batch, energies[:, 0])
        if along is None:
            return energy, None
        if self.coupled:
            along = (along + geometry.edges.swap(along)) / 2
        return energy, geometry.edges.sum(along * unit)

    def _geometry(
        self, pos: Tensor, batch: Tensor | None, batch_size: int | None
    ) -> tuple[Geometry, Float[Tensor, "edges num_radial"], Float[Tensor, "edges 3"]]:
        """The graph with its bases, the radial basis itself, and the unit vectors of the edges."""
        segments = Segments.from_batch(pos, batch, batch_size)
        index = pos.new_zeros(len(pos), dtype=torch.long) if segments.index is None else segments.index.long()
        edges = build_edges(pos, index, self.cutoff)
        triplets = build_triplets(edges)
        vectors = pos[edges.target] - pos[edges.source]
        d = vectors.norm(dim=1)
        unit = vectors / d[:, None]
        dtype = self.circular_filter.dtype
        cosine = (unit[triplets.out_edge] * unit[triplets.in_edge]).sum(1)
        angular = triplets.matrices(legendre(cosine, self.sizes.num_spherical).to(dtype))
        radial = torch.einsum("eln,iln->eil", self.circular_basis(d).to(dtype), self.circular_filter)
        basis = self.radial_basis(d)
        filters = (layer(basis) for layer in (self.triplet_filter, self.atom_filter, self.output_filter))
        geometry = Geometry(
            edges, triplets, *filters, radial, angular, index, index[edges.target], segments.num_samples
        )
        return geometry, basis, unit.to(dtype)


def _arguments(batch: object) -> tuple:
    """The inputs of the network that a batch holds."""
    if isinstance(batch, tuple | list):
        return tuple(batch)
    entries = batch if isinstance(batch, Mapping) else batch.to_dict()
    return entries["z"], entries["pos"], entries.get("batch"), entries.get("batch_size")
