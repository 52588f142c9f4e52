"""Tiles of columns and the groups in them: of each column what a kernel must know, and sums over groups.

A tile holds whole groups, so that no program needs the columns of another. Whatever belongs to a group is kept once per
column of it: all vectors have the length of the tile, ``[pools, columns]``.
"""

import triton.language as tl

from geonorm.kernels.triton.jit import kernel

#: The kinds of groups: none; every column by itself; all together; some columns by themselves and the others left out;
#: groups of few columns, of which all pairs are compared; any groups, one after the other.
NONE, EACH, ALL, SINGLE, PAIRS, ANY = (tl.constexpr(kind) for kind in range(6))
#: The rows of the table of whole numbers: the column, its groups, and the group whose first column it is.
COLUMN, MEAN_GROUP, MEAN_FIRST, SCALE_GROUP, SCALE_FIRST = (tl.constexpr(row) for row in range(5))
#: The first entries of the table of numbers: eps; the weights of the columns of mean and scale follow.
EPS, WEIGHTS = tl.constexpr(0), tl.constexpr(1)


@kernel
def columns_of(tile, table, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, STEP: tl.constexpr, C: tl.constexpr):
    """The columns of a tile, and whether there are such."""
    lane = tl.arange(0, C)
    if STEP > 0:
        column = tile * STEP + lane
        exists = (lane < STEP) & (column < COLUMNS)
    else:
        column = tl.load(table + COLUMN * WIDTH + tile * C + lane)
        exists = column >= 0
    return column[None, :], exists[None, :]


@kernel
def groups_of(tile, column, table, KIND: tl.constexpr, ROW: tl.constexpr, WIDTH: tl.constexpr, C: tl.constexpr):
    """The group of each column of a tile, -1 where it has none."""
    if KIND == EACH:
        return column
    elif KIND == ALL:
        return column * 0
    else:
        return tl.load(table + ROW * WIDTH + tile * C + tl.arange(0, C))[None, :]


@kernel
def firsts_of(tile, column, table, KIND: tl.constexpr, ROW: tl.constexpr, WIDTH: tl.constexpr, C: tl.constexpr):
    """The group of each column that is the first of its group, -1 elsewhere."""
    if KIND == EACH:
        return column
    elif KIND == ALL:
        return tl.where(column == 0, 0, -1)
    else:
        return tl.load(table + ROW * WIDTH + tile * C + tl.arange(0, C))[None, :]


@kernel
def weights_of(tile, numbers, WHICH: tl.constexpr, WIDTH: tl.constexpr, C: tl.constexpr):
    """What each column of a tile is multiplied by in a weighted sum; zero where there is no column."""
    return tl.load(numbers + WEIGHTS + WHICH * WIDTH + tile * C + tl.arange(0, C))[None, :]


@kernel
def added(values, group, KIND: tl.constexpr, COUNT: tl.constexpr):
    """The sum over each group, given to all its columns; zero for columns without one."""
    if KIND == EACH:
        total = values
    elif KIND == ALL:
        total = tl.broadcast_to(tl.sum(values, 1, keep_dims=True), values.shape)
    elif KIND == SINGLE:
        total = tl.where(group >= 0, values, 0.0)
    elif KIND == PAIRS:
        same = (group[:, :, None] == group[:, None, :]) & (group >= 0)[:, :, None]
        total = tl.sum(tl.where(same, values[:, None, :], 0.0), 2)
    else:
        total = tl.zeros(values.shape, values.dtype)
        for number in range(COUNT):
            inside = group == number
            total = tl.where(inside, tl.sum(tl.where(inside, values, 0.0), 1, keep_dims=True), total)
    return total


@kernel
def mean_of_means(means, group, weight, KIND: tl.constexpr, COUNT: tl.constexpr):
    """The mean over each group of the means of its columns, exact where these are equal."""
    mean = added(means * weight, group, KIND, COUNT)
    if KIND != EACH and KIND != SINGLE:
        mean += added((means - mean) * weight, group, KIND, COUNT)
    return mean


@kernel
def put(into, pool, first, held, values, GROUPS: tl.constexpr):
    """Store a statistic of each pool and group."""
    tl.store(into + pool * GROUPS + first, values, mask=(first >= 0) & held)


@kernel
def get(statistic, pool, group, held, GROUPS: tl.constexpr):
    """A statistic of each pool, given to the columns of each group; zero for columns without one."""
    return tl.load(statistic + pool * GROUPS + group, mask=(group >= 0) & held, other=0.0)
