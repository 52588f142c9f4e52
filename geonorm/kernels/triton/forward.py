"""The forward pass: moments of each pool, what follows from them, and the result ``y = (x - shift) factor + beta``."""

import triton.language as tl

from geonorm.kernels.triton.columns import (
    EPS,
    MEAN_FIRST,
    MEAN_GROUP,
    NONE,
    SCALE_FIRST,
    SCALE_GROUP,
    added,
    columns_of,
    firsts_of,
    groups_of,
    mean_of_means,
    put,
    weights_of,
)
from geonorm.kernels.triton.jit import kernel
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
    write,
)

RESIDUAL, OWN = tl.constexpr(1), tl.constexpr(2)


@kernel
def block_moments(values, there, number):
    """The mean of the rows of a block and the sum of squares about it."""
    mean = tl.sum(values, 0, keep_dims=True) / number
    rest = tl.where(there, values - mean, 0.0)
    return mean, tl.sum(rest * rest, 0, keep_dims=True)


@kernel
def merged(mean, m2, done, block_mean, block_m2, number):
    """The moments of two sets of rows together, by Chan's rule."""
    share = number / (done + number)
    apart = block_mean - mean
    return mean + apart * share, m2 + block_m2 + apart * apart * (done * share)


@kernel
def moments(x, first_block, there, begin, end, order, column, exists, like, COLUMNS: tl.constexpr, R: tl.constexpr):
    """The moments of rows whose first block was read: a guess of the mean, the rest of it, and the sum of squares.

    All differences are taken from the guess: far from zero the mean itself would be rounded at every step.
    """
    number = tl.maximum(tl.minimum(end - begin, R), 1).to(like.dtype.element_ty)
    guess = tl.sum(first_block, 0, keep_dims=True) / number
    mean, m2 = block_moments(tl.where(there, first_block - guess, 0.0), there, number)
    for low in range(begin + R, end, R):
        where, more = block_of(low, end, order, column, exists, COLUMNS, R)
        values = tl.where(more, read(x, where, more, like) - guess, 0.0)
        number = tl.minimum(end - low, R).to(like.dtype.element_ty)
        block_mean, block_m2 = block_moments(values, more, number)
        mean, m2 = merged(mean, m2, (low - begin).to(like.dtype.element_ty), block_mean, block_m2, number)
    return guess, mean, m2


@kernel
def moments_of_parts(
    parts, first, last, begin, end, lane, like, WIDTH: tl.constexpr, LENGTH: tl.constexpr, R: tl.constexpr
):
    """The same from the moments of parts of a pool."""
    base = tl.load(parts + first.to(tl.int64) * 3 * WIDTH + lane)
    mean, m2, done = base * 0, base * 0, (end - begin).to(like.dtype.element_ty) * 0
    for low in range(first, last, R):
        part = low + tl.arange(0, R)
        there = (part < last)[:, None]
        where = parts + part.to(tl.int64)[:, None] * 3 * WIDTH + lane
        apart = tl.load(where, mask=there, other=0.0) - base + tl.load(where + WIDTH, mask=there, other=0.0)
        apart = tl.where(there, apart, 0.0)
        held = tl.minimum(end - begin - (part - first) * LENGTH, LENGTH).to(like.dtype.element_ty)[:, None]
        held = tl.where(there, held, 0.0)
        number = tl.sum(held)
        block_mean = tl.sum(apart * held, 0, keep_dims=True) / number
        rest = apart - block_mean
        squares = tl.load(where + 2 * WIDTH, mask=there, other=0.0) + held * rest * rest
        mean, m2 = merged(mean, m2, done, block_mean, tl.sum(squares, 0, keep_dims=True), number)
        done += number
    return base, mean, m2


