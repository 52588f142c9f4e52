r"""Standardization in plain torch: the formula, its gradient and the gradient of its gradient, each in closed form.

With a mean pool $P$, a scale pool $Q$, $T = 1-\alpha\,\mathrm{cen}_P$, and $C$ equal to $1$, $T$ or $1-\mathrm{cen}_Q$
for the statistics *rms*, *residual* and *own*:

$$ u = Tx,\qquad c = Cx,\qquad S = \mathrm{sc}(c^2)+\varepsilon,\qquad \rho = S^{-\tau/2},\qquad
   y = \gamma\,u\,\rho+\beta. $$

$\mathrm{cen}$ is the mean over a pool given back to its entries, an orthogonal projection; $\mathrm{sc}$ is the
weighted mean over $Q$, in which an entry has weight $k$. A prime is $\partial/\partial S$, a dot the derivative along
a tangent, $h=\gamma g$:

$$ \bar x = T^{*}(h\rho) + 2\,C^{*}\big(k\,c\,\textstyle\sum_Q h u\rho'\big),\qquad
   \dot y = (\dot\gamma u+\gamma\dot u)\,\rho + \gamma u\,(\rho'\dot S+\rho_\tau\dot\tau)+\dot\beta . $$

The double backward is the gradient of $\langle g,\dot y\rangle$, in which the cotangents of the gradients are the
tangents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.kernels.pools import Pool


@dataclass(frozen=True)
class Plan:
    """What to standardize: the pools, the statistic and eps.

    Args:
        mean: The pool of the mean, or ``None`` for no mean.
        scale: The pool of the scale, or ``None`` for no scale.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``.
        eps: Added to the second moment, inside the root.
    """

    mean: Pool | None
    scale: Pool | None
    statistic: str
    eps: float

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors in the pools, in the order of :meth:`holding`."""
        none = (None, None)
        return tuple(
            tensor for pool in (self.mean, self.scale) for tensor in (none if pool is None else pool.tensors())
        )

    def holding(
        self,
        mean_index: Tensor | None,
        mean_count: Tensor | None,
        scale_index: Tensor | None,
        scale_count: Tensor | None,
    ) -> Plan:
        """The same plan with other tensors: derivatives and vmap wrap the tensors that they are handed, no others."""
        mean = None if self.mean is None else self.mean.holding(mean_index, mean_count)
        scale = None if self.scale is None else self.scale.holding(scale_index, scale_count)
        return Plan(mean, scale, self.statistic, self.eps)


@dataclass(frozen=True)
class Parameters:
    """Per column: the weight of the mean, gain and bias; per scale group: the exponent. ``None`` is 1, 1, 0 and 1."""

    alpha: Float[Tensor, " columns"] | None = None
    gamma: Float[Tensor, " columns"] | None = None
    beta: Float[Tensor, " columns"] | None = None
    tau: Float[Tensor, " groups"] | None = None


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
    if x.dtype == torch.float64 or pool.rows != "sample" or pool.segments.index is None:
        return mean
    return mean + pool.mean(x - pool.expand(mean)) if may_hold_long_samples(pool) else mean


