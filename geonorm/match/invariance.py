"""What a layer cannot see: the null space of its Jacobian, in dimensions and in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match import actions
from geonorm.match.discover import discover
from geonorm.match.frozen import frozen
from geonorm.match.jacobian import jacobian
from geonorm.match.report import ranges

Layer = Callable[..., Tensor]
Features = Float[Tensor, "nodes *features"]
Batch = Int[Tensor, " nodes"] | None


@dataclass(frozen=True)
class NullSpace:
    """The input directions that the output does not feel, to first order.

    Args:
        basis: An orthonormal basis; each column is a direction of the flattened input, ``[inputs, dimension]``.
        singular_values: Those of the Jacobian, in descending order.
        largest: The largest singular value.
        smallest_kept: The smallest one that counts as nonzero, relative to the largest.
        largest_dropped: The largest one that counts as zero, relative to the largest; with ε in the layer not zero.
    """

    basis: Float[Tensor, "inputs dimension"]
    singular_values: Float[Tensor, " values"]
    largest: float
    smallest_kept: float
    largest_dropped: float

    @property
    def dimension(self) -> int:
        """The number of independent directions."""
        return self.basis.shape[1]

    @property
    def gap(self) -> float:
        """The smallest kept singular value over the largest dropped one: a clear count has a large gap."""
        return self.smallest_kept / self.largest_dropped if self.largest_dropped else float("inf")

    def __repr__(self) -> str:
        return f"NullSpace(dimension={self.dimension}, gap={self.gap:.1e})"


@dataclass(frozen=True)
class Explanation:
    """The null space in words.

    Args:
        named: The families of directions found, for example ``{"shift per (sample, channel)": 16}``: of each the number
            of directions beyond those of the families before it.
        dimension: The number of lost directions, named or not.
        unexplained: What no name covers.
        gap: How clearly they stand apart: the smallest singular value that is kept over the largest that is not.
    """

    named: dict[str, int]
    dimension: int
    unexplained: int
    gap: float


def null_space(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    training: bool = True,
    tol: float = 1e-4,
) -> NullSpace:
    """The input directions that the output does not feel, from the singular values of the Jacobian.

    Shifts and scales that a layer removes are directions of this kind; sign flips and other finite changes are not.
    With ε in the layer a scale is removed only approximately, up to the singular value ε/(s²+ε) relative to the others.

    Args:
        layer: The layer, called as ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``.
        x: Generic features: where pools are constant or nearly so, fewer directions are independent.
        batch: The sample of each node.
        batch_size: The number of samples.
        training: Training or eval mode.
        tol: Singular values below this part of the largest count as zero.

    Returns:
        A basis and the singular values on both sides of the gap.

    Raises:
        ValueError: If the Jacobian is not finite.
    """
    matrix = _finite_jacobian(layer, x, batch, batch_size, training)
    _, values, directions = torch.linalg.svd(matrix, full_matrices=True)
    size = frozen(layer, training)(x, batch, batch_size).norm() / x.double().norm().clamp(min=1e-300)
    largest = values[0].item() if len(values) else 0.0
    # Where the layer is constant the largest singular value is itself round-off of the output.
    kept = values > max(tol * largest, 1e-10 * size.item())
    rank = int(kept.sum())
    reference = largest or 1.0
    return NullSpace(
        basis=directions[rank:].T,
        singular_values=values,
        largest=largest,
        smallest_kept=values[rank - 1].item() / reference if rank else 0.0,
        largest_dropped=values[rank].item() / reference if rank < len(values) else 0.0,
    )


def _finite_jacobian(
    layer: Layer, x: Features, batch: Batch, batch_size: int | None, training: bool
) -> Float[Tensor, "outputs inputs"]:
    """The Jacobian as a matrix."""
    matrix = jacobian(layer, x, batch, batch_size, training=training).reshape(-1, x.numel())
    if not torch.isfinite(matrix).all():
        raise ValueError("the Jacobian is not finite at this input: the layer divides by zero there, or overflows")
    return matrix


def null_space_dimension(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    training: bool = True,
    tol: float = 1e-4,
) -> int:
    """How many input directions the output does not feel; :func:`null_space` also tells how clear the count is."""
    return null_space(layer, x, batch, batch_size, training=training, tol=tol).dimension


def explain_null_space(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    training: bool = True,
    tol: float = 1e-4,
    irreps: str | tuple | None = None,
    groups: int | None = None,
) -> Explanation:
    """Name the directions that a layer does not see: what :func:`geonorm.check` finds, at features of one's own.

    Where :func:`null_space` counts singular values, the checker asks which shifts, scales
    and rotations are lost, and makes each change to confirm it. So a scale is found whole also where ε leaves some of
    its singular values above ``tol``. Large families come before small ones and coarse ones before fine ones; a family
    that adds no direction to those before it is left out.

    Args:
        layer: The layer, called as ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``.
        x: Generic features.
        batch: The sample of each node.
        batch_size: The number of samples.
        training: Training or eval mode.
        tol: Directions without a name count where their singular values are below this part of the largest.
        irreps: What the columns are; adds the names that speak of fields, types and rotations.
        groups: The number of channel groups; adds the names that speak of groups.

    Returns:
        Names and dimensions, and what is left unnamed.

    Raises:
        ValueError: If the Jacobian is not finite.
    """
    matrix = _finite_jacobian(layer, x, batch, batch_size, training)
    index, _ = actions.samples(x, batch, batch_size)
    function = frozen(layer, training)

    def of_features(features: Tensor) -> Tensor:
        return function(features, batch, batch_size)

    removed = discover(of_features, x.detach().double(), matrix, index, irreps=irreps, groups=groups)
    named = dict(removed.added)
    if removed.columns:
        named[f"everything in the columns {ranges(removed.columns)}"] = len(removed.columns) * len(x)
    values = torch.linalg.svdvals(matrix)
    values = torch.cat([values, values.new_zeros(x.numel() - len(values))])[: x.numel()]
    zero = int((values <= tol * values[0]).sum())
    dimension = max(removed.dimension, zero)
    kept = values[x.numel() - dimension - 1].item() if dimension < x.numel() else 0.0
    dropped = values[x.numel() - dimension].item() if dimension else 0.0
    return Explanation(named, dimension, dimension - sum(named.values()), kept / dropped if dropped else float("inf"))