@kernel
def forward(
    x, y, mean, square, own, parts, known, order, ptr, first_part, part_pool, table, numbers, alpha, gamma, beta, tau,
    nodes, pools, STAGE: tl.constexpr, ROWS: tl.constexpr, STATISTIC: tl.constexpr, MEAN: tl.constexpr,
    SCALE: tl.constexpr, MEAN_COUNT: tl.constexpr, SCALE_COUNT: tl.constexpr, MEAN_GROUPS: tl.constexpr,
    SCALE_GROUPS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, STEP: tl.constexpr, LENGTH: tl.constexpr,
    C: tl.constexpr, R: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Standardize the rows of a few pools, or one of the three steps on the way."""
    program, tile = tl.program_id(0), tl.program_id(1)
    column, exists = columns_of(tile, table, COLUMNS, WIDTH, STEP, C)
    lane = tile * C + tl.arange(0, C)[None, :]
    if STAGE == COLLECT:
        pool, begin, end = part_of_pool(program, part_pool, first_part, ptr, nodes, ROWS, LENGTH)
        where, there = block_of(begin, end, order, column, exists, COLUMNS, R)
        block = read(x, where, there, numbers)
        guess, rest, m2 = moments(x, block, there, begin, end, order, column, exists, numbers, COLUMNS, R)
        into = parts + program.to(tl.int64) * 3 * WIDTH + lane
        tl.store(into, guess)
        tl.store(into + WIDTH, rest)
        tl.store(into + 2 * WIDTH, m2)
    elif STAGE == APPLY:
        pool, begin, end = part_of_pool(program, part_pool, first_part, ptr, nodes, ROWS, LENGTH)
        found = known + pool.to(tl.int64) * 2 * WIDTH + lane
        shift, factor = tl.load(found), tl.load(found + WIDTH)
        plus = tl.zeros([1, C], numbers.dtype.element_ty)
        if beta is not None:
            plus = per_column(beta, column, exists)
        for low in range(begin, end, R):
            where, there = block_of(low, end, order, column, exists, COLUMNS, R)
            write(y, where, there, (read(x, where, there, numbers) - shift) * factor + plus)
    else:
        pool, have = pools_of(program, pools, ROWS, P)
        held = have & exists
        if ROWS == NODE:
            where, there = pool * COLUMNS + column, held
            block = read(x, where, there, numbers)
            column_mean, m2, inverse = block, block * 0, 1.0
        else:
            begin, end = rows_of_pool(program, ptr, nodes, ROWS)
            inverse = 1.0 / tl.maximum(end - begin, 1).to(numbers.dtype.element_ty)
            if STAGE == HEAD:
                first, last = parts_of_pool(program, first_part, nodes, ROWS, LENGTH)
                guess, rest, m2 = moments_of_parts(parts, first, last, begin, end, lane, numbers, WIDTH, LENGTH, 16)
            else:
                where, there = block_of(begin, end, order, column, exists, COLUMNS, R)
                block = read(x, where, there, numbers)
                guess, rest, m2 = moments(x, block, there, begin, end, order, column, exists, numbers, COLUMNS, R)
            column_mean = guess + rest

        # From the moments of columns to what they are shifted and multiplied by.
        shift = tl.zeros([P, C], numbers.dtype.element_ty)
        if MEAN != NONE:
            group = groups_of(tile, column, table, MEAN, MEAN_GROUP, WIDTH, C)
            shift = mean_of_means(column_mean, group, weights_of(tile, numbers, 0, WIDTH, C), MEAN, MEAN_COUNT)
            if mean is not None:
                first_column = firsts_of(tile, column, table, MEAN, MEAN_FIRST, WIDTH, C)
                put(mean, pool, first_column, held, shift, MEAN_GROUPS)
            if alpha is not None:
                shift = per_column(alpha, column, exists) * shift
        factor = tl.full([P, C], 1.0, numbers.dtype.element_ty)
        if SCALE != NONE:
            group = groups_of(tile, column, table, SCALE, SCALE_GROUP, WIDTH, C)
            first_column = firsts_of(tile, column, table, SCALE, SCALE_FIRST, WIDTH, C)
            weight = weights_of(tile, numbers, 1, WIDTH, C)
            apart = column_mean
            if STATISTIC == RESIDUAL:
                apart = column_mean - shift
            if STATISTIC == OWN:
                about = mean_of_means(column_mean, group, weight, SCALE, SCALE_COUNT)
                apart = column_mean - about
                if own is not None:
                    put(own, pool, first_column, held, about, SCALE_GROUPS)
            second = added((m2 * inverse + apart * apart) * weight, group, SCALE, SCALE_COUNT)
            if square is not None:
                put(square, pool, first_column, held, second, SCALE_GROUPS)
            second += tl.load(numbers + EPS)
            if tau is not None:
                exponent = tl.load(tau + group, mask=exists & (group >= 0), other=0.0)
                factor = tl.exp(-0.5 * exponent * tl.log(second))
            else:
                factor = 1.0 / tl.sqrt(second)
        if gamma is not None:
            factor = factor * per_column(gamma, column, exists)
        if STAGE == HEAD:
            into = known + program.to(tl.int64) * 2 * WIDTH + lane
            tl.store(into, shift)
            tl.store(into + WIDTH, factor)
        else:
            plus = tl.zeros([1, C], numbers.dtype.element_ty)
            if beta is not None:
                plus = per_column(beta, column, exists)
            write(y, where, there, (block - shift) * factor + plus)
            if ROWS != NODE:
                for low in range(begin + R, end, R):
                    place, inside = block_of(low, end, order, column, exists, COLUMNS, R)
                    write(y, place, inside, (read(x, place, inside, numbers) - shift) * factor + plus)
