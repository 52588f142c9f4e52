"""Edges, reverses and triplets against their definitions, one atom after the other."""

import torch
from models.gemnet.molecules import molecules
from torch.testing import assert_close

from geonorm.models.gemnet.graph import build_edges, build_triplets


def spread() -> tuple[torch.Tensor, torch.Tensor]:
    """Atoms of four molecules in any order, one of them alone, not all within the cutoff."""
    _, pos, batch = molecules((6, 5, 1, 4))
    order = torch.randperm(len(batch))
    return 1.6 * pos[order], batch[order]


def test_edges_are_all_pairs_of_one_molecule_within_the_cutoff() -> None:
    pos, batch = spread()
    edges = build_edges(pos, batch, 3.0)
    expected = {
        (c, a)
        for c in range(len(pos))
        for a in range(len(pos))
        if c != a and batch[c] == batch[a] and (pos[c] - pos[a]).norm() < 3
    }
    found = list(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert 0 < len(found) < sum(n * (n - 1) for n in (6, 5, 1, 4))


def test_swapping_gives_the_reverse_and_twice_the_edge() -> None:
    edges = build_edges(*spread(), 3.0)
    ends = torch.stack([edges.source, edges.target], 1).double()
    assert torch.equal(edges.swap(ends), ends.flip(1))
    assert torch.equal(edges.swap(edges.swap(ends)), ends)


def test_triplets_are_all_pairs_of_edges_that_end_at_one_atom() -> None:
    edges = build_edges(*spread(), 3.0)
    triplets = build_triplets(edges)
    target = edges.target.tolist()
    expected = [(e, k) for e, atom in enumerate(target) for k, other in enumerate(target) if atom == other and e != k]
    found = list(zip(triplets.out_edge.tolist(), triplets.in_edge.tolist(), strict=True))
    assert len(found) == sum(n * (n - 1) for n in torch.bincount(edges.target).tolist())
    assert set(found) == set(expected)
    assert triplets.out_edge.tolist() == sorted(triplets.out_edge.tolist())


def test_sums_over_triplets_need_no_list_of_their_features() -> None:
    edges = build_edges(*spread(), 3.0)
    triplets = build_triplets(edges)
    y = torch.randn(len(triplets.out_edge), 4, dtype=torch.float64)
    x = torch.randn(len(edges.target), 5, dtype=torch.float64)
    expected = x.new_zeros(len(x), 4, 5)
    for e, k, row in zip(triplets.out_edge.tolist(), triplets.in_edge.tolist(), y, strict=True):
        expected[e] += row[:, None] * x[k]
    assert_close(triplets.sum(triplets.matrices(y), x), expected)


def test_atoms_alone_and_no_atoms() -> None:
    for atoms in (0, 1, 3):
        edges = build_edges(torch.zeros(atoms, 3), torch.zeros(atoms, dtype=torch.long), 3.0)
        triplets = build_triplets(edges)
        assert len(edges.source) == len(triplets.out_edge) == 0  # atoms at one place have no direction
        assert edges.sum(torch.ones(0, 2)).tolist() == [[0.0, 0.0]] * atoms
        assert triplets.sum(triplets.matrices(torch.ones(0, 4)), torch.ones(0, 5)).shape == (0, 4, 5)
