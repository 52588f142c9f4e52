"""The one operator that every statistic layer calls: picks an implementation and makes it differentiable."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from geonorm.kernels import analytic
from geonorm.kernels.analytic import Parameters, Plan
from geonorm.numerics import accumulation_dtype


def standardize(
    x: Float[Tensor, "nodes columns"], parameters: Parameters, plan: Plan
) -> tuple[Float[Tensor, "nodes columns"], Tensor | None, Tensor | None]:
    r"""Centre and scale the entries of ``x`` by the statistics of their pools.

    $$ y = \gamma\,\frac{x-\alpha\,\mathrm{mean}_P(x)}{\big(\mathrm{sc}_Q(c^2)+\varepsilon\big)^{\tau/2}}+\beta $$

    Differentiable to any order, in reverse and in forward mode; gradient and double backward are in closed form.
    Statistics are computed in float32 or wider. With ``torch.distributed`` a pool of the batch holds the entries of
    all processes.

    Args:
        x: Features, ``[nodes, columns]``.
        parameters: α, γ, β per column and τ per scale group.
        plan: The pools, the statistic and eps.

    Returns:
        The result in the dtype of ``x``, and the mean and second moment of each pool (without gradient).
    """
    if torch.compiler.is_compiling() or forward_ad._current_level >= 0:
        # The compiler fuses the plain formula and its gradient itself; forward mode nests right for plain torch only.
        y, mean, square = analytic.forward(*_wide(x, parameters), plan)
        return y.to(x.dtype), None if mean is None else mean.detach(), None if square is None else square.detach()
    parameters = (parameters.alpha, parameters.gamma, parameters.beta, parameters.tau)
    y, mean, square = _Standardize.apply(x, *parameters, plan, *plan.tensors())
    return y, mean if plan.mean is not None else None, square if plan.scale is not None else None


def _wide(x: Tensor, parameters: Parameters) -> tuple[Tensor, Parameters]:
    """Features and parameters in the dtype of the statistics."""
    dtype = accumulation_dtype(x.dtype)
    values = (parameters.alpha, parameters.gamma, parameters.beta, parameters.tau)
    return x.to(dtype), Parameters(*(None if value is None else value.to(dtype) for value in values))


def _cast(values: tuple[Tensor | None, ...], like: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Each gradient in the dtype of the tensor it belongs to; none where there is no such tensor."""
    pairs = zip(values, like, strict=True)
    return tuple(None if value is None or tensor is None else value.to(tensor.dtype) for value, tensor in pairs)


class _Standardize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, alpha, gamma, beta, tau, plan, *tensors):
        plan = plan.holding(*tensors)
        y, mean, square = analytic.forward(*_wide(x, Parameters(alpha, gamma, beta, tau)), plan)
        empty = x.new_empty(0)
        y = x.clone() if y is x else y.to(x.dtype)  # with nothing to do the formula gives back its input
        return y, empty if mean is None else mean, empty.clone() if square is None else square

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, alpha, gamma, beta, tau, plan, *tensors = inputs
        _, mean, square = output
        ctx.mark_non_differentiable(mean, square)
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        ctx.save_for_backward(x, alpha, gamma, beta, tau, mean, square, *tensors)

    @staticmethod
    def backward(ctx, g, _mean, _square):
        if g is None:
            return (None,) * 10
        x, alpha, gamma, beta, tau, mean, square, *tensors = ctx.saved_tensors
        grads = _StandardizeBackward.apply(g, x, alpha, gamma, beta, tau, mean, square, ctx.plan, *tensors)
        d_x, d_alpha, d_gamma, d_beta, d_tau = grads
        return (
            d_x,
            None if alpha is None else d_alpha,
            None if gamma is None else d_gamma,
            None if beta is None else d_beta,
            None if tau is None else d_tau,
            *(None,) * 5,
        )


def _statistics(plan: Plan, mean: Tensor, square: Tensor) -> tuple[Tensor | None, Tensor | None]:
    return mean if plan.mean is not None else None, square if plan.scale is not None else None


class _StandardizeBackward(torch.autograd.Function):
    """The gradient as a function of its own, so that it has a gradient in closed form too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g, x, alpha, gamma, beta, tau, mean, square, plan, *tensors):
        plan = plan.holding(*tensors)
        wide, parameters = _wide(x, Parameters(alpha, gamma, None, tau))
        grads = analytic.backward(g.to(wide.dtype), wide, parameters, *_statistics(plan, mean, square), plan)
        like = (x, alpha, gamma, beta, tau)
        empty = x.new_empty(0)
        return tuple(empty.clone() if grad is None else grad for grad in _cast(grads, like))

    @staticmethod
    def setup_context(ctx, inputs, output):
        g, x, alpha, gamma, beta, tau, mean, square, plan, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        ctx.save_for_backward(g, x, alpha, gamma, beta, tau, mean, square, *tensors)

    @staticmethod
    def backward(ctx, v, alpha_dot, gamma_dot, beta_dot, tau_dot):
        g, x, alpha, gamma, beta, tau, mean, square, *tensors = ctx.saved_tensors
        plan = ctx.plan.holding(*tensors)
        wide, parameters = _wide(x, Parameters(alpha, gamma, None, tau))
        mean, square = _statistics(plan, mean, square)
        if torch.is_grad_enabled():
            # A third derivative was asked for: let autograd see how the statistics depend on x.
            _, mean, square = analytic.forward(wide, parameters, plan)
        v = torch.zeros_like(wide) if v is None else v
        dots = (
            None if alpha is None else alpha_dot,
            None if gamma is None else gamma_dot,
            None if beta is None else beta_dot,
            None if tau is None else tau_dot,
        )
        v, dots = _wide(v.to(wide.dtype), Parameters(*dots))
        grads = analytic.double_backward(v, dots, g.to(wide.dtype), wide, parameters, mean, square, plan)
        grad_g, grad_x, grad_alpha, grad_gamma, grad_tau = _cast(grads, (g, x, alpha, gamma, tau))
        return grad_g, grad_x, grad_alpha, grad_gamma, None, grad_tau, *(None,) * 7
