"""The network itself: energies with forces, or values of atom pairs, with any row of the tables in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import Segments
from geonorm.models.allegro import default_device
from geonorm.models.backbone.blocks import Block, Graph
from geonorm.models.backbone.constants import fit_constants
from geonorm.models.backbone.places import Called
from geonorm.models.backbone.readouts import AtomReadout, PairReadout
from geonorm.models.backbone.rows import arguments, built, named_row, normalize_blocks, takes
from geonorm.models.forces import with_forces
from geonorm.models.measured import Measured


class Backbone(nn.Module):
    r"""Energies and forces, or values of atom pairs, by messages of scalars and vectors and one normalization by name.

    $$ (s,\mathbf v)\leftarrow\mathcal N\big((s,\mathbf v)+\text{message}\big),\ \ldots\qquad
       E=\sum_ie(s_i,|P\mathbf v_i|),\qquad F_i=-\frac{\partial E}{\partial r_i} $$

    Messages and updates are those of PaiNN, but for an envelope with two derivatives at the cutoff, lengths that are
    smooth at zero, and a read-out that looks at vectors too. PaiNN itself normalizes nothing.

    After every block stands the normalization, of scalars and of vectors; a row that acts on messages stands at the
    sums over neighbours of the block instead, one of weights in every linear map of the block, and PerTypeScaleShift at
    the energies of atoms. A row of irreps is given scalars and vectors together, a row of vectors leaves the scalars
    alone, TensorNorm sees $s\,\mathbb 1+[\mathbf v]_\times$. A row that was made for scalars is given the scalars, and
    apart from them the components of all vectors as channels like any others: most such rows break rotations there.

    Args:
        normalization: ``"none"``, or the name of any row of the tables or of a variant, in any spelling.
        width: The number of scalars, and of vectors.
        blocks: The number of blocks.
        cutoff: In the length unit of the positions.
        seed: Of the weights. The weights of the network are the same for every normalization.
        readout: ``"energy"`` or ``"pairs"``.
        on_vectors: ``"row"`` normalizes the vectors too, ``"none"`` the scalars alone.
        norm_options: Further arguments of the normalization layer, such as ``{"num_groups": 4}``.
        elements: The nuclear charges that the network tells apart, which are the types of atoms.
        num_radial: The number of radial functions.
        device: Where the weights live; None takes GEONORM_DEVICE, else the CPU.
        dtype: Of the weights, and of what is computed.

    Raises:
        ValueError: If a name is unknown, a number out of range, or nothing is left to normalize.

    Source: Schütt, Unke and Gastegger 2021 (arXiv 2102.03150) for messages and updates.
    """

    def __init__(
        self,
        normalization: str = "none",
        width: int = 32,
        blocks: int = 3,
        cutoff: float | int = 5.0,
        seed: int = 0,
        readout: str = "energy",
        on_vectors: str = "row",
        norm_options: Mapping[str, Any] | None = None,
        elements: Sequence[int] = (1, 6, 7, 8, 9),
        num_radial: int = 16,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if readout not in ("energy", "pairs"):
            raise ValueError(f"readout is {readout!r}, expected 'energy' or 'pairs'")
        if on_vectors not in ("row", "none"):
            raise ValueError(f"on_vectors is {on_vectors!r}, expected 'row' or 'none'")
        if not cutoff > 0 or min(width, blocks, num_radial) < 1:
            raise ValueError(
                f"cutoff is {cutoff}, width {width}, blocks {blocks} and num_radial {num_radial}: expected a positive "
                "length and at least one of each"
            )
        self.normalization, self.readout, self.on_vectors = normalization, readout, on_vectors
        self.width, self.cutoff, self.num_radial, self.elements = width, float(cutoff), num_radial, tuple(elements)
        columns = torch.full((max(self.elements) + 1,), -1)
        columns[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("type_of_charge", columns, persistent=False)
        self.register_buffer("has_constants", torch.tensor(True))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(len(self.elements), width)
            self.blocks = nn.ModuleList(Block(width, num_radial) for _ in range(blocks))
            self.last = AtomReadout(width) if readout == "energy" else PairReadout(width, num_radial, self.cutoff)
            self.to(dtype)
            self.per_type: Called | None = None
            # After all weights: what a row draws leaves them as they are.
            self._normalize(dict(norm_options or {}), dtype)
        self.to(default_device(device))

    def _normalize(self, options: dict[str, Any], dtype: torch.dtype | None) -> None:
        """Put the row in its places."""
        self.row, self.to_fit = None, False
        if self.normalization == "none":
            if options:
                raise ValueError(f"normalization is 'none' and has the options {options}, expected none of them")
            return
        self.row = row = named_row(self.normalization)
        options, self.to_fit = arguments(row, options, len(self.elements), self.cutoff)
        self.has_constants.fill_(not self.to_fit)
        if takes(row) == "atom energies":
            self.per_type = Called(built(row, lambda: row.make(1, **{"promote": True, **options})))
        else:
            normalize_blocks(row, self.blocks, self.width, self.on_vectors == "row", options, dtype)

    def forward(
        self,
        z: Int[Tensor, " atoms"],
        pos: Float[Tensor, "atoms 3"],
        batch: Int[Tensor, " atoms"] | None = None,
        batch_size: int | None = None,
        pair_index: Int[Tensor, "2 pairs"] | None = None,
    ) -> tuple[Float[Tensor, " molecules"], Float[Tensor, "atoms 3"]] | Float[Tensor, " pairs"]:
        """Return energies and forces, or the values of pairs.

        In training mode energies and forces can be differentiated, unless gradients are switched off; in evaluation
        mode they are detached. Forces come from the sum of all energies: where a normalization couples molecules, the
        force on an atom holds the response of the others too.

        Args:
            z: Nuclear charges, ``[atoms]``.
            pos: Positions, ``[atoms, 3]``.
            batch: The molecule of each atom, sorted or not, ``[atoms]``; one molecule if it is missing.
            batch_size: The number of molecules.
            pair_index: The two atoms of each pair, ``[2, pairs]``, for the read-out of pairs.

        Returns:
            Energies ``[molecules]`` and forces ``[atoms, 3]``, or values ``[pairs]``, in the units of training.

        Raises:
            ValueError: If an element has no type, or pairs are missing or not wanted.
            RuntimeError: If a constant has not been fitted.
        """
        if (pair_index is None) == (self.readout == "pairs"):
            raise ValueError(
                f"the readout is {self.readout!r} and pair_index is {'missing' if pair_index is None else 'given'}: "
                "expected the pairs for the readout 'pairs', and only for it"
            )
        if self.readout == "pairs":
            s, v, graph = self.features(z, pos, batch, batch_size)
            y = self.last(s, v, pos.to(s.dtype), pair_index)
            if self.per_type is not None:
                # The value is a sum over the two atoms, as an energy is one over all.
                types = graph.known["types"][pair_index].flatten()
                y = self.per_type((y / 2).repeat(2, 1), {"types": types}).view(2, -1).sum(0)
            return y.reshape(-1).to(s.dtype)
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
            Energies, ``[molecules]``.
        """
        s, v, graph = self.features(z, pos, batch, batch_size)
        energies = self.last(s, v)
        if self.per_type is not None:
            energies = self.per_type(energies, graph.known)
        total = energies.new_zeros(graph.known["batch_size"]).index_add(0, graph.known["batch"], energies[:, 0])
        return total.to(s.dtype)

    def features(
        self,
        z: Int[Tensor, " atoms"],
        pos: Float[Tensor, "atoms 3"],
        batch: Int[Tensor, " atoms"] | None = None,
        batch_size: int | None = None,
    ) -> tuple[Float[Tensor, "atoms width"], Float[Tensor, "atoms width 3"], Graph]:
        """Return scalars and vectors after the last block, and the graph.

        Args:
            z: Nuclear charges, ``[atoms]``.
            pos: Positions, ``[atoms, 3]``.
            batch: The molecule of each atom, ``[atoms]``.
            batch_size: The number of molecules.

        Returns:
            Scalars ``[atoms, width]``, vectors ``[atoms, width, 3]``, and the graph.
        """
        if not self.has_constants:
            raise RuntimeError(
                f"the constants of {self.row.name} have not been fitted: call fit(batches) on a few batches before "
                "training, give them as norm_options, or load a state dict in which they are"
            )
        graph = self.graph(z, pos, batch, batch_size)
        s = self.embedding(graph.known["types"])
        v = s.new_zeros(*s.shape, 3)
        for block in self.blocks:
            s, v = block(s, v, graph)
        return s, v, graph

    def graph(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, batch_size: int | None = None) -> Graph:
        """The edges of a batch, with what normalization layers may ask for."""
        segments = Segments.from_batch(pos, batch, batch_size)
        index = torch.zeros_like(z) if segments.index is None else segments.index.long()
        types = self.type_of_charge[z.clamp(0, len(self.type_of_charge) - 1)]
        types = torch.where(z < len(self.type_of_charge), types, -1)
        if (types < 0).any():
            unknown = sorted(set(z[types < 0].tolist()))
            raise ValueError(f"z holds the nuclear charges {unknown}, the network knows the elements {self.elements}")
        pos = pos.to(self.embedding.weight.dtype)
        return Graph.of(pos, types, index, segments.num_samples, self.cutoff, self.num_radial)

    def measured_layers(self) -> dict[str, Measured]:
        """The layers whose sizes :func:`geonorm.experiments.layer_sizes` reports, in order of depth.

        Of every block: the sums over neighbours before they are normalized, and scalars and vectors after the block.
        """
        layers: dict[str, Measured] = {"embedding": self.embedding}
        for number, block in enumerate(self.blocks, start=1):
            layers |= {
                f"sum of scalars {number}": (block.message, 0),
                f"sum of vectors {number}": (block.message, 1),
                f"scalars {number}": (block, 0),
                f"vectors {number}": (block, 1),
            }
        return layers | {"read-out": self.last}

    def fit(self, batches: Iterable[Any]) -> dict[str, Any]:
        """Find the constants of the row in a few batches of the training set; other rows have none.

        Constants that were given as options stay.

        Args:
            batches: Mappings with ``z``, ``pos``, ``batch`` and ``batch_size``, for PerTypeScaleShift also with
                ``energy`` and perhaps ``forces``, or with ``pair_index`` and ``targets``; or what ``batch`` of
                :class:`geonorm.data.Configurations` and of :class:`geonorm.data.Couplings` returns.

        Returns:
            What was found, by name.

        Raises:
            ValueError: If there are no batches, or they do not determine the constants.
        """
        return fit_constants(self, batches)

    def extra_repr(self) -> str:
        """What is normalized how."""
        return f"normalization={self.normalization!r}, cutoff={self.cutoff}, on_vectors={self.on_vectors!r}"
