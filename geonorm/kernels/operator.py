"""The one operator that every statistic layer calls: picks an implementation and makes it differentiable."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from geonorm.kernels import analytic, gradients
from geonorm.kernels.gradients import Gradients, Statistics
from geonorm.kernels.plan import Assembly, Block, Parameters, Plan
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
    if not plan.aligned or _differentiated_by_torch():
        y, mean, square = analytic.forward(*_wide(x, parameters), plan)
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *parameters.values())):
        y, mean, square = _Standardize.apply(x, *parameters.values(), plan, *plan.tensors())
    else:
        y, mean, square = _forward(x, parameters, plan)
    y = x.clone() if y is x else y.to(x.dtype)  # with nothing to do the formula gives back its input
    return y, None if plan.mean is None else mean.detach(), None if plan.scale is None else square.detach()


def _differentiated_by_torch() -> bool:
    """Whether the compiler is at work, which fuses the formula and its gradient itself, or forward mode."""
    return torch.compiler.is_compiling() or forward_ad._current_level >= 0


def _wide(x: Tensor, parameters: Parameters) -> tuple[Tensor, Parameters]:
    """Features and parameters in the dtype of the statistics."""
    dtype = accumulation_dtype(x.dtype)
    return x.to(dtype), Parameters(*(None if value is None else value.to(dtype) for value in parameters.values()))


def _cast(value: Tensor | None, like: Tensor | None) -> Tensor | None:
    """A gradient in the dtype of the tensor it belongs to; none where there is no such tensor."""
    return None if value is None or like is None else value.to(like.dtype)


def _forward(x: Tensor, parameters: Parameters, plan: Plan) -> tuple[Tensor, Tensor | None, Tensor]:
    """The result and the statistics, block by block."""
    y, means, squares = Assembly(x), [], []
    for block in plan.blocks(x.shape[0]):
        part, mean, square = analytic.forward(*_wide(block.rows_of(x), parameters), block.plan)
        y.put(block, part)
        means.append(mean)
        squares.append(square)
    return y.matrix, None if plan.mean is None else _joined(means), _joined(squares)


def _joined(parts: list[Tensor]) -> Tensor:
    """The statistics of all blocks."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _derivatives(
    compute: Callable[[Block, Statistics], Gradients],
    g: Tensor,
    x: Tensor,
    parameters: Parameters,
    mean: Tensor | None,
    square: Tensor | None,
    plan: Plan,
) -> tuple[Tensor | None, ...]:
    """What a derivative returns for g, x, α, γ, β and τ, block by block, each in the dtype of what it belongs to.

    Statistics that are not given are computed, for the whole batch: a third derivative must see how they depend on x.
    """
    by_g, by_x, total = Assembly(g), Assembly(x), Gradients()
    for block in plan.blocks(x.shape[0]):
        wide, wide_parameters = _wide(block.rows_of(x), parameters)
        if square is None:
            _, mean, square = analytic.forward(wide, wide_parameters, plan)
        of_block = None if plan.mean is None else block.pools_of(mean)
        statistics = Statistics(wide, wide_parameters, of_block, block.pools_of(square), block.plan)
        part = compute(block, statistics)
        by_g.put(block, part.g)
        by_x.put(block, part.x)
        total = total.plus(part)
    rest = zip((total.alpha, total.gamma, total.beta, total.tau), parameters.values(), strict=True)
    return by_g.matrix, by_x.matrix, *(_cast(value, like) for value, like in rest)


# Both functions take ``*inputs``: torch binds the arguments of ``forward`` to its signature at every call, which takes
# longer than a small layer where it names them one by one.


class _Standardize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        x, alpha, gamma, beta, tau, plan, *tensors = inputs
        y, mean, square = _forward(x, Parameters(alpha, gamma, beta, tau), plan.holding(*tensors))
        return y, x.new_empty(0) if mean is None else mean, square

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

        def compute(block: Block, statistics: Statistics) -> Gradients:
            return gradients.backward(block.rows_of(g).to(statistics.w.dtype), statistics, wants_x)

        parameters = Parameters(alpha, gamma, beta, tau)
        _, *found = _derivatives(compute, g, x, parameters, mean, square, plan.holding(*tensors))
        return tuple(x.new_empty(0) if value is None else value for value in found)

    @staticmethod
    def setup_context(ctx, inputs, output):
        g, x, alpha, gamma, beta, tau, mean, square, plan, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        ctx.save_for_backward(g, x, alpha, gamma, beta, tau, mean, square, *tensors)

    @staticmethod
    def backward(ctx, v, *dots):
        g, x, alpha, gamma, beta, tau, mean, square, *tensors = ctx.saved_tensors
        parameters = Parameters(alpha, gamma, beta, tau)
        v = torch.zeros_like(x) if v is None else v
        wants_g, wants_x, *_ = ctx.needs_input_grad

        def compute(block: Block, statistics: Statistics) -> Gradients:
            pairs = zip(dots, parameters.values(), strict=True)
            wide = Parameters(*(None if value is None else _cast(dot, statistics.w) for dot, value in pairs))
            v_wide, g_wide = (block.rows_of(matrix).to(statistics.w.dtype) for matrix in (v, g))
            return gradients.double_backward(v_wide, wide, g_wide, statistics, wants_g, wants_x)

        known = None if torch.is_grad_enabled() else square
        found = _derivatives(compute, g, x, parameters, mean, known, ctx.plan.holding(*tensors))
        return *found, *(None,) * 8
