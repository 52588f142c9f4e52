import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from geonorm.data import b3lyp, read_champs
from geonorm.data.couplings import COUPLING_TYPES

pytest.importorskip("pyscf", reason="couplings are computed with PySCF (extra: couplings)")
SAMPLE = Path(os.environ.get("GEONORM_DATA") or "/nowhere") / "champs_sample_csv"
WATER = np.array([8, 1, 1]), np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.1, -0.75, -0.49]])


def test_contributions_are_those_of_the_extension_of_pyscf():
    # Its own response solver, one operator after the other, on the same orbitals.
    field = b3lyp._orbitals(["O", "H", "H"], WATER[1])
    pairs = np.array([[1, 0], [2, 0], [2, 1]])
    found = b3lyp._contributions(field, pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyscf.data import nist
        from pyscf.data.nucprop import get_nuc_g_factor
        from pyscf.prop.ssc.rks import SSC
    peer = SSC(field)
    # The extension lets the second nucleus perturb, and here all do.
    peer.nuc_pair = [(a, b) for a in range(3) for b in range(3) if a != b]
    rows = [peer.nuc_pair.index((int(b), int(a))) for a, b in pairs]
    contact = peer.make_fc(peer.nuc_pair)
    tensors = [
        contact,
        peer.make_fcsd(peer.nuc_pair) - contact,
        peer.make_pso(field.mol, peer.solve_mo1()[0], field.mo_coeff, field.mo_occ),
        peer.make_dso(field.mol, field.make_rdm1()),
    ]
    hertz = nist.HARTREE2J / nist.PLANCK * (nist.E_MASS / nist.PROTON_MASS / 2) ** 2
    factor = np.array([get_nuc_g_factor(symbol) for symbol in "OHH"])
    expected = [hertz * np.einsum("pxx->p", tensor)[rows] / 3 * factor[pairs].prod(axis=1) for tensor in tensors]
    np.testing.assert_allclose(found[:, :3], np.transpose(expected)[:, :3], atol=1e-3)
    # The diamagnetic term is summed on the grid of the orbitals here.
    np.testing.assert_allclose(found[:, 3], expected[3], atol=2e-3)


def test_turning_and_moving_the_molecule_changes_nothing():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    pairs = np.array([[1, 2], [1, 0]])
    still = b3lyp.b3lyp_couplings(*WATER, pairs)
    turned = b3lyp.b3lyp_couplings(WATER[0], WATER[1] @ turn.T + rng.normal(size=3), pairs)
    np.testing.assert_allclose(turned, still, atol=1e-6)
    swapped = b3lyp.b3lyp_couplings(*WATER, pairs[:, ::-1])
    # Which of the two perturbs the orbitals makes no difference beyond the tolerance of the solver.
    np.testing.assert_allclose(swapped, still, atol=1e-3)
    assert -13 < still[0].sum() < -8


def test_linear_molecules_have_axes_too():
    turned = b3lyp._framed(np.array([[0.0, 0, 0], [0, 0, 1.1], [0, 0, -1.1]]))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), [0, 1.1, 1.1])


def test_electrons_that_do_not_pair_are_refused():
    with pytest.raises(RuntimeError, match="not consistent"):
        b3lyp.b3lyp_couplings(np.array([8, 1]), WATER[1][:2], np.array([[1, 0]]))


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of CHAMPS is not in the folder GEONORM_DATA")
@pytest.mark.parametrize("molecule", ["dsgdb9nsd_000001", "dsgdb9nsd_000002", "dsgdb9nsd_000003", "dsgdb9nsd_000005"])
def test_published_values_come_out_to_the_second_decimal(molecule):
    champs = read_champs(SAMPLE)
    one = champs[champs.names.tolist().index(molecule)]
    assert {COUPLING_TYPES[kind] for kind in one.types} <= set(COUPLING_TYPES)
    found = b3lyp.b3lyp_couplings(one.z, one.positions, one.pairs)
    np.testing.assert_allclose(found[:, 0], one.contributions[:, 0], atol=0.03)
    np.testing.assert_allclose(found[:, 1:], one.contributions[:, 1:], atol=1e-3)
