"""The formula in torch as a differentiable function: gradient and double backward in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geonorm.kernels import analytic, gradients
from geonorm.kernels.gradients import Gradients, Statistics
from geonorm.kernels.plan import Assembly, Block, Parameters, Plan
from geonorm.numerics import accumulation_dtype


def widened(x: Tensor, parameters: Parameters) -> tuple[Tensor, Parameters]:
    """Features and parameters in the dtype of the statistics."""
    dtype = accumulation_dtype(x.dtype)
    return x.to(dtype), Parameters(*(None if value is None else value.to(dtype) for value in parameters.values()))


def cast(value: Tensor | None, like: Tensor | None) -> Tensor | None:
    """A gradient in the dtype of the tensor it belongs to; none where there is no such tensor."""
    return None if value is None or like is None else value.to(like.dtype)


def forward(x: Tensor, parameters: Parameters, plan: Plan) -> tuple[Tensor, Tensor | None, Tensor]:
    """The result and the statistics, block by block."""
    y, means, squares = Assembly(x), [], []
    for block in plan.blocks(x.shape[0]):
        part, mean, square = analytic.forward(*widened(block.rows_of(x), parameters), block.plan)
        y.put(block, part)
        means.append(mean)
        squares.append(square)
    return y.matrix, None if plan.mean is None else _joined(means), _joined(squares)


def _joined(parts: list[Tensor]) -> Tensor:
    """The statistics of all blocks."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def derivatives(
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
        features, wide_parameters = widened(block.rows_of(x), parameters)
        if square is None:
            _, mean, square = analytic.forward(features, wide_parameters, plan)
        of_block = None if plan.mean is None else block.pools_of(mean)
        statistics = Statistics(features, wide_parameters, of_block, block.pools_of(square), block.plan)
        part = compute(block, statistics)
        by_g.put(block, part.g)
        by_x.put(block, part.x)
        total = total.plus(part)
    rest = zip((total.alpha, total.gamma, total.beta, total.tau), parameters.values(), strict=True)
    return by_g.matrix, by_x.matrix, *(cast(value, like) for value, like in rest)


# Both functions take ``*inputs``: torch binds the arguments of ``forward`` to its signature at every call, which takes
# longer than a small layer where it names them one by one.


class Standardized(torch.autograd.Function):
    """The formula, which keeps the features and the statistics for its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        x, alpha, gamma, beta, tau, plan, *tensors = inputs
        y, mean, square = forward(x, Parameters(alpha, gamma, beta, tau), plan.holding(*tensors))
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
        grads = StandardizeBackward.apply(*inputs)
        asked = (wants_x, *(value is not None for value in (alpha, gamma, beta, tau)))
        return *(grad if wanted else None for grad, wanted in zip(grads, asked, strict=True)), *(None,) * 5


class StandardizeBackward(torch.autograd.Function):
    """The gradient as a function of its own, so that it has a gradient in closed form too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        g, x, alpha, gamma, beta, tau, mean, square, plan, wants_x, *tensors = inputs

        def compute(block: Block, statistics: Statistics) -> Gradients:
            return gradients.backward(block.rows_of(g).to(statistics.w.dtype), statistics, wants_x)

        parameters = Parameters(alpha, gamma, beta, tau)
        _, *found = derivatives(compute, g, x, parameters, mean, square, plan.holding(*tensors))
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
        wanted = ctx.needs_input_grad[:2]
        found = double_backward(v, dots, g, x, parameters, mean, square, ctx.plan.holding(*tensors), wanted)
        return *found, *(None,) * 8


def double_backward(
    v: Tensor | None,
    dots: tuple[Tensor | None, ...],
    g: Tensor,
    x: Tensor,
    parameters: Parameters,
    mean: Tensor | None,
    square: Tensor,
    plan: Plan,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, ...]:
    """The gradients of g, x, α, γ, β and τ, given those of what the gradient returns; differentiable by torch.

    Args:
        v: The gradient of the gradient of x.
        dots: Those of the gradients of the parameters.
        g: The gradient of the result.
        x: The features.
        parameters: The parameters.
        mean: The mean of each pool.
        square: The second moment of each pool.
        plan: What was standardized.
        wanted: Whether anybody asks for the gradients of g and of x.
    """
    v = torch.zeros_like(x) if v is None else v

    def compute(block: Block, statistics: Statistics) -> Gradients:
        pairs = zip(dots, parameters.values(), strict=True)
        dots_wide = Parameters(*(None if value is None else cast(dot, statistics.w) for dot, value in pairs))
        v_wide, g_wide = (block.rows_of(matrix).to(statistics.w.dtype) for matrix in (v, g))
        return gradients.double_backward(v_wide, dots_wide, g_wide, statistics, *wanted)

    known = None if torch.is_grad_enabled() else square
    return derivatives(compute, g, x, parameters, mean, known, plan)
