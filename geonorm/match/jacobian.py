"""The exact Jacobian of a layer, and which sample it lets influence which."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match import actions
from geonorm.match.frozen import frozen

Layer = Callable[..., Tensor]
Features = Float[Tensor, "nodes *features"]
Batch = Int[Tensor, " nodes"] | None


def jacobian(
    layer: Layer, x: Features, batch: Batch = None, batch_size: int | None = None, *, training: bool = True
) -> Float[Tensor, "..."]:
    """The exact Jacobian of a layer in float64.

    Args:
        layer: The layer, called as ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``.
        x: The features at which to differentiate, ``[nodes, ...]``.
        batch: The sample of each node.
        batch_size: The number of samples.
        training: Training or eval mode.

    Returns:
        The derivative of each output (first axes) with respect to each input (last axes), ``[*outputs, *inputs]``.
    """
    function = frozen(layer, training)

    def of_features(features: Tensor) -> Tensor:
        return function(features, batch, batch_size)

    return derivative(of_features, x.detach().double())


def derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Float[Tensor, "..."]:
    """The derivative of a function of one tensor, ``[*outputs, *inputs]``: all rows at once where it can be batched."""
    try:
        return torch.func.jacrev(function)(x).detach()  # the parameters of a layer take part
    except RuntimeError:  # an operation that no function transform knows, such as autograd inside the layer
        return torch.autograd.functional.jacobian(function, x)


def sample_influence(
    layer: Layer, x: Features, batch: Batch = None, batch_size: int | None = None, *, training: bool = True
) -> Float[Tensor, "samples samples"]:
    """How strongly the output of each sample (row) depends on the input of each sample (column).

    Args:
        layer: The layer; its output has one row per node.
        x: Node features, ``[nodes, ...]``.
        batch: The sample of each node.
        batch_size: The number of samples.
        training: Training or eval mode.

    Returns:
        The Frobenius norms of the blocks of the Jacobian. Off the diagonal exactly zero where samples are independent.
    """
    index, number = actions.samples(x, batch, batch_size)
    square = jacobian(layer, x, batch, batch_size, training=training).square()
    by_node = square.reshape(len(x), -1, len(x), x[0].numel()).sum((1, 3))
    rows = by_node.new_zeros(number, len(x)).index_add(0, index, by_node)
    return rows.new_zeros(number, number).index_add(1, index, rows).sqrt()


def cross_sample_influence(
    layer: Layer, x: Features, batch: Batch = None, batch_size: int | None = None, *, training: bool = True
) -> float:
    """The part of the Jacobian that couples different samples, relative to the whole: exactly zero if there is none."""
    influence = sample_influence(layer, x, batch, batch_size, training=training)
    cross = influence - torch.diag(influence.diagonal())
    return (cross.norm() / influence.norm()).item()
