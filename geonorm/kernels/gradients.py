r"""Gradient and double backward of standardization in closed form, from a few sums over pools.

The notation is that of :mod:`geonorm.kernels.analytic`; the mean, if there is one, pools the same rows as the scale.
Then everything is a combination of the matrices $g$ (gradient of the output), $w$ (what the scale is the size of) and
$v$ (gradient of the gradient), with one coefficient per pool of rows and column:

$$ \bar x = a\,g+b\,w+e,\qquad \bar g = a\,v+a_1w+e_1,\qquad \bar{\bar x} = a_1g+b\,v+b_1w+e_2 . $$

The coefficients are small and follow from the row sums of $g$, $v$, $gw$, $gv$ and $wv$: with $u=w+\delta$ and $k$ the
weight of an entry in its scale pool,

$$ a=\gamma\rho,\qquad b=2k\,\rho'\,\textstyle\sum_Q\gamma gu,\qquad
   e=-\mathrm{cen}\big(\alpha\,(ag+[\text{residual}]\,bw)\big) . $$

The double backward is the gradient of $\langle g,\dot y\rangle$, where a dot is the derivative along
$(v,\dot\alpha,\dot\gamma,\dot\beta,\dot\tau)$, the gradients of the gradients:

$$ \dot y=(\dot\gamma u+\gamma\dot u)\,\rho+\gamma u\,\dot\rho+\dot\beta,\qquad
   \dot u=v-\alpha\,\mathrm{cen}(v)-\dot\alpha\,\mathrm{cen}(x),\qquad
   \dot\rho=\rho'\dot S+\rho_\tau\dot\tau,\qquad \dot S=2\,\mathrm{sc}(w\dot w) . $$
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.kernels.analytic import centred, plus, pooled_mean, power, times
from geonorm.kernels.plan import Parameters, Plan
from geonorm.numerics import untracked


@dataclass(frozen=True)
class Gradients:
    """What a derivative returns for each input; ``None`` where there is none, or nobody asked."""

    g: Tensor | None = None
    x: Tensor | None = None
    alpha: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None
    tau: Tensor | None = None

    def plus(self, other: Gradients) -> Gradients:
        """The gradients of the parameters by two parts of a batch; those of matrices belong to a part alone."""
        names = ("alpha", "gamma", "beta", "tau")
        return Gradients(**{name: plus(getattr(self, name), getattr(other, name)) for name in names})


class Statistics:
    """The forward pass as its derivatives see it: matrices per node, everything else per pool.

    Args:
        x: The features, ``[nodes, columns]``.
        parameters: The parameters, in the dtype of the features.
        mean: The mean of each pool.
        square: The second moment of each pool.
        plan: The pools, the statistic and eps.
    """

    def __init__(
        self,
        x: Float[Tensor, "nodes columns"],
        parameters: Parameters,
        mean: Tensor | None,
        square: Tensor,
        plan: Plan,
    ) -> None:
        self.plan, self.alpha, self.gamma, self.tau = plan, parameters.alpha, parameters.gamma, parameters.tau
        self.centres_w = plan.mean is not None and plan.statistic == "residual"
        self.mean = None if plan.mean is None else plan.mean.columns.expand(mean)
        self.moment = square + plan.eps
        self.rho = power(self.moment, self.tau)
        self.half_tau = 0.5 if self.tau is None else 0.5 * self.tau
        self.rho1 = -self.half_tau * self.rho / self.moment  # ρ'
        self.w, self.offset = x, None
        if self.centres_w:
            self.w = centred(x, self.alpha, mean, plan)
        elif plan.mean is not None:
            self.offset = -times(self.alpha, self.mean)
        if plan.statistic == "own":
            own = plan.scale.columns.expand(pooled_mean(plan.scale, x))
            w = x - plan.scale.expand_rows(own)
            # What rounding leaves of the mean would be multiplied by ρ', which is huge where features are constant.
            self.w, self.offset = w - plan.scale.expand(plan.scale.mean(w)), plus(own, self.offset)

    def row_sum(self, values: Float[Tensor, "nodes columns"]) -> Float[Tensor, "pools columns"]:
        """Add the rows of each pool that this process holds."""
        return self.plan.scale.row_sum(values)

    def sum_gu(self, g: Float[Tensor, "nodes columns"], sum_g: Tensor) -> Float[Tensor, "pools columns"]:
        """The row sums of g u."""
        return plus(self.row_sum(g * self.w), None if self.offset is None else self.offset * sum_g)

    def sum_w(self) -> Tensor | None:
        """The row sums of w about the subtracted mean, where means of them are taken; ``None`` is zero.

        A whole mean leaves nothing. Of a part of it the rest is known, without another pass over the nodes.
        """
        mean, scale = self.plan.mean.columns, self.plan.scale.columns
        if self.alpha is None and (mean.single or (mean.groups == scale.groups and scale.divisor is None)):
            return None
        if mean.single and self.alpha is not None and self.plan.mean.rows == "sample":
            return (1 - self.alpha) * self.mean * self.plan.mean.count
        return self.row_sum(self.w)

    def cen(self, row_sums: Float[Tensor, "pools columns"]) -> Tensor:
        """The mean over the mean pools, from row sums."""
        return self.plan.mean.columns.expand(self.plan.mean.mean_of_sums(row_sums))

    def rho_tau(self, order: int = 0) -> Float[Tensor, "pools groups"]:
        """The derivative of ρ (order 0) or ρ' (order 1) with respect to τ."""
        logarithm = self.moment.log()
        if order == 0:
            return -0.5 * logarithm * self.rho
        return (0.25 * self.tau * logarithm - 0.5) * self.rho / self.moment

    def per_column(self, values: Float[Tensor, "pools groups"]) -> Float[Tensor, "pools _"]:
        """Give every column the value of its scale group."""
        return self.plan.scale.columns.expand(values)

    def by_square(self, sums: Float[Tensor, "pools groups"]) -> Float[Tensor, "pools _"]:
        """2 k · sums per column: the adjoint of the weighted mean of squares, up to the factor w."""
        scale = self.plan.scale
        return scale.columns.weigh(self.per_column(2 * sums / scale.count))

    def combination(self, constant: Tensor | None, *terms: tuple[Tensor, Tensor]) -> Float[Tensor, "nodes columns"]:
        """The sum of coefficients times matrices, plus a constant; coefficients and constant per pool and column.

        The constant comes last: what is exactly zero, on a node alone in its pool, then stays so.
        """
        expand, (coefficient, matrix), *rest = self.plan.scale.expand_rows, *terms
        total = expand(coefficient) * matrix
        into = total if untracked(*(matrix for _, matrix in terms)) else None
        for coefficient, matrix in rest:
            total = torch.addcmul(total, expand(coefficient), matrix, out=into)
        return total if constant is None else torch.add(total, expand(constant), out=into)


