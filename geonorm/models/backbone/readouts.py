"""From scalars and vectors of atoms to energies of atoms and to values of pairs of atoms."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.models.backbone.blocks import perceptron, soft_length, waves
from geonorm.models.schnet.initialization import xavier


class AtomReadout(nn.Module):
    r"""An energy of every atom, $e_i=\mathrm{MLP}(s_i,|P\mathbf v_i|)$.

    The vectors are read too, so that the last normalization of them is not without effect.

    Args:
        width: The number of scalars, and of vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width, bias=False).apply(xavier)
        self.perceptron = perceptron(2 * width, width, 1)

    def forward(self, s: Float[Tensor, "atoms width"], v: Float[Tensor, "atoms width 3"]) -> Float[Tensor, "atoms 1"]:
        """Return one energy for each atom."""
        return self.perceptron(torch.cat([s, soft_length(self.mix(v.mT).mT)], 1))


class PairReadout(nn.Module):
    r"""A value of every pair of atoms that does not depend on their order.

    $$ y_{ij}=\mathrm{MLP}\big(s_i+s_j,\ s_i\odot s_j,\ \langle\mathbf p_i,\mathbf p_j\rangle,\
       \langle\mathbf p_j-\mathbf p_i,\mathbf e_{ij}\rangle,\ e(d_{ij})\big),\qquad \mathbf p=P\mathbf v $$

    with the direction $\mathbf e_{ij}$ from j to i. Pairs need not be neighbours.

    Args:
        width: The number of scalars, and of vectors.
        num_radial: The number of radial functions.
        cutoff: The length that their frequencies are multiples of.
    """

    def __init__(self, width: int, num_radial: int, cutoff: float) -> None:
        super().__init__()
        self.num_radial, self.cutoff = num_radial, cutoff
        self.mix = nn.Linear(width, width, bias=False).apply(xavier)
        self.perceptron = perceptron(4 * width + num_radial, 2 * width, 1)

    def forward(
        self,
        s: Float[Tensor, "atoms width"],
        v: Float[Tensor, "atoms width 3"],
        pos: Float[Tensor, "atoms 3"],
        pair_index: Int[Tensor, "2 pairs"],
    ) -> Float[Tensor, "pairs 1"]:
        """Return one value for each pair.

        Args:
            s: Scalars, ``[atoms, width]``.
            v: Vectors, ``[atoms, width, 3]``.
            pos: Positions, ``[atoms, 3]``.
            pair_index: The two atoms of each pair, which are at different places, ``[2, pairs]``.

        Returns:
            The values, ``[pairs, 1]``.
        """
        i, j = pair_index
        p = self.mix(v.mT).mT
        vectors = pos[i] - pos[j]
        d = vectors.norm(dim=1)
        unit = (vectors / d[:, None])[:, None, :]
        parts = [
            s[i] + s[j],
            s[i] * s[j],
            (p[i] * p[j]).sum(2),
            ((p[j] - p[i]) * unit).sum(2),
            waves(d, self.num_radial, self.cutoff),
        ]
        return self.perceptron(torch.cat(parts, 1))
