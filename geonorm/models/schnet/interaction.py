"""SchNet's interaction: a filter made of the distance, a sum over neighbours, and a residual branch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.models.schnet.normalization import block_norm
from geonorm.models.schnet.pairs import Pairs


class ShiftedSoftplus(nn.Module):
    r"""The activation of SchNet, $\ln(\tfrac12e^x+\tfrac12)$: softplus moved down so that zero stays zero.

    Source: Schütt et al. 2018 (doi 10.1063/1.5019779).
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply it to every entry."""
        return nn.functional.softplus(x) - math.log(2)


#: The activations by name.
ACTIVATIONS: dict[str, type[nn.Module]] = {"softplus": nn.Softplus, "shifted softplus": ShiftedSoftplus}


def named_activation(name: str) -> nn.Module:
    """Return the activation with this name.

    Args:
        name: A key of :data:`ACTIVATIONS`.

    Returns:
        The module.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}, expected one of {', '.join(map(repr, ACTIVATIONS))}")
    return ACTIVATIONS[name]()


class GaussianBasis(nn.Module):
    r"""Distances as values of Gaussians on a grid, $e_k(d)=\exp(-\gamma(d-\mu_k)^2)$.

    Args:
        number: The number of Gaussians.
        stop: The last centre in Å; the first is 0.
        gamma: In Å⁻²; ``None`` makes the spacing of the grid the standard deviation.
        dtype: Of the centres.
    """

    def __init__(
        self, number: int, stop: float | int, gamma: float | int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if number < 2 or stop <= 0:
            raise ValueError(f"got {number} Gaussians from 0 to {stop} Å, expected two or more on a growing grid")
        spacing = stop / (number - 1)
        self.gamma = 0.5 / spacing**2 if gamma is None else gamma
        self.register_buffer("centers", torch.linspace(0, stop, number, dtype=dtype))

    def forward(self, distances: Float[Tensor, " distances"]) -> Float[Tensor, "distances centers"]:
        """Expand distances.

        Args:
            distances: Å, ``[distances]``.

        Returns:
            The values, ``[distances, number]``.
        """
        return torch.exp(-self.gamma * (distances[:, None] - self.centers).square())


class Interaction(nn.Module):
    r"""One interaction block of SchNet with its normalization.

    $$ v_i=\sum_{j\in\mathcal N(i)}(L_0h_j)\odot W(d_{ij}),\qquad h_i\leftarrow h_i+L_2\,\sigma(L_1v_i) $$

    A normalization divides the neighbour sum, acts on the residual branch after $L_2$, or reparametrizes $L_2$,
    depending on the layer.

    Args:
        channels: The width of $h$ and of the filters.
        filters: Turns Gaussians into filters, ``[distances, number] -> [distances, channels]``.
        activation: σ, by name.
        bias: Give $L_0$ a bias.
        start: Sets the first values of a linear layer, of the filters too.
        normalization: See :func:`geonorm.models.schnet.normalization.block_norm`.
        norm_options: Its options.
        num_types: The number of atom types, for layers that tell them apart.
        cutoff: Å, for layers that weigh neighbours by distance.
        dtype: Of the weights.
    """

    def __init__(
        self,
        channels: int,
        filters: nn.Module,
        activation: str,
        bias: bool,
        start: Callable[[nn.Module], None],
        normalization: str,
        norm_options: Mapping[str, Any],
        num_types: int,
        cutoff: float | int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.filters = filters
        self.first = nn.Linear(channels, channels, bias=bias, dtype=dtype)
        self.middle = nn.Linear(channels, channels, dtype=dtype)
        self.activation = named_activation(activation)
        self.last = nn.Linear(channels, channels, dtype=dtype)
        # Before the norm: a row of weights takes its gain from the weights that it finds.
        self.apply(start)
        known = {"num_types": num_types, "cutoff": cutoff}
        self.norm = block_norm(normalization, channels, self.last, norm_options, known, dtype)

    def forward(
        self,
        h: Float[Tensor, "nodes channels"],
        pairs: Pairs,
        basis: Float[Tensor, "distances centers"],
        window: Float[Tensor, " distances"] | None,
        known: Mapping[str, Any],
    ) -> Float[Tensor, "nodes channels"]:
        """Let the atoms interact once.

        Args:
            h: The features of the atoms.
            pairs: The pairs of neighbours.
            basis: Their distances as Gaussians.
            window: A factor for each filter that ends the interaction at the cutoff, or ``None``.
            known: What normalization layers may ask for.

        Returns:
            The new features.
        """
        filters = self.filters(basis)
        if window is not None:
            filters = filters * window[:, None]
        v = pairs.sum(self.first(h), filters)
        if self.norm is not None and self.norm.place == "neighbour sum":
            v = self.norm(v, h, known)
        v = self.last(self.activation(self.middle(v)))
        if self.norm is not None and self.norm.place == "branch":
            v = self.norm(v, h, known)
        return h + v


def known_to_layers(
    pairs: Pairs, types: Int[Tensor, " nodes"], batch: Int[Tensor, " nodes"], batch_size: int
) -> dict[str, Any]:
    """What a normalization layer may ask for beside the features, by the names of the arguments."""
    receivers, distances = pairs.edges()
    return {
        "batch": batch,
        "batch_size": batch_size,
        "types": types,
        "num_neighbors": pairs.num_neighbors(),
        "receivers": receivers,
        "distances": distances,
    }