def backward(g: Float[Tensor, "nodes columns"], statistics: Statistics, wants_x: bool = True) -> Gradients:
    """The gradients of x, α, γ, β and τ.

    Args:
        g: The gradient of the output.
        statistics: The forward pass.
        wants_x: Whether anybody asks for the gradient of the features.

    Returns:
        The gradients.
    """
    s, scale, rho = statistics, statistics.plan.scale, statistics.rho
    sum_g = s.row_sum(g)
    sum_gu = s.sum_gu(g, sum_g)
    by_rho = times(s.gamma, sum_gu)
    a = times(s.gamma, s.per_column(rho))
    b = s.by_square(scale.finish(by_rho) * s.rho1)
    by_mean = constant = None
    if s.plan.mean is not None:
        by_mean = a * sum_g
        if s.centres_w and (sum_w := s.sum_w()) is not None:
            by_mean = by_mean + b * sum_w
        constant = -s.cen(times(s.alpha, by_mean))
    return Gradients(
        x=s.combination(constant, (a, g), (b, s.w)) if wants_x else None,
        alpha=None if s.alpha is None or by_mean is None else -(s.mean * by_mean).sum(0),
        gamma=None if s.gamma is None else (sum_gu * s.per_column(rho)).sum(0),
        beta=sum_g.sum(0),
        tau=None if s.tau is None else (scale.columns.sum(by_rho) * s.rho_tau()).sum(0),
    )


