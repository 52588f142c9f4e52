"""The three orders as functions of tensors: memory for the results, and one call of a kernel."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from geonorm.kernels.cpu import library
from geonorm.kernels.cpu.recipes import Recipe
from geonorm.kernels.cpu.rows import Rows
from geonorm.numerics import accumulation_dtype

#: The entries of a matrix from which a second thread pays, and those that each thread should have.
PARALLEL = 150_000
SHARE = 75_000

#: A child process has the parent's memory but not its threads: OpenMP would wait for them forever.
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def plain(values: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The numbers in memory one after the other, in this type."""
    if values is None:
        return None
    values = values.to(dtype).contiguous()
    if values.is_neg() or values._is_zerotensor():
        values = values.clone().resolve_neg()
    return values


def _at(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


def _common(work: Recipe, rows: Rows, x: Tensor, alpha, gamma, beta, tau, large: int) -> tuple:
    """The arguments that all three orders have."""
    size = x.numel()
    threads = 1
    if size >= PARALLEL and not _forked:
        threads = max(1, min(torch.get_num_threads(), size // SHARE))
    return (
        work.address,
        x.shape[0],
        rows.number,
        _at(rows.ptr),
        _at(rows.order),
        threads,
        size * x.element_size() > large,
        x.data_ptr(),
        _at(alpha),
        _at(gamma),
        _at(beta),
        _at(tau),
    )


def forward(
    work: Recipe, rows: Rows, x: Tensor, alpha: Tensor | None, gamma: Tensor | None, beta: Tensor | None,
    tau: Tensor | None, wants_statistics: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Standardize.

    Args:
        work: What to standardize.
        rows: Which rows belong together.
        x: The features, contiguous, ``[nodes, columns]``.
        alpha: The weight of the mean per column, as all parameters in the type of the statistics.
        gamma: The gain per column.
        beta: The bias per column.
        tau: The exponent per group of the scale.
        wants_statistics: Whether anybody asks for mean and second moment.

    Returns:
        The result, the mean and the second moment of each pool, and the mean about which an own variance is taken.
    """
    use, dtype = library.kernels(), accumulation_dtype(x.dtype)
    y, mean, square, own = torch.empty_like(x), None, None, None
    if wants_statistics:
        mean = torch.empty(rows.number, work.mean_groups, dtype=dtype)
        square = torch.empty(rows.number, work.scale_groups, dtype=dtype)
        own = torch.empty_like(square) if work.own else None
    use.forward[x.dtype](
        *_common(work, rows, x, alpha, gamma, beta, tau, use.large), y.data_ptr(), _at(mean), _at(square), _at(own)
    )
    return y, mean, square, own


def backward(
    work: Recipe, rows: Rows, g: Tensor, x: Tensor, alpha: Tensor | None, gamma: Tensor | None, tau: Tensor | None,
    statistics: tuple[Tensor, Tensor, Tensor | None], wanted: tuple[bool, bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of x, α, γ, β and τ, each where it is wanted."""
    use, dtype = library.kernels(), accumulation_dtype(x.dtype)
    mean, square, own = statistics
    dx = torch.empty_like(x) if wanted[0] else None
    sizes = (work.columns, work.columns, work.columns, work.scale_groups)
    found = [torch.empty(size, dtype=dtype) if want else None for size, want in zip(sizes, wanted[1:], strict=True)]
    use.backward[x.dtype](
        *_common(work, rows, x, alpha, gamma, None, tau, use.large),
        mean.data_ptr(), square.data_ptr(), _at(own), g.data_ptr(), _at(dx), *map(_at, found),
    )  # fmt: skip
    return dx, *found


def double_backward(
    work: Recipe, rows: Rows, v: Tensor, dots: tuple[Tensor | None, ...], g: Tensor, x: Tensor, alpha: Tensor | None,
    gamma: Tensor | None, tau: Tensor | None, statistics: tuple[Tensor, Tensor, Tensor | None],
    wanted: tuple[bool, bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of g, x, α, γ and τ, each where it is wanted."""
    use, dtype = library.kernels(), accumulation_dtype(x.dtype)
    mean, square, own = statistics
    dg = torch.empty_like(x) if wanted[0] else None
    dx = torch.empty_like(x) if wanted[1] else None
    sizes = (work.columns, work.columns, work.scale_groups)
    found = [torch.empty(size, dtype=dtype) if want else None for size, want in zip(sizes, wanted[2:], strict=True)]
    use.double_backward[x.dtype](
        *_common(work, rows, x, alpha, gamma, None, tau, use.large),
        mean.data_ptr(), square.data_ptr(), _at(own), g.data_ptr(), v.data_ptr(), *map(_at, dots),
        _at(dg), _at(dx), *map(_at, found),
    )  # fmt: skip
    return dg, dx, *found
