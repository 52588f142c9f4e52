"""Eigenvectors of matrices that fall into blocks, as Jacobians do of layers that treat samples or channels alone."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
