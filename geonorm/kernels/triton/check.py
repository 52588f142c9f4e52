"""A small batch on a device, by the kernels and by torch: before anybody relies on them."""

from __future__ import annotations

import torch
from torch import Tensor

from geonorm.axes import Segments
from geonorm.kernels import analytic, gradients
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import Columns, Pool
from geonorm.kernels.triton import launch
from geonorm.kernels.triton.batch import LONG

#: What rounding in float32 explains, relative to the largest entry.
TOLERANCE = 1e-4
COLUMNS = 9


def failure(device: torch.device) -> str | None:
    """Why the kernels cannot be used on this device, or ``None`` if they can.

    Args:
        device: The device. It is waited for.
    """
    fields = Columns([0, 0, 0, 1, 1, 1, 2, 2, 2], [3] * COLUMNS)
    each = Columns(range(COLUMNS), [1] * COLUMNS)
    # Short samples, not in order, one of them empty; and two long ones, which are worked through in parts.
    short = torch.arange(57).mul(10).remainder(19).clamp(max=12).mul(2).remainder(11)
    long = (torch.arange(3 * LONG) % 5 == 0).long()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for scale, batch, samples in ((fields, short, 12), (each, long, 2)):
                found, expected = (
                    [value.double().cpu() for value in orders(dtype, device, each, scale, batch, samples)]
                    for dtype, orders in ((torch.float32, _by_kernels), (torch.float64, _by_torch))
                )
                for place, (one, other) in enumerate(zip(found, expected, strict=True)):
                    error = float((one - other).abs().max() / other.abs().max().clamp(min=1))
                    if not error < TOLERANCE:
                        return f"value {place} of a small batch differs by {error:.1e}"
    except Exception as error:  # whatever a compiler, a driver or a device may raise
        return f"{type(error).__name__}: {error}"
    return None


def _numbers(dtype: torch.dtype, device: torch.device, rows: int, columns: int = COLUMNS) -> list[Tensor]:
    """Three matrices and the parameters with their directions, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, rows, columns, generator=generator) + 0.3
    vectors = 1 + 0.5 * torch.rand(8, columns, generator=generator)
    return [value.to(device, dtype) for value in (*matrices, *vectors)]


def _by_kernels(dtype, device, mean: Columns, scale: Columns, batch: Tensor, samples: int) -> list[Tensor]:
    """Result, statistics, gradients, and the gradients of a function of them."""
    x, g, v, alpha, gamma, beta, tau, *dots = _numbers(dtype, device, len(batch))
    tau, dots[3] = (value[: scale.num_groups].contiguous() for value in (tau, dots[3]))
    work = launch.recipe(mean, scale, "residual", 0.1)
    rows = launch.Rows.of_batch(batch.to(device), samples)
    y, means, square, own = launch.forward(work, rows, x, alpha, gamma, beta, tau)
    statistics = (means, square, own)
    first = launch.backward(work, rows, g, x, alpha, gamma, tau, statistics, (True,) * 5)
    second = launch.double_backward(work, rows, v, tuple(dots), g, x, alpha, gamma, tau, statistics, (True,) * 5)
    return [y, means, square, *first, *second]


def _by_torch(dtype, device, mean: Columns, scale: Columns, batch: Tensor, samples: int) -> list[Tensor]:
    """The same in plain torch."""
    x, g, v, alpha, gamma, beta, tau, *dots = _numbers(dtype, device, len(batch))
    tau, dots[3] = tau[: scale.num_groups], dots[3][: scale.num_groups]
    mean, scale = mean.to(device), scale.to(device)
    pool = Pool.build("sample", scale, x, Segments(batch.to(device), samples, len(batch)))
    plan, parameters = Plan(pool.pooling(mean), pool, "residual", 0.1), Parameters(alpha, gamma, beta, tau)
    y, *statistics = analytic.forward(x, parameters, plan)
    known = gradients.Statistics(x, parameters, *statistics, plan)
    first = gradients.backward(g, known)
    second = gradients.double_backward(v, Parameters(*dots), g, known)
    by_parameters = (first.alpha, first.gamma, first.beta, first.tau)
    return [y, *statistics, first.x, *by_parameters, second.g, second.x, second.alpha, second.gamma, second.tau]
