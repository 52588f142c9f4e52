"""The gradients of x and of the parameters, from a few sums over each pool: ``dx = a g + b w + e``."""

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

RESIDUAL = tl.constexpr(1)


@kernel
def more_sums(
    sg, sgw, sw, g, x, shift, begin, end, order, column, exists, like, COLUMNS: tl.constexpr, R: tl.constexpr
):  # fmt: skip
    """The sums of g, g w and w with those of the rows from ``begin`` on."""
    for low in range(begin, end, R):
        where, there = block_of(low, end, order, column, exists, COLUMNS, R)
        gradient = read(g, where, there, like)
        w = tl.where(there, read(x, where, there, like) - shift, 0.0)
        sg += tl.sum(gradient, 0, keep_dims=True)
        sgw += tl.sum(gradient * w, 0, keep_dims=True)
        sw += tl.sum(w, 0, keep_dims=True)
    return sg, sgw, sw


@kernel
def combined(g, x, shift, a, b, e, where, there, like, SCALE: tl.constexpr):
    """A block of the gradient of x."""
    value = a * read(g, where, there, like)
    if SCALE != NONE:
        value += b * (read(x, where, there, like) - shift)
    return value + e


@kernel
def backward(
    x, g, dx, mean, square, own, parts, known, shares, order, ptr, first_part, part_pool, table, numbers, alpha, gamma,
    tau, nodes, pools, each_program, STAGE: tl.constexpr, ROWS: tl.constexpr, STATISTIC: tl.constexpr,
    MEAN: tl.constexpr, SCALE: tl.constexpr, MEAN_COUNT: tl.constexpr, SCALE_COUNT: tl.constexpr,
    MEAN_GROUPS: tl.constexpr, SCALE_GROUPS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
    STEP: tl.constexpr, LENGTH: tl.constexpr, HOW: tl.constexpr, BY_ALPHA: tl.constexpr, BY_GAMMA: tl.constexpr,
    BY_BETA: tl.constexpr, BY_TAU: tl.constexpr, SHARES: tl.constexpr, C: tl.constexpr, R: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """Differentiate the rows of some pools, or do one of the three steps on the way."""
    program, tile = tl.program_id(0), tl.program_id(1)
    column, exists = columns_of(tile, table, COLUMNS, WIDTH, STEP, C)
    lane = tile * C + tl.arange(0, C)[None, :]
    if STAGE == APPLY:
        pool, begin, end = part_of_pool(program, part_pool, first_part, ptr, nodes, ROWS, LENGTH)
        found = known + pool.to(tl.int64) * 4 * WIDTH + lane
        shift, a = tl.load(found), tl.load(found + WIDTH)
        b, e = tl.load(found + 2 * WIDTH), tl.load(found + 3 * WIDTH)
        for low in range(begin, end, R):
            where, there = block_of(low, end, order, column, exists, COLUMNS, R)
            write(dx, where, there, combined(g, x, shift, a, b, e, where, there, numbers, SCALE))
    else:
        mean_group = groups_of(tile, column, table, MEAN, MEAN_GROUP, WIDTH, C) if MEAN != NONE else column
        scale_group = groups_of(tile, column, table, SCALE, SCALE_GROUP, WIDTH, C) if SCALE != NONE else column
        mean_weight = weights_of(tile, numbers, 0, WIDTH, C)
        scale_weight = weights_of(tile, numbers, 1, WIDTH, C)
        factor = tl.full([1, C], 1.0, numbers.dtype.element_ty)
        if gamma is not None:
            factor = per_column(gamma, column, exists)
        by_alpha = tl.zeros([1, C], numbers.dtype.element_ty)
        by_gamma = tl.zeros([1, C], numbers.dtype.element_ty)
        by_beta = tl.zeros([1, C], numbers.dtype.element_ty)
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
                sg = sum_of_parts(parts, first, last, lane, 0, 3, WIDTH, 16)
                sgw = sum_of_parts(parts, first, last, lane, 1, 3, WIDTH, 16)
                sw = sum_of_parts(parts, first, last, lane, 2, 3, WIDTH, 16)
            else:
                if ROWS == NODE:
                    where, there = pool * COLUMNS + column, held
                else:
                    where, there = block_of(begin, end, order, column, exists, COLUMNS, R)
                gradient = read(g, where, there, numbers)
                w = tl.where(there, read(x, where, there, numbers) - shift, 0.0)
                sg, sgw, sw = sum_rows(gradient, ROWS), sum_rows(gradient * w, ROWS), sum_rows(w, ROWS)
                if ROWS != NODE:
                    sg, sgw, sw = more_sums(
                        sg, sgw, sw, g, x, shift, begin + R, end, order, column, exists, numbers, COLUMNS, R
                    )
            if STAGE == COLLECT:
                into = parts + program.to(tl.int64) * 3 * WIDTH + lane
                tl.store(into, sg)
                tl.store(into + WIDTH, sgw)
                tl.store(into + 2 * WIDTH, sw)
            else:
                # From the sums of columns to the coefficients.
                if ROWS == NODE:
                    count = tl.full([1, 1], 1.0, numbers.dtype.element_ty)
                else:
                    count = tl.maximum(end - begin, 1).to(numbers.dtype.element_ty)
                moment, rho, slope, _ = recalled_power(
                    square, pool, held, scale_group, tau, numbers, exists, SCALE, SCALE_GROUPS, P, C
                )
                sw = sum_of_w(sw, each, alpha, count, column, exists, HOW)
                sgu = sgw + offset * sg
                a, b = factor * rho, tl.zeros([P, C], numbers.dtype.element_ty)
                if SCALE != NONE:
                    by_rho = added(factor * sgu, scale_group, SCALE, SCALE_COUNT)
                    b = 2.0 / count * scale_weight * (by_rho * slope)
                    if BY_TAU >= 0:
                        share = tl.where(held, by_rho * (-0.5 * tl.log(moment) * rho), 0.0)
                        by_tau += tl.sum(share, 0, keep_dims=True)
                e = tl.zeros([P, C], numbers.dtype.element_ty)
                if MEAN != NONE:
                    by_mean = a * sg
                    if HOW != VANISHES:
                        by_mean += b * sw
                    if BY_ALPHA >= 0:
                        by_alpha -= tl.sum(tl.where(held, each * by_mean, 0.0), 0, keep_dims=True)
                    if alpha is not None:
                        by_mean = per_column(alpha, column, exists) * by_mean
                    e = -added(by_mean * mean_weight, mean_group, MEAN, MEAN_COUNT) / count
                if BY_GAMMA >= 0:
                    by_gamma += tl.sum(tl.where(held, sgu * rho, 0.0), 0, keep_dims=True)
                if BY_BETA >= 0:
                    by_beta += tl.sum(tl.where(held, sg, 0.0), 0, keep_dims=True)
                if STAGE == HEAD:
                    into = known + number.to(tl.int64) * 4 * WIDTH + lane
                    tl.store(into, shift)
                    tl.store(into + WIDTH, a)
                    tl.store(into + 2 * WIDTH, b)
                    tl.store(into + 3 * WIDTH, e)
                elif dx is not None:
                    value = a * gradient
                    if SCALE != NONE:
                        value += b * w
                    write(dx, where, there, value + e)
                    if ROWS != NODE:
                        for low in range(begin + R, end, R):
                            place, inside = block_of(low, end, order, column, exists, COLUMNS, R)
                            rest = combined(g, x, shift, a, b, e, place, inside, numbers, SCALE)
                            write(dx, place, inside, rest)
        if STAGE != COLLECT:
            if BY_ALPHA >= 0:
                give(shares, program, column, exists, by_alpha, BY_ALPHA, SHARES, COLUMNS)
            if BY_GAMMA >= 0:
                give(shares, program, column, exists, by_gamma, BY_GAMMA, SHARES, COLUMNS)
            if BY_BETA >= 0:
                give(shares, program, column, exists, by_beta, BY_BETA, SHARES, COLUMNS)
            if BY_TAU >= 0:
                first_column = firsts_of(tile, column, table, SCALE, SCALE_FIRST, WIDTH, C)
                give(shares, program, first_column, exists & (first_column >= 0), by_tau, BY_TAU, SHARES, COLUMNS)
