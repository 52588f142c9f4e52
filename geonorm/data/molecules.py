"""Small organic molecules of H, C, N, O, F: every graph up to a size, and the relaxed geometry of each."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from geonorm.data.couplings import COUPLING_TYPES
from geonorm.data.frames import SYMBOLS

_VALENCES = {"C": 4, "N": 3, "O": 2, "F": 1}
#: Groups that fall apart, or that GFN2-xTB does not hold together; SMARTS.
UNSTABLE = {
    "two oxygen atoms in a row": "[#8]~[#8]",
    "fluorine on a heteroatom": "[#9]~[!#6]",
    "three heteroatoms in a row": "[#7,#8]~[#7,#8]~[#7,#8]",
    "triple bond in a ring": "[R]#[R]",
    "cumulated bonds in a ring": "[R]=[R]=*",
    "double bond to nitrogen in a ring of three": "[r3]=,:[#7;r3]",
    "antiaromatic ring of three": "[#7,#8;r3]1[#6]=,:[#6]1",
    "antiaromatic ring of four": "[r4]1=,:[r4][r4]=,:[r4]1",
}


def enumerate_molecules(heavy: int) -> list[str]:
    """List every molecule of up to so many heavy atoms and one ring, without the unstable groups.

    Molecules grow atom by atom and bond by bond as far as valences allow. The order is that of rising cost of a
    quantum-chemical calculation: by the number of basis functions and then by name.

    Args:
        heavy: The largest number of C, N, O and F atoms.

    Returns:
        Canonical SMILES; each molecule holds at least one hydrogen atom.

    Source: the rules of Fink, Bruggesser and Reymond (2005), doi 10.1002/anie.200462457, much shortened.
    """
    from rdkit import Chem

    forbidden = [Chem.MolFromSmarts(pattern) for pattern in UNSTABLE.values()]
    generation, found = {Chem.MolToSmiles(Chem.MolFromSmiles(symbol)) for symbol in _VALENCES}, set()
    for size in range(1, heavy + 1):
        found |= generation
        if size < heavy:
            generation = {bigger for smiles in generation for bigger in _grown(smiles)}
            generation |= {closed for smiles in generation for closed in _closed(smiles)}
    kept = []
    for smiles in found:
        molecule = Chem.MolFromSmiles(smiles)
        hydrogens = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
        if hydrogens and not any(molecule.HasSubstructMatch(pattern) for pattern in forbidden):
            kept.append((28 * molecule.GetNumAtoms() + 5 * hydrogens, smiles))
    return [smiles for _, smiles in sorted(kept)]


def relaxed_molecule(smiles: str, seed: int = 0) -> tuple[ndarray, ndarray, ndarray]:
    """Build a molecule and let GFN2-xTB relax it.

    Args:
        smiles: The molecule.
        seed: Of the starting geometry.

    Returns:
        Nuclear charges ``[atoms]``, positions ``[atoms, 3]`` in Å about the center of mass, and the number of bonds
        between every two atoms ``[atoms, atoms]``.

    Raises:
        ValueError: If the SMILES is no molecule, if no geometry can be built, or if the relaxed one has other bonds.

    Source: ETKDG of Riniker and Landrum (2015), doi 10.1021/acs.jcim.5b00654; GFN2-xTB of Bannwarth, Ehlert and
    Grimme (2019), doi 10.1021/acs.jctc.8b01176; relaxation by ASE.
    """
    from ase import Atoms
    from ase.neighborlist import natural_cutoffs
    from ase.optimize import BFGS
    from rdkit import Chem
    from rdkit.Chem import AllChem
    from tblite.ase import TBLite

    graph = Chem.MolFromSmiles(smiles)
    if graph is None:
        raise ValueError(f"{smiles!r} is no molecule: expected SMILES with the usual valences.")
    molecule = Chem.AddHs(graph)
    if AllChem.EmbedMolecule(molecule, randomSeed=seed) != 0:
        raise ValueError(f"no geometry for {smiles!r}: expected a molecule that fits into space. Leave it out.")
    z = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    atoms = Atoms(z, molecule.GetConformer().GetPositions())
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    if not BFGS(atoms, logfile=None).run(fmax=0.01, steps=300):
        raise ValueError(f"{smiles!r} did not relax in 300 steps: expected forces below 0.01 eV/Ang. Leave it out.")
    bonds = Chem.GetAdjacencyMatrix(molecule) > 0
    reach = np.array(natural_cutoffs(atoms, mult=1.25))
    near = (atoms.get_all_distances() < reach[:, None] + reach) & ~np.eye(len(z), dtype=bool)
    if (near != bonds).any():
        raise ValueError(f"{smiles!r} relaxed to other bonds than it was built with. Leave it out.")
    return z, atoms.positions - atoms.get_center_of_mass(), Chem.GetDistanceMatrix(molecule).astype(int)


def coupled_pairs(z: ndarray, bonds_apart: ndarray) -> tuple[ndarray, ndarray]:
    """List the pairs that have a coupling type: hydrogen with H, C or N, one to three bonds away.

    Args:
        z: Nuclear charges ``[atoms]``.
        bonds_apart: The number of bonds between every two atoms ``[atoms, atoms]``.

    Returns:
        Pairs ``[pairs, 2]``, hydrogen first and each pair once, and their types such as ``"2JHC"``.
    """
    pairs, types = [], []
    for first in np.flatnonzero(z == 1):
        for second in range(len(z)):
            name = f"{bonds_apart[first, second]}JH{SYMBOLS[int(z[second])]}"
            if name in COUPLING_TYPES and (z[second] != 1 or second > first):
                pairs.append((first, second))
                types.append(name)
    return np.array(pairs).reshape(-1, 2), np.array(types)


def _grown(smiles: str) -> set[str]:
    from rdkit import Chem

    results = set()
    base = Chem.MolFromSmiles(smiles)
    for place in range(base.GetNumAtoms()):
        for symbol, valence in _VALENCES.items():
            for order in range(1, min(valence, base.GetAtomWithIdx(place).GetTotalNumHs()) + 1):
                molecule = Chem.RWMol(base)
                Chem.Kekulize(molecule, clearAromaticFlags=True)
                new = molecule.AddAtom(Chem.Atom(symbol))
                molecule.AddBond(place, new, Chem.BondType.values[order])
                results.add(_clean(molecule))
    return results - {None}


def _closed(smiles: str) -> set[str]:
    from rdkit import Chem

    base, results = Chem.MolFromSmiles(smiles), set()
    count = base.GetNumAtoms()
    if base.GetRingInfo().NumRings():
        return results
    free = [atom.GetTotalNumHs() for atom in base.GetAtoms()]
    for first in range(count):
        for second in range(first):
            for order in range(1, min(free[first], free[second], 2) + 1):
                if base.GetBondBetweenAtoms(first, second) is None:
                    molecule = Chem.RWMol(base)
                    molecule.AddBond(first, second, Chem.BondType.values[order])
                    results.add(_clean(molecule))
    return results - {None}


def _clean(molecule) -> str | None:
    from rdkit import Chem

    for atom in molecule.GetAtoms():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    try:
        Chem.SanitizeMol(molecule)
    except (Chem.AtomValenceException, Chem.KekulizeException):
        return None
    return Chem.MolToSmiles(molecule)
