import numpy as np
import pytest
import torch
from data.like_coll import MOLECULES, arrays

from geonorm.data import Configurations, DataFileError


@pytest.fixture
def molecules() -> Configurations:
    content = arrays()
    return Configurations(
        sizes=content["N"],
        z=content["Z"],
        positions=content["R"],
        energies=content["E"],
        forces=content["F"],
        trajectory=np.array([0, 0, 1, 2]),
        name="molecules",
    )


def test_one_number_gives_one_molecule_with_its_own_atoms(molecules):
    for index, (charges, positions) in enumerate(MOLECULES):
        one = molecules[index]
        assert len(one) == 1
        assert list(one.z) == charges
        np.testing.assert_allclose(one.positions, positions, rtol=1e-6)
        assert one.energies[0] == molecules.energies[index]
    assert molecules[-1].trajectory == 2
    assert molecules[np.int64(2)].energies == molecules[2].energies
    with pytest.raises(IndexError):
        molecules[4]


@pytest.mark.parametrize("index", [[2, 0], slice(1, 4), np.array([3]), np.array([True, False, False, True]), []])
def test_chosen_molecules_keep_their_labels_together(molecules, index):
    chosen, numbers = molecules[index], np.arange(4)[index]
    assert list(chosen.sizes) == list(molecules.sizes[numbers])
    assert list(chosen.energies) == list(molecules.energies[numbers])
    assert list(chosen.trajectory) == list(molecules.trajectory[numbers])
    for place, number in enumerate(numbers):
        assert (chosen[place].forces == molecules[int(number)].forces).all()
        assert (chosen[place].z == molecules[int(number)].z).all()


def test_a_batch_holds_the_chosen_molecules_one_after_the_other(molecules):
    z, pos, batch, energies, forces = molecules.batch([2, 1], dtype=torch.float64)
    assert z.tolist() == MOLECULES[2][0] + MOLECULES[1][0]
    assert batch.tolist() == [0, 0, 0, 0, 1, 1]
    assert energies.tolist() == [-12.1, -11.2]
    np.testing.assert_array_equal(forces[batch == 1], molecules[1].forces)
    np.testing.assert_array_equal(pos[batch == 0], molecules[2].positions)
    assert (z.dtype, batch.dtype, pos.dtype, forces.dtype) == (torch.int64, torch.int64, torch.float64, torch.float64)
    assert molecules.batch(torch.tensor([0, 3]))[1].dtype == torch.get_default_dtype()
    # What is done to the tensors stays with them.
    pos.zero_()
    assert molecules.positions.any()


def test_units_convert_by_the_published_constants(molecules):
    atomic = molecules.to("hartree", "bohr")
    np.testing.assert_allclose(atomic.positions * 0.529177210903, molecules.positions, rtol=1e-6)
    np.testing.assert_allclose(atomic.energies * 27.211386245988, molecules.energies, rtol=1e-12)
    np.testing.assert_allclose(atomic.forces * 27.211386245988 / 0.529177210903, molecules.forces, rtol=1e-6)
    np.testing.assert_allclose(molecules.to("kcal/mol").forces, molecules.forces * 23.0605478, rtol=1e-6)
    with pytest.raises(DataFileError, match=r"'Joule'.*eV"):
        molecules.to("Joule")


def test_a_split_shares_no_trajectory(molecules):
    many = molecules[np.random.default_rng(0).integers(0, 4, size=60)]
    many = Configurations(**{**vars_of(many), "trajectory": np.repeat(np.arange(12), 5)})
    for seed in range(5):
        train, test = many.split(40, 13, seed=seed)
        assert (len(train), len(test)) == (40, 13)
        assert not set(train.trajectory) & set(test.trajectory)
        assert len(set(test.trajectory)) == 3
    again, _ = many.split(40, 13, seed=4)
    assert (again.positions == train.positions).all()
    assert len({tuple(many.split(40, 13, seed=seed)[1].trajectory) for seed in range(5)}) == 5
    # Three of twelve trajectories are held out for 13 configurations: 45 are left.
    with pytest.raises(ValueError, match="leave 45 of 60 for training, asked for 46"):
        many.split(46, 13)
    for sizes in ((0, 1), (1, 0), (60, 1)):
        with pytest.raises(ValueError, match="which has 60"):
            many.split(*sizes)


def test_a_split_without_trajectories_shares_no_configuration(molecules):
    loose = Configurations(**{**vars_of(molecules), "trajectory": None})
    train, test = loose.split(2, 2, seed=3)
    assert set(train.energies) | set(test.energies) == set(loose.energies)


def test_the_repr_says_what_is_inside(molecules):
    assert repr(molecules) == "Configurations(molecules, 4 of 2 to 4 atoms, H C O, eV, Ang)"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sizes", np.array([3, 2, 4, 4]), r"z has shape \(12,\), expected \(13,\) for 4 configurations with 13 atoms"),
        ("sizes", np.array([12]), r"energies has shape \(4,\), expected \(1,\)"),
        ("sizes", np.array([3, 2, 4, 3, 0]), "at least 1, for each"),
        ("sizes", np.array([3.0, 2.0, 4.0, 3.0]), "float64 of shape"),
        ("forces", np.zeros((12, 2)), r"forces has shape \(12, 2\), expected \(12, 3\)"),
        ("positions", np.full((12, 3), np.nan), "36 values that are NaN"),
        ("energies", np.full(4, np.inf), "energies holds 4 values"),
        ("trajectory", np.zeros(3, dtype=int), r"trajectory has shape \(3,\)"),
        ("energy_unit", "cal", "unknown unit 'cal'"),
    ],
)
def test_faults_are_refused_with_a_reason(molecules, field, value, message):
    with pytest.raises(DataFileError, match=message):
        Configurations(**{**vars_of(molecules), field: value})


def vars_of(configurations: Configurations) -> dict:
    return {name: value for name, value in vars(configurations).items() if not name.startswith("_")}
