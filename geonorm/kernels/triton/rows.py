"""Rows: which of them a program reads, and blocks of them read and written.

A program works on pools of one row each, several at a time, or on one pool of many rows, a block after the other: ``P``
is the number of pools at a time and ``R`` the number of rows of a block. What is known of each pool has the shape
``[P, columns]``, so that the same formulas serve both.
"""

import triton.language as tl

from geonorm.kernels.triton.jit import kernel

#: Which rows share a statistic: each row has its own, all rows have one, or the rows of a segment have one.
NODE, BATCH, SEGMENT = (tl.constexpr(kind) for kind in range(3))
#: What a launch does: everything at once; or, for long pools in parts, their sums, what follows from them, the result.
WHOLE, COLLECT, HEAD, APPLY = (tl.constexpr(stage) for stage in range(4))


@kernel
def rows_of_pool(pool, ptr, nodes, KIND: tl.constexpr):
    """The first row of a pool in the order of the rows, and the one after its last."""
    if KIND == SEGMENT:
        begin, end = tl.load(ptr + pool), tl.load(ptr + pool + 1)
    else:
        begin, end = pool * 0, pool * 0 + nodes
    return begin, end


@kernel
def part_of_pool(item, part_pool, first_part, ptr, nodes, KIND: tl.constexpr, LENGTH: tl.constexpr):
    """The pool that a part belongs to and the rows of the part; no rows where there is no such part."""
    if KIND == SEGMENT:
        pool = tl.load(part_pool + item)
        begin = tl.load(ptr + pool) + (item - tl.load(first_part + pool)) * LENGTH
        end = tl.minimum(begin + LENGTH, tl.load(ptr + pool + 1))
    else:
        pool, begin = item * 0, item * LENGTH
        end = tl.minimum(begin + LENGTH, nodes)
    return pool, begin, end


@kernel
def parts_of_pool(pool, first_part, nodes, KIND: tl.constexpr, LENGTH: tl.constexpr):
    """The first part of a pool, and the one after its last."""
    if KIND == SEGMENT:
        first, last = tl.load(first_part + pool), tl.load(first_part + pool + 1)
    else:
        first, last = pool * 0, (pool * 0 + nodes + LENGTH - 1) // LENGTH
    return first, last


@kernel
def block_of(low, end, order, column, exists, COLUMNS: tl.constexpr, R: tl.constexpr):
    """Where the entries of a block of rows are, and whether they are there."""
    place = low + tl.arange(0, R)
    inside = place < end
    if order is not None:
        row = tl.load(order + place, mask=inside, other=0)
    else:
        row = place
    return row.to(tl.int64)[:, None] * COLUMNS + column, inside[:, None] & exists


@kernel
def pools_of(program, pools, KIND: tl.constexpr, P: tl.constexpr):
    """The pools of a program, ``[P, 1]``, and whether they are there."""
    if KIND == NODE:
        pool = program.to(tl.int64) * P + tl.arange(0, P)[:, None]
    else:
        pool = program.to(tl.int64) + tl.arange(0, 1)[:, None]
    return pool, pool < pools


@kernel
def read(matrix, where, there, like):
    """The entries of a block, in the type of the statistics; zero where there is none."""
    return tl.load(matrix + where, mask=there, other=0.0).to(like.dtype.element_ty)


@kernel
def write(matrix, where, there, values):
    """Store the entries of a block."""
    tl.store(matrix + where, values.to(matrix.dtype.element_ty), mask=there)


@kernel
def sum_rows(values, KIND: tl.constexpr):
    """The sum over the rows of a block that belong to one pool."""
    total = values
    if KIND != NODE:
        total = tl.sum(values, 0, keep_dims=True)
    return total


@kernel
def per_column(values, column, exists):
    """A parameter of each column of the tile."""
    return tl.load(values + column, mask=exists, other=0.0)
