"""DensityNorm: a neighbour count that does not jump at the cutoff."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures, check_floating_point
from geonorm.layers.fields import Features, Fields
from geonorm.numerics import accumulation_dtype, full_precision


def envelope(fraction: Float[Tensor, " edges"], power: int) -> Float[Tensor, " edges"]:
    r"""The polynomial that falls from 1 to 0 with two continuous derivatives at the cutoff, of the distance over it.

    $$ f(t)=1-\tfrac{(p+1)(p+2)}2t^p+p(p+2)\,t^{p+1}-\tfrac{p(p+1)}2t^{p+2}=(1-t)^3\sum_{k<p}\tbinom{k+2}2t^k $$

    The terms of the product are positive: nothing cancels near the cutoff, where the sum is a difference of large
    numbers.
    """
    t = fraction.clamp(max=1)
    series = torch.zeros_like(t)
    for k in reversed(range(power)):
        series = series * t + math.comb(k + 2, 2)
    return (1 - t) ** 3 * series


class DensityNorm(nn.Module):
    r"""Density normalization: divide a neighbour sum by one plus a smooth, learned number of neighbours.

    $$ y_i=\frac{x_i}{\rho_i+1},\qquad
       \rho_i=\sum_{j\in\mathcal N(i)}\tanh\!\big(\varphi(r_{ij})^2\big)\,f_{\rm cut}(r_{ij}) $$

    $f_{\rm cut}$ is a polynomial that reaches zero at the cutoff with two continuous derivatives, so that energies and
    forces do not jump when an atom crosses it, as they do with :class:`~geonorm.NeighborNorm`. $\varphi$ is learned
    from the Bessel functions $\sqrt{2/r_c}\,\sin(n\pi r/r_c)/r$: a linear map of them as in MACE, or a perceptron with
    one hidden layer. One divisor serves all columns of a node, so that any irreps may be divided. A node without
    neighbours keeps its features.

    Args:
        channels: A number of scalar channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        cutoff: The distance $r_c$ from which an edge counts for nothing, in the unit of the distances, such as Å.
        num_basis: The number of Bessel functions.
        hidden: The number of hidden units of φ; 0 for MACE's linear map.
        power: The order p of the polynomial.
        learned: Learn φ. Otherwise tanh(φ²) is one and ρ is the smooth number of neighbours, without parameters.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If the cutoff is not positive, or a number is out of range.

    Source: mace ``RealAgnosticDensityInteractionBlock``, of later versions of MACE (Batatia et al. 2022, arXiv
    2206.07697).
    """

    def __init__(
        self,
        channels: Features,
        cutoff: float | int,
        num_basis: int = 8,
        hidden: int = 0,
        power: int = 5,
        learned: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not (math.isfinite(cutoff) and cutoff > 0):
            raise ValueError(f"cutoff is {cutoff}, expected a positive distance")
        if num_basis < 1 or hidden < 0 or power < 2:
            raise ValueError(
                f"num_basis is {num_basis}, hidden {hidden} and power {power}: expected at least 1, 0 and 2"
            )
        self.fields = Fields(channels)
        self.cutoff, self.power, self.num_basis = float(cutoff), power, num_basis
        kwargs = {"device": device, "dtype": dtype}
        sizes = [num_basis, hidden, 1] if hidden else [num_basis, 1]
        self.weights = nn.ParameterList()
        if learned:
            self.weights = nn.ParameterList(torch.empty(into, out, **kwargs) for into, out in pairwise(sizes))
        self.learned = learned
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from a normal distribution of variance 1; they are divided by the root of the number of inputs."""
        for weight in self.weights:
            nn.init.normal_(weight)

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        distances: Float[Tensor, " edges"],
        receivers: Int[Tensor, " edges"],
    ) -> Float[Tensor, "*shape"]:
        """Divide each node's neighbour sum by its density plus one.

        Args:
            x: The sum over neighbours, ``[nodes, columns]``, or ``[nodes, channels, 3]`` for vectors.
            distances: The length of each edge, ``[edges]``; edges beyond the cutoff may be there or not.
            receivers: The node that each edge ends at, ``[edges]``.

        Returns:
            The features, of the shape and dtype of ``x``.

        Raises:
            ValueError: If the shapes do not fit, or x or the distances hold no floating-point numbers.
        """
        given = NodeFeatures.read(x, None, None, self.fields.dim, self.fields.block)
        if distances.ndim != 1 or distances.shape != receivers.shape:
            raise ValueError(
                f"distances have shape {list(distances.shape)} and receivers {list(receivers.shape)}, expected "
                "[edges] for both: receivers are one row of edge_index"
            )
        check_floating_point(distances, "distances")
        density = self.density(distances, receivers, given.x.shape[0])
        dtype = torch.promote_types(accumulation_dtype(x.dtype), density.dtype)
        return given.restore((given.x.to(dtype) / (density.to(dtype) + 1)[:, None]).to(x.dtype))

    def density(
        self, distances: Float[Tensor, " edges"], receivers: Int[Tensor, " edges"], num_nodes: int
    ) -> Float[Tensor, " nodes"]:
        """The smooth number of neighbours ρ of each node, in float32 or wider."""
        r = distances.to(accumulation_dtype(distances.dtype)) / self.cutoff
        share = envelope(r, self.power)
        if self.learned:
            with full_precision(r.device):
                share = share * torch.tanh(self.phi(r).square())
        return share.new_zeros(num_nodes).index_add(0, receivers, share)

    def phi(self, fraction: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
        """The learned function of the distance over the cutoff."""
        # Finite where it does not matter: at zero, where there is no direction, and beyond the cutoff.
        t = fraction.clamp(min=1e-6, max=1)[:, None]
        order = torch.arange(1, self.num_basis + 1, dtype=t.dtype, device=t.device)
        hidden = math.sqrt(2) * self.cutoff**-1.5 * torch.sin(torch.pi * order * t) / t
        for number, weight in enumerate(self.weights):
            hidden = torch.nn.functional.silu(hidden) if number else hidden
            hidden = hidden @ weight.to(t.dtype) / math.sqrt(weight.shape[0])
        return hidden[:, 0]

    def extra_repr(self) -> str:
        """The features and the cutoff."""
        learned = "" if self.learned else ", learned=False"
        return f"{self.fields!r}, cutoff={self.cutoff}{learned}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
