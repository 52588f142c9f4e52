"""Read files of MD17 and revised MD17, and refuse whatever is something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from geonorm.data.files import DataFileError, read_arrays
from geonorm.data.frames import LENGTH_IN_ANGSTROM, SYMBOLS, Frames
from geonorm.data.uracil import URACIL

#: Counts of H, C, N, O in each molecule of MD17.
MOLECULES = {
    "aspirin": (8, 9, 0, 4),
    "azobenzene": (10, 12, 2, 0),
    "benzene": (6, 6, 0, 0),
    "ethanol": (6, 2, 0, 1),
    "malonaldehyde": (4, 3, 0, 2),
    "naphthalene": (8, 10, 0, 0),
    "paracetamol": (9, 8, 1, 2),
    "salicylic": (6, 7, 0, 3),
    "toluene": (8, 7, 0, 0),
    "uracil": (4, 4, 2, 2),
}
_NAMES = {
    "z": ("z", "nuclear_charges"),
    "positions": ("R", "coords"),
    "energies": ("E", "energies"),
    "forces": ("F", "forces"),
}
_EXTRA = ("unique_idx", "trajectory", "units", "e_unit", "r_unit", "theory", "provenance", "name")
_WAY_OUT = "Give an MD17 file (z, R, E, F) or a revised MD17 file (nuclear_charges, coords, energies, forces)."


def read_md17(path: str | Path, molecule: str | None = None) -> Frames:
    """Read a file with MD17's names (z, R, E, F) or the revised names; units are kcal/mol and Å unless it says others.

    Frames that the file marks as repeated (``unique_idx``) are left out.

    Args:
        path: A ``.npz`` file.
        molecule: What the file must hold, a key of :data:`~geonorm.data.md17.MOLECULES`; None does not check.

    Returns:
        The frames.

    Raises:
        DataFileError: If the file is absent, truncated, foreign, holds pickled objects, has wrong shapes or values that
            are not finite, or holds another molecule or another order of its atoms than expected.

    Source: Chmiela et al. (2017), doi 10.1126/sciadv.1603015; Christensen and von Lilienfeld (2020),
    doi 10.1088/2632-2153/abba6f.
    """
    path = Path(path)
    arrays = read_arrays(path, _WAY_OUT, wanted=[name for names in _NAMES.values() for name in names] + list(_EXTRA))
    found = {}
    for meaning, names in _NAMES.items():
        present = [name for name in names if name in arrays]
        if not present:
            raise DataFileError(
                f"{path}: no array of {meaning}, expected {' or '.join(names)}; of the known names the file has "
                f"{', '.join(sorted(arrays)) or 'none'}. {_WAY_OUT}"
            )
        found[meaning] = arrays[present[0]]
    energies = found["energies"]
    if energies.ndim == 2 and energies.shape[1] == 1:
        found["energies"] = energies[:, 0]
    for meaning, dimensions in {"z": 1, "positions": 3, "energies": 1, "forces": 3}.items():
        array = found[meaning]
        if array.ndim != dimensions or array.dtype.kind not in "fiu" or array.size == 0:
            raise DataFileError(
                f"{path}: {meaning} is {array.dtype} of shape {array.shape}, expected numbers in {dimensions} "
                f"dimensions. {_WAY_OUT}"
            )
    units = json.loads(str(arrays["units"])) if "units" in arrays else {}
    frames = Frames(
        z=found["z"].astype(np.int64),
        positions=found["positions"].astype(np.float64),
        energies=found["energies"].astype(np.float64),
        forces=found["forces"].astype(np.float64),
        energy_unit=units.get("E", str(arrays.get("e_unit", "kcal/mol"))),
        length_unit=units.get("R", str(arrays.get("r_unit", "Ang"))),
        trajectory=arrays.get("trajectory"),
        name=path.stem,
        provenance={key: str(arrays[key]) for key in ("name", "theory", "provenance") if key in arrays},
    )
    _check_geometry(frames, path)
    if molecule is not None:
        _check_molecule(frames, molecule, path)
    return frames[arrays["unique_idx"]] if "unique_idx" in arrays else frames


def check_molecule_name(molecule: str) -> None:
    """Refuse a name that is no molecule of MD17."""
    if molecule not in MOLECULES:
        raise DataFileError(f"MD17 has no molecule {molecule!r}; it has {', '.join(MOLECULES)}.")


def _check_molecule(frames: Frames, molecule: str, path: Path) -> None:
    check_molecule_name(molecule)
    counts = tuple(int((frames.z == charge).sum()) for charge in (1, 6, 7, 8))
    expected = MOLECULES[molecule]
    formula = "H{} C{} N{} O{}"
    if counts != expected or sum(counts) != len(frames.z):
        raise DataFileError(
            f"{path}: holds {formula.format(*counts)} and {len(frames.z) - sum(counts)} other atoms, expected "
            f"{molecule}, {formula.format(*expected)}. Name the molecule that the file holds."
        )
    order = {"uracil": URACIL, "ethanol": (6, 6, 8, 1, 1, 1, 1, 1, 1)}.get(molecule)
    if order is not None and tuple(frames.z) != order:
        symbols = [" ".join(SYMBOLS[int(charge)] for charge in charges) for charges in (frames.z, order)]
        raise DataFileError(
            f"{path}: the atoms come in the order {symbols[0]}, expected {symbols[1]} as in MD17. Reorder z, positions "
            "and forces together."
        )


def _check_geometry(frames: Frames, path: Path) -> None:
    """Refuse lengths that no molecule has: a wrong unit is the commonest fault of a file from elsewhere."""
    for position in frames.positions[:: max(1, len(frames) // 10)] * LENGTH_IN_ANGSTROM[frames.length_unit]:
        distance = np.linalg.norm(position[:, None] - position[None], axis=-1) + np.diag(np.full(len(position), np.inf))
        nearest = distance.min(axis=1)
        if len(position) > 1 and (nearest.min() < 0.5 or nearest.max() > 3.0):
            raise DataFileError(
                f"{path}: an atom's nearest neighbour is {nearest.min():.3g} to {nearest.max():.3g} Ang away, expected "
                f"0.5 to 3. Check that the positions are in {frames.length_unit} and belong to these atoms."
            )