def double_backward(
    v: Float[Tensor, "nodes columns"],
    dots: Parameters,
    g: Float[Tensor, "nodes columns"],
    statistics: Statistics,
    wants_g: bool = True,
    wants_x: bool = True,
) -> Gradients:
    """The gradients of g, x, α, γ and τ, given the gradients of what ``backward`` returns.

    Args:
        v: The gradient of the gradient of the features.
        dots: The gradients of the gradients of the parameters.
        g: The gradient of the output.
        statistics: The forward pass.
        wants_g: Whether anybody asks for the gradient of g.
        wants_x: Whether anybody asks for the gradient of the features.

    Returns:
        The gradients.
    """
    s, plan, scale = statistics, statistics.plan, statistics.plan.scale
    sum_g, sum_v = s.row_sum(g), s.row_sum(v)
    sum_gu, sum_gu_dot, sum_ww_dot = s.sum_gu(g, sum_g), s.row_sum(g * v), s.row_sum(s.w * v)
    u_shift = w_shift = sum_w = None  # u̇ = v + u_shift, ẇ = v + w_shift
    if plan.mean is not None:
        cen_v = s.cen(sum_v)
        u_shift = plus(-times(s.alpha, cen_v), None if dots.alpha is None else -dots.alpha * s.mean)
        sum_gu_dot = sum_gu_dot + u_shift * sum_g
    if s.centres_w:
        w_shift, sum_w = u_shift, s.sum_w()
        sum_ww_dot = plus(sum_ww_dot, None if sum_w is None else w_shift * sum_w)
    elif plan.statistic == "own":
        w_shift = -s.per_column(scale.mean_of_sums(sum_v))
    moment_dot = 2 * scale.mean_of_sums(sum_ww_dot)
    rho, rho_dot, rho1_dot = s.rho, s.rho1 * moment_dot, -(s.half_tau + 1) * s.rho1 / s.moment * moment_dot
    if dots.tau is not None:
        rho_dot, rho1_dot = rho_dot + s.rho_tau() * dots.tau, rho1_dot + s.rho_tau(1) * dots.tau

    still, moved = times(s.gamma, sum_gu), times(s.gamma, sum_gu_dot)  # what multiplies ρ̇ and ρ in ⟨g, ẏ⟩
    rho_column, rho_dot_column = s.per_column(rho), s.per_column(rho_dot)
    a, a1 = times(s.gamma, rho_column), times(s.gamma, rho_dot_column)
    if dots.gamma is not None:
        moved, a1 = moved + dots.gamma * sum_gu, a1 + dots.gamma * rho_column
    sum_still = scale.finish(still)
    b = s.by_square(sum_still * s.rho1)
    b1 = s.by_square(scale.finish(moved) * s.rho1 + sum_still * rho1_dot)

    grad_alpha = grad_gamma = grad_tau = grad_g = grad_x = None
    constant = None if w_shift is None else b * w_shift
    if plan.mean is not None:
        by_mean, by_mean_dot = a1 * sum_g, a * sum_g
        if s.centres_w:
            by_mean = by_mean + b * (sum_v + scale.count_here(s.w) * w_shift)
        if sum_w is not None:
            by_mean, by_mean_dot = by_mean + b1 * sum_w, by_mean_dot + b * sum_w
        lost = plus(times(s.alpha, by_mean), None if dots.alpha is None else dots.alpha * by_mean_dot)
        constant = plus(constant, -s.cen(lost))
        grad_alpha = None if s.alpha is None else -(cen_v * by_mean_dot + s.mean * by_mean).sum(0)
    if s.gamma is not None:
        grad_gamma = (sum_gu_dot * rho_column + sum_gu * rho_dot_column).sum(0)
    if s.tau is not None:
        still, moved = scale.columns.sum(still), scale.columns.sum(moved)
        by_tau = moved * s.rho_tau() + still * s.rho_tau(1) * moment_dot
        if dots.tau is not None:
            by_tau = by_tau + still * 0.25 * s.moment.log().square() * rho * dots.tau
        grad_tau = by_tau.sum(0)
    if wants_x:
        grad_x = s.combination(constant, (a1, g), (b, v), (b1, s.w))
    if wants_g:
        constant = plus(None if u_shift is None else a * u_shift, None if s.offset is None else a1 * s.offset)
        constant = plus(constant, None if dots.beta is None else dots.beta.expand(rho.shape[0], -1))
        grad_g = s.combination(constant, (a, v), (a1, s.w))
    return Gradients(grad_g, grad_x, grad_alpha, grad_gamma, None, grad_tau)
