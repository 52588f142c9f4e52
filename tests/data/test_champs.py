import os
from pathlib import Path

import numpy as np
import pytest
from data.like_champs import FILES, bonds_apart, save

from geonorm.data import DataFileError, load_couplings, read_champs
from geonorm.data.couplings import COUPLING_TYPES

SAMPLE = Path(os.environ.get("GEONORM_DATA") or "/nowhere") / "champs_sample_csv"


def test_files_are_read_with_their_couplings_in_order(tmp_path):
    couplings = read_champs(save(tmp_path / "below" / "champs").parent)
    assert repr(couplings) == "Couplings(CHAMPS, 2 molecules of 3 to 3 atoms, 3 couplings, Hz)"
    assert couplings.names.tolist() == ["dsgdb9nsd_000003", "dsgdb9nsd_000005"]
    assert couplings.z.tolist() == [8, 1, 1, 6, 7, 1]
    assert couplings.positions[3].tolist() == [-0.013, 1.146, 0.001]
    assert [COUPLING_TYPES[kind] for kind in couplings.types] == ["2JHH", "1JHC", "2JHN"]
    assert couplings.molecule.tolist() == [0, 1, 1]
    assert couplings.pairs.tolist() == [[1, 2], [2, 0], [2, 1]]
    np.testing.assert_allclose(couplings.constants, [-9.9463, 171.220, 5.1824], atol=1e-3)
    assert couplings.contributions[0].tolist() == [-12.0161, 0.724981, 8.20153, -6.85679]


def test_the_first_molecules_are_those_of_the_whole_set(tmp_path):
    whole, first = read_champs(save(tmp_path)), read_champs(tmp_path, molecules=1)
    assert len(first) == 1
    assert (first.contributions == whole[0].contributions).all()
    assert (first.positions == whole[0].positions).all()


def test_the_folder_comes_from_the_environment_too(tmp_path, monkeypatch):
    save(tmp_path / "champs")
    monkeypatch.setenv("GEONORM_DATA", str(tmp_path))
    assert len(load_couplings("champs")) == len(load_couplings("champs/")) == len(read_champs()) == 2
    monkeypatch.delenv("GEONORM_DATA")
    with pytest.raises(DataFileError, match=r"GEONORM_DATA is not set.*kaggle competitions download.*osf\.io/46dpj"):
        read_champs()


LINES = {name.split(".")[0].split("_")[0]: content for name, content in FILES.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scalar": None}, r"no file scalar_coupling_contributions\.csv.*Kaggle"),
        ({"train": None, "structures": None}, r"but not structures\.csv and train\.csv.*Kaggle"),
        ({"structures": LINES["structures"][:-30]}, "ends within a line; the file is cut off"),
        ({"scalar": LINES["scalar"][:-30]}, "ends within a line"),
        ({"scalar": LINES["scalar"].rsplit("\n", 2)[0] + "\n"}, "train.csv has 3 rows and .* 2, expected the same"),
        ({"scalar": LINES["scalar"].replace("2,1,2JHN", "1,2,2JHN")}, "expected the same couplings in the same order"),
        ({"structures": LINES["structures"].split("dsgdb9nsd_000005")[0]}, "lacks 1 of the 2 molecules, first .*05"),
        ({"structures": LINES["structures"].replace("3,1,H", "3,2,H")}, "does not count the atoms"),
        ({"structures": LINES["structures"].replace(",O,", ",Xe,")}, r"elements \['Xe'\], expected H, C, N, O, F"),
        ({"structures": LINES["structures"].replace(",H,0.871", ",C,0.871")}, "is a 2JHH between C and H"),
        ({"train": LINES["train"].replace("171.220", "161.220")}, "miss the coupling constant by 10 Hz"),
        ({"train": LINES["train"].replace("171.220", "much")}, "could not convert string 'much'"),
        ({"train": "id,molecule_name\n1,a\n"}, "no column atom_index_0, atom_index_1, type, scalar_coupling_constant"),
        ({"scalar": "a,b\n1,2\n"}, "no column molecule_name"),
        ({"scalar": LINES["scalar"].split("\n")[0] + "\n"}, "has no rows"),
        ({"scalar": ""}, "no column molecule_name"),
        (
            {key: LINES[key].replace("2JHN", "5JHN") for key in ("train", "scalar")},
            "couplings of type 5JHN, expected 1JHC",
        ),
        ({"structures": LINES["structures"].replace("0.601", "0.6")[:60] + "\x00\x01\n"}, "expected 6 values"),
    ],
)
def test_faults_are_refused_with_a_way_out(tmp_path, changes, message):
    save(tmp_path, **changes)
    with pytest.raises(DataFileError, match=message):
        read_champs(tmp_path)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of CHAMPS is not in the folder GEONORM_DATA")
def test_the_published_sample_holds_what_its_types_say():
    couplings = read_champs(SAMPLE)
    assert (len(couplings), len(couplings.contributions)) == (47, 999)
    for number in range(len(couplings)):
        one = couplings[number]
        steps = bonds_apart(one.z, one.positions)
        told = [int(COUPLING_TYPES[kind][0]) for kind in one.types]
        assert steps[tuple(one.pairs.T)].tolist() == told
        if number == len(couplings) - 1:
            break  # The sample ends within its couplings.
        # Every pair within three bonds with an element that has a type is there, hydrogen first.
        first, second = np.nonzero((steps >= 1) & (steps <= 3))
        keep = (one.z[first] == 1) & (np.isin(one.z[second], (6, 7)) | ((one.z[second] == 1) & (first < second)))
        assert set(zip(first[keep], second[keep], strict=True)) == set(map(tuple, one.pairs))
    # Methane, as the file prints it.
    assert couplings.constants[0] == pytest.approx(84.8076, abs=1e-4)
