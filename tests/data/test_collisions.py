import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from geonorm.cli import main
from geonorm.data import (
    DataFileError,
    collide,
    collisions,
    load_collisions,
    load_configurations,
    make_collisions,
    read_configurations,
)
from geonorm.data.collide import GRID, MOLECULES, Shot, pair
from geonorm.data.files import read_arrays

#: Few steps: a fast shot from close by.
QUICK = Shot(lowest_energy=10.0, gap=2.0, path=1.0, timestep=1.0, frames=2)


@pytest.fixture(scope="module")
def shipped():
    return load_collisions()


def test_the_shipped_set_is_what_it_says(shipped):
    assert len(shipped) >= 5000
    assert collisions.SHIPPED.stat().st_size <= 2_500_000
    assert (shipped.sizes.min(), shipped.sizes.max()) == (2, 26)
    assert {1, 6, 8} <= set(np.unique(shipped.z)) <= {1, 6, 7, 8, 9}
    assert (shipped.energy_unit, shipped.length_unit) == ("eV", "Ang")
    assert {"settings", "seed", "lost", "versions", "date", "command"} <= set(shipped.provenance)
    assert shipped.provenance["settings"] == json.loads(json.dumps(Shot().settings()))
    assert len(np.unique(shipped.trajectory)) <= shipped.provenance["trajectories"]
    assert repr(load_configurations("collisions")) == repr(shipped)


def test_every_pair_of_molecules_collides_once(shipped):
    pairs = [pair(0, index) for index in range(820)]
    assert len(set(pairs)) == len(pairs) == len(MOLECULES) * (len(MOLECULES) + 1) // 2
    assert pair(0, 820) in pairs
    assert pairs[:5] != [pair(1, index) for index in range(5)]
    # Composition stays what it was along a trajectory.
    numbers, first = np.unique(shipped.trajectory, return_index=True)
    for place in range(0, len(shipped), 97):
        one = shipped[place]
        assert (one.z == shipped[first[np.searchsorted(numbers, one.trajectory[0])]].z).all()


def test_molecules_meet_and_react(shipped):
    """Bound relative to free atoms; pushed together; in a good part of the collisions bonds break or form."""
    pytest.importorskip("ase")
    per_atom = shipped.energies / shipped.sizes
    assert -9 < per_atom.min() < per_atom.max() < 0
    norms = np.linalg.norm(shipped.forces, axis=1)
    assert 1 < np.median(norms) < 2
    assert 5 < np.quantile(norms, 0.99) < 20
    assert norms.max() < 100
    nearest, changed, wholes = [], 0, 0
    for number in np.unique(shipped.trajectory)[::10]:
        frames = [shipped[int(place)] for place in np.flatnonzero(shipped.trajectory == number)]
        changed, wholes = changed + any((bonds(frame) != bonds(frames[0])).any() for frame in frames), wholes + 1
        for frame in frames:
            distance = np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=-1)
            nearest.append(distance[np.triu_indices(len(frame.z), 1)].min())
    assert 0.4 < min(nearest) < 0.8
    assert 0.3 < changed / wholes < 0.7


def test_the_book_tells_its_numbers(shipped):
    page = " ".join((Path(__file__).parents[2] / "book" / "how_to_use.md").read_text().split())
    norms = np.linalg.norm(shipped.forces, axis=1)
    for words in (
        f"Every pair of {len(MOLECULES)} small molecules is shot at each other with {Shot().lowest_energy:g} to "
        f"{Shot().highest_energy:g} eV",
        f"{len(shipped)} configurations of {shipped.sizes.min()} to {shipped.sizes.max()} atoms",
        f"from {len(np.unique(shipped.trajectory))} collisions",
        f"{-shipped.energies.max():.0f} to −{-shipped.energies.min():.0f} eV",
        f"Half of the forces are above {np.median(norms):.1f} eV/Å, one of a hundred is above "
        f"{np.quantile(norms, 0.99):.1f}",
    ):
        assert words in page


def bonds(one) -> np.ndarray:
    from ase.data import covalent_radii

    distance = np.linalg.norm(one.positions[:, None] - one.positions[None], axis=-1)
    return distance < 1.3 * (covalent_radii[one.z][:, None] + covalent_radii[one.z][None])


