"""The gradients of g, x and the parameters, given those of what the gradient returns.

``dg = a v + a1 w + e1`` and ``dx = a1 g + b v + b1 w + e2``: the names are those of :mod:`geonorm.kernels.gradients`.
"""

import triton.language as tl

from geonorm.kernels.triton.columns import (
    MEAN_GROUP,
    NONE,
    SCALE_FIRST,
    SCALE_GROUP,
    added,
    columns_of,
    firsts_of,
    groups_of,
    weights_of,
)
from geonorm.kernels.triton.jit import kernel
from geonorm.kernels.triton.known import VANISHES, recalled_power, recalled_shift, sum_of_w
from geonorm.kernels.triton.rows import (
    APPLY,
    COLLECT,
    HEAD,
    NODE,
    block_of,
    part_of_pool,
    parts_of_pool,
    per_column,
    pools_of,
    read,
    rows_of_pool,
    sum_rows,
    write,
)
from geonorm.kernels.triton.sums import give, sum_of_parts

RESIDUAL, OWN = tl.constexpr(1), tl.constexpr(2)


@kernel
def more_sums(
    sg, sgw, sv, sgv, swv, sw, g, v, x, shift, begin, end, order, column, exists, like, COLUMNS: tl.constexpr,
    R: tl.constexpr,
):  # fmt: skip
    """The sums of g, g w, v, g v, w v and w with those of the rows from ``begin`` on."""
    for low in range(begin, end, R):
        where, there = block_of(low, end, order, column, exists, COLUMNS, R)
        gradient, along = read(g, where, there, like), read(v, where, there, like)
        w = tl.where(there, read(x, where, there, like) - shift, 0.0)
        sg += tl.sum(gradient, 0, keep_dims=True)
        sgw += tl.sum(gradient * w, 0, keep_dims=True)
        sv += tl.sum(along, 0, keep_dims=True)
        sgv += tl.sum(gradient * along, 0, keep_dims=True)
        swv += tl.sum(w * along, 0, keep_dims=True)
        sw += tl.sum(w, 0, keep_dims=True)
    return sg, sgw, sv, sgv, swv, sw


@kernel
def put_block(dg, dx, gradient, along, w, where, there, a, a1, b, b1, e1, e2):
    """Store a block of each result that is wanted."""
    if dg is not None:
        write(dg, where, there, a * along + a1 * w + e1)
    if dx is not None:
        write(dx, where, there, a1 * gradient + b * along + b1 * w + e2)


@kernel
def put_rows(
    dg, dx, g, v, x, shift, a, a1, b, b1, e1, e2, begin, end, order, column, exists, like, COLUMNS: tl.constexpr,
    R: tl.constexpr,
):  # fmt: skip
    """Store the results of the rows from ``begin`` on."""
    for low in range(begin, end, R):
        where, there = block_of(low, end, order, column, exists, COLUMNS, R)
        gradient, along = read(g, where, there, like), read(v, where, there, like)
        w = read(x, where, there, like) - shift
        put_block(dg, dx, gradient, along, w, where, there, a, a1, b, b1, e1, e2)


