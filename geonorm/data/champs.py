"""Read the CSV files of CHAMPS, the published set of scalar couplings, and refuse whatever is something else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy import ndarray

from geonorm.data.couplings import CONTRIBUTIONS, COUPLING_TYPES, Couplings
from geonorm.data.files import DataFileError
from geonorm.data.frames import SYMBOLS

_NAME, _ATOMS = ("molecule_name", "S24"), [("atom_index_0", "i4"), ("atom_index_1", "i4"), ("type", "S8")]
#: The columns of each file that are read; others are passed over.
_COLUMNS = {
    "structures.csv": [_NAME, ("atom_index", "i4"), ("atom", "S4"), ("x", "f8"), ("y", "f8"), ("z", "f8")],
    "train.csv": [_NAME, *_ATOMS, ("scalar_coupling_constant", "f8")],
    "scalar_coupling_contributions.csv": [_NAME, *_ATOMS, *((name, "f8") for name in CONTRIBUTIONS)],
}
_WAY_OUT = (
    "Get structures.csv, train.csv and scalar_coupling_contributions.csv of the competition champs-scalar-coupling on "
    "Kaggle (with an account: kaggle competitions download champs-scalar-coupling), or the organisers' archive at "
    "https://osf.io/46dpj, unpack them into one folder, and name it here or in GEONORM_DATA."
)


def read_champs(folder: str | Path | None = None, molecules: int | None = None) -> Couplings:
    """Read the training molecules of CHAMPS, with the four contributions to every coupling.

    Args:
        folder: Where ``structures.csv``, ``train.csv`` and ``scalar_coupling_contributions.csv`` lie, in it or below;
            None takes the variable GEONORM_DATA.
        molecules: Keep the first so many; None keeps all (85 003 with 4 658 147 couplings, about 2 GB of memory).

    Returns:
        The couplings, in Hz and Å; a type that the files name is an index into
        :data:`~geonorm.data.couplings.COUPLING_TYPES`.

    Raises:
        DataFileError: If a file is missing, truncated or foreign, or the three do not belong together.

    Source: Bratholm et al. (2021), doi 10.1371/journal.pone.0253612.
    """
    paths = _find(folder)
    where = paths["structures.csv"].parent
    structures, train, parts = (_read(paths[name], columns) for name, columns in _COLUMNS.items())
    for column in ("molecule_name", "atom_index_0", "atom_index_1", "type"):
        if len(train) != len(parts) or (train[column] != parts[column]).any():
            raise DataFileError(
                f"{where}: train.csv has {len(train)} rows and scalar_coupling_contributions.csv {len(parts)}, "
                f"expected the same couplings in the same order. One of them is cut or changed. {_WAY_OUT}"
            )
    contributions = np.stack([parts[name] for name in CONTRIBUTIONS], axis=1)
    off = np.abs(contributions.sum(axis=1) - train["scalar_coupling_constant"])
    if off.max(initial=0) > 0.01:
        raise DataFileError(
            f"{where}: the contributions of row {int(off.argmax())} miss the coupling constant by {off.max():.3g} Hz, "
            f"expected a sum that agrees to 0.01 Hz. {_WAY_OUT}"
        )
    names, rows = _molecules(parts["molecule_name"], where)
    names = names[:molecules]
    kept = rows < len(names)
    parts, rows = parts[kept], rows[kept]
    sizes, atoms = _atoms(structures, names, where)
    return Couplings(
        sizes=sizes,
        z=_charges(atoms["atom"], where),
        positions=np.stack([atoms[axis] for axis in "xyz"], axis=1),
        molecule=rows,
        pairs=np.stack([parts["atom_index_0"], parts["atom_index_1"]], axis=1).astype(np.int64),
        types=_numbered(parts["type"], where),
        contributions=contributions[kept],
        names=names.astype(str),
        name="CHAMPS",
        provenance={"what": "CHAMPS, training molecules", "folder": where.name, "units": {"R": "Ang", "J": "Hz"}},
    )


def _find(folder: str | Path | None) -> dict[str, Path]:
    place = os.environ.get("GEONORM_DATA") if folder is None else folder
    if not place:
        raise DataFileError(f"no folder given and GEONORM_DATA is not set. {_WAY_OUT}")
    last = "scalar_coupling_contributions.csv"
    homes = [path.parent for path in sorted(Path(place).rglob(last))]
    if not homes:
        raise DataFileError(f"{place}: no file {last} in it or below. {_WAY_OUT}")
    paths = {name: homes[0] / name for name in _COLUMNS}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise DataFileError(f"{homes[0]}: has {last} but not {' and '.join(missing)}. {_WAY_OUT}")
    return paths


def _read(path: Path, columns: list[tuple[str, str]]) -> ndarray:
    with open(path, "rb") as file:
        header = file.readline().decode("utf-8-sig", errors="replace").strip().split(",")
        empty = not file.readline()
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        whole = file.read(1) == b"\n"
    absent = [name for name, _ in columns if name not in header]
    if absent:
        raise DataFileError(
            f"{path}: no column {', '.join(absent)}; its first line names {', '.join(header)[:200]}. {_WAY_OUT}"
        )
    if not whole:
        raise DataFileError(f"{path}: ends within a line; the file is cut off. {_WAY_OUT}")
    if empty:
        raise DataFileError(f"{path}: has no rows. {_WAY_OUT}")
    used = [header.index(name) for name, _ in columns]
    try:
        table = np.loadtxt(path, dtype=columns, delimiter=",", skiprows=1, usecols=used, ndmin=1, comments=None)
    except ValueError as error:
        raise DataFileError(f"{path}: {error}; expected {len(header)} values in each line. {_WAY_OUT}") from error
    return table


def _molecules(column: ndarray, where: Path) -> tuple[ndarray, ndarray]:
    """The names in the order of the file, and the number of the molecule of each row."""
    new = np.concatenate([[True], column[1:] != column[:-1]])
    names = column[new]
    if len(np.unique(names)) != len(names):
        raise DataFileError(f"{where}: the couplings of one molecule are not together. {_WAY_OUT}")
    return names, np.cumsum(new) - 1


def _atoms(structures: ndarray, names: ndarray, where: Path) -> tuple[ndarray, ndarray]:
    """The number of atoms of the molecules with these names, and the rows of their atoms."""
    found, rows = _molecules(structures["molecule_name"], where)
    first = np.searchsorted(rows, np.arange(len(found) + 1))
    if (structures["atom_index"] != np.arange(len(rows)) - first[rows]).any():
        raise DataFileError(f"{where}: structures.csv does not count the atoms of a molecule from 0. {_WAY_OUT}")
    order = np.argsort(found)
    place = order[np.minimum(np.searchsorted(found, names, sorter=order), len(found) - 1)]
    absent = names[found[place] != names]
    if len(absent):
        raise DataFileError(
            f"{where}: structures.csv lacks {len(absent)} of the {len(names)} molecules, first {absent[0].decode()}. "
            f"{_WAY_OUT}"
        )
    sizes = np.diff(first)[place]
    return sizes, structures[np.concatenate([np.arange(first[k], first[k + 1]) for k in place])]


def _charges(symbols: ndarray, where: Path) -> ndarray:
    numbers = {symbol.encode(): number for number, symbol in SYMBOLS.items()}
    kinds, inverse = np.unique(symbols, return_inverse=True)
    unknown = [kind.decode() for kind in kinds if kind not in numbers]
    if unknown:
        raise DataFileError(f"{where}: structures.csv has the elements {unknown}, expected H, C, N, O, F. {_WAY_OUT}")
    return np.array([numbers[kind] for kind in kinds.tolist()], dtype=np.int64)[inverse]


def _numbered(column: ndarray, where: Path) -> ndarray:
    kinds, inverse = np.unique(column, return_inverse=True)
    unknown = [kind.decode() for kind in kinds if kind.decode() not in COUPLING_TYPES]
    if unknown:
        raise DataFileError(
            f"{where}: has couplings of type {', '.join(unknown)}, expected {', '.join(COUPLING_TYPES)}. {_WAY_OUT}"
        )
    return np.array([COUPLING_TYPES.index(kind.decode()) for kind in kinds], dtype=np.int64)[inverse]