def test_nothing_pulls_or_turns_a_whole_configuration(shipped):
    starts = np.cumsum(shipped.sizes) - shipped.sizes
    rounding = GRID * np.sqrt(shipped.sizes.max())
    assert abs(np.add.reduceat(shipped.forces, starts)).max() < 2 * rounding
    torque = np.add.reduceat(np.cross(shipped.positions, shipped.forces), starts)
    assert abs(torque).max() < 20 * rounding
    assert (shipped.positions == np.round(shipped.positions / GRID) * GRID).all()


def test_labels_are_gfn2_of_the_stored_positions_and_forces_its_slope(shipped):
    pytest.importorskip("tblite")
    rng = np.random.default_rng(0)
    for place in (0, len(shipped) // 3, len(shipped) - 2):
        one = shipped[place]
        atoms = collide._molecule(one.z, one.positions, Shot())
        free = sum(collide._molecule(np.array([z]), np.zeros((1, 3)), Shot()).get_potential_energy() for z in one.z)
        assert atoms.get_potential_energy() - free == pytest.approx(one.energies[0], abs=1e-4)
        step = 1e-3 * rng.standard_normal(one.positions.shape)
        ends = [
            collide._molecule(one.z, one.positions + sign * step, Shot()).get_potential_energy() for sign in (1, -1)
        ]
        assert ends[1] - ends[0] == pytest.approx(2 * (step * one.forces).sum(), abs=3e-5)


def test_a_collision_keeps_its_energy_and_depends_on_its_number_alone():
    pytest.importorskip("tblite")
    number = next(index for index in range(820) if set(pair(0, index)) == {"H2", "O2"})
    shot = replace(QUICK, timestep=0.25)
    one, same = collide.collide(0, number, shot), collide.collide(0, number, shot)
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
    other = collide.collide(1, number, shot)
    assert list(one["N"]) == [4, 4]
    assert other["R"].shape != one["R"].shape or (other["R"] != one["R"]).any()
    assert one["unconverged"] == one["ambiguous"] == 0
    # Of more than 10 eV of collision energy; a longer step keeps it less well.
    assert one["drift"] < 0.1
    assert one["drift"] < collide.collide(0, number, replace(shot, timestep=1.0))["drift"]


def test_molecules_start_apart_at_rest_together_and_on_their_way_to_each_other():
    pytest.importorskip("tblite")
    fs = pytest.importorskip("ase.units").fs
    shot = Shot(lowest_energy=3.0, highest_energy=4.0, gap=2.5)
    for number, names in enumerate((("H2", "O2"), ("HF", "CO"), ("OH", "H2"))):
        atoms, steps = collide._launched(names, shot, np.random.default_rng(number))
        masses, velocities = atoms.get_masses()[:, None], atoms.get_velocities()
        assert abs((masses * velocities).sum(axis=0)).max() < 1e-10
        first, second = atoms.positions[:2], atoms.positions[2:]
        apart = np.linalg.norm(first[:, None] - second[None], axis=-1)
        assert apart.min() == pytest.approx(2.5)
        bulk = [(masses[part] * velocities[part]).sum(axis=0) / masses[part].sum() for part in (slice(2), slice(2, 4))]
        reduced = 1 / (1 / masses[:2].sum() + 1 / masses[2:].sum())
        assert 3 < reduced * ((bulk[0] - bulk[1]) ** 2).sum() / 2 < 4
        way = second.mean(axis=0) - first.mean(axis=0)
        assert way @ (bulk[1] - bulk[0]) < 0
        # Time for a flight of 2.2 gaps.
        flown = steps * shot.timestep * fs * np.linalg.norm(bulk[0] - bulk[1])
        assert flown == pytest.approx(2.2 * 2.5, rel=0.05)


def test_the_highest_point_of_a_collision_is_among_its_frames():
    pytest.importorskip("tblite")
    number = next(index for index in range(820) if set(pair(0, index)) == {"H2", "HF"})
    shot = replace(QUICK, frames=1)
    atoms, steps = collide._launched(pair(0, number), shot, np.random.default_rng([0, number, 1]))
    _, potential, _ = collide._trajectory(atoms, steps, shot)
    energy = collide.collide(0, number, shot)["E"][0] + collide._free_atoms(atoms.numbers, shot)
    assert energy == pytest.approx(potential.max(), abs=0.02)
    assert potential.max() - potential.min() > 0.5


def test_frames_without_one_self_consistent_field_are_dropped_and_counted(monkeypatch):
    pytest.importorskip("tblite")
    calculator = collide._calculator

    def never(shot):
        made = calculator(shot)
        made.set(max_iterations=1)
        return made

    whole = collide.collide(0, 3, QUICK)
    monkeypatch.setattr(collide, "_SAME_SOLUTION", -1.0)
    ambiguous = collide.collide(0, 3, QUICK)
    assert (ambiguous["ambiguous"], ambiguous["unconverged"], len(ambiguous["N"])) == (2, 0, 0)
    monkeypatch.setattr(collide, "_calculator", never)
    unconverged = collide.collide(0, 3, QUICK)
    assert (unconverged["ambiguous"], unconverged["unconverged"], len(unconverged["N"])) == (0, 2, 0)
    assert unconverged["R"].shape == (0, 3)
    assert (whole["ambiguous"], whole["unconverged"], len(whole["N"])) == (0, 0, 2)


def test_a_stopped_maker_continues_whatever_the_number_of_processes(tmp_path, monkeypatch):
    pytest.importorskip("tblite")
    monkeypatch.setattr(collisions, "_BLOCK", 1)
    assert {*pair(507, 0), *pair(507, 1)} == {"H2", "HF", "OH", "N2"}
    out, options = tmp_path / "a.npz", {"trajectories": 2, "seed": 507, "shot": QUICK, "progress": False}

    def stops(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(collisions, "write_configurations", stops)
        with pytest.raises(KeyboardInterrupt):
            make_collisions(out, processes=2, **options)
    folder = tmp_path / "a.npz.trajectories"
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]
    kept, lost = sorted(folder.iterdir())
    written, content = kept.stat().st_mtime_ns, read_arrays(lost)
    lost.unlink()

    # What is missing is done by the one process that is here already.
    monkeypatch.setattr(collisions, "_workers", lambda count: ThreadPoolExecutor(1))
    with monkeypatch.context() as patched:
        patched.setattr(collisions, "write_configurations", stops)
        with pytest.raises(KeyboardInterrupt):
            make_collisions(out, **options)
    assert kept.stat().st_mtime_ns == written
    for name, array in read_arrays(lost).items():
        if name == "settings":
            assert str(array) == str(content[name])
        else:
            # Equal to the bit where this process has one thread too.
            np.testing.assert_allclose(array, content[name], atol=1e-3)

    # Nothing is left to compute: a third call only joins.
    monkeypatch.setattr(collisions, "collide", stops)
    made = make_collisions(out, **options)
    assert list(made.trajectory) == [0, 0, 1, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]
    assert made.provenance["lost"] == {"unconverged": 0, "ambiguous": 0}


def test_the_command_makes_what_its_record_says(tmp_path, monkeypatch):
    pytest.importorskip("tblite")
    monkeypatch.setattr(collisions, "_workers", lambda count: ThreadPoolExecutor(1))
    seed = next(seed for seed in range(100) if set(pair(seed, 0)) <= {"H", "O", "H2", "O2", "HF", "CO", "OH"})
    options = ["data", "collisions", "--trajectories=1", f"--seed={seed}"]
    result = CliRunner().invoke(main, [*options, "--out", str(tmp_path / "a.npz")])
    assert result.exit_code == 0, result.output
    assert "Configurations(collisions (GFN2-xTB), 8 of" in result.output
    made = read_configurations(tmp_path / "a.npz")
    assert made.provenance["command"] == " ".join(["geonorm", *options, "--out", "a.npz"])
    np.testing.assert_allclose(made.energies, collide.collide(seed, 0, Shot())["E"], atol=1e-4)


def test_there_must_be_something_to_make(tmp_path):
    for options in ({"trajectories": 0}, {"processes": 0}):
        with pytest.raises(ValueError, match="at least one of each"):
            make_collisions(tmp_path / "a.npz", **options)


def test_a_changed_shipped_file_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / collisions.SHIPPED.name
    arrays = read_arrays(collisions.SHIPPED)
    np.savez(copy, **{**arrays, "E": arrays["E"] + 1})
    monkeypatch.setattr(collisions, "SHIPPED", copy)
    with pytest.raises(DataFileError, match=r"SHA-256.*geonorm data collisions"):
        load_collisions()
    copy.unlink()
    with pytest.raises(DataFileError, match=r"no such file.*geonorm data collisions"):
        load_collisions()
