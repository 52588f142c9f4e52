"""Floating-point care shared by all layers: accumulation types, norms that may be zero."""

from __future__ import annotations

import contextlib

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which statistics of ``dtype`` are computed: float32 for half precision, else ``dtype`` itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """No automatic half precision: where the products of matrices are statistics."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def safe_norm(x: Float[Tensor, "..."], dim: int = -1, keepdim: bool = False) -> Float[Tensor, "..."]:
    r"""Euclidean norm that is right at zero, for tiny and for huge entries, to second order.

    $$ \|x\| = s\,\sqrt{\textstyle\sum_i (x_i/s)^2}, \qquad s = 2^{\lfloor\log_2\max_i|x_i|\rfloor} $$

    The value does not depend on the power of two $s$, so that $s$ is a constant for every derivative; it keeps the
    squares from overflowing and vanishing. At $x=0$ the value and all derivatives are zero; NaN stays NaN.

    Args:
        x: Any real tensor.
        dim: The axis to reduce.
        keepdim: Keep the reduced axis with length one.

    Returns:
        The norms, of the dtype of ``x``.
    """
    if x.shape[dim] == 0:
        return x.sum(dim, keepdim=keepdim)
    wide = x.to(accumulation_dtype(x.dtype))
    largest = wide.detach().abs().amax(dim, keepdim=True)
    scale = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 1)
    square = (wide / scale).square().sum(dim, keepdim=True)
    zero = square == 0
    norm = torch.where(zero, 0, scale * torch.where(zero, 1, square).sqrt()).to(x.dtype)
    return norm if keepdim else norm.squeeze(dim)


def untracked(*values: Tensor) -> bool:
    """Whether nobody differentiates, transforms or compiles what is computed now: then results may be overwritten.

    Args:
        values: What it is computed from: gradients may come as a batch of them (``is_grads_batched`` of torch).
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    if any(torch._C._functorch.is_legacy_batchedtensor(value) for value in values):
        return False
    return forward_ad._current_level < 0 and not torch._C._are_functorch_transforms_active()
