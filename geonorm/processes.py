"""Sums over all processes, so that the statistics of a batch are those of the global batch.

Every process must standardize as many batches as the others: each batch is a sum that waits for all of them. Where a
process is missing, the others end with an error: at once if it died, and if it is stuck after the timeout that the user
gives to ``torch.distributed.init_process_group(..., timeout=datetime.timedelta(minutes=5))``. The default of torch is
half an hour with gloo and ten minutes with NCCL.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


def _all_reduce(values: Tensor) -> None:
    """Add the tensors of all processes in place, or say who is missing."""
    if torch.compiler.is_compiling():
        torch.distributed.all_reduce(values)
        return
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        torch.distributed.all_reduce(values)
    except RuntimeError as error:
        raise RuntimeError(
            f"process {rank} of {world} waits in vain for the sums of the others, which the statistics of the batch "
            "need: a process died, standardizes fewer batches, or took longer than the timeout of "
            f"torch.distributed.init_process_group. See what the others said; here it was: {error}"
        ) from error


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes. Its adjoint is again the sum over processes, hence differentiable to any order."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        _all_reduce(total)
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

    Raises:
        RuntimeError: If a process is missing: it died, or is later than the timeout of the process group.
    """
    return _AllReduceSum.apply(values) if several_processes() else values
