"""Scalar couplings of one molecule by B3LYP: the four contributions of Ramsey's theory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from numpy import ndarray

from geonorm.data.frames import SYMBOLS

#: Exponents of the polarization shells that turn 6-31G into 6-31G(2df,p). Public tables carry those of 6-311G under
#: the same name; the total energies that CHAMPS publishes agree with these.
D_SHELLS = (1.6, 0.4)
F_SHELL = {"C": 0.8, "N": 1.0, "O": 1.4, "F": 1.85}
P_SHELL = {"H": 1.1}
FUNCTIONAL, BASIS = "B3LYP (VWN3)", "6-31G(2df,p), 6D 7F"
#: Level of PySCF's integration grid, and the coarser one on which the orbitals start.
GRID, START_GRID = 1, 0


def b3lyp_couplings(
    z: Int[ndarray, " atoms"], positions: Float[ndarray, "atoms 3"], pairs: Int[ndarray, "pairs 2"]
) -> Float[ndarray, "pairs 4"]:
    r"""Return the four contributions to the scalar coupling of pairs of nuclei, by B3LYP/6-31G(2df,p).

    $$ J_{AB}=\tfrac13\operatorname{tr}\bigl(J^{\rm FC}+J^{\rm SD}+J^{\rm PSO}+J^{\rm DSO}\bigr)_{AB} $$

    The first nucleus of each pair perturbs the orbitals and the second one feels them, so put the nucleus that many
    pairs share first. Basis and functional are those of QM9 and CHAMPS: six Cartesian d functions, seven f functions,
    and the third correlation form of Vosko, Wilk and Nusair. Isotopes: 1H, 13C, 14N, 17O, 19F.

    Args:
        z: Nuclear charges of a closed-shell, neutral molecule of H, C, N, O, F.
        positions: In Å.
        pairs: Indices of the two atoms.

    Returns:
        Fermi contact, spin-dipolar, paramagnetic and diamagnetic spin-orbit contributions, in Hz.

    Raises:
        RuntimeError: If the electrons do not pair or the orbitals do not converge.

    Source: Ramsey (1953), doi 10.1103/PhysRev.91.303; Helgaker, Watson and Handy (2000), doi 10.1063/1.1321296; the
    operators are those of ``pyscf.prop.ssc``.
    """
    field = _orbitals([SYMBOLS[int(charge)] for charge in z], positions)
    return _contributions(field, pairs)


def _orbitals(symbols, positions):
    """Converged Kohn-Sham orbitals."""
    from pyscf import dft

    field = dft.RKS(_molecule(symbols, _framed(positions)), xc="b3lypg")
    field.max_cycle, start = 100, None
    for level, tolerance in ((START_GRID, 1e-5), (GRID, 1e-9)):
        field.grids.level, field.conv_tol = level, tolerance
        field.grids.build()
        field.kernel(dm0=start)
        start = field.make_rdm1()
    if not field.converged:
        raise RuntimeError(f"the orbitals of {' '.join(symbols)} did not converge in {field.max_cycle} steps.")
    return field


def _contributions(field, pairs) -> Float[ndarray, "pairs 4"]:
    from pyscf import lib
    from pyscf.data import nist
    from pyscf.data.nucprop import get_nuc_g_factor

    ssc, molecule = _pyscf_ssc(), field.mol
    first, second = (np.unique(side) for side in pairs.T)
    at = np.searchsorted(first, pairs[:, 0]), np.searchsorted(second, pairs[:, 1])

    def energies(operators: Callable, response: Callable) -> Float[ndarray, "pairs components"]:
        source, probe = operators(first), operators(second)
        answer = -response(source.reshape(-1, source[0, 0].size)).reshape(source.shape)
        # Two spins, and the operator with its conjugate.
        return 4 * np.einsum("pcai,pcai->pc", probe[at[1]], answer[at[0]])

    def magnetic(atoms):
        return np.array([ssc.make_h1_pso(molecule, field.mo_coeff, field.mo_occ, [atom]) for atom in atoms])

    def contact_and_dipolar(atoms):
        return np.array([_contact_and_dipolar(ssc, field, atom) for atom in atoms])

    real, imaginary = _responses(field, lib.krylov)
    spin = energies(contact_and_dipolar, real)
    orbital = energies(magnetic, imaginary)
    contributions = np.stack(
        [spin[:, 0], spin[:, 1:].sum(axis=1) / 3, orbital.sum(axis=1) / 3, _diamagnetic(field, pairs)], axis=1
    )
    hertz = nist.ALPHA**4 * nist.HARTREE2J / nist.PLANCK * (nist.E_MASS / nist.PROTON_MASS / 2) ** 2
    factors = np.array([get_nuc_g_factor(symbol) for symbol in molecule.elements])
    return contributions * (hertz * factors[pairs].prod(axis=1))[:, None]


def _pyscf_ssc():
    with warnings.catch_warnings():
        # The extension announces, for each of its modules, that it is under testing.
        warnings.simplefilter("ignore")
        from pyscf.prop.ssc import rhf
    return rhf


def _molecule(symbols, positions):
    from pyscf import gto

    basis = {}
    for symbol in set(symbols):
        shells = gto.basis.load("6-31g", symbol)
        if symbol in P_SHELL:
            shells.append([1, [P_SHELL[symbol], 1.0]])
        else:
            shells.append([3, [F_SHELL[symbol], 1.0]])
            for exponent in D_SHELLS:
                # PySCF takes five or six d functions together with seven or ten f functions. The sixth one, r² times a
                # Gaussian, is the derivative of an s function with respect to its exponent.
                low, high = exponent * 0.995, exponent * 1.005
                shells.append([2, [exponent, 1.0]])
                shells.append([0, [low, low**-0.75], [high, -(high**-0.75)]])
        basis[symbol] = shells
    atoms = list(zip(symbols, np.asarray(positions).tolist(), strict=True))
    return gto.M(atom=atoms, basis=basis, verbose=0, max_memory=4000)


def _framed(positions: Float[ndarray, "atoms 3"]) -> Float[ndarray, "atoms 3"]:
    """The same molecule in axes that turn with it, because the integration grid does not."""
    centred = positions - positions.mean(axis=0)
    first = centred[np.linalg.norm(centred, axis=1).argmax()]
    across = np.cross(first, centred)
    second = across[np.linalg.norm(across, axis=1).argmax()]
    if np.linalg.norm(second) < 1e-3 * (first @ first):
        # A linear molecule: any second axis will do.
        second = np.cross(first, np.eye(3)[np.abs(first).argmin()])
    axes = [first, second, np.cross(first, second)]
    return centred @ np.array([axis / np.linalg.norm(axis) for axis in axes]).T


def _contact_and_dipolar(ssc, field, atom) -> Float[ndarray, "6 empty filled"]:
    """The contact operator of a nucleus, and five orthonormal components of the spin-dipolar one."""
    xx, xy, xz, _, yy, yz, _, _, zz = np.array(ssc.make_h1_fcsd(field.mol, field.mo_coeff, field.mo_occ, [atom]))
    diagonal = [(xx + yy + zz) / 3, (xx - yy) / math.sqrt(2), (2 * zz - xx - yy) / math.sqrt(6)]
    return np.array([*diagonal, *(math.sqrt(2) * mixed for mixed in (xy, xz, yz))])


def _responses(field, krylov) -> tuple[Callable, Callable]:
    """Solvers of the linear response to real triplet and to imaginary singlet perturbations."""
    from pyscf import ao2mo

    occupied = field.mo_occ > 0
    filled, empty = field.mo_coeff[:, occupied], field.mo_coeff[:, ~occupied]
    gaps = (field.mo_energy[~occupied][:, None] - field.mo_energy[occupied]).ravel()
    integrals = field.mol if field._eri is None else field._eri
    counts = (empty.shape[1], filled.shape[1])
    direct = ao2mo.general(integrals, (filled, filled, empty, empty), compact=False)
    direct = direct.reshape(counts[1], counts[1], counts[0], counts[0]).transpose(2, 0, 3, 1).reshape(gaps.size, -1)
    crossed = ao2mo.general(integrals, (empty, filled, empty, filled), compact=False)
    crossed = crossed.reshape(*counts, *counts).transpose(0, 3, 2, 1).reshape(gaps.size, -1)
    share = field._numint.hybrid_coeff(field.xc)
    kernel = _triplet_kernel(field, filled, empty)
    # All but the exchange-correlation kernel is inverted at once; the kernel follows in a few steps.
    without = scipy.linalg.lu_factor(np.diag(gaps) - share * (direct + crossed))

    def solve(right):
        return scipy.linalg.lu_solve(without, right.T).T

    def real(right):
        return krylov(lambda x: solve(kernel(np.atleast_2d(x))), solve(right), tol=1e-6, max_cycle=50, lindep=1e-20)

    def imaginary(right):
        return np.linalg.solve(np.diag(gaps) - share * (direct - crossed), right.T).T

    return real, imaginary


def _triplet_kernel(field, filled, empty) -> Callable:
    """How a spin density changes the exchange-correlation potential, between filled and empty orbitals."""
    grids, numint = field.grids, field._numint
    of_up = numint.cache_xc_kernel1(field.mol, grids, field.xc, field.make_rdm1(), spin=1)[2][0]
    weighted = (of_up[:, 0] - of_up[:, 1]) * grids.weights
    # Blocks of points that stay in the processor's cache.
    step, atomic = 300, numint.eval_ao(field.mol, grids.coords, deriv=1)

    def apply(x):
        x = x.reshape(len(x), empty.shape[1], filled.shape[1])
        moved = np.einsum("ma,rai->mri", empty, x, optimize=True).reshape(len(empty), -1)
        out = np.zeros_like(moved)
        for start in range(0, len(grids.weights), step):
            here = slice(start, start + step)
            chi, orbitals = atomic[:, here], atomic[:, here] @ filled
            shape = (-1, len(x), filled.shape[1])
            changed = [(part @ moved).reshape(shape) for part in chi]
            density = [2 * np.einsum("gi,gri->gr", orbitals[0], changed[0])]
            for part, change in zip(orbitals[1:], changed[1:], strict=True):
                density.append(
                    2 * np.einsum("gi,gri->gr", part, changed[0]) + 2 * np.einsum("gi,gri->gr", orbitals[0], change)
                )
            potential = np.einsum("xyg,ygr->xgr", weighted[:, :, here], np.array(density))
            inner = np.einsum("xgr,xgi->gri", potential, orbitals)
            out += chi[0].T @ inner.reshape(len(inner), -1)
            for part, axis in zip(chi[1:], potential[1:], strict=True):
                out += part.T @ (axis[:, :, None] * orbitals[0][:, None, :]).reshape(len(inner), -1)
        return np.einsum("ma,mri->rai", empty, out.reshape(len(empty), len(x), -1), optimize=True).reshape(len(x), -1)

    return apply


def _diamagnetic(field, pairs) -> Float[ndarray, " pairs"]:
    """The diamagnetic term: the density, weighted by the fields of the two nuclei, on the grid."""
    coords, weights = field.grids.coords, field.grids.weights
    atomic = field._numint.eval_ao(field.mol, coords)
    density = np.einsum("gm,gm->g", atomic @ field.make_rdm1(), atomic) * weights
    away = coords - field.mol.atom_coords()[:, None]
    pull = away / np.linalg.norm(away, axis=-1, keepdims=True) ** 3
    return np.array([2 / 3 * density @ np.einsum("gx,gx->g", pull[a], pull[b]) for a, b in pairs])
