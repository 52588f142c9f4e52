"""The compiled kernels as operators of torch, for code that ``torch.compile`` traces: one node in its graph.

The operators know what to do from numbers and words alone, so that a graph that a compiler keeps on disk stays valid.
"""

from __future__ import annotations

import json
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from geonorm.kernels import choice, cpu
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import SEGMENTED, SHARED, Columns
from geonorm.numerics import accumulation_dtype
from geonorm.processes import several_processes


@lru_cache(maxsize=1024)
def _recipe(use: ModuleType, specification: str) -> object | None:
    *columns, statistic, eps = json.loads(specification)
    return use.recipe(*(None if k is None else Columns(*k) for k in columns), statistic, eps)


def _known(device: str, dtype: torch.dtype, specification: str) -> bool:
    """Whether the kernels are there and know what to do."""
    use = choice.kernels(torch.device(device))
    return use is not None and dtype in use.TYPES and _recipe(use, specification) is not None


# The compiler calls it once and takes the answer for a constant.
_known._dynamo_marked_constant = True


def knows(x: Tensor, plan: Plan) -> bool:
    """Whether the operators can do this, for code that is being traced."""
    some = plan.mean if plan.scale is None else plan.scale
    if some is None or torch.compiler.is_exporting():
        return False
    if (plan.mean is not None and plan.mean.rows != some.rows) or (some.rows in SHARED and several_processes()):
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return _known(str(x.device), x.dtype, words(plan))


def words(plan: Plan) -> str:
    """The plan in words."""
    mean, scale = ("null" if pool is None else pool.columns.words for pool in (plan.mean, plan.scale))
    return f'[{mean}, {scale}, "{plan.statistic}", {plan.eps!r}]'


def standardize(x: Tensor, parameters: Parameters, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """The result and the statistics, as one operator."""
    some = plan.mean if plan.scale is None else plan.scale
    index, pools = None, x.shape[0] if some.rows == "node" else 1
    if some.rows in SEGMENTED and some.segments.index is not None:
        index, pools = some.segments.index, some.segments.num_samples
    y, mean, square, _ = _operator(x, *parameters.values(), index, pools, some.rows == "node", words(plan))
    return y, mean, square


def _rows(use: ModuleType, x: Tensor, index: Tensor | None, pools: int, each_row: bool) -> object:
    if index is None:
        return use.Rows(x.shape[0]) if each_row else use.Rows.all(x.shape[0])
    rows = use.Rows.of_batch(index.long(), pools)
    if rows is None:
        raise IndexError(f"batch holds a sample number that is not one of 0, …, {pools - 1}")
    return rows


def _ready(dtype: torch.dtype, *values: Tensor | None) -> list[Tensor | None]:
    return [cpu.plain(value, dtype) for value in values]


_INPUTS = "Tensor x, Tensor? alpha, Tensor? gamma, Tensor? beta, Tensor? tau"
_ROWS = "Tensor? index, SymInt pools, bool each_row, str specification"


@torch.library.custom_op(
    "geonorm::standardize",
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"({_INPUTS}, {_ROWS}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _operator(x, alpha, gamma, beta, tau, index, pools, each_row, specification):
    use, dtype = choice.kernels(x.device), accumulation_dtype(x.dtype)
    y, mean, square, own = use.forward(
        _recipe(use, specification),
        _rows(use, x, index, pools, each_row),
        cpu.plain(x, x.dtype),
        *_ready(dtype, alpha, gamma, beta, tau),
    )
    return y, mean, square, square.new_empty(0) if own is None else own


@_operator.register_fake
def _(x, alpha, gamma, beta, tau, index, pools, each_row, specification):
    work, dtype = _recipe(choice.kernels(x.device), specification), accumulation_dtype(x.dtype)
    mean, square = (x.new_empty(pools, groups, dtype=dtype) for groups in (work.mean_groups, work.scale_groups))
    own = torch.empty_like(square) if work.own else square.new_empty(0)
    return torch.empty_like(x, memory_format=torch.contiguous_format), mean, square, own


@torch.library.custom_op(
    "geonorm::standardize_backward",
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"(Tensor g, {_INPUTS}, Tensor mean, Tensor square, Tensor own, {_ROWS}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(g, x, alpha, gamma, beta, tau, mean, square, own, index, pools, each_row, specification):
    use, dtype = choice.kernels(x.device), accumulation_dtype(x.dtype)
    work, parameters = _recipe(use, specification), (alpha, gamma, beta, tau)
    dx, *found = use.backward(
        work,
        _rows(use, x, index, pools, each_row),
        cpu.plain(g, x.dtype),
        cpu.plain(x, x.dtype),
        *_ready(dtype, alpha, gamma, tau),
        (mean, square, own if work.own else None),
        (True, *(value is not None for value in parameters)),
    )
    # What an operator of torch returns has memory of its own, not a part of that of another result.
    given = (
        x.new_empty(0) if value is None else value.to(p.dtype, copy=value._is_view())
        for value, p in zip(found, parameters, strict=True)
    )
    return dx, *given


@_backward.register_fake
def _(g, x, alpha, gamma, beta, tau, mean, square, own, index, pools, each_row, specification):
    given = (x.new_empty(0) if p is None else torch.empty_like(p) for p in (alpha, gamma, beta, tau))
    return torch.empty_like(x, memory_format=torch.contiguous_format), *given


def _setup(ctx, inputs, output):
    x, alpha, gamma, beta, tau, index, *ctx.rest = inputs
    _, mean, square, own = output
    ctx.save_for_backward(x, alpha, gamma, beta, tau, mean, square, own, index)


def _gradient(ctx, g, *_):
    saved = ctx.saved_tensors
    found = _backward(g, *saved, *ctx.rest)
    return *(None if value is None else f for value, f in zip(saved, found, strict=False)), None, None, None, None


_operator.register_autograd(_gradient, setup_context=_setup)
