"""Rotations and translations that a function forgets: counted by hand, and allowed where the target is an invariant."""

import pytest
import torch
from torch import Tensor

import geonorm as gn
from geonorm.match.check import check
from geonorm.match.places import lost_rotations, translations
from geonorm.match.tasks import COUPLING, DIPOLE, ENERGY, FORCES, POINT_CLOUD_CLASS

VECTORS = gn.Vectors(4)


def lengths(v: Tensor) -> Tensor:
    return v.norm(dim=2)


def products_at_a_node(v: Tensor) -> Tensor:
    return torch.einsum("nci,ndi->ncd", v, v).flatten(1)


def products_in_a_sample(v: Tensor, batch: Tensor) -> Tensor:
    together = (batch[:, None] == batch[None])[:, None, :, None]
    return (torch.einsum("nci,mdi->ncmd", v, v) * together).flatten(1)


# 9 nodes in two samples, 4 vectors each. A vector has two angles; what turns as one body has three.
LOST = [
    pytest.param(lengths, "4x0e", "rotation per (node, field)", 2 * 36, "reversal per (node, field)", id="lengths"),
    pytest.param(products_at_a_node, "16x0e", "rotation per node", 3 * 9, "reversal per node", id="at a node"),
    pytest.param(products_in_a_sample, "144x0e", "rotation per sample", 3 * 2, "reversal per sample", id="in a sample"),
]


@pytest.mark.parametrize(("function", "outputs", "name", "number", "flip"), LOST)
def test_forces_mind_every_rotation_that_is_forgotten(function, outputs, name, number, flip) -> None:
    for seed in range(10):
        report = check(function, VECTORS, outputs, task=FORCES, seed=seed)
        assert report.added == {name: number, flip: 0}


@pytest.mark.parametrize("task", [ENERGY, COUPLING], ids=lambda task: task.name)
@pytest.mark.parametrize(("function", "outputs", "name", "number", "flip"), LOST)
def test_an_invariant_minds_only_rotations_finer_than_a_sample(function, outputs, name, number, flip, task) -> None:
    report = check(function, VECTORS, outputs, task=task)
    assert report.states[0].removed.irrelevant == {"rotation per sample": 6}
    assert report.added == ({} if function is products_in_a_sample else {name: number - 6, flip: 0})


def test_mirror_images_are_one_for_an_energy_and_two_for_a_shape() -> None:
    report = check(products_in_a_sample, VECTORS, "144x0e", task=POINT_CLOUD_CLASS)
    assert report.added == {"reversal per sample": 0}


def test_reversing_every_second_vector_is_no_inversion() -> None:
    def without_signs(v: Tensor, batch: Tensor) -> Tensor:
        return products_in_a_sample(v, batch).abs()

    assert check(without_signs, VECTORS, "144x0e").added == {"reversal per (node, field)": 0}


def test_a_layer_that_keeps_some_fields_loses_the_rotations_of_the_others() -> None:
    def half(v: Tensor) -> Tensor:
        return torch.cat([v[:, :2].flatten(1), v[:, 2:].norm(dim=2)], 1)

    assert check(half, VECTORS, "2x1o+2x0e", task=FORCES).added == {
        "rotation per (node, field)": 2 * 18,
    }


def test_rotations_of_higher_degree_are_found() -> None:
    def squares(x: Tensor) -> Tensor:
        return torch.stack([x[:, :5].square().sum(1), x[:, 5:].square().sum(1)], 1)

    x = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = torch.autograd.functional.jacobian(squares, x).reshape(-1, x.numel())
    largest = torch.linalg.matrix_norm(matrix, 2).item()
    found = {name: (whole, basis.shape[1]) for _, _, whole, name, basis in lost(squares, x, matrix, largest)}
    assert found["rotation per (node, field)"] == (True, 3 * 2 * 3)
    assert found["rotation per sample"] == (True, 3 * 2)
    assert lost(torch.sin, x, torch.diag(x.cos().flatten()), 1.0) == []


def lost(function, x: Tensor, matrix: Tensor, largest: float) -> list:
    return lost_rotations(matrix, x, torch.tensor([0, 0, 1]), "1x2e+1x3o", largest)


def test_all_channels_of_coordinates_are_translated_alike() -> None:
    x = torch.randn(5, 6, dtype=torch.float64)
    moved = translations(x, torch.tensor([0, 0, 0, 1, 1]))
    basis = moved.combine(torch.eye(moved.number, dtype=torch.float64)).T
    assert basis.shape == (30, 6)
    torch.testing.assert_close(basis.T @ basis, torch.eye(6, dtype=torch.float64))
    assert torch.equal(basis[:, 0].reshape(5, 2, 3)[:3, :, 0] > 0, torch.ones(3, 2, dtype=torch.bool))


@pytest.mark.parametrize("task", [ENERGY, FORCES, DIPOLE], ids=lambda task: task.name)
def test_no_target_of_a_molecule_minds_where_it_is(task) -> None:
    def distances(x: Tensor, batch: Tensor) -> Tensor:
        pairs = (x[:, None] - x[None]) * (batch[:, None] == batch[None])[..., None]
        return pairs.flatten(1)

    report = check(distances, "1x1o", "9x1o", task=task, coordinates=True)
    assert report.added == {}
    assert report.states[0].removed.irrelevant == {"translation per sample": 6}


def test_distances_are_all_that_an_energy_needs() -> None:
    def energy(x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        squares = (x[:, None] - x[None]).square().sum(-1)
        pairs = (batch[:, None] == batch[None]) / (1 + squares)
        return x.new_zeros(batch_size, 1).index_add(0, batch, pairs.sum(1, keepdim=True))

    report = check(energy, "1x1o", "1x0e", coordinates=True)
    assert report.matched, str(report)
