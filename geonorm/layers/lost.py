r"""What a standardization removes, as outputs of its own: the mean and the scale of the pool of every entry.

With them nothing is lost: $x = \hat y\,S^{\tau}+\alpha\mu$ with $\hat y=(y-\beta)/\gamma$.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.axes import NodeFeatures
from geonorm.kernels import analytic
from geonorm.kernels.closed import widened
from geonorm.layers.standardize import Standardize
from geonorm.numerics import accumulation_dtype


def pool_statistics(
    layer: Standardize,
    x: Float[Tensor, "nodes columns"],
    batch: Int[Tensor, " nodes"] | None = None,
    batch_size: int | None = None,
) -> tuple[Float[Tensor, "nodes columns"], Float[Tensor, "nodes columns"]]:
    r"""The mean that a layer uses for every entry, and the logarithm of its scale $S=\sqrt{\varepsilon+s^2}$.

    In training these are functions of ``x`` with exact derivatives; where the layer reads its buffers, constants.

    Args:
        layer: The layer.
        x: Features, ``[nodes, columns]``.
        batch: The sample of each node, ``[nodes]``.
        batch_size: The number of samples.

    Returns:
        The means, zero where none is subtracted, and the logarithms, zero where nothing is divided; in the dtype of the
        statistics.
    """
    given = NodeFeatures.read(x, batch, batch_size, layer.fields.dim)
    wide, parameters = widened(given.x, layer._operator_parameters(given.x))
    nothing = torch.zeros_like(wide)
    if layer.track_running_stats and not layer.training:
        mean = None if layer.mean_columns is None else layer.mean_columns.expand(layer.running_mean[None])
        square = None if layer.scale_columns is None else layer.scale_columns.expand(layer.running_var[None])
    else:
        plan = layer._plan(given)
        _, mean, square = analytic.forward(wide, parameters, plan)
        mean = None if mean is None else plan.mean.expand(mean)
        square = None if square is None else plan.scale.expand(square)
    means = nothing if mean is None else mean.to(wide.dtype).expand_as(wide)
    logarithms = nothing if square is None else ((square.to(wide.dtype) + layer.eps).log() / 2).expand_as(wide)
    return means, logarithms


def restored(
    layer: Standardize,
    y: Float[Tensor, "nodes columns"],
    mean: Float[Tensor, "nodes columns"],
    log_scale: Float[Tensor, "nodes columns"],
) -> Float[Tensor, "nodes columns"]:
    r"""The input of a layer from its output and its statistics, $x=\frac{y-\beta}{\gamma}\,S^{\tau}+\alpha\mu$.

    Args:
        layer: The layer.
        y: Its output, ``[nodes, columns]``.
        mean: The mean of every entry.
        log_scale: The logarithm of the scale of every entry.

    Returns:
        The input, in the dtype of ``y``.
    """
    dtype = accumulation_dtype(y.dtype)
    parameters = layer._operator_parameters(y)
    x = y.to(dtype)
    if parameters.beta is not None:
        x = x - parameters.beta.to(dtype)
    if parameters.gamma is not None:
        x = x / parameters.gamma.to(dtype)
    power = log_scale.to(dtype)
    if parameters.tau is not None:
        power = power * layer.scale_columns.expand(parameters.tau.to(dtype)[None])
    x = x * power.exp()
    share = mean.to(dtype) if parameters.alpha is None else parameters.alpha.to(dtype) * mean.to(dtype)
    return (x + share).to(y.dtype)
