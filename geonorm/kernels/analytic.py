r"""Standardization in plain torch: the formula that every other implementation must equal, on any device.

With a mean pool $P$, a scale pool $Q$ and $T = 1-\alpha\,\mathrm{cen}_P$:

$$ u = Tx,\qquad S = \mathrm{sc}(w^2)+\varepsilon,\qquad \rho = S^{-\tau/2},\qquad y = \gamma\,u\,\rho+\beta, $$

where $w$ is $x$, $u$ or $x-\mathrm{cen}_Q(x)$ for the statistics *rms*, *residual* and *own*. $\mathrm{cen}$ is the
mean over a pool given back to its entries, an orthogonal projection; $\mathrm{sc}$ is the weighted mean over $Q$.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import SEGMENTED, Pool


def times(factor: Tensor | None, values: Tensor) -> Tensor:
    """The product, where a missing factor is one."""
    return values if factor is None else factor * values


def plus(values: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum, where a missing term is zero."""
    if values is None or other is None:
        return other if values is None else values
    return values + other


#: The longest sample whose float32 sum, one row after the other, is as exact as its entries.
LONG_SAMPLE = 64


def may_hold_long_samples(pool: Pool) -> bool:
    """Whether some sample is longer than that, as far as the host knows without waiting for the device."""
    if torch.compiler.is_compiling() or pool.count.device.type != "cpu":
        return True
    return bool((pool.count > LONG_SAMPLE).any())


def pooled_mean(pool: Pool, x: Float[Tensor, "nodes columns"]) -> Float[Tensor, "pools groups"]:
    """The mean of each pool, with a rounding error below that of the input also when mean >> spread.

    Sums over short samples and sums over all rows (which torch adds pairwise) are exact enough; the sums of long
    samples are taken once more, about the first result.
    """
    mean = pool.mean(x)
    if x.dtype == torch.float64 or pool.rows not in SEGMENTED or pool.segments.index is None:
        return mean
    if not may_hold_long_samples(pool):
        return mean
    # The second step is zero but for rounding, and so is its derivative.
    return mean + pool.mean((x - pool.expand(mean)).detach())


def measured(x: Float[Tensor, "nodes columns"], u: Float[Tensor, "nodes columns"], plan: Plan) -> Tensor:
    """What the scale is the size of, w."""
    if plan.statistic == "own":
        return x - plan.scale.expand(pooled_mean(plan.scale, x))
    return x if plan.statistic == "rms" else u


def centred(x: Float[Tensor, "nodes columns"], alpha: Tensor | None, mean: Tensor | None, plan: Plan) -> Tensor:
    """What is left of x after its mean, u, from the known mean."""
    if plan.mean is None:
        return x
    return x - plan.mean.expand_rows(times(alpha, plan.mean.columns.expand(mean)))


def power(moment: Tensor, tau: Tensor | None) -> Tensor:
    """The factor ρ = S^(−τ/2)."""
    return moment.rsqrt() if tau is None else moment.pow(-0.5 * tau)


def forward(
    x: Float[Tensor, "nodes columns"], parameters: Parameters, plan: Plan
) -> tuple[Float[Tensor, "nodes columns"], Tensor | None, Tensor | None]:
    """Standardize. Plain differentiable torch: the path that the compiler traces.

    Args:
        x: Features in the dtype of the statistics, ``[nodes, columns]``.
        parameters: The parameters, in the same dtype.
        plan: The pools, the statistic and eps.

    Returns:
        The standardized features, the mean and the second moment of every pool.
    """
    mean = None if plan.mean is None else pooled_mean(plan.mean, x)
    u = centred(x, parameters.alpha, mean, plan)
    if plan.scale is None:
        return plus(times(parameters.gamma, u), parameters.beta), mean, None
    square = plan.scale.mean(measured(x, u, plan).square())
    rho = plan.scale.columns.expand(power(square + plan.eps, parameters.tau))
    factor = plan.scale.expand_rows(times(parameters.gamma, rho))
    y = u * factor if parameters.beta is None else torch.addcmul(parameters.beta, u, factor)
    return y, mean, square
