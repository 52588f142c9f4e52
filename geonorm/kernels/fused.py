"""The compiled kernels as a differentiable function.

Whatever they do not know - transforms of functions, forward mode, a third derivative - is left to the closed form in
torch, from the same saved tensors.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor
from torch.autograd import forward_ad

from geonorm.axes import Segments
from geonorm.kernels import choice, closed, cpu
from geonorm.kernels.analytic import pooled_mean, times
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import SEGMENTED, Pool
from geonorm.numerics import accumulation_dtype

_TENSORS = (Tensor, torch.nn.Parameter)


def plainly_called() -> bool:
    """Whether tensors are what they seem: nobody traces, transforms or differentiates forward."""
    if torch.compiler.is_compiling():
        return False
    return not (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
    )


def kernels_for(x: Tensor) -> ModuleType | None:
    """The kernels that can read this matrix, now."""
    if not (plainly_called() and type(x) in _TENSORS and x.layout is torch.strided):
        return None
    use = choice.kernels(x.device)
    return use if use is not None and x.dtype in use.TYPES else None


def _holds_numbers(values: Tensor | None) -> bool:
    """Whether this is a plain tensor, not a batch of gradients or something that only looks like a tensor."""
    return values is None or (type(values) in _TENSORS and not torch._C._functorch.is_legacy_batchedtensor(values))


class Work:
    """What is standardized, and its statistics once they are known.

    Args:
        recipe: The groups of columns, the statistic and eps, as the kernels read them.
        rows: Which rows belong together.
        what: Which rows share a statistic, the groups of columns of mean and scale, the statistic and eps.
        batch: The sample or type of each row.
        kernels: The kernels, whose recipe and rows these are: of the CPU, or of Triton.
    """

    __slots__ = ("batch", "kernels", "mean", "own", "recipe", "rows", "square", "what")

    def __init__(self, recipe: object, rows: object, what: tuple, batch: Tensor | None, kernels: ModuleType) -> None:
        self.recipe, self.rows, self.what, self.batch, self.kernels = recipe, rows, what, batch, kernels

    def plan(self, x: Tensor) -> Plan:
        """The same for the implementation in torch."""
        kind, mean, scale, statistic, eps = self.what
        segments = Segments(self.batch, self.rows.number, x.shape[0]) if kind in SEGMENTED else None
        pool = Pool.build(kind, mean if scale is None else scale, x, segments)
        return Plan(*(None if k is None else pool.pooling(k) for k in (mean, scale)), statistic, eps)

    @property
    def statistics(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The mean, the second moment and the mean of the own variance, of each pool."""
        return self.mean, self.square, self.own

    def __call__(self, x: Tensor, parameters: Parameters, wants_statistics: bool = False) -> Tensor:
        """Standardize.

        Args:
            x: Features, ``[nodes, columns]``, for which :func:`kernels_for` finds kernels.
            parameters: α, γ, β per column and τ per scale group.
            wants_statistics: Whether the caller reads ``mean`` and ``square`` afterwards.

        Returns:
            The result, in the dtype of ``x``.
        """
        alpha, gamma, beta, tau = parameters.alpha, parameters.gamma, parameters.beta, parameters.tau
        if torch.is_grad_enabled() and (
            x.requires_grad
            or (gamma is not None and gamma.requires_grad)
            or (beta is not None and beta.requires_grad)
            or (alpha is not None and alpha.requires_grad)
            or (tau is not None and tau.requires_grad)
        ):
            return _Fused.apply(x, alpha, gamma, beta, tau, self)
        return _forward(x, alpha, gamma, beta, tau, self, wants_statistics)


