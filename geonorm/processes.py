"""Sums over all processes, so that the statistics of a batch are those of the global batch."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes. Its adjoint is again the sum over processes, hence differentiable to any order."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _AllReduceSum.apply(grad)


def several_processes() -> bool:
    """Whether this program is one of several that train together (``torch.distributed`` is initialized)."""
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )


def global_sum(values: Tensor) -> Tensor:
    """Add the tensors of all processes; the tensor itself when there is one process.

    The gradient is that of the *sum of the losses* of all processes, the convention of ``SyncBatchNorm``.

    Args:
        values: A tensor of the same shape on every process.

    Returns:
        The sum, equal on every process.
    """
    return _AllReduceSum.apply(values) if several_processes() else values
