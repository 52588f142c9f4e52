"""Read and write sets of couplings: the file that the package ships, files of the same layout, and CHAMPS by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy import ndarray

from geonorm.data.champs import read_champs
from geonorm.data.couplings import COUPLING_TYPES, Couplings
from geonorm.data.files import DataFileError, check_sha256, read_arrays, write_arrays
from geonorm.data.uracil import CHECKSUMS

SHIPPED = Path(__file__).with_name("couplings_b3lyp.npz")
_NAMES = ("sizes", "z", "R", "molecule", "pairs", "types", "contributions", "names")


def load_couplings(data: str | Path | Couplings = "couplings") -> Couplings:
    """Return couplings from whatever names them.

    Args:
        data: Couplings; ``"couplings"`` for the shipped set; ``"champs"`` for the published one in the folder
            GEONORM_DATA; a folder with the files of CHAMPS; or a ``.npz`` file, looked for in GEONORM_DATA too.

    Returns:
        The couplings.

    Raises:
        DataFileError: If nothing has that name, or a file is bad.
    """
    if isinstance(data, Couplings):
        return data
    if data == "couplings":
        way_out = "Reinstall geonorm, or make the set yourself with: geonorm data couplings --out couplings.npz"
        couplings = read_couplings(SHIPPED, way_out)
        check_sha256(SHIPPED, json.loads(CHECKSUMS.read_text())[SHIPPED.name], way_out)
        return couplings
    if data == "champs":
        return read_champs()
    for place in (Path(), Path(os.environ.get("GEONORM_DATA") or ".")):
        if (place / data).is_file():
            return read_couplings(place / data)
        if (place / data).is_dir():
            return read_champs(place / data)
    raise DataFileError(
        f"no couplings named {str(data)!r}: expected 'couplings', 'champs', a folder with the files of CHAMPS, or a "
        ".npz file, here or in the folder GEONORM_DATA."
    )


def read_couplings(path: str | Path, way_out: str = "Give a file that write_couplings wrote.") -> Couplings:
    """Read couplings that :func:`write_couplings` wrote.

    Args:
        path: The ``.npz`` file.
        way_out: What the reader can do about a bad file; ends every message.

    Returns:
        The couplings.

    Raises:
        DataFileError: If the file is absent, truncated, foreign, or its arrays do not fit together.
    """
    arrays = read_arrays(path, way_out)
    absent = [name for name in (*_NAMES, "type_names") if name not in arrays]
    if absent:
        raise DataFileError(f"{path}: no arrays {', '.join(absent)}; it has {', '.join(sorted(arrays))}. {way_out}")
    unknown = sorted(set(arrays["type_names"].tolist()) - set(COUPLING_TYPES))
    if unknown:
        raise DataFileError(f"{path}: unknown types {unknown}, expected {', '.join(COUPLING_TYPES)}. {way_out}")
    types = np.array([COUPLING_TYPES.index(name) for name in arrays["type_names"].tolist()], dtype=np.int64)
    return Couplings(
        sizes=arrays["sizes"].astype(np.int64),
        z=arrays["z"].astype(np.int64),
        positions=arrays["R"].astype(np.float64),
        molecule=arrays["molecule"].astype(np.int64),
        pairs=arrays["pairs"].astype(np.int64),
        types=types[arrays["types"]],
        contributions=arrays["contributions"].astype(np.float64),
        names=arrays["names"],
        name=str(arrays.get("name", Path(path).stem)),
        provenance=json.loads(str(arrays.get("provenance", "{}"))),
    )


def write_couplings(path: str | Path, couplings: Couplings) -> Path:
    """Write couplings to a compressed ``.npz`` file in one step, without pickle.

    Args:
        path: The file to write.
        couplings: The couplings; numbers that single precision holds exactly are stored in it.

    Returns:
        The path.
    """
    return write_arrays(
        path,
        sizes=_small(couplings.sizes),
        z=_small(couplings.z),
        R=_small(couplings.positions),
        molecule=_small(couplings.molecule),
        pairs=_small(couplings.pairs),
        types=_small(couplings.types),
        type_names=np.array(COUPLING_TYPES),
        contributions=_small(couplings.contributions),
        names=couplings.names,
        units=np.array(json.dumps({"R": "Ang", "contributions": "Hz"})),
        name=np.array(couplings.name),
        provenance=np.array(json.dumps(couplings.provenance)),
    )


def _small(array: ndarray) -> ndarray:
    """The narrowest type that holds the same numbers."""
    for dtype in (np.uint8, np.uint16) if array.dtype.kind in "iu" else (np.float32,):
        with np.errstate(over="ignore"):
            narrow = array.astype(dtype)
        if (narrow == array).all():
            return narrow
    return array
