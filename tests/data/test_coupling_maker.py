import os

import numpy as np
import pytest

from geonorm.data import coupling_maker, make_couplings, read_couplings
from geonorm.data.files import read_arrays, write_arrays

needs_pyscf = pytest.mark.skipif(
    any(coupling_maker.importlib.util.find_spec(name) is None for name in ("pyscf", "rdkit", "tblite")),
    reason="couplings are computed with PySCF, RDKit and tblite (extras: couplings, data)",
)


@needs_pyscf
def test_a_stopped_maker_continues_and_gives_the_same_couplings(tmp_path, monkeypatch):
    options = {"molecules": 4, "heavy": 1, "progress": False}
    whole = make_couplings(tmp_path / "whole.npz", processes=2, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["whole.npz"]
    # Hydrogen fluoride has no pair with a coupling type.
    assert whole.names.tolist() == ["O", "N", "C"]
    assert list(whole.provenance["left_out"]) == ["F"]
    assert len(whole.contributions) == 1 + 6 + 10

    def stops(path, couplings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(coupling_maker, "write_couplings", stops)
        with pytest.raises(KeyboardInterrupt):
            make_couplings(tmp_path / "part.npz", processes=1, **options)
    folder = tmp_path / "part.npz.molecules"
    assert not (tmp_path / "part.npz").exists()
    assert len(list(folder.iterdir())) == 4
    # One was not reached, one came from other settings; the other two are kept.
    (folder / "0003.npz").unlink()
    content = read_arrays(folder / "0001.npz")
    write_arrays(folder / "0001.npz", **{**content, "settings": np.array("other"), "z": content["z"] + 1})
    before = {name: os.stat(folder / name).st_mtime_ns for name in ("0000.npz", "0002.npz")}
    with monkeypatch.context() as patch:
        patch.setattr(coupling_maker, "write_couplings", stops)
        with pytest.raises(KeyboardInterrupt):
            make_couplings(tmp_path / "part.npz", processes=1, **options)
    assert {name: os.stat(folder / name).st_mtime_ns for name in before} == before
    resumed = make_couplings(tmp_path / "part.npz", processes=1, **options)
    assert not folder.exists()
    np.testing.assert_array_equal(resumed.positions, whole.positions)
    np.testing.assert_array_equal(resumed.contributions, whole.contributions)
    assert read_couplings(tmp_path / "part.npz").names.tolist() == whole.names.tolist()


def test_counts_must_be_positive(tmp_path):
    for options in ({"molecules": 0}, {"heavy": 0}, {"processes": 0}):
        with pytest.raises(ValueError, match="give positive numbers"):
            make_couplings(tmp_path / "a.npz", **options)


def test_a_missing_package_is_named_with_the_command_that_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(coupling_maker.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"no module pyscf and rdkit and tblite.*geonorm\[couplings,data\]"):
        make_couplings(tmp_path / "a.npz")
