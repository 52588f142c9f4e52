"""Sums over the rows of a pool, given as parts, and what many programs add to the gradient of a parameter."""

import triton.language as tl

from geonorm.kernels.triton.jit import kernel


@kernel
def sum_of_parts(
    parts, first, last, lane, WHICH: tl.constexpr, NUMBER: tl.constexpr, WIDTH: tl.constexpr, R: tl.constexpr
):
    """Add one of the sums of the parts of a pool."""
    total = tl.load(parts + first.to(tl.int64) * NUMBER * WIDTH + WHICH * WIDTH + lane) * 0
    for low in range(first, last, R):
        part = low + tl.arange(0, R)
        where = parts + (part.to(tl.int64)[:, None] * NUMBER + WHICH) * WIDTH + lane
        total += tl.sum(tl.load(where, mask=(part < last)[:, None], other=0.0), 0, keep_dims=True)
    return total


@kernel
def give(shares, program, column, mask, values, WHICH: tl.constexpr, NUMBER: tl.constexpr, COLUMNS: tl.constexpr):
    """What this program adds to the gradient of a parameter."""
    where = shares + (program.to(tl.int64) * NUMBER + WHICH) * COLUMNS + column
    tl.store(where, values, mask=mask)
