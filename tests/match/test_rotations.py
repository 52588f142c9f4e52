"""Group elements are what they claim to be, and act as a group."""

import pytest
import torch
from e3nn import o3
from untyped import untyped

from geonorm.match import random_rotations, rotate
from geonorm.match.rotations import rotations_of_nodes

BATCH = torch.tensor([0, 1, 0, 1, 1, 2])
IRREPS = "2x0e+0o+2x1o+1e+2e+3o"


@pytest.mark.parametrize("improper", [False, True])
def test_random_rotations_are_orthogonal_with_the_determinants_asked_for(improper: bool) -> None:
    g = random_rotations(9, improper, seed=3)
    torch.testing.assert_close(g @ g.mT, torch.eye(3, dtype=torch.float64).expand(9, 3, 3))
    expected = torch.ones(9, dtype=torch.float64)
    expected[::2] = -1 if improper else 1
    torch.testing.assert_close(torch.linalg.det(g), expected)


def test_random_rotations_follow_the_haar_measure() -> None:
    g = random_rotations(40_000)
    # Moments of the entries of a uniformly distributed rotation, and of its trace (1 + 2 cos of the angle).
    assert abs(g.mean(0)).max() < 0.02
    torch.testing.assert_close(g.square().mean(0), torch.full((3, 3), 1 / 3, dtype=torch.float64), atol=0.01, rtol=0)
    torch.testing.assert_close(g.pow(4).mean(0), torch.full((3, 3), 1 / 5, dtype=torch.float64), atol=0.01, rtol=0)
    trace = g.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(trace.mean()) < 0.03
    assert abs(trace.square().mean() - 1) < 0.03
    assert abs(trace.pow(3).mean() - 1) < 0.1


def test_drawing_depends_on_the_seed_alone_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = random_rotations(2, seed=1), random_rotations(2, seed=1), random_rotations(2, seed=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("improper", [False, True])
def test_rotating_twice_is_rotating_by_the_product_on_every_irrep(improper: bool) -> None:
    x = torch.randn(6, o3.Irreps(IRREPS).dim, dtype=torch.float64)
    g, h = random_rotations(6, improper, seed=1), random_rotations(6, improper, seed=2)
    torch.testing.assert_close(rotate(rotate(x, h, IRREPS), g, IRREPS), rotate(x, g @ h, IRREPS))
    assert (rotate(x, g, IRREPS) - x).norm() > 1


def test_the_inversion_flips_the_signs_of_odd_irreps_only() -> None:
    x = torch.ones(1, o3.Irreps(IRREPS).dim, dtype=torch.float64)
    inverted = rotate(x, -torch.eye(3, dtype=torch.float64)[None], IRREPS)
    parity = torch.cat([torch.full((mul * irrep.dim,), float(irrep.p)) for mul, irrep in o3.Irreps(IRREPS)])
    torch.testing.assert_close(inverted[0], parity.double())


def test_spherical_harmonics_rotate_with_their_irreps() -> None:
    irreps, position = o3.Irreps("0e+1o+2e+3o"), torch.randn(6, 3, dtype=torch.float64)
    g = random_rotations(6, improper=True)
    harmonics = o3.spherical_harmonics(irreps, position, normalize=False)
    moved = o3.spherical_harmonics(irreps, torch.einsum("nij,nj->ni", g, position), normalize=False)
    torch.testing.assert_close(rotate(harmonics, g, irreps), moved)


def test_columns_vectors_and_irreps_are_three_ways_to_write_one_action() -> None:
    x, g = torch.randn(6, 4, 3, dtype=torch.float64), random_rotations(6, improper=True)
    expected = torch.stack([torch.stack([g[i] @ x[i, c] for c in range(4)]) for i in range(6)])
    torch.testing.assert_close(rotate(x, g), expected)
    torch.testing.assert_close(rotate(x.flatten(1), g), expected.flatten(1))
    torch.testing.assert_close(rotate(x.flatten(1), g, "4x1o"), expected.flatten(1))


def test_a_tensor_of_rank_two_rotates_as_the_product_of_two_vectors() -> None:
    u, v = torch.randn(2, 6, 4, 3, dtype=torch.float64)
    g = random_rotations(6, improper=True)
    product = torch.einsum("nci,ncj->ncij", u, v)
    torch.testing.assert_close(rotate(product, g), torch.einsum("nci,ncj->ncij", rotate(u, g), rotate(v, g)))
    assert (rotate(product, g) - product).norm() > 1


@pytest.mark.parametrize(("level", "elements"), [("batch", 1), ("sample", 3), ("node", 6)])
def test_each_level_has_its_number_of_rotations(level: str, elements: int) -> None:
    g = rotations_of_nodes(torch.zeros(6, 3), BATCH, level=level)
    assert len(g.flatten(1).unique(dim=0)) == elements
    for sample in range(3):
        assert level == "node" or len(g[sample == BATCH].flatten(1).unique(dim=0)) == 1


def test_inputs_that_cannot_be_rotated_are_refused_with_a_way_out() -> None:
    g = random_rotations(6)
    with pytest.raises(ValueError, match=r"divisible by 3.*irreps"):
        rotate(torch.zeros(6, 8), g)
    with pytest.raises(ValueError, match=r"expected \[nodes, 4\]"):
        rotate(torch.zeros(6, 8), g, "0e+1o")
    with untyped(), pytest.raises(ValueError, match="'batch', 'sample' or 'node'"):
        rotations_of_nodes(torch.zeros(6, 3), BATCH, level="molecule")
