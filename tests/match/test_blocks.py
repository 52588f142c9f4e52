"""Eigenvectors found block by block are those of the whole matrix."""

import pytest
import torch

from geonorm.match.blocks import blocks, eigh


def scattered(sizes: list[int]) -> torch.Tensor:
    """A symmetric matrix of dense blocks, whose rows stand in a random order."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(size, size, dtype=torch.float64, generator=generator) for size in sizes]
    whole = torch.block_diag(*[part + part.T for part in parts])
    order = torch.randperm(len(whole), generator=generator)
    return whole[order][:, order]


@pytest.mark.parametrize("sizes", [[7], [3, 3, 3], [1, 4, 1, 2, 4], [1, 1]], ids=str)
def test_eigenvalues_and_eigenvectors_are_those_of_the_whole(sizes: list[int]) -> None:
    matrix = scattered(sizes)
    assert sorted(blocks(matrix).unique(return_counts=True)[1].tolist()) == sorted(sizes)
    values, vectors = eigh(matrix)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(matrix))
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(len(matrix), dtype=torch.float64))
    torch.testing.assert_close(vectors @ torch.diag(values) @ vectors.T, matrix)


def test_eigenvectors_are_exactly_zero_outside_their_block() -> None:
    matrix = scattered([5, 3, 4])
    _, vectors = eigh(matrix)
    label = blocks(matrix)
    for vector in vectors.T:
        assert len(label[vector != 0].unique()) == 1


def test_rows_that_are_linked_over_others_are_in_one_block() -> None:
    chain = torch.zeros(40, 40, dtype=torch.float64)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    chain[order[:-1], order[1:]] = chain[order[1:], order[:-1]] = 1.0
    assert blocks(chain).tolist() == [0] * 40
    chain[order[20], order[19]] = chain[order[19], order[20]] = 0.0
    assert blocks(chain).unique(return_counts=True)[1].tolist() == [20, 20]


def test_a_matrix_without_rows_and_one_of_zeros_have_eigenvectors_too() -> None:
    values, vectors = eigh(torch.zeros(0, 0, dtype=torch.float64))
    assert (values.shape, vectors.shape) == ((0,), (0, 0))
    values, vectors = eigh(torch.zeros(3, 3, dtype=torch.float64))
    assert not values.any()
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3, dtype=torch.float64))
