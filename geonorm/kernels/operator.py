"""The one operator that every statistic layer calls: picks an implementation and makes it differentiable."""

from __future__ import annotations

from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from geonorm.kernels import analytic, closed, compiled, fused
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import SEGMENTED, SHARED, Columns
from geonorm.numerics import accumulation_dtype
from geonorm.processes import several_processes


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
    work = _work(x, plan)
    if work is not None:
        y = work(x, parameters, wants_statistics=True)
        return y, None if plan.mean is None else work.mean, None if plan.scale is None else work.square
    if torch.compiler.is_compiling() and compiled.knows(x, plan):
        y, mean, square = compiled.standardize(x, parameters, plan)
        return y, None if plan.mean is None else mean.detach(), None if plan.scale is None else square.detach()
    if plan.scale is not None and not plan.aligned and plan.statistic == "residual":
        # What is left after the mean is a matrix of its own, whose scale about zero has a closed form again.
        alpha, *rest = parameters.values()
        u, mean, _ = standardize(x.to(accumulation_dtype(x.dtype)), Parameters(alpha), plan.only_mean())
        y, _, square = standardize(u, Parameters(None, *rest), plan.only_scale())
        return y.to(x.dtype), mean, square
    if not plan.aligned or _differentiated_by_torch():
        y, mean, square = analytic.forward(*closed.widened(x, parameters), plan)
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *parameters.values())):
        y, mean, square = closed.Standardized.apply(x, *parameters.values(), plan, *plan.tensors())
    else:
        y, mean, square = closed.forward(x, parameters, plan)
    y = x.clone() if y is x else y.to(x.dtype)  # with nothing to do the formula gives back its input
    return y, None if plan.mean is None else mean.detach(), None if plan.scale is None else square.detach()


def _differentiated_by_torch() -> bool:
    """Whether the compiler is at work, which fuses the formula and its gradient itself, or forward mode."""
    return torch.compiler.is_compiling() or forward_ad._current_level >= 0


def _work(x: Tensor, plan: Plan) -> fused.Work | None:
    """The work for the compiled kernels, if they know it."""
    some = plan.mean if plan.scale is None else plan.scale
    if some is None or (plan.mean is not None and plan.mean.rows != some.rows):
        return None
    mean, scale = (None if pool is None else pool.columns for pool in (plan.mean, plan.scale))
    segments = () if some.segments is None else (some.segments.index, some.segments.num_samples)
    return quick(x, some.rows, mean, scale, plan.statistic, plan.eps, *segments)


def quick(
    x: Tensor,
    kind: str,
    mean: Columns | None,
    scale: Columns | None,
    statistic: str,
    eps: float,
    batch: Tensor | None = None,
    batch_size: int | None = None,
) -> fused.Work | None:
    """The work for the compiled kernels, or ``None`` where they do not know what to do, or something is wrong.

    Args:
        x: Features, ``[nodes, columns]``.
        kind: Which rows share a statistic: ``"node"``, ``"sample"``, ``"type"`` or ``"batch"``.
        mean: The groups of columns that share a mean, or ``None``.
        scale: Those that share a scale, or ``None``.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``.
        eps: Added to the second moment.
        batch: The sample or type of each row.
        batch_size: The number of samples or types.
    """
    use = None if _differentiated_by_torch() else fused.kernels_for(x)
    if use is None:
        return None
    recipe = use.recipe(mean, scale, statistic, eps)
    rows = None if recipe is None else _rows(use, kind, x, batch, batch_size)
    return None if rows is None else fused.Work(recipe, rows, (kind, mean, scale, statistic, eps), batch, use)


def _rows(use: ModuleType, kind: str, x: Tensor, batch: Tensor | None, batch_size: int | None) -> object | None:
    """Which rows belong together, as the kernels read it, or ``None`` where somebody else must look at them."""
    nodes = x.shape[0]
    if type(batch) is Tensor and batch.dtype is torch.int32:
        batch = batch.long()
    if batch is not None and (type(batch) is not Tensor or batch.dtype is not torch.int64):
        return None
    if batch is not None and (batch.shape != (nodes,) or batch.device != x.device):
        return None
    if kind == "node":
        return use.Rows(nodes)
    if kind in SHARED and several_processes():
        return None
    if kind not in SEGMENTED or (batch is None and batch_size in (None, 1)):
        return use.Rows.all(nodes)
    if batch is None:
        return None
    if batch_size is None:
        batch_size = 1 + int(batch.max()) if nodes else 0
    return use.Rows.of_batch(batch, int(batch_size))