class Maps:
    """The linear maps and the powers of the scale that forward, backward and double backward share.

    Args:
        plan: The pools.
        parameters: The parameters, in the dtype of the statistics.
        mean: The mean of each pool.
        square: The second moment of each pool, without eps.
    """

    def __init__(self, plan: Plan, parameters: Parameters, mean: Tensor | None, square: Tensor | None) -> None:
        self.plan, self.parameters, self.mean = plan, parameters, mean
        self.moment = None if square is None else square + plan.eps
        self.residual = plan.statistic == "residual"

    def centre(self, x: Tensor) -> Tensor:
        """The centred features Tx, from the known mean."""
        if self.plan.mean is None:
            return x
        return x - self.plan.mean.expand_rows(times(self.parameters.alpha, self.plan.mean.columns.expand(self.mean)))

    def cen(self, t: Tensor) -> Tensor:
        """The mean of each pool, given back to its entries."""
        return self.plan.mean.expand(self.plan.mean.mean(t))

    def T(self, t: Tensor) -> Tensor:
        """The map T: t − α cen(t)."""
        return t if self.plan.mean is None else t - times(self.parameters.alpha, self.cen(t))

    def T_adjoint(self, t: Tensor) -> Tensor:
        """Its adjoint: t − cen(α t)."""
        return t if self.plan.mean is None else t - self.cen(times(self.parameters.alpha, t))

    def own(self, t: Tensor) -> Tensor:
        """What is left of t after its mean over the scale pool is removed: a projection, its own adjoint."""
        return t - self.plan.scale.expand(pooled_mean(self.plan.scale, t))

    def C(self, t: Tensor) -> Tensor:
        """What the scale is the size of."""
        return {"rms": lambda t: t, "residual": self.T, "own": self.own}[self.plan.statistic](t)

    def C_adjoint(self, t: Tensor) -> Tensor:
        """The adjoint of C."""
        return {"rms": lambda t: t, "residual": self.T_adjoint, "own": self.own}[self.plan.statistic](t)

    def power(self, order: int) -> Float[Tensor, "pools groups"]:
        """The derivative of that order of ρ = S^(−τ/2) with respect to S."""
        tau = self.parameters.tau
        if tau is None:
            root = self.moment.rsqrt()
            return (root, -0.5 * root**3, 0.75 * root**5)[order]
        factor = (1.0, -0.5 * tau, 0.25 * tau * (tau + 2))[order]
        return factor * self.moment.pow(-0.5 * tau - order)

    def power_tau(self, order: int) -> Float[Tensor, "pools groups"]:
        """The derivative of ρ' (order 1) or ρ (order 0) with respect to τ."""
        logarithm = self.moment.log()
        if order == 0:
            return -0.5 * logarithm * self.power(0)
        return (0.25 * self.parameters.tau * logarithm - 0.5) * self.moment.pow(-0.5 * self.parameters.tau - 1)

    def spread(self, values: Float[Tensor, "pools groups"]) -> Float[Tensor, "rows _"]:
        """Give every entry of a scale pool its value."""
        return self.plan.scale.expand(values)

    def gather(self, sums: Float[Tensor, "pools groups"]) -> Float[Tensor, "rows _"]:
        """2 k · sums: the adjoint of the weighted mean of squares, given to every entry of a scale pool."""
        scale = self.plan.scale
        return scale.expand_rows(scale.columns.weigh(scale.columns.expand(2 * sums / scale.count)))


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
    u = Maps(plan, parameters, mean, None).centre(x)
    if plan.scale is None:
        return plus(times(parameters.gamma, u), parameters.beta), mean, None
    c = {"rms": x, "residual": u, "own": None}[plan.statistic]
    if c is None:
        c = Maps(plan, parameters, mean, None).own(x)
    square = plan.scale.mean(c.square())
    maps = Maps(plan, parameters, mean, square)
    factor = times(parameters.gamma, plan.scale.columns.expand(maps.power(0)))
    return plus(u * plan.scale.expand_rows(factor), parameters.beta), mean, square


