"""The couplings that the package ships: what they say of themselves, and whether they are physics."""

import json
from pathlib import Path

import numpy as np
import pytest
from data.like_champs import bonds_apart

from geonorm.data import Couplings, DataFileError, coupling_files, load_couplings
from geonorm.data.couplings import CONTRIBUTIONS, COUPLING_TYPES


@pytest.fixture(scope="module")
def couplings() -> Couplings:
    return load_couplings()


@pytest.fixture(scope="module")
def without_nitroso(couplings) -> Couplings:
    """The set without N=O groups: their triplet states lie low, and B3LYP exaggerates the contact term beside them."""
    return couplings[[number for number, name in enumerate(couplings.names) if "N=O" not in name and "O=N" not in name]]


def of_type(couplings: Couplings, *kinds: str) -> np.ndarray:
    return np.isin(couplings.types, [COUPLING_TYPES.index(kind) for kind in kinds])


def test_the_set_is_what_it_says(couplings):
    assert coupling_files.SHIPPED.stat().st_size <= 2_000_000
    assert len(set(couplings.names.tolist())) == len(couplings) >= 300
    assert len(couplings.contributions) >= 5000
    assert set(couplings.z.tolist()) == {1, 6, 7, 8, 9}
    assert set(couplings.types.tolist()) == set(range(len(COUPLING_TYPES)))
    assert {"method", "geometry", "versions", "date", "command", "isotopes", "left_out"} <= set(couplings.provenance)
    assert "B3LYP" in couplings.provenance["method"]
    for number in range(len(couplings)):
        one = couplings[number]
        assert abs(one.positions.mean(axis=0)).max() < 2


def test_every_pair_within_three_bonds_is_there_with_its_type(couplings):
    for number in range(len(couplings)):
        one = couplings[number]
        steps = bonds_apart(one.z, one.positions)
        assert steps[tuple(one.pairs.T)].tolist() == [int(COUPLING_TYPES[kind][0]) for kind in one.types]
        first, second = np.nonzero((steps >= 1) & (steps <= 3))
        keep = (one.z[first] == 1) & (np.isin(one.z[second], (6, 7)) | ((one.z[second] == 1) & (first < second)))
        assert set(zip(first[keep].tolist(), second[keep].tolist(), strict=True)) == set(map(tuple, one.pairs.tolist()))


def test_coupling_constants_lie_where_spectroscopy_finds_them(couplings, without_nitroso):
    constants = couplings.constants
    # Carbon is bonded to hydrogen by 60 to 270 Hz, and the more s character, the more.
    assert 60 < constants[of_type(couplings, "1JHC")].min() < constants[of_type(couplings, "1JHC")].max() < 270
    sp3, sp2, sp = (
        one.constants[of_type(one, "1JHC")].mean()
        for one in (couplings[couplings.names.tolist().index(smiles)] for smiles in ("CC", "C=C", "C#C"))
    )
    assert 0.7 < sp3 / sp2 < 0.9 < 1.3 < sp / sp2 < 1.7
    # Two hydrogens on one saturated carbon: near -12 Hz. All three bonds: -3 to 45 Hz, positive as a rule.
    methane = couplings[couplings.names.tolist().index("C")]
    assert methane.constants[of_type(methane, "2JHH")] == pytest.approx([-11.3] * 6, abs=1)
    vicinal = without_nitroso.constants[of_type(without_nitroso, "3JHH")]
    assert -4 < vicinal.min() < vicinal.max() < 50
    assert (vicinal > 0).mean() > 0.9


def test_contact_dominates_one_bond_and_the_orbital_terms_between_protons_cancel(couplings):
    bonded = couplings.contributions[of_type(couplings, "1JHC")]
    assert (abs(bonded[:, CONTRIBUTIONS.index("fc")]) > 0.9 * abs(bonded.sum(axis=1))).all()
    protons = couplings.contributions[of_type(couplings, "2JHH")]
    paramagnetic, diamagnetic = protons[:, CONTRIBUTIONS.index("pso")], protons[:, CONTRIBUTIONS.index("dso")]
    assert (paramagnetic > 0).mean() > 0.9
    assert (diamagnetic < 0).mean() > 0.9
    assert np.corrcoef(paramagnetic, diamagnetic)[0, 1] < -0.5


def test_equivalent_protons_couple_alike(couplings):
    for smiles, kind, spread in (("C", "1JHC", 0.2), ("C", "2JHH", 0.1), ("N", "1JHN", 0.2), ("C=C", "1JHC", 0.2)):
        one = couplings[couplings.names.tolist().index(smiles)]
        assert np.ptp(one.constants[of_type(one, kind)]) < spread


def vicinal_angles(couplings: Couplings) -> tuple[np.ndarray, np.ndarray]:
    """Dihedral angles and constants of H-C-C-H with four bonds at each carbon, outside of rings."""
    angles, constants = [], []
    for number in range(len(couplings)):
        one = couplings[number]
        bonded = bonds_apart(one.z, one.positions) == 1
        for (first, last), constant in zip(
            one.pairs[of_type(one, "3JHH")], one.constants[of_type(one, "3JHH")], strict=True
        ):
            near, far = np.flatnonzero(bonded[first])[0], np.flatnonzero(bonded[last])[0]
            saturated = all(one.z[atom] == 6 and bonded[atom].sum() == 4 for atom in (near, far))
            if saturated and not (bonded[near] & bonded[far]).any():
                one_bond, axis, other = np.diff(one.positions[[first, near, far, last]], axis=0)
                left, right = np.cross(one_bond, axis), np.cross(axis, other)
                cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
                angles.append(np.arccos(np.clip(cosine, -1, 1)))
                constants.append(constant)
    return np.array(angles), np.array(constants)


def test_vicinal_couplings_follow_the_dihedral_angle(without_nitroso):
    # Karplus: large when the bonds are opposite, small when they are at 60 degrees.
    angles, constants = vicinal_angles(without_nitroso)
    assert len(angles) >= 20
    terms = np.cos(np.outer(angles, [0, 1, 2]))
    fitted = np.linalg.lstsq(terms, constants)[0]
    assert np.var(constants - terms @ fitted) < 0.2 * np.var(constants)
    opposite, skew, right = (fitted @ np.cos(np.array([0, 1, 2]) * angle) for angle in np.radians([180, 60, 90]))
    assert 8 < opposite < 18
    assert 0 < skew < 6
    assert right < skew < opposite


def test_a_changed_shipped_file_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / coupling_files.SHIPPED.name
    content = dict(np.load(coupling_files.SHIPPED))
    np.savez_compressed(copy, **{**content, "contributions": content["contributions"] + 1})
    monkeypatch.setattr(coupling_files, "SHIPPED", copy)
    with pytest.raises(DataFileError, match=r"SHA-256.*geonorm data couplings"):
        load_couplings()
    copy.unlink()
    with pytest.raises(DataFileError, match=r"no such file.*geonorm data couplings"):
        load_couplings()


def test_the_book_counts_what_the_file_holds(couplings):
    book = (Path(__file__).parents[2] / "book" / "how_to_use.md").read_text()
    assert f"{len(couplings.contributions)} scalar couplings in {len(couplings)} molecules" in book


def test_the_recorded_settings_are_those_of_the_code(couplings):
    from geonorm.data import b3lyp

    assert couplings.provenance["method"] == f"{b3lyp.FUNCTIONAL}/{b3lyp.BASIS}"
    assert couplings.provenance["grid"] == b3lyp.GRID
    json.dumps(couplings.provenance)
