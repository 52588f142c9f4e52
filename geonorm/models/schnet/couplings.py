"""The SchNet of the code that Figure 2 cites: couplings of atom pairs, with batch normalization in every block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.data.couplings import CONTRIBUTIONS
from geonorm.layers.neighbors import count_neighbors
from geonorm.models.measured import Measured
from geonorm.models.schnet.initialization import lecun
from geonorm.models.schnet.interaction import GaussianBasis, Interaction, known_to_layers, named_activation
from geonorm.models.schnet.pairs import Pairs
from geonorm.numerics import safe_norm

#: Nuclear charges of the elements that the input tells apart, in the order of the columns: H, C, N, O, F.
ELEMENTS = (1, 6, 7, 8, 9)
#: Atoms closer than this, in Å, count as bonded; so many counts are told apart.
BOND_LENGTH, MAX_BONDS = 1.5, 5


class CouplingSchNet(nn.Module):
    r"""Contributions to the scalar coupling of atom pairs, from SchNet blocks without a cutoff.

    $$ h_i\leftarrow h_i+\mathrm{BN}\Big(L_2\,\mathrm{softplus}\big(L_1\sum_j(L_0h_j)\odot W(d_{ij})\big)\Big),\qquad
       J_{ij}=\mathrm{MLP}\big([h_i,x_i,h_j,x_j,d_{ij}]\big) $$

    The sum runs over all atoms of the molecule, $j=i$ with $d=0$ among them. The input $x$ is the element and the
    number of atoms within 1.5 Å, one-hot; an atom without any shares the column of five or more. The
    filter is $W=\sigma(L\,\sigma(L\,e(d)))$ over 300 Gaussians of 0.1 Å spacing. The result depends on the order of
    the pair, although the coupling does not.

    Args:
        normalization: ``"batch"`` (as cited), ``"batch frozen"`` (what its training script does in effect: live
            statistics for some batches, frozen ones afterwards), ``"none"``, ``"neighbour mean"``, or any row of the
            tables that takes scalars.
        norm_options: Further arguments of the normalization layer, such as ``{"freeze_after": 50}``.
        activation: σ of the filters, ``"softplus"`` (until September 2019) or ``"shifted softplus"`` (since then). The
            blocks use plain softplus.
        channels: The width.
        num_interactions: The number of blocks.
        num_gaussians: The number of Gaussians, 0.1 Å apart.
        seed: Of the weights: normal with variance 1/fan-in, bias zero, as Chainer starts them.
        device: Where the weights live.
        dtype: Of the weights, and of what is computed.

    Raises:
        ValueError: If a name is unknown.

    Source: the notebook cited by the survey as [29], read in public copies; chainer-chemistry 0.5 and 0.6.
    """

    def __init__(
        self,
        normalization: str = "batch",
        norm_options: Mapping[str, Any] | None = None,
        activation: str = "softplus",
        channels: int = 512,
        num_interactions: int = 3,
        num_gaussians: int = 300,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.normalization, self.activation = normalization, activation
        inputs, reach = len(ELEMENTS) + MAX_BONDS, 0.1 * (num_gaussians - 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Linear(inputs, channels, dtype=dtype).apply(lecun)
            self.basis = GaussianBasis(num_gaussians, reach, gamma=10.0, dtype=dtype)
            self.interactions = nn.ModuleList()
            for _ in range(num_interactions):
                filters = nn.Sequential(
                    nn.Linear(num_gaussians, channels, dtype=dtype),
                    named_activation(activation),
                    nn.Linear(channels, channels, dtype=dtype),
                    named_activation(activation),
                )
                options = dict(norm_options or {})
                sizes = {"num_types": len(ELEMENTS), "cutoff": reach, "dtype": dtype}
                self.interactions.append(
                    Interaction(channels, filters, "softplus", True, lecun, normalization, options, **sizes)
                )
            self.readout = nn.Sequential(
                nn.Linear(2 * (channels + inputs) + 1, 128, dtype=dtype),
                nn.LeakyReLU(0.2),
                nn.Linear(128, 128, dtype=dtype),
                nn.LeakyReLU(0.2),
                nn.Linear(128, len(CONTRIBUTIONS), dtype=dtype),
            ).apply(lecun)
        columns = torch.full((128,), -1)
        columns[list(ELEMENTS)] = torch.arange(len(ELEMENTS))
        self.register_buffer("column_of_element", columns, persistent=False)
        self.to(device)

    def forward(
        self,
        z: Int[Tensor, " nodes"],
        pos: Float[Tensor, "nodes 3"],
        batch: Int[Tensor, " nodes"],
        pair_index: Int[Tensor, "2 couplings"],
        batch_size: int | None = None,
    ) -> Float[Tensor, "couplings 4"]:
        """Return the contributions to the couplings of a batch of molecules.

        Args:
            z: Nuclear charges, ``[nodes]``; H, C, N, O and F.
            pos: Positions in Å, ``[nodes, 3]``.
            batch: The molecule of each atom, ``[nodes]``, sorted or not.
            pair_index: The two atoms of each coupling, numbers of nodes, ``[2, couplings]``.
            batch_size: The number of molecules; with it nothing is read back from the device.

        Returns:
            The contributions ``fc``, ``sd``, ``pso`` and ``dso`` of each coupling in Hz, ``[couplings, 4]``.

        Raises:
            ValueError: If an element has no column.
        """
        if batch_size is None:
            batch_size = int(batch.max()) + 1 if len(batch) else 0
        pos = pos.to(self.embedding.weight.dtype)
        pairs = Pairs.of(pos, batch, batch_size, with_self=True)
        element, x = self._inputs(z, pairs)
        h = self.embedding(x)
        basis = self.basis(pairs.distances)
        known = known_to_layers(pairs, element, batch, batch_size)
        for interaction in self.interactions:
            h = interaction(h, pairs, basis, None, known)
        one, other = pair_index
        features = torch.cat([h, x], 1)
        distances = safe_norm(pos[one] - pos[other], keepdim=True)
        return self.readout(torch.cat([features[one], features[other], distances], 1))

    def measured_layers(self) -> dict[str, Measured]:
        """The layers whose sizes :func:`geonorm.experiments.layer_sizes` reports, in order of depth.

        Of every block: the filters, the residual branch before a normalization of it, and the atoms after the block.
        """
        layers: dict[str, Measured] = {"embedding": self.embedding}
        for number, block in enumerate(self.interactions, start=1):
            layers |= {f"filters {number}": block.filters, f"branch {number}": block.last, f"atoms {number}": block}
        return layers | {"read-out": self.readout}

    def _inputs(self, z: Tensor, pairs: Pairs) -> tuple[Int[Tensor, " nodes"], Float[Tensor, "nodes columns"]]:
        """The column of each atom's element, and the one-hot input."""
        element = self.column_of_element[z.clamp(0, len(self.column_of_element) - 1)]
        if (element < 0).any():
            unknown = sorted(set(z[element < 0].tolist()))
            raise ValueError(
                f"z holds the nuclear charges {unknown}, the network knows {list(ELEMENTS)}: leave them out"
            )
        near = torch.nonzero(pairs.distances[: len(pairs.first)] < BOND_LENGTH).squeeze(1)
        bonds = count_neighbors(torch.cat([pairs.first[near], pairs.second[near]]), pairs.num_nodes)
        # The cited code picks column (count - 1) of an array, so that a count of 0 picks the last one.
        bonds = torch.where(bonds == 0, MAX_BONDS, bonds.clamp(max=MAX_BONDS)) - 1
        one_hot = [nn.functional.one_hot(element, len(ELEMENTS)), nn.functional.one_hot(bonds, MAX_BONDS)]
        return element, torch.cat(one_hot, 1).to(pairs.distances.dtype)

    def extra_repr(self) -> str:
        """What is normalized how."""
        return f"normalization={self.normalization!r}, activation={self.activation!r}"
