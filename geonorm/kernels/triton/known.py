"""The forward pass as its derivatives see it: ``w = x - shift``, ``u = w + offset``, and the power of the scale."""

import triton.language as tl

from geonorm.kernels.triton.columns import EPS, NONE, get
from geonorm.kernels.triton.jit import kernel
from geonorm.kernels.triton.rows import per_column

RESIDUAL, OWN = tl.constexpr(1), tl.constexpr(2)
#: How the sum of w over a pool is known: it vanishes, it follows from the mean, or it is added up.
VANISHES, FOLLOWS, ADDED = (tl.constexpr(how) for how in range(3))


@kernel
def recalled_shift(
    mean, own, pool, held, mean_group, scale_group, alpha, column, exists, STATISTIC: tl.constexpr, MEAN: tl.constexpr,
    SCALE: tl.constexpr, MEAN_GROUPS: tl.constexpr, SCALE_GROUPS: tl.constexpr, like, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The mean of each column, what w is taken about, and what u has more."""
    each = tl.zeros([P, C], like.dtype.element_ty)
    shift = tl.zeros([P, C], like.dtype.element_ty)
    if MEAN != NONE:
        each = get(mean, pool, mean_group, held, MEAN_GROUPS)
    subtracted = each
    if alpha is not None:
        subtracted = per_column(alpha, column, exists) * each
    if STATISTIC == RESIDUAL and SCALE != NONE:
        shift = subtracted
    if STATISTIC == OWN and SCALE != NONE:
        shift = get(own, pool, scale_group, held, SCALE_GROUPS)
    return each, shift, shift - subtracted


@kernel
def recalled_power(
    square, pool, held, group, tau, numbers, exists, SCALE: tl.constexpr, SCALE_GROUPS: tl.constexpr,
    P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """S, ρ, its derivative by S, and half the exponent."""
    moment = tl.full([P, C], 1.0, numbers.dtype.element_ty)
    half_tau = tl.full([1, C], 0.5, numbers.dtype.element_ty)
    if SCALE == NONE:
        rho = moment
        slope = tl.zeros([P, C], numbers.dtype.element_ty)
    else:
        moment = get(square, pool, group, held, SCALE_GROUPS) + tl.load(numbers + EPS)
        if tau is not None:
            half_tau = 0.5 * tl.load(tau + group, mask=exists & (group >= 0), other=0.0)
            rho = tl.exp(-half_tau * tl.log(moment))
        else:
            rho = 1.0 / tl.sqrt(moment)
        slope = -half_tau * rho / moment
    return moment, rho, slope, half_tau


@kernel
def sum_of_w(added_up, each, alpha, count, column, exists, HOW: tl.constexpr):
    """The sum of w over a pool, from the mean where that is enough."""
    total = added_up
    if HOW == FOLLOWS:
        total = (1.0 - per_column(alpha, column, exists)) * each * count
    return total
