import numpy as np
import pytest

from geonorm.data import DataFileError, Frames


@pytest.fixture
def water() -> Frames:
    rng = np.random.default_rng(0)
    return Frames(
        z=np.array([8, 1, 1]),
        positions=rng.normal(size=(10, 3, 3)),
        energies=rng.normal(size=10),
        forces=rng.normal(size=(10, 3, 3)),
        trajectory=np.arange(10) // 5,
        name="water",
    )


def test_units_convert_by_the_published_constants(water):
    kcal = water.to(energy_unit="kcal/mol")
    # 1 eV = 23.060548 kcal/mol; 1 bohr = 0.529177 Ang; 1 hartree = 27.211386 eV.
    np.testing.assert_allclose(kcal.energies, water.energies * 23.0605478, rtol=1e-8)
    np.testing.assert_allclose(kcal.forces, water.forces * 23.0605478, rtol=1e-8)
    atomic = water.to("hartree", "bohr")
    np.testing.assert_allclose(atomic.positions * 0.529177210903, water.positions, rtol=1e-12)
    np.testing.assert_allclose(atomic.forces * 27.211386245988 / 0.529177210903, water.forces, rtol=1e-12)
    np.testing.assert_allclose(water.to(energy_unit="meV").energies, 1000 * water.energies)
    back = atomic.to("eV", "Ang")
    np.testing.assert_allclose(back.forces, water.forces, rtol=1e-12)
    assert (back.energy_unit, back.length_unit) == ("eV", "Ang")
    with pytest.raises(DataFileError, match=r"'Joule'.*eV"):
        water.to(energy_unit="Joule")


def test_force_times_length_is_energy_in_any_unit(water):
    work = (water.forces * water.positions).sum()
    other = water.to("kcal/mol", "nm")
    assert (other.forces * other.positions).sum() == pytest.approx(work * 23.0605478, rel=1e-8)


def test_chosen_frames_keep_their_labels_together(water):
    for index in ([3, 1], slice(1, 4), np.array([0, 9]), np.arange(10) % 2 == 0):
        chosen = water[index]
        assert (chosen.energies == water.energies[index]).all()
        assert (chosen.positions == water.positions[index]).all()
        assert (chosen.forces == water.forces[index]).all()
        assert (chosen.trajectory == water.trajectory[index]).all()
    assert repr(water) == "Frames(water, 10 frames, H2O, eV, Ang)"


def test_split_is_disjoint_and_repeatable(water):
    train, test = water.split(6, 4, seed=1)
    assert set(train.energies) | set(test.energies) == set(water.energies)
    assert (train.energies == water.split(6, 4, seed=1)[0].energies).all()
    assert (train.energies != water.split(6, 4, seed=2)[0].energies).any()
    for sizes in ((7, 4), (0, 4), (4, 0)):
        with pytest.raises(ValueError, match="10 frames"):
            water.split(*sizes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("forces", np.zeros((10, 3, 2)), r"forces has shape \(10, 3, 2\), expected \(10, 3, 3\)"),
        ("positions", np.zeros((9, 3, 3)), "positions has shape"),
        ("z", np.array([8, 1]), "positions has shape"),
        ("forces", np.full((10, 3, 3), np.nan), "90 values that are NaN"),
        ("energies", np.full(10, np.inf), "energies holds 10 values"),
        ("energy_unit", "cal", "unknown unit 'cal'"),
    ],
)
def test_faults_are_refused_with_a_reason(water, field, value, message):
    with pytest.raises(DataFileError, match=message):
        Frames(**{**vars(water), field: value})
