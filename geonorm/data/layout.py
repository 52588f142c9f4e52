"""Read and write files of COLL's layout, and refuse whatever is something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from geonorm.data.configurations import Configurations
from geonorm.data.files import DataFileError, read_arrays, write_arrays
from geonorm.data.frames import LENGTH_IN_ANGSTROM

_NAMES = {
    "N": "numbers of atoms",
    "Z": "nuclear charges",
    "R": "positions",
    "E": "energies",
    "F": "forces",
}
_EXTRA = ("trajectory", "units", "provenance", "name")
_WAY_OUT = (
    "Give a file of COLL's layout: N (configurations,), Z (atoms,), R (atoms, 3), E (configurations,), F (atoms, 3)."
)


def read_configurations(path: str | Path) -> Configurations:
    """Read a file with COLL's names (N, Z, R, E, F); units are eV and Å unless it says others.

    Args:
        path: A ``.npz`` file.

    Returns:
        The configurations.

    Raises:
        DataFileError: If the file is absent, truncated, foreign, holds pickled objects, has shapes that disagree,
            values that are not finite, or distances that no molecule has.

    Source: the reader of GemNet's reference implementation, https://github.com/TUM-DAML/gemnet_pytorch, for the names.
    """
    path = Path(path)
    arrays = read_arrays(path, _WAY_OUT, wanted=[*_NAMES, *_EXTRA])
    missing = [name for name in _NAMES if name not in arrays]
    if missing:
        raise DataFileError(
            f"{path}: no array {missing[0]} ({_NAMES[missing[0]]}); of the known names the file has "
            f"{', '.join(sorted(arrays)) or 'none'}. {_WAY_OUT}"
        )
    if arrays["E"].ndim == 2 and arrays["E"].shape[1] == 1:
        arrays["E"] = arrays["E"][:, 0]
    for name, kinds in {"N": "iu", "Z": "iu", "R": "f", "E": "f", "F": "f"}.items():
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != (2 if name in "RF" else 1) or array.size == 0:
            raise DataFileError(f"{path}: {name} is {array.dtype} of shape {array.shape}. {_WAY_OUT}")
    units = _record(arrays, "units")
    trajectory = arrays.get("trajectory")
    configurations = Configurations(
        sizes=arrays["N"].astype(np.int64),
        z=arrays["Z"].astype(np.int64),
        positions=arrays["R"].astype(np.float64),
        energies=arrays["E"].astype(np.float64),
        forces=arrays["F"].astype(np.float64),
        energy_unit=units.get("E", "eV"),
        length_unit=units.get("R", "Ang"),
        trajectory=None if trajectory is None else trajectory.astype(np.int64),
        name=str(arrays.get("name", path.stem)),
        provenance=_record(arrays, "provenance"),
    )
    _check_geometry(configurations, path)
    return configurations


def write_configurations(path: str | Path, configurations: Configurations) -> Path:
    """Write a file with COLL's names that GemNet's reader and :func:`read_configurations` understand.

    Positions and forces are kept in single precision, energies in double precision.

    Args:
        path: The ``.npz`` to write; readers see the old file or the whole new one.
        configurations: What to write.

    Returns:
        The path.
    """
    extra = {} if configurations.trajectory is None else {"trajectory": configurations.trajectory.astype(np.int32)}
    units = {
        "R": configurations.length_unit,
        "E": configurations.energy_unit,
        "F": f"{configurations.energy_unit}/{configurations.length_unit}",
    }
    return write_arrays(
        path,
        N=configurations.sizes.astype(np.int32),
        Z=configurations.z.astype(np.uint8),
        R=configurations.positions.astype(np.float32),
        E=configurations.energies.astype(np.float64),
        F=configurations.forces.astype(np.float32),
        name=np.array(configurations.name),
        units=np.array(json.dumps(units)),
        provenance=np.array(json.dumps(configurations.provenance)),
        **extra,
    )


def _record(arrays: dict[str, np.ndarray], name: str) -> dict:
    """A record that this package wrote, or the free text of somebody else."""
    text = str(arrays.get(name, "{}"))
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        record = None
    return record if isinstance(record, dict) else {name: text}


def _check_geometry(configurations: Configurations, path: Path) -> None:
    """Refuse lengths that no molecule has: a wrong unit is the commonest fault of a file from elsewhere."""
    nearest = []
    for index in range(0, len(configurations), max(1, len(configurations) // 50)):
        position = configurations[index].positions * LENGTH_IN_ANGSTROM[configurations.length_unit]
        if len(position) > 1:
            distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
            nearest.append((distance + np.diag(np.full(len(position), np.inf))).min())
    if nearest and (min(nearest) < 0.2 or not 0.5 < np.median(nearest) < 1.7):
        raise DataFileError(
            f"{path}: the smallest distance of atoms is {min(nearest):.3g} Ang in one configuration and "
            f"{np.median(nearest):.3g} Ang in the middle one of {len(nearest)}, expected at least 0.2 and 0.5 to 1.7. "
            f"Check that the positions are in {configurations.length_unit} and belong to these atoms."
        )