def _ready(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Numbers that a kernel can read."""
    if value is None or (
        value.dtype is dtype and value.is_contiguous() and not value.is_neg() and not value._is_zerotensor()
    ):
        return value
    return cpu.plain(value, dtype)


def _cast(value: Tensor | None, like: Tensor | None) -> Tensor | None:
    """A gradient in the type of what it belongs to."""
    return value if value is None or value.dtype is like.dtype else value.to(like.dtype)


def _forward(x, alpha, gamma, beta, tau, work: Work, wants_statistics: bool) -> Tensor:
    dtype = accumulation_dtype(x.dtype)
    y, work.mean, work.square, work.own = work.kernels.forward(
        work.recipe,
        work.rows,
        _ready(x, x.dtype),
        _ready(alpha, dtype),
        _ready(gamma, dtype),
        _ready(beta, dtype),
        _ready(tau, dtype),
        wants_statistics,
    )
    return y


def _gradients(
    g: Tensor, saved: tuple[Tensor | None, ...], work: Work, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of x and the parameters by the kernels."""
    x, alpha, gamma, beta, tau = saved
    dtype = accumulation_dtype(x.dtype)
    dx, *found = work.kernels.backward(
        work.recipe,
        work.rows,
        _ready(g, x.dtype),
        _ready(x, x.dtype),
        _ready(alpha, dtype),
        _ready(gamma, dtype),
        _ready(tau, dtype),
        work.statistics,
        wanted,
    )
    return [dx, *map(_cast, found, (alpha, gamma, beta, tau))]


def _mean_alone_twice(
    v: Tensor | None, dots: tuple[Tensor | None, ...], saved: tuple[Tensor | None, ...], plan: Plan
) -> tuple[Tensor | None, ...]:
    """The gradients of the gradients where nothing is scaled, by torch: of g, x, α, γ, β and τ."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Other names for the same tensors: g may itself have been computed from x.
        g, *others = (None if value is None else value.view_as(value) for value in saved)
        pairs = zip(_mean_alone(g, tuple(others), plan), (v, *dots), strict=True)
        pairs = [(value, dot) for value, dot in pairs if dot is not None and value is not None and value.requires_grad]
    given = [value for value in (g, *others) if value is not None and value.requires_grad]
    if not pairs:
        return (None,) * len(saved)
    values, directions = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(values, given, directions, create_graph=again, allow_unused=True))
    return tuple(next(found) if value is not None and value.requires_grad else None for value in (g, *others))


def _mean_alone(g: Tensor, saved: tuple[Tensor | None, ...], plan: Plan) -> list[Tensor | None]:
    """The gradients where nothing is scaled: a linear map, which torch differentiates as often as it likes."""
    dtype = accumulation_dtype(saved[0].dtype)
    g, x, alpha, gamma = (None if value is None else value.to(dtype) for value in (g, *saved[:3]))
    pool, by_u = plan.mean, times(gamma, g)
    sums = pool.row_sum(by_u)
    lost = pool.columns.expand(pool.mean_of_sums(times(alpha, sums)))
    by_alpha = by_gamma = None
    if alpha is not None or gamma is not None:  # else nothing depends on the features
        mean = pool.columns.expand(pooled_mean(pool, x))
        by_alpha = None if alpha is None else -(mean * sums).sum(0)
        by_gamma = None if gamma is None else (g * (x - pool.expand_rows(times(alpha, mean)))).sum(0)
    by_beta = None if saved[3] is None else g.sum(0)
    found = [by_u - pool.expand_rows(lost), by_alpha, by_gamma, by_beta, None]
    return [closed.cast(value, like) for value, like in zip(found, saved, strict=True)]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha, gamma, beta, tau, work):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, alpha, gamma, beta, tau)
        ctx.work = work
        return _forward(x, alpha, gamma, beta, tau, work, True)

    @staticmethod
    def backward(ctx, g):
        if g is None:
            return (None,) * 6
        saved, wanted, work = ctx.saved_tensors, ctx.needs_input_grad[:5], ctx.work
        x = saved[0]
        again = torch.is_grad_enabled()
        twice = bool(work.recipe.scale_groups) or work.kernels.MEAN_ALONE_TWICE
        if not _holds_numbers(g) or not plainly_called() or (again and not twice):
            plan = work.plan(x)
            if plan.scale is None:
                found = _mean_alone(g, saved, plan)
            else:
                inputs = (g, *saved, work.mean, work.square, plan, wanted[0], *plan.tensors())
                found = closed.StandardizeBackward.apply(*inputs)
            found = [value if want else None for value, want in zip(found, wanted, strict=True)]
        elif again:
            found = _FusedBackward.apply(g, *saved, work, wanted)
        else:
            found = _gradients(g, saved, work, wanted)
        return *found, None


class _FusedBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, g, x, alpha, gamma, beta, tau, work, wanted):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, alpha, gamma, beta, tau)
        ctx.work = work
        return tuple(_gradients(g, (x, alpha, gamma, beta, tau), work, wanted))

    @staticmethod
    def backward(ctx, v, *dots):
        g, x, *parameters = ctx.saved_tensors
        wanted, work = ctx.needs_input_grad, ctx.work
        depends = bool(work.recipe.scale_groups) or any(dot is not None for dot in dots[:2])  # on the features
        if torch.is_grad_enabled() or not plainly_called() or not all(map(_holds_numbers, (v, *dots))):
            plan = work.plan(x)
            if plan.scale is None:
                return *_mean_alone_twice(v, dots, ctx.saved_tensors, plan), None, None
            found = closed.double_backward(
                v, dots, g, x, Parameters(*parameters), work.mean, work.square, plan, wanted[:2]
            )
        else:
            alpha, gamma, _, tau = parameters
            dtype = accumulation_dtype(x.dtype)
            v = torch.zeros_like(x, memory_format=torch.contiguous_format) if v is None else _ready(v, x.dtype)
            dg, dx, *rest = work.kernels.double_backward(
                work.recipe,
                work.rows,
                v,
                tuple(None if dot is None else _ready(dot, dtype) for dot in dots),
                _ready(g, x.dtype),
                _ready(x, x.dtype),
                _ready(alpha, dtype),
                _ready(gamma, dtype),
                _ready(tau, dtype),
                work.statistics,
                (wanted[0], wanted[1] and depends, wanted[2], wanted[3], wanted[5]),
            )
            dalpha, dgamma, dtau = map(_cast, rest, (alpha, gamma, tau))
            found = dg, dx, dalpha, dgamma, None, dtau
        return *found, None, None
