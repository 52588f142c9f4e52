"""Matrices that fall into blocks, as Jacobians do of layers that treat samples, nodes or channels one by one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Squares of singular values are right to half as many digits: this part of the largest is well above their rounding.
ROUGH = 1e-6


def blocks(symmetric: Float[Tensor, "n n"]) -> Int[Tensor, " n"]:
    """The block of every row: rows that nonzero entries link, directly or over others, are in one block.

    Args:
        symmetric: A symmetric matrix; the entries outside its blocks are exactly zero.

    Returns:
        For each row the number of the first row of its block.
    """
    number = len(symmetric)
    linked = (symmetric != 0) | torch.eye(number, dtype=torch.bool, device=symmetric.device)
    label = torch.arange(number, device=symmetric.device)
    while True:
        lowest = torch.where(linked, label, number).amin(1)
        lowest = lowest[lowest]  # a path becomes half as long
        if torch.equal(lowest, label):
            return label
        label = lowest


def eigh(symmetric: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Eigenvalues in ascending order and orthonormal eigenvectors, block by block.

    A block of a tenth of the size takes a thousandth of the time, and its eigenvectors are exactly zero outside it.

    Args:
        symmetric: A symmetric matrix.

    Returns:
        The eigenvalues, and the eigenvectors as columns.
    """
    if not len(symmetric):
        return symmetric.new_zeros(0), symmetric.clone()
    _, label, size = blocks(symmetric).unique(return_inverse=True, return_counts=True)
    order = label.argsort(stable=True)
    values, vectors = symmetric.new_zeros(len(symmetric)), torch.zeros_like(symmetric)
    for each in size.unique().tolist():
        rows = order[size[label[order]] == each].reshape(-1, each)
        entries = rows[:, :, None], rows[:, None, :]
        values[rows], vectors[entries] = torch.linalg.eigh(symmetric[entries])
    values, ascending = values.sort()
    return values, vectors[:, ascending]


def parts(matrix: Float[Tensor, "rows columns"]) -> Iterator[tuple[Int[Tensor, " some"], Int[Tensor, " some_columns"]]]:
    """The blocks of a matrix: rows and columns that nonzero entries link; a column of zeros is a block without rows."""
    rows, columns = matrix.shape
    label, row = torch.arange(columns), torch.full((rows,), columns)
    linked_row, linked_column = (matrix != 0).nonzero(as_tuple=True)  # few, where there are many blocks
    while len(linked_row):
        row = row.scatter_reduce(0, linked_row, label[linked_column], "amin")
        lowest = label.scatter_reduce(0, linked_column, row[linked_row], "amin")
        if torch.equal(lowest, label):
            break
        label = lowest
    first, size = label.unique(return_counts=True)
    members = label.argsort(stable=True).split(size.tolist())
    place, number = row.argsort(stable=True), torch.bincount(row, minlength=columns + 1)[first]
    start = torch.searchsorted(row[place], first)
    for block, begin, length in zip(members, start.tolist(), number.tolist(), strict=True):
        yield place[begin : begin + length], block


def lost_directions(
    matrix: Float[Tensor, "outputs inputs"], bound: float
) -> tuple[Float[Tensor, "inputs dimension"], Float[Tensor, " dimension"], float]:
    """The right singular vectors of the small singular values, found block by block.

    The squares of the singular values come first, which is several times faster and sees what is small; how small, the
    singular values of the matrix on that space alone tell to the last digit.

    Args:
        matrix: A Jacobian.
        bound: How large a small singular value may be, relative to the largest.

    Returns:
        The directions as orthonormal columns, each zero outside its block; their singular values; the largest of all.
    """
    found, largest = [], 0.0
    for rows, columns in parts(matrix):
        part = matrix[rows[:, None], columns]
        squares, directions = torch.linalg.eigh(part.T @ part)
        largest = max(largest, squares[-1].item() ** 0.5 if squares[-1] > 0 else 0.0)
        found.append((columns, part, squares, directions))
    basis, sizes = [matrix.new_zeros(matrix.shape[1], 0)], [matrix.new_zeros(0)]
    for columns, part, squares, directions in found:
        space = directions[:, squares <= (max(bound, ROUGH) * largest) ** 2]
        if space.shape[1]:
            small = torch.linalg.qr(part @ space, mode="r").R if len(part) > space.shape[1] else part @ space
            _, values, combinations = torch.linalg.svd(small, full_matrices=True)
            whole = matrix.new_zeros(matrix.shape[1], space.shape[1])
            whole[columns] = space @ combinations.T
            basis.append(whole)
            sizes.append(torch.cat([values, values.new_zeros(space.shape[1] - len(values))]))
    values = torch.cat(sizes)
    small = values <= bound * largest
    return torch.cat(basis, 1)[:, small], values[small], largest


def block_norms(
    matrix: Float[Tensor, "rows columns"], row: Int[Tensor, " rows"], column: Int[Tensor, " columns"], number: int
) -> Float[Tensor, "number number"]:
    """The Frobenius norms of the blocks of a matrix, where the block of every row and of every column is known.

    Args:
        matrix: A Jacobian.
        row: The number of the block of every row.
        column: The same for columns.
        number: The number of blocks.

    Returns:
        One norm for each pair; exactly zero where a block is.
    """
    square = matrix.square()
    of_rows = square.new_zeros(number, matrix.shape[1]).index_add(0, row, square)
    return square.new_zeros(number, number).index_add(1, column, of_rows).sqrt()