@kernel
def double_backward(
    x, g, v, dg, dx, alpha_dot, gamma_dot, beta_dot, tau_dot, mean, square, own, parts, known, shares, order, ptr,
    first_part, part_pool, table, numbers, alpha, gamma, tau, nodes, pools, each_program, STAGE: tl.constexpr,
    ROWS: tl.constexpr, STATISTIC: tl.constexpr, MEAN: tl.constexpr, SCALE: tl.constexpr, MEAN_COUNT: tl.constexpr,
    SCALE_COUNT: tl.constexpr, MEAN_GROUPS: tl.constexpr, SCALE_GROUPS: tl.constexpr, COLUMNS: tl.constexpr,
    WIDTH: tl.constexpr, STEP: tl.constexpr, LENGTH: tl.constexpr, HOW: tl.constexpr, BY_ALPHA: tl.constexpr,
    BY_GAMMA: tl.constexpr, BY_TAU: tl.constexpr, SHARES: tl.constexpr, C: tl.constexpr, R: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """Differentiate the gradient of the rows of some pools, or do one of the three steps on the way."""
    program, tile = tl.program_id(0), tl.program_id(1)
    column, exists = columns_of(tile, table, COLUMNS, WIDTH, STEP, C)
    lane = tile * C + tl.arange(0, C)[None, :]
    if STAGE == APPLY:
        pool, begin, end = part_of_pool(program, part_pool, first_part, ptr, nodes, ROWS, LENGTH)
        found = known + pool.to(tl.int64) * 7 * WIDTH + lane
        shift, a, a1 = tl.load(found), tl.load(found + WIDTH), tl.load(found + 2 * WIDTH)
        b, b1 = tl.load(found + 3 * WIDTH), tl.load(found + 4 * WIDTH)
        e1, e2 = tl.load(found + 5 * WIDTH), tl.load(found + 6 * WIDTH)
        put_rows(dg, dx, g, v, x, shift, a, a1, b, b1, e1, e2, begin, end, order, column, exists, numbers, COLUMNS, R)
    else:
        mean_group = groups_of(tile, column, table, MEAN, MEAN_GROUP, WIDTH, C) if MEAN != NONE else column
        scale_group = groups_of(tile, column, table, SCALE, SCALE_GROUP, WIDTH, C)
        mean_weight = weights_of(tile, numbers, 0, WIDTH, C)
        scale_weight = weights_of(tile, numbers, 1, WIDTH, C)
        factor = tl.full([1, C], 1.0, numbers.dtype.element_ty)
        factor_dot = tl.zeros([1, C], numbers.dtype.element_ty)
        bias_dot = tl.zeros([1, C], numbers.dtype.element_ty)
        if gamma is not None:
            factor = per_column(gamma, column, exists)
        if gamma_dot is not None:
            factor_dot = per_column(gamma_dot, column, exists)
        if beta_dot is not None:
            bias_dot = per_column(beta_dot, column, exists)
        by_alpha = tl.zeros([1, C], numbers.dtype.element_ty)
        by_gamma = tl.zeros([1, C], numbers.dtype.element_ty)
        by_tau = tl.zeros([1, C], numbers.dtype.element_ty)
        for turn in range(each_program):
            if STAGE == COLLECT:
                number, begin, end = part_of_pool(program, part_pool, first_part, ptr, nodes, ROWS, LENGTH)
                pool = number.to(tl.int64) + tl.arange(0, 1)[:, None]
                have = pool < pools
            else:
                number = program * each_program + turn
                pool, have = pools_of(number, pools, ROWS, P)
                if ROWS != NODE:
                    begin, end = rows_of_pool(tl.minimum(number, pools - 1), ptr, nodes, ROWS)
                    end = tl.where(number < pools, end, begin)
            if ROWS != NODE:
                have = have & (pool * 0 < end - begin)
            held = have & exists
            each, shift, offset = recalled_shift(
                mean, own, pool, held, mean_group, scale_group, alpha, column, exists, STATISTIC, MEAN, SCALE,
                MEAN_GROUPS, SCALE_GROUPS, numbers, P, C,
            )  # fmt: skip
            if STAGE == HEAD:
                first, last = parts_of_pool(number, first_part, nodes, ROWS, LENGTH)
                sg = sum_of_parts(parts, first, last, lane, 0, 6, WIDTH, 16)
                sgw = sum_of_parts(parts, first, last, lane, 1, 6, WIDTH, 16)
                sv = sum_of_parts(parts, first, last, lane, 2, 6, WIDTH, 16)
                sgv = sum_of_parts(parts, first, last, lane, 3, 6, WIDTH, 16)
                swv = sum_of_parts(parts, first, last, lane, 4, 6, WIDTH, 16)
                sw = sum_of_parts(parts, first, last, lane, 5, 6, WIDTH, 16)
            else:
                if ROWS == NODE:
                    where, there = pool * COLUMNS + column, held
                else:
                    where, there = block_of(begin, end, order, column, exists, COLUMNS, R)
                gradient, along = read(g, where, there, numbers), read(v, where, there, numbers)
                w = tl.where(there, read(x, where, there, numbers) - shift, 0.0)
                sg, sgw, sv = sum_rows(gradient, ROWS), sum_rows(gradient * w, ROWS), sum_rows(along, ROWS)
                sgv, swv, sw = sum_rows(gradient * along, ROWS), sum_rows(w * along, ROWS), sum_rows(w, ROWS)
                if ROWS != NODE:
                    sg, sgw, sv, sgv, swv, sw = more_sums(
                        sg, sgw, sv, sgv, swv, sw, g, v, x, shift, begin + R, end, order, column, exists, numbers,
                        COLUMNS, R,
                    )  # fmt: skip
            if STAGE == COLLECT:
                into = parts + program.to(tl.int64) * 6 * WIDTH + lane
                tl.store(into, sg)
                tl.store(into + WIDTH, sgw)
                tl.store(into + 2 * WIDTH, sv)
                tl.store(into + 3 * WIDTH, sgv)
                tl.store(into + 4 * WIDTH, swv)
                tl.store(into + 5 * WIDTH, sw)
            else:
                if ROWS == NODE:
                    count = tl.full([1, 1], 1.0, numbers.dtype.element_ty)
                else:
                    count = tl.maximum(end - begin, 1).to(numbers.dtype.element_ty)
                moment, rho, slope, half_tau = recalled_power(
                    square, pool, held, scale_group, tau, numbers, exists, SCALE, SCALE_GROUPS, P, C
                )
                sw = sum_of_w(sw, each, alpha, count, column, exists, HOW)
                sgu, sgu_dot, sww_dot = sgw + offset * sg, sgv, swv

                # How u and w move with v and the parameters, and the scale with them.
                u_shift = tl.zeros([P, C], numbers.dtype.element_ty)
                w_shift = tl.zeros([P, C], numbers.dtype.element_ty)
                if MEAN != NONE:
                    cen_v = added(sv * mean_weight, mean_group, MEAN, MEAN_COUNT) / count
                    if alpha is not None:
                        u_shift = -per_column(alpha, column, exists) * cen_v
                    else:
                        u_shift = -cen_v
                    if alpha_dot is not None:
                        u_shift -= per_column(alpha_dot, column, exists) * each
                    sgu_dot += u_shift * sg
                if STATISTIC == RESIDUAL and MEAN != NONE:
                    w_shift = u_shift
                    if HOW != VANISHES:
                        sww_dot += w_shift * sw
                if STATISTIC == OWN:
                    w_shift = -added(sv * scale_weight, scale_group, SCALE, SCALE_COUNT) / count
                moment_dot = 2.0 / count * added(sww_dot * scale_weight, scale_group, SCALE, SCALE_COUNT)
                rho_dot = slope * moment_dot
                slope_dot = -(half_tau + 1.0) * slope / moment * moment_dot
                logarithm = tl.log(moment)
                by_exponent = -0.5 * logarithm * rho
                slope_by_exponent = (0.5 * half_tau * logarithm - 0.5) * rho / moment
                if tau_dot is not None:
                    exponent_dot = tl.load(tau_dot + scale_group, mask=exists & (scale_group >= 0), other=0.0)
                    rho_dot += by_exponent * exponent_dot
                    slope_dot += slope_by_exponent * exponent_dot

                still = added(factor * sgu, scale_group, SCALE, SCALE_COUNT)
                moved = added(factor * sgu_dot + factor_dot * sgu, scale_group, SCALE, SCALE_COUNT)
                a, a1 = factor * rho, factor * rho_dot + factor_dot * rho
                b = 2.0 / count * scale_weight * (still * slope)
                b1 = 2.0 / count * scale_weight * (moved * slope + still * slope_dot)
                if BY_TAU >= 0:
                    share = moved * by_exponent + still * slope_by_exponent * moment_dot
                    if tau_dot is not None:
                        share += still * 0.25 * logarithm * logarithm * rho * exponent_dot
                    by_tau += tl.sum(tl.where(held, share, 0.0), 0, keep_dims=True)
                e1 = a * u_shift + a1 * offset + bias_dot
                e2 = b * w_shift
                if MEAN != NONE:
                    by_mean, by_mean_dot = a1 * sg, a * sg
                    if STATISTIC == RESIDUAL:
                        by_mean += b * (sv + count * w_shift)
                    if HOW != VANISHES:
                        by_mean += b1 * sw
                        by_mean_dot += b * sw
                    if BY_ALPHA >= 0:
                        share = tl.where(held, cen_v * by_mean_dot + each * by_mean, 0.0)
                        by_alpha -= tl.sum(share, 0, keep_dims=True)
                    if alpha is not None:
                        by_mean = per_column(alpha, column, exists) * by_mean
                    if alpha_dot is not None:
                        by_mean += per_column(alpha_dot, column, exists) * by_mean_dot
                    e2 -= added(by_mean * mean_weight, mean_group, MEAN, MEAN_COUNT) / count
                if BY_GAMMA >= 0:
                    share = tl.where(held, sgu_dot * rho + sgu * rho_dot, 0.0)
                    by_gamma += tl.sum(share, 0, keep_dims=True)
                if STAGE == HEAD:
                    into = known + number.to(tl.int64) * 7 * WIDTH + lane
                    tl.store(into, shift)
                    tl.store(into + WIDTH, a)
                    tl.store(into + 2 * WIDTH, a1)
                    tl.store(into + 3 * WIDTH, b)
                    tl.store(into + 4 * WIDTH, b1)
                    tl.store(into + 5 * WIDTH, e1)
                    tl.store(into + 6 * WIDTH, e2)
                else:
                    put_block(dg, dx, gradient, along, w, where, there, a, a1, b, b1, e1, e2)
                    if ROWS != NODE:
                        put_rows(
                            dg, dx, g, v, x, shift, a, a1, b, b1, e1, e2, begin + R, end, order, column, exists,
                            numbers, COLUMNS, R,
                        )  # fmt: skip
        if STAGE != COLLECT:
            if BY_ALPHA >= 0:
                give(shares, program, column, exists, by_alpha, BY_ALPHA, SHARES, COLUMNS)
            if BY_GAMMA >= 0:
                give(shares, program, column, exists, by_gamma, BY_GAMMA, SHARES, COLUMNS)
            if BY_TAU >= 0:
                first_column = firsts_of(tile, column, table, SCALE, SCALE_FIRST, WIDTH, C)
                give(shares, program, first_column, exists & (first_column >= 0), by_tau, BY_TAU, SHARES, COLUMNS)
