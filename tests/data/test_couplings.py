import numpy as np
import pytest
import torch
from data.like_champs import save

from geonorm.data import Couplings, DataFileError, load_couplings, read_champs, read_couplings, write_couplings
from geonorm.models.schnet import CouplingSchNet


@pytest.fixture
def three() -> Couplings:
    """Water, hydrogen cyanide, and water again with other numbers."""
    return Couplings(
        sizes=np.array([3, 3, 3]),
        z=np.array([8, 1, 1, 6, 7, 1, 1, 8, 1]),
        positions=np.arange(27.0).reshape(9, 3) ** 1.1,
        molecule=np.array([0, 1, 1, 2]),
        pairs=np.array([[1, 2], [2, 0], [2, 1], [0, 2]]),
        types=np.array([2, 0, 4, 2]),
        contributions=np.array([[-12.0, 0.7, 8.2, -6.9], [170.5, 0.9, -0.7, 0.5], [2.7, 0.5, 2.3, -0.4], [1, 2, 3, 4]]),
        names=np.array(["water", "hydrogen cyanide", "water again"]),
        provenance={"what": "a test"},
    )


def test_the_constant_is_the_sum_of_its_contributions(three):
    np.testing.assert_allclose(three.constants, [-10, 171.2, 5.1, 10])
    assert repr(three) == "Couplings(couplings, 3 molecules of 3 to 3 atoms, 4 couplings, Hz)"


def test_chosen_molecules_keep_their_couplings(three):
    for index in ([2, 1], slice(2, 0, -1), np.array([2, 1]), torch.tensor([2, 1])):
        chosen = three[index]
        assert chosen.names.tolist() == ["water again", "hydrogen cyanide"]
        assert chosen.z.tolist() == [1, 8, 1, 6, 7, 1]
        assert (chosen.positions == three.positions[[6, 7, 8, 3, 4, 5]]).all()
        assert chosen.molecule.tolist() == [0, 1, 1]
        assert chosen.pairs.tolist() == [[0, 2], [2, 0], [2, 1]]
        assert chosen.types.tolist() == [2, 0, 4]
        assert (chosen.contributions == three.contributions[[3, 1, 2]]).all()
    assert len(three[np.array([True, False, True])]) == 2
    assert three[1].names.tolist() == ["hydrogen cyanide"]


def test_split_is_by_molecule_disjoint_and_repeatable(three):
    train, test = three.split(2, 1, seed=3)
    assert sorted([*train.names, *test.names]) == sorted(three.names)
    assert (train.names == three.split(2, 1, seed=3)[0].names).all()
    assert len({str(three.split(2, 1, seed=seed)[1].names[0]) for seed in range(20)}) == 3
    for sizes in ((3, 1), (0, 1), (1, 0)):
        with pytest.raises(ValueError, match="which has 3"):
            three.split(*sizes)


def test_a_batch_counts_the_atoms_of_pairs_through_all_molecules(three):
    batch = three.batch([2, 1], dtype=torch.float64)
    assert batch.pair_index.tolist() == [[0, 5, 5], [2, 3, 4]]
    assert batch.z[batch.pair_index].tolist() == [[1, 1, 1], [1, 6, 7]]
    assert batch.batch.tolist() == [0, 0, 0, 1, 1, 1]
    assert (batch.batch_size, batch.types.tolist()) == (2, [2, 0, 4])
    np.testing.assert_array_equal(batch.pos, three.positions[[6, 7, 8, 3, 4, 5]])
    np.testing.assert_array_equal(batch.targets, three.contributions[[3, 1, 2]])
    assert three.batch(0).pos.dtype == torch.get_default_dtype()


def test_a_molecule_may_have_no_couplings_and_a_set_no_molecules(three):
    quiet = Couplings(
        **{**vars_of(three), "molecule": np.array([0, 2, 2, 2]), "pairs": np.array([[1, 2]] + [[0, 2]] * 3)}
        | {"types": np.array([2, 2, 2, 2])}
    )
    assert len(quiet[1].contributions) == 0
    assert quiet.batch([1, 2]).pair_index.tolist() == [[3, 3, 3], [5, 5, 5]]
    assert len(three[[]]) == 0


def test_batches_fit_the_network_whatever_else_is_in_them(three):
    network = CouplingSchNet("none", channels=8, num_interactions=1, num_gaussians=20, dtype=torch.float64)
    together = network(*three.batch([0, 1, 2], dtype=torch.float64)[:5])
    alone = [network(*three.batch(k, dtype=torch.float64)[:5]) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_file_gives_back_what_was_written(three, tmp_path):
    path = write_couplings(tmp_path / "set.npz", three)
    back = load_couplings(path)
    for key, value in vars_of(three).items():
        np.testing.assert_array_equal(getattr(back, key), value)
    assert load_couplings(back) is back
    champs = read_champs(save(tmp_path / "champs"))
    again = read_couplings(write_couplings(tmp_path / "champs.npz", champs))
    assert (again.positions == champs.positions).all()
    assert (again.contributions == champs.contributions).all()


def test_files_that_are_something_else_are_refused(three, tmp_path):
    path = write_couplings(tmp_path / "set.npz", three)
    content = dict(np.load(path))
    for changes, message in (
        ({"pairs": None}, "no arrays pairs"),
        ({"type_names": np.array(["1JFF"] * 8)}, r"unknown types \['1JFF'\]"),
        ({"names": np.array([{}, {}, {}])}, "pickled"),
    ):
        changed = {key: value for key, value in {**content, **changes}.items() if value is not None}
        np.savez(tmp_path / "changed.npz", **changed)
        with pytest.raises(DataFileError, match=message):
            load_couplings(tmp_path / "changed.npz")
    with pytest.raises(DataFileError, match=r"no couplings named 'nothing'.*'couplings', 'champs'"):
        load_couplings("nothing")


def vars_of(couplings: Couplings) -> dict:
    return {key: value for key, value in vars(couplings).items() if not key.startswith("_")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": np.array([3, 0, 6])}, "expected one whole number, at least 1"),
        ({"sizes": np.array([3, 3])}, r"names has shape \(3,\), expected \(2,\) for 2 molecules of 6 atoms"),
        ({"pairs": np.array([[1, 2]])}, r"pairs has shape \(1, 2\), expected \(4, 2\)"),
        ({"contributions": np.full((4, 4), np.nan)}, "contributions holds 16 values that are NaN"),
        ({"positions": np.full((9, 3), np.inf)}, "positions holds 27 values"),
        ({"types": np.array([2.0, 0, 4, 2])}, "types is float64, expected whole numbers"),
        ({"types": np.array([2, 0, 4, 8])}, "types run from 0 to 8, expected 0 to 7"),
        ({"types": np.array([2, 1, 4, 2])}, "coupling 1 is a 1JHN between C and H"),
        ({"molecule": np.array([0, 1, 0, 2])}, "Sort the couplings by molecule"),
        ({"molecule": np.array([0, 1, 1, 3])}, "expected rising numbers from 0 to 2"),
        ({"pairs": np.array([[1, 2], [2, 3], [2, 1], [0, 2]])}, r"atoms \(2, 3\), expected two atoms of molecule hydr"),
        ({"pairs": np.array([[1, 1], [2, 0], [2, 1], [0, 2]])}, r"atoms \(1, 1\)"),
    ],
)
def test_faults_are_refused_with_a_reason(three, changes, message):
    with pytest.raises(DataFileError, match=message):
        Couplings(**{**vars_of(three), **changes})
