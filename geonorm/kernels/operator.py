"""The one operator that every statistic layer calls: picks an implementation and makes it differentiable."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from geonorm.kernels import analytic, gradients
from geonorm.kernels.analytic import Parameters, Plan
from geonorm.kernels.gradients import Statistics
from geonorm.numerics import accumulation_dtype


def standardize(
    x: Float[Tensor, "nodes columns"], parameters: Parameters, plan: Plan
) -> tuple[Float[Tensor, "nodes columns"], Tensor | None, Tensor | None]:
    r"""Centre and scale the entries of ``x`` by the statistics of their pools.

    $$ y = \gamma\,\frac{x-\alpha\,\mathrm{mean}_P(x)}{\big(\mathrm{sc}_Q(w^2)+\varepsilon\big)^{\tau/2}}+\beta $$

    Differentiable to any order, in reverse and in forward mode. Where mean and scale pool the same rows, gradient and
    double backward are in closed form. Statistics are computed in float32 or wider. With ``torch.distributed`` a pool
    of the batch holds the entries of all processes.

    Args:
        x: Features, ``[nodes, columns]``.
        parameters: α, γ, β per column and τ per scale group.
        plan: The pools, the statistic and eps.

    Returns:
        The result in the dtype of ``x``, and the mean and second moment of each pool (without gradient).
    """
    if plan.scale is not None and not plan.aligned and plan.statistic == "residual":
        # What is left after the mean is a matrix of its own, whose scale about zero has a closed form again.
        alpha, *rest = parameters.values()
        u, mean, _ = standardize(x.to(accumulation_dtype(x.dtype)), Parameters(alpha), plan.only_mean())
        y, _, square = standardize(u, Parameters(None, *rest), plan.only_scale())
        return y.to(x.dtype), mean, square
    if not plan.aligned or not _closed_form_is_used(x, parameters):
        y, mean, square = analytic.forward(*_wide(x, parameters), plan)
        y = x.clone() if y is x else y.to(x.dtype)  # with nothing to do the formula gives back its input
        return y, None if mean is None else mean.detach(), None if square is None else square.detach()
    y, mean, square = _Standardize.apply(x, *parameters.values(), plan, *plan.tensors())
    return y, None if plan.mean is None else mean, square


def _closed_form_is_used(x: Tensor, parameters: Parameters) -> bool:
    """Whether a gradient may be asked for, in reverse mode and without the compiler.

    The compiler fuses the plain formula and its gradient itself; forward mode nests right for plain torch only.
    """
    if torch.compiler.is_compiling() or forward_ad._current_level >= 0 or not torch.is_grad_enabled():
        return False
    return any(value is not None and value.requires_grad for value in (x, *parameters.values()))


def _wide(x: Tensor, parameters: Parameters) -> tuple[Tensor, Parameters]:
    """Features and parameters in the dtype of the statistics."""
    dtype = accumulation_dtype(x.dtype)
    return x.to(dtype), Parameters(*(None if value is None else value.to(dtype) for value in parameters.values()))


def _cast(value: Tensor | None, like: Tensor | None) -> Tensor | None:
    """A gradient in the dtype of the tensor it belongs to; none where there is no such tensor."""
    return None if value is None or like is None else value.to(like.dtype)


def _statistics(
    x: Tensor, parameters: Parameters, mean: Tensor | None, square: Tensor | None, plan: Plan
) -> Statistics:
    """What the derivatives need; statistics that are not given are computed."""
    x, parameters = _wide(x, parameters)
    if square is None:
        _, mean, square = analytic.forward(x, parameters, plan)
    return Statistics(x, parameters, None if plan.mean is None else mean, square, plan)


# Both functions take ``*inputs``: torch binds the arguments of ``forward`` to its signature at every call, which takes
# longer than a small layer where it names them one by one.


class _Standardize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        x, alpha, gamma, beta, tau, plan, *tensors = inputs
        y, mean, square = analytic.forward(*_wide(x, Parameters(alpha, gamma, beta, tau)), plan.holding(*tensors))
        return y.to(x.dtype), x.new_empty(0) if mean is None else mean, square

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
        wants_x = ctx.needs_input_grad[0]
        inputs = (g, x, alpha, gamma, beta, tau, mean, square, ctx.plan, wants_x, *tensors)
        grads = _StandardizeBackward.apply(*inputs)
        asked = (wants_x, *(value is not None for value in (alpha, gamma, beta, tau)))
        return *(grad if wanted else None for grad, wanted in zip(grads, asked, strict=True)), *(None,) * 5


class _StandardizeBackward(torch.autograd.Function):
    """The gradient as a function of its own, so that it has a gradient in closed form too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        g, x, alpha, gamma, beta, tau, mean, square, plan, wants_x, *tensors = inputs
        parameters = Parameters(alpha, gamma, beta, tau)
        statistics = _statistics(x, parameters, mean, square, plan.holding(*tensors))
        grads = gradients.backward(g.to(statistics.w.dtype), statistics, wants_x)
        found = (grads.x, grads.alpha, grads.gamma, grads.beta, grads.tau)
        pairs = zip(found, (x, alpha, gamma, beta, tau), strict=True)
        return tuple(x.new_empty(0) if value is None or like is None else _cast(value, like) for value, like in pairs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        g, x, alpha, gamma, beta, tau, mean, square, plan, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        ctx.save_for_backward(g, x, alpha, gamma, beta, tau, mean, square, *tensors)

    @staticmethod
    def backward(ctx, v, *dots):
        g, x, alpha, gamma, beta, tau, mean, square, *tensors = ctx.saved_tensors
        given = (alpha, gamma, beta, tau)
        dots = Parameters(*(None if value is None else dot for dot, value in zip(dots, given, strict=True)))
        # A third derivative must see how the statistics depend on x.
        square = None if torch.is_grad_enabled() else square
        statistics = _statistics(x, Parameters(*given), mean, square, ctx.plan.holding(*tensors))
        v = torch.zeros_like(x) if v is None else v
        wide = [value.to(statistics.w.dtype) for value in (v, g)]
        dots = Parameters(*(_cast(dot, statistics.w) for dot in dots.values()))
        wants_g, wants_x, *_ = ctx.needs_input_grad
        grads = gradients.double_backward(wide[0], dots, wide[1], statistics, wants_g, wants_x)
        found = (grads.g, grads.x, grads.alpha, grads.gamma, None, grads.tau)
        like = (g, x, alpha, gamma, beta, tau)
        return *(_cast(value, tensor) for value, tensor in zip(found, like, strict=True)), *(None,) * 8