def backward(
    g: Float[Tensor, "nodes columns"],
    x: Float[Tensor, "nodes columns"],
    parameters: Parameters,
    mean: Tensor | None,
    square: Tensor | None,
    plan: Plan,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, α, γ, β and τ, given the gradient ``g`` of the output."""
    maps = Maps(plan, parameters, mean, square)
    u = maps.centre(x)
    h = times(parameters.gamma, g)
    d_alpha = d_tau = None
    if plan.scale is None:
        direct, through_scale = h, None
        d_gamma = (g * u).sum(0)
    else:
        scale = plan.scale
        rho = maps.power(0)
        sums = scale.row_sum(g * u)
        d_gamma = (sums * scale.columns.expand(rho)).sum(0)
        sums = times(parameters.gamma, sums)
        if parameters.tau is not None:
            d_tau = (scale.columns.sum(sums) * maps.power_tau(0)).sum(0)
        direct = h * maps.spread(rho)
        c = x if plan.statistic == "rms" else u if maps.residual else maps.own(x)
        through_scale = c * maps.gather(scale.finish(sums * scale.columns.expand(maps.power(1))))
    if maps.residual:
        direct, through_scale = plus(direct, through_scale), None
    if plan.mean is not None and parameters.alpha is not None:
        d_alpha = -(plan.mean.columns.expand(mean) * plan.mean.row_sum(direct)).sum(0)
    d_x = maps.T_adjoint(direct)
    if through_scale is not None:
        d_x = d_x + maps.C_adjoint(through_scale)
    return d_x, d_alpha, d_gamma, g.sum(0), d_tau


def tangent(
    x: Tensor,
    v: Tensor,
    parameters: Parameters,
    dots: Parameters,
    mean: Tensor | None,
    square: Tensor | None,
    plan: Plan,
) -> Float[Tensor, "nodes columns"]:
    """The derivative of the output along (v, dots), which is the part ``grad_g`` of the double backward."""
    maps = Maps(plan, parameters, mean, square)
    u = maps.centre(x)
    u_dot = maps.T(v)
    if dots.alpha is not None and plan.mean is not None:
        u_dot = u_dot - dots.alpha * plan.mean.expand(mean)
    y_dot = plus(times(parameters.gamma, u_dot), None if dots.gamma is None else dots.gamma * u)
    if plan.scale is not None:
        slope = maps.power(1) * moment_tangent(maps, x, v, u, u_dot)
        if dots.tau is not None:
            slope = slope + maps.power_tau(0) * dots.tau
        y_dot = y_dot * maps.spread(maps.power(0)) + times(parameters.gamma, u) * maps.spread(slope)
    return plus(y_dot, dots.beta)


def moment_tangent(maps: Maps, x: Tensor, v: Tensor, u: Tensor, u_dot: Tensor) -> Float[Tensor, "pools groups"]:
    """The derivative of the second moment S along the tangent."""
    statistic = maps.plan.statistic
    if statistic == "own":
        return 2 * maps.plan.scale.mean(maps.own(x) * maps.own(v))
    return 2 * maps.plan.scale.mean(x * v if statistic == "rms" else u * u_dot)


def double_backward(
    v: Float[Tensor, "nodes columns"],
    dots: Parameters,
    g: Float[Tensor, "nodes columns"],
    x: Float[Tensor, "nodes columns"],
    parameters: Parameters,
    mean: Tensor | None,
    square: Tensor | None,
    plan: Plan,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of g, x, α, γ and τ, given the gradients ``v`` and ``dots`` of what ``backward`` returns."""
    maps = Maps(plan, parameters, mean, square)
    u = maps.centre(x)
    u_dot = maps.T(v)
    if dots.alpha is not None and plan.mean is not None:
        u_dot = u_dot - dots.alpha * plan.mean.expand(mean)
    h = times(parameters.gamma, g)
    gain_dot = None if dots.gamma is None else g * dots.gamma
    grad_g = tangent(x, v, parameters, dots, mean, square, plan)
    grad_tau = None
    if plan.scale is None:
        by_u, by_u_dot, by_c, by_c_dot = gain_dot, h, None, None
        grad_gamma = (g * u_dot).sum(0)
    else:
        scale = plan.scale
        rho, rho1, rho2 = (maps.power(order) for order in range(3))
        moment_dot = moment_tangent(maps, x, v, u, u_dot)
        slope, slope1 = rho1 * moment_dot, rho2 * moment_dot
        if dots.tau is not None:
            slope = slope + maps.power_tau(0) * dots.tau
            slope1 = slope1 + maps.power_tau(1) * dots.tau
        by_u = plus(h * maps.spread(slope), None if gain_dot is None else gain_dot * maps.spread(rho))
        by_u_dot = h * maps.spread(rho)
        columns = scale.columns
        first = scale.row_sum(g * u)
        second = scale.row_sum(g * u_dot)
        grad_gamma = (second * columns.expand(rho) + first * columns.expand(slope)).sum(0)
        moved = plus(times(parameters.gamma, second), times(dots.gamma, first) if dots.gamma is not None else None)
        still = times(parameters.gamma, first)
        by_moment = scale.finish(moved * columns.expand(rho1) + still * columns.expand(slope1))
        by_moment_dot = scale.finish(still * columns.expand(rho1))
        if parameters.tau is not None:
            moved, still = columns.sum(moved), columns.sum(still)
            grad_tau = (moved * maps.power_tau(0) + still * maps.power_tau(1) * moment_dot).sum(0)
            if dots.tau is not None:
                grad_tau = grad_tau + (still * 0.25 * maps.moment.log().square() * rho * dots.tau).sum(0)
        c = x if plan.statistic == "rms" else u if maps.residual else maps.own(x)
        c_dot = v if plan.statistic == "rms" else u_dot if maps.residual else maps.own(v)
        by_c_dot = c * maps.gather(by_moment_dot)
        by_c = c * maps.gather(by_moment) + c_dot * maps.gather(by_moment_dot)
    if maps.residual:
        by_u, by_u_dot, by_c, by_c_dot = plus(by_u, by_c), plus(by_u_dot, by_c_dot), None, None
    grad_x = torch.zeros_like(x) if by_u is None else maps.T_adjoint(by_u)
    if by_c is not None:
        grad_x = grad_x + maps.C_adjoint(by_c)
    grad_alpha = None
    if plan.mean is not None and parameters.alpha is not None:
        pool = plan.mean
        if dots.alpha is not None:
            grad_x = grad_x - maps.cen(dots.alpha * by_u_dot)
        grad_alpha = -(pool.columns.expand(pool.mean(v)) * pool.row_sum(by_u_dot)).sum(0)
        if by_u is not None:
            grad_alpha = grad_alpha - (pool.columns.expand(mean) * pool.row_sum(by_u)).sum(0)
    return grad_g, grad_x, grad_alpha, grad_gamma, grad_tau
