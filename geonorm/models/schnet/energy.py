"""The published SchNet: energies of molecules, and their forces, with its normalization switched by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.models.forces import with_forces
from geonorm.models.schnet.initialization import xavier
from geonorm.models.schnet.interaction import GaussianBasis, Interaction, ShiftedSoftplus, known_to_layers
from geonorm.models.schnet.pairs import Pairs

#: Nuclear charges that the embedding has a row for: 1 to 99.
MAX_Z = 100


class SchNet(nn.Module):
    r"""Energies by continuous-filter convolutions over the neighbours within a cutoff.

    $$ E=\sum_i\mathrm{MLP}(h_i),\qquad
       h_i\leftarrow h_i+L_2\,\sigma\Big(L_1\sum_{0<d_{ij}\le c}(L_0h_j)\odot W(d_{ij})\,f_c(d_{ij})\Big),\qquad
       \sigma(x)=\ln(\tfrac12e^x+\tfrac12) $$

    The published network normalizes nothing. Its code has one option, off by default: the mean over neighbours in place
    of the sum, which is the row of Table 1. Every other row can be put in its place.

    Args:
        normalization: ``"none"``, ``"neighbour mean"``, ``"batch"`` or ``"batch frozen"`` (BatchNorm on each residual
            branch), or any row of the tables that takes scalars.
        norm_options: Further arguments of the normalization layer, such as ``{"num_groups": 4}``.
        channels: The width.
        num_interactions: The number of blocks.
        num_gaussians: The number of Gaussians from 0 to the cutoff, whose spacing is their standard deviation.
        cutoff: In Å.
        window: How filters end: ``"hard"`` (as published; energies jump when an atom crosses the cutoff) or
            ``"cosine"``, $f_c=\tfrac12(\cos\tfrac{\pi d}{c}+1)$.
        forces: ``"gradient"`` returns $-\partial E/\partial r$ too; ``None`` returns energies alone.
        seed: Of the weights: Xavier-uniform, bias zero.
        device: Where the weights live.
        dtype: Of the weights, and of what is computed.

    Raises:
        ValueError: If a name is unknown.

    Source: Schütt et al. 2018 (doi 10.1063/1.5019779); sizes and defaults of SchNetPack 0.3.
    """

    def __init__(
        self,
        normalization: str = "none",
        norm_options: Mapping[str, Any] | None = None,
        channels: int = 128,
        num_interactions: int = 3,
        num_gaussians: int = 25,
        cutoff: float | int = 5.0,
        window: str = "hard",
        forces: str | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if window not in ("hard", "cosine"):
            raise ValueError(f"window is {window!r}, expected 'hard' or 'cosine'")
        if forces not in (None, "gradient"):
            raise ValueError(f"forces are {forces!r}, expected 'gradient' or None")
        self.normalization, self.cutoff, self.window, self.forces = normalization, cutoff, window, forces
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(MAX_Z, channels, padding_idx=0, dtype=dtype)
            self.basis = GaussianBasis(num_gaussians, cutoff, dtype=dtype)
            self.interactions = nn.ModuleList()
            for _ in range(num_interactions):
                filters = nn.Sequential(
                    nn.Linear(num_gaussians, channels, dtype=dtype),
                    ShiftedSoftplus(),
                    nn.Linear(channels, channels, dtype=dtype),
                )
                options = dict(norm_options or {})
                sizes = {"num_types": MAX_Z, "cutoff": cutoff, "dtype": dtype}
                self.interactions.append(
                    Interaction(channels, filters, "shifted softplus", False, xavier, normalization, options, **sizes)
                )
            self.readout = nn.Sequential(
                nn.Linear(channels, channels // 2, dtype=dtype),
                ShiftedSoftplus(),
                nn.Linear(channels // 2, 1, dtype=dtype),
            )
            self.readout.apply(xavier)
        self.to(device)

    def forward(
        self,
        z: Int[Tensor, " nodes"],
        pos: Float[Tensor, "nodes 3"],
        batch: Int[Tensor, " nodes"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, " samples"] | tuple[Float[Tensor, " samples"], Float[Tensor, "nodes 3"]]:
        """Return the energies of a batch of molecules, and the forces if they were asked for.

        With forces, both can be differentiated in training mode only, unless gradients are switched off; otherwise they
        are detached. Forces come from the sum of all energies: where a normalization couples molecules, the force on an
        atom holds the response of the others too.

        Args:
            z: Nuclear charges, ``[nodes]``.
            pos: Positions in Å, ``[nodes, 3]``.
            batch: The molecule of each atom, ``[nodes]``, sorted or not; without it all are one molecule.
            batch_size: The number of molecules; with it nothing is read back from the device.

        Returns:
            Energies ``[samples]``, in the unit of the labels that the network is trained on; with
            ``forces="gradient"`` also the forces ``[nodes, 3]``, per Å.
        """
        batch = torch.zeros_like(z) if batch is None else batch
        if batch_size is None:
            batch_size = int(batch.max()) + 1 if len(batch) else 0
        if self.forces is None:
            return self._energies(z, pos, batch, batch_size)

        def energies(pos: Tensor, z: Tensor, batch: Tensor) -> Tensor:
            return self._energies(z, pos, batch, batch_size)

        return with_forces(energies, pos, z, batch, training=self.training)

    def _energies(self, z: Tensor, pos: Tensor, batch: Tensor, batch_size: int) -> Float[Tensor, " samples"]:
        h = self.embedding(z)
        pairs = Pairs.of(pos.to(h.dtype), batch, batch_size, self.cutoff)
        window = None
        if self.window == "cosine":
            window = 0.5 * (torch.cos(pairs.distances * (math.pi / self.cutoff)) + 1)
        basis = self.basis(pairs.distances)
        known = known_to_layers(pairs, z, batch, batch_size)
        for interaction in self.interactions:
            h = interaction(h, pairs, basis, window, known)
        return h.new_zeros(batch_size).index_add(0, batch, self.readout(h).squeeze(1))

    def extra_repr(self) -> str:
        """What is normalized how."""
        return f"normalization={self.normalization!r}, cutoff={self.cutoff}, window={self.window!r}"
