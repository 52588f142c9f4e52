"""The error that a function makes without breaking anything: what a measured error is compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

#: The size of a step, relative to the input: its square is below the rounding of float64 results.
STEP = 1e-6


def noise_floor(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "nodes *features"], steps: int = 2, seed: int = 0
) -> float:
    r"""How far a function is from a smooth one on the scale of 10⁻⁶: its rounding errors.

    $$ \max_u\ \frac{\|f(x+u)+f(x-u)-2f(x)\|}{4\,\|f(x)\|},\qquad \|u\|_\infty\sim10^{-6}\,\mathrm{RMS}(x) $$

    The second difference of a smooth function is of the order of $10^{-12}$, whatever its slope; that of a function
    that computes in float32 inside is of the order of $10^{-7}$.

    Args:
        function: The function of the features.
        x: Where to measure.
        steps: How many random steps u.
        seed: Their seed.

    Returns:
        The floor, at least the rounding of float64; ``nan`` where the output is not finite or zero.
    """
    generator = torch.Generator().manual_seed(seed)
    size = x.square().mean().sqrt() if x.numel() else 0.0
    y = function(x)
    length = y.norm()
    largest = torch.zeros((), dtype=y.dtype)
    for _ in range(steps):
        u = STEP * size * torch.randn(x.shape, dtype=x.dtype, generator=generator)
        largest = torch.maximum(largest, (function(x + u) + function(x - u) - 2 * y).norm())
    floor = (largest / (4 * length)).item() if length > 0 else float("nan")
    return max(floor, torch.finfo(torch.float64).eps) if floor == floor else floor
