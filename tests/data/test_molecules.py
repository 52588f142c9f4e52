import numpy as np
import pytest
from data.like_champs import bonds_apart

from geonorm.data.couplings import COUPLING_TYPES
from geonorm.data.molecules import coupled_pairs, enumerate_molecules, relaxed_molecule

pytest.importorskip("rdkit", reason="molecules are enumerated with RDKit (extra: couplings)")
pytest.importorskip("tblite", reason="molecules are relaxed with tblite (extra: data)")


def test_the_molecules_of_one_and_two_heavy_atoms_are_those_of_a_textbook():
    assert set(enumerate_molecules(1)) == {"C", "N", "O", "F"}
    two = set(enumerate_molecules(2)) - set(enumerate_molecules(1))
    assert two == {"CC", "C=C", "C#C", "CN", "C=N", "C#N", "CO", "C=O", "CF", "NN", "N=N", "NO", "N=O"}


def test_longer_lists_hold_the_shorter_ones_without_repetition_and_the_costly_last():
    three, two = enumerate_molecules(3), enumerate_molecules(2)
    assert len(set(three)) == len(three)
    assert [smiles for smiles in three if smiles in set(two)] == two
    assert {"CCC", "C1CC1", "CC=O", "C#CC", "NC=O"} <= set(three)
    # Two oxygen atoms in a row and fluorine on oxygen fall apart; carbon dioxide has no hydrogen.
    assert not {"OO", "COO", "OF", "COF", "O=C=O"} & set(three)
    assert three[-1] == "CCC"
    # Cyclopropene is a molecule; oxirene, 1H-azirine and cyclobutadiene are hardly any.
    assert "C1=CC1" in three
    assert not {"C1=CO1", "C1=CN1", "C1=CC=C1"} & set(enumerate_molecules(4))


def test_a_relaxed_molecule_keeps_its_bonds_and_has_the_lengths_of_spectroscopy():
    z, positions, apart = relaxed_molecule("CC#N")
    assert sorted(z) == [1, 1, 1, 6, 6, 7]
    np.testing.assert_array_equal(bonds_apart(z, positions), apart)
    carbon, nitrile, nitrogen = positions[:3]
    assert np.linalg.norm(nitrile - nitrogen) == pytest.approx(1.157, abs=0.02)
    assert np.linalg.norm(carbon - nitrile) == pytest.approx(1.458, abs=0.03)
    np.testing.assert_array_equal(relaxed_molecule("CC#N")[1], positions)


def test_pairs_are_hydrogen_with_h_c_n_up_to_three_bonds():
    # Ethanol, atoms in the order C C O, three H, two H, one H.
    z = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
    owner = {3: 0, 4: 0, 5: 0, 6: 1, 7: 1, 8: 2}
    steps = np.full((9, 9), 9)
    np.fill_diagonal(steps, 0)
    for a, b in [(0, 1), (1, 2), *owner.items()]:
        steps[a, b] = steps[b, a] = 1
    for middle in range(9):
        steps = np.minimum(steps, steps[:, middle, None] + steps[middle])
    pairs, types = coupled_pairs(z, steps)
    assert {str(kind): int((types == kind).sum()) for kind in np.unique(types)} == {
        "1JHC": 5,
        "2JHC": 6,
        "2JHH": 4,
        "3JHC": 1,
        "3JHH": 8,
    }
    assert set(types) <= set(COUPLING_TYPES)
    assert (z[pairs[:, 0]] == 1).all()
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)


def test_what_is_no_molecule_or_ends_with_other_bonds_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="'C1#C#C1' is no molecule"):
        relaxed_molecule("C1#C#C1")
    # Dimethyl ether and hydrazones stay whole: no pair that merely comes near counts as a bond.
    assert len(relaxed_molecule("COC")[0]) == 9
    from ase import neighborlist

    monkeypatch.setattr(neighborlist, "natural_cutoffs", lambda atoms, mult: [0.4] * len(atoms))
    with pytest.raises(ValueError, match="'COC' relaxed to other bonds"):
        relaxed_molecule("COC")
