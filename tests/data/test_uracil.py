import json

import numpy as np
import pytest

from geonorm.data import DataFileError, load_uracil, make_uracil, uracil
from geonorm.data.files import read_arrays


def test_the_shipped_set_is_what_it_says():
    frames = load_uracil()
    assert len(frames) >= 1000
    assert uracil.SHIPPED.stat().st_size <= 1_000_000
    assert tuple(frames.z) == uracil.URACIL
    assert (frames.energy_unit, frames.length_unit) == ("eV", "Ang")
    assert {"settings", "seeds", "versions", "date", "command"} <= set(frames.provenance)
    assert len(set(frames.trajectory)) == len(frames.provenance["seeds"])
    # No two frames alike, no net force, the centre of mass at rest.
    assert len(np.unique(frames.energies)) == len(frames)
    assert abs(frames.forces.sum(axis=1)).max() < 1e-3
    masses = np.array([{6: 12.011, 7: 14.007, 8: 15.999, 1: 1.008}[int(z)] for z in frames.z])
    assert abs(np.einsum("fax,a->fx", frames.positions, masses)).max() < 1e-3


def test_the_shipped_frames_are_weakly_correlated_and_as_warm_as_they_say():
    frames = load_uracil()
    correlations, means = [], []
    for trajectory in set(frames.trajectory):
        energies = frames.energies[frames.trajectory == trajectory]
        centred = energies - energies.mean()
        correlations.append((centred[1:] * centred[:-1]).mean() / centred.var())
        means.append(energies.mean())
    assert abs(np.mean(correlations)) < 0.25
    # Harmonic estimate: half of kT for each of 30 vibrations above the relaxed energy; anharmonicity adds a little.
    warmth = 30 / 2 * 8.617333e-5 * frames.provenance["settings"]["temperature_K"]
    relaxed = -669.80683
    assert 0.9 < (np.mean(means) - relaxed) / warmth < 1.3
    assert np.std(means) < 0.3 * warmth


def test_bonds_stay_whole():
    frames = load_uracil()
    bonds = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (3, 6), (5, 7), (1, 8), (2, 9), (4, 10), (0, 11)]
    for a, b in bonds:
        length = np.linalg.norm(frames.positions[:, a] - frames.positions[:, b], axis=-1)
        assert 0.8 < length.min() < length.max() < 1.9


def test_labels_are_gfn2_of_the_stored_positions():
    pytest.importorskip("tblite")
    frames = load_uracil()
    for index in (0, len(frames) // 2, len(frames) - 1):
        atoms = uracil._molecule(frames.positions[index])
        assert atoms.get_potential_energy() == pytest.approx(frames.energies[index], abs=1e-5)
        np.testing.assert_allclose(atoms.get_forces(), frames.forces[index], atol=1e-3)


def test_a_changed_shipped_file_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / uracil.SHIPPED.name
    arrays = read_arrays(uracil.SHIPPED)
    arrays["E"] = arrays["E"] + 1
    np.savez_compressed(copy, **arrays)
    monkeypatch.setattr(uracil, "SHIPPED", copy)
    with pytest.raises(DataFileError, match=r"SHA-256.*geonorm data uracil"):
        load_uracil()
    copy.unlink()
    with pytest.raises(DataFileError, match=r"no such file.*geonorm data uracil"):
        load_uracil()


def test_a_stopped_maker_continues_and_gives_the_same_frames(tmp_path, monkeypatch):
    pytest.importorskip("tblite")
    options = {"frames": 3, "seeds": (0, 1), "stride": 2, "warmup": 2, "progress": False}
    whole = make_uracil(tmp_path / "whole.npz", **options)
    assert len(whole) == 3
    assert list(whole.trajectory) == [0, 0, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["whole.npz"]

    original, calls = uracil._trajectory, []

    def stops(seed, *arguments):
        calls.append(seed)
        if calls == [0, 1]:
            raise KeyboardInterrupt
        return original(seed, *arguments)

    monkeypatch.setattr(uracil, "_trajectory", stops)
    with pytest.raises(KeyboardInterrupt):
        make_uracil(tmp_path / "part.npz", **options)
    assert not (tmp_path / "part.npz").exists()
    resumed = make_uracil(tmp_path / "part.npz", **options)
    assert calls == [0, 1, 1]
    np.testing.assert_array_equal(resumed.positions, whole.positions)
    np.testing.assert_array_equal(resumed.forces, whole.forces)
    units = json.loads(str(read_arrays(tmp_path / "part.npz")["units"]))
    assert units == {"R": "Ang", "E": "eV", "F": "eV/Ang"}


def test_frames_must_suffice_for_the_seeds(tmp_path):
    for options in ({"frames": 1, "seeds": (0, 1)}, {"seeds": ()}, {"seeds": (1, 1)}):
        with pytest.raises(ValueError, match="at least one frame for each"):
            make_uracil(tmp_path / "a.npz", **options)
