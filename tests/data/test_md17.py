import os

import numpy as np
import pytest
from data.like_md17 import ORDER, arrays, save

from geonorm.data import DataFileError, load_md17, read_md17

REAL = os.environ.get("GEONORM_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="GEONORM_DATA is not set: the published files are elsewhere")


def test_both_conventions_of_names_give_the_same_frames(tmp_path):
    old = read_md17(save(tmp_path / "md17_uracil.npz"), "uracil")
    content = arrays()
    np.savez(
        tmp_path / "rmd17_uracil.npz",
        nuclear_charges=content["z"],
        coords=content["R"],
        energies=content["E"][:, 0],
        forces=content["F"],
        old_indices=np.arange(5),
    )
    new = read_md17(tmp_path / "rmd17_uracil.npz", "uracil")
    assert (old.positions == new.positions).all()
    assert (old.energies == new.energies).all()
    assert (old.forces == new.forces).all()
    assert old.energy_unit == new.energy_unit == "kcal/mol"
    assert old.length_unit == "Ang"
    assert old.energies.shape == (5,)


def test_repeated_frames_are_left_out(tmp_path):
    frames = read_md17(save(tmp_path / "a.npz", unique_idx=np.array([0, 3])))
    assert (frames.energies == arrays()["E"][[0, 3], 0]).all()


def test_units_named_in_the_file_count(tmp_path):
    assert read_md17(save(tmp_path / "a.npz", e_unit=np.array("eV"))).energy_unit == "eV"
    with pytest.raises(DataFileError, match="unknown unit 'Ry'"):
        read_md17(save(tmp_path / "b.npz", e_unit=np.array("Ry")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"F": None}, r"no array of forces, expected F or forces; .* has E, R, z"),
        ({"R": np.zeros((5, 36))}, r"positions is float64 of shape \(5, 36\), expected numbers in 3 dimensions"),
        ({"E": np.zeros(4)}, "expected"),
        ({"F": np.full((5, 12, 3), np.nan)}, "180 values that are NaN or infinite"),
        ({"E": np.array(["a"] * 5)}, "energies is <U1"),
        ({"R": 0.1 * arrays()["R"]}, "nearest neighbour is 0.1.* Check that the positions are in Ang"),
        ({"z": ORDER[::-1].copy()}, r"order H H H H O O C N C N C C, expected C C N C N C O O H H H H"),
        ({"z": np.array([6] * 12)}, "H0 C12 N0 O0 and 0 other atoms, expected uracil, H4 C4 N2 O2"),
    ],
)
def test_foreign_files_are_refused_with_a_reason(tmp_path, changes, message):
    path = save(tmp_path / "md17_uracil.npz", **changes)
    with pytest.raises(DataFileError, match=message):
        read_md17(path, "uracil")
    assert path.exists()


def test_a_pickle_in_a_needed_array_is_never_opened(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, **{**arrays(), "E": np.array([print], dtype=object)})
    with pytest.raises(DataFileError, match="pickled"):
        read_md17(path)


@needs_real
def test_real_uracil_geometries_are_read():
    frames = load_md17("uracil", folder=REAL)
    assert len(frames) == 994
    assert round(float(frames.energies.mean())) == -260107
    assert np.sqrt((frames.forces**2).mean()) == pytest.approx(30.2, abs=0.5)
    # MD17's labels have no net force.
    assert abs(frames.forces.sum(axis=1)).max() < 1e-3 * abs(frames.forces).max()


@needs_real
def test_real_ethanol_is_read():
    assert len(load_md17("ethanol", folder=REAL)) == 2000
