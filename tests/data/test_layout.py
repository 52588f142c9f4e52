import json

import numpy as np
import pytest
from data.like_coll import arrays, save

from geonorm.data import DataFileError, read_configurations, write_configurations


def test_the_names_of_coll_are_read(tmp_path):
    read = read_configurations(save(tmp_path / "a.npz"))
    content = arrays()
    for field, name in {"sizes": "N", "z": "Z", "positions": "R", "energies": "E", "forces": "F"}.items():
        np.testing.assert_array_equal(getattr(read, field), content[name])
    assert (read.energy_unit, read.length_unit, read.name, read.trajectory) == ("eV", "Ang", "a", None)
    assert read.positions.dtype == read.forces.dtype == np.float64


def test_energies_in_a_column_are_the_same(tmp_path):
    assert read_configurations(save(tmp_path / "a.npz", E=arrays()["E"][:, None])).energies.shape == (4,)


def test_what_is_written_comes_back_and_numpy_alone_reads_it(tmp_path):
    once = read_configurations(save(tmp_path / "a.npz", trajectory=np.array([5, 5, 6, 7])))
    path = write_configurations(tmp_path / "sub" / "b.npz", once.to("kcal/mol"))
    again = read_configurations(path)
    assert (again.energy_unit, again.name) == ("kcal/mol", "a")
    np.testing.assert_allclose(again.to("eV").forces, once.forces, rtol=1e-6)
    np.testing.assert_allclose(again.to("eV").energies, once.energies, rtol=1e-12)
    assert list(again.trajectory) == [5, 5, 6, 7]
    with np.load(path, allow_pickle=False) as plain:
        assert {name: plain[name].shape for name in "NZREF"} == {
            "N": (4,),
            "Z": (12,),
            "R": (12, 3),
            "E": (4,),
            "F": (12, 3),
        }
        assert json.loads(str(plain["units"])) == {"R": "Ang", "E": "kcal/mol", "F": "kcal/mol/Ang"}
    assert [entry.name for entry in path.parent.iterdir()] == ["b.npz"]


def test_the_free_text_of_others_is_kept(tmp_path):
    path = save(tmp_path / "a.npz", units=np.array("R Angstrom, E eV"), provenance=np.array("somebody"))
    read = read_configurations(path)
    assert read.provenance == {"provenance": "somebody"}
    assert read.energy_unit == "eV"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"F": None}, r"no array F \(forces\); .* the file has E, N, R, Z. Give a file of COLL's layout"),
        ({"N": None}, r"no array N \(numbers of atoms\)"),
        ({"N": np.array([3, 2, 4, 4])}, r"z has shape \(12,\), expected \(13,\)"),
        ({"N": np.array([3, 2, 4, 3, 2])}, r"energies has shape \(4,\), expected \(5,\)"),
        ({"N": np.array([0, 5, 4, 3])}, "at least 1"),
        ({"N": np.array([3.0, 2.0, 4.0, 3.0])}, r"N is float64 of shape \(4,\)"),
        ({"R": np.zeros((4, 3, 3))}, r"R is float64 of shape \(4, 3, 3\)"),
        ({"R": np.full((12, 3), np.nan)}, "positions holds 36 values that are NaN"),
        ({"R": 0.1 * arrays()["R"]}, r"smallest distance of atoms is 0.09.* Check that the positions are in Ang"),
        ({"R": 1.8897 * arrays()["R"]}, "Check that the positions are in Ang"),
        ({"R": 0.3 * arrays()["R"]}, "Check that the positions are in Ang"),
        ({"R": arrays()["R"] * (np.arange(12)[:, None] != 1)}, r"distance of atoms is 0 Ang in one configuration"),
        ({"E": np.array(["a"] * 4)}, "E is <U1"),
        ({"units": np.array(json.dumps({"E": "Ry"}))}, "unknown unit 'Ry'"),
    ],
)
def test_foreign_and_inconsistent_files_are_refused_with_a_reason(tmp_path, changes, message):
    path = save(tmp_path / "a.npz", **changes)
    with pytest.raises(DataFileError, match=message):
        read_configurations(path)


def test_truncated_and_pickled_files_are_refused(tmp_path):
    path = save(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataFileError, match=r"not a complete \.npz archive"):
        read_configurations(path)
    (tmp_path / "page.npz").write_text("<html>moved</html>")
    with pytest.raises(DataFileError, match=r"not a complete \.npz archive"):
        read_configurations(tmp_path / "page.npz")
    with pytest.raises(DataFileError, match="holds pickled Python objects"):
        read_configurations(save(tmp_path / "b.npz", R=np.array([None, 1], dtype=object)))
    with pytest.raises(DataFileError, match="no such file"):
        read_configurations(tmp_path / "absent.npz")
