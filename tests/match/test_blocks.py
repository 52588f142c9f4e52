"""Eigenvectors found block by block are those of the whole matrix."""

import pytest
import torch

from geonorm.match import sample_influence
from geonorm.match.blocks import block_norms, blocks, eigh, lost_directions, parts
from geonorm.match.measurement import Measurement


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


def jacobian_of_blocks() -> torch.Tensor:
    """Blocks of several shapes, of which each loses something: rows and columns stand in a random order."""
    generator = torch.Generator().manual_seed(0)
    found = [torch.zeros(0, 2, dtype=torch.float64), torch.zeros(3, 0, dtype=torch.float64)]
    for rows, columns, lost in ((5, 5, 2), (4, 6, 3), (7, 3, 0), (1, 1, 0), (6, 6, 6)):
        random = torch.randn(rows, columns, dtype=torch.float64, generator=generator)
        left, values, right = torch.linalg.svd(random, full_matrices=False)
        values[len(values) - max(0, lost - max(0, columns - rows)) :] *= 1e-12
        if rows == 7:
            values[-1] = 1e-7  # small, not lost
        found.append(left @ torch.diag(values) @ right)
    whole = torch.block_diag(*found)
    whole = whole[torch.randperm(whole.shape[0], generator=generator)]
    return whole[:, torch.randperm(whole.shape[1], generator=generator)]


def test_rows_and_columns_of_a_block_belong_together() -> None:
    matrix = jacobian_of_blocks()
    shapes, rest = [], matrix.clone()
    for rows, columns in parts(matrix):
        shapes.append((len(rows), len(columns)))
        assert (matrix[rows[:, None], columns] != 0).all()
        rest[rows[:, None], columns] = 0
    assert not rest.any()
    assert sorted(shapes) == [(0, 1), (0, 1), (1, 1), (4, 6), (5, 5), (6, 6), (7, 3)]


@pytest.mark.parametrize("bound", [1e-9, 3e-1])
def test_lost_directions_are_the_singular_vectors_of_the_small_singular_values(bound: float) -> None:
    matrix = jacobian_of_blocks()
    directions, values, largest = lost_directions(matrix, bound)
    expected = torch.linalg.svd(matrix, full_matrices=True)
    all_values = torch.cat([expected.S, expected.S.new_zeros(matrix.shape[1] - len(expected.S))])
    small = all_values <= bound * all_values[0]
    assert largest == pytest.approx(all_values[0].item())
    torch.testing.assert_close(values.sort().values, all_values[small].sort().values, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(directions @ directions.T, expected.Vh[small].T @ expected.Vh[small])
    torch.testing.assert_close((matrix @ directions).norm(dim=0), values, rtol=1e-9, atol=1e-14)


def test_a_jacobian_of_zeros_loses_everything_and_the_identity_nothing() -> None:
    directions, values, largest = lost_directions(torch.zeros(2, 3, dtype=torch.float64), 1e-9)
    assert (directions.shape, values.tolist(), largest) == ((3, 3), [0.0] * 3, 0.0)
    directions, values, largest = lost_directions(torch.eye(3, dtype=torch.float64), 1e-9)
    assert (directions.shape, len(values), largest) == ((3, 0), 0, 1.0)


def test_norms_of_blocks_are_the_influence_of_samples_on_each_other() -> None:
    batch = torch.tensor([1, 0, 0, 1, 2])
    weights = torch.randn(15, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    entries = batch.repeat_interleave(3)
    weights[entries == 2] *= entries == 2  # the third sample feels itself alone
    norms = block_norms(weights, entries, entries, 3)
    layer = lambda x, batch, number: (weights @ x.flatten()).reshape(x.shape)  # noqa: E731
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(norms, sample_influence(layer, x, batch, 3))
    assert norms[2].tolist()[:2] == [0.0, 0.0]
    cross = weights[entries[:, None] != entries].norm() / weights.norm()
    assert Measurement(layer, x, batch, "3x0e", "3x0e", 0).influence(weights) == pytest.approx(cross.item())


def test_the_influence_on_outputs_per_sample_is_that_on_their_own_row() -> None:
    batch = torch.tensor([0, 0, 1, 1, 1])
    x = torch.randn(5, 3, dtype=torch.float64)
    sums = lambda x, batch, number: x.new_zeros(number, 3).index_add(0, batch, x)  # noqa: E731
    matrix = torch.func.jacrev(lambda x: sums(x, batch, 2))(x).reshape(6, 15)
    assert Measurement(sums, x, batch, "3x0e", "3x0e", 0).influence(matrix) == 0
    swapped = matrix.reshape(2, 3, 15).flip(0).reshape(6, 15)
    assert Measurement(sums, x, batch, "3x0e", "3x0e", 0).influence(swapped) == 1
