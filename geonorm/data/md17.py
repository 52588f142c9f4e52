"""Read MD17 and revised MD17 files, and fetch them once with a progress bar, a cache and a checksum."""

from __future__ import annotations

import json
import os
import tarfile
import warnings
from pathlib import Path

import numpy as np

from geonorm.data.files import DataFileError, check_sha256, read_arrays, set_aside, sha256
from geonorm.data.frames import LENGTH_IN_ANGSTROM, SYMBOLS, Frames
from geonorm.data.uracil import URACIL, load_uracil

#: Where the publishers keep the files.
MD17_URL = "http://www.quantum-machine.org/gdml/data/npz/md17_{name}.npz"
RMD17_URL = "https://ndownloader.figshare.com/files/23950376"
#: First digits of the SHA-256 of the revised archive; MD17 itself publishes none.
RMD17_SHA256 = "cddeea2ec2c4"
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
        molecule: What the file must hold, a key of :data:`MOLECULES`; None does not check.

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


def load_md17(molecule: str, folder: str | Path | None = None, revised: bool = False) -> Frames:
    """Return the MD17 frames of one molecule from a folder of yours, from the cache, or from the publisher.

    Args:
        molecule: A key of :data:`MOLECULES`.
        folder: Where to look; None takes the variable GEONORM_DATA, then the cache, then downloads.
        revised: The revised labels.

    Returns:
        The frames, in kcal/mol and Å.

    Raises:
        DataFileError: If the molecule is unknown, the folder does not have it, or the file is bad.
    """
    _check_name(molecule)
    name = f"{'r' if revised else ''}md17_{molecule}"
    for place in [folder] if folder is not None else [os.environ.get("GEONORM_DATA")]:
        matches = sorted(Path(place).rglob(f"{name}*.npz")) if place else []
        if matches:
            return read_md17(matches[0], molecule)
    if folder is not None:
        raise DataFileError(
            f"{folder}: no file {name}*.npz. Put it there, or leave the folder out to download it to the cache."
        )
    return read_md17(download_md17(molecule, revised=revised), molecule)


def download_md17(
    molecule: str,
    folder: str | Path | None = None,
    revised: bool = False,
    url: str | None = None,
    checksum: str | None = None,
    progress: bool = True,
) -> Path:
    """Fetch an MD17 file once and return where it lies.

    MD17 publishes no checksum: the first download records one beside the file. A later download that differs from the
    record is reported; a file on disk that differs from its record is refused and kept aside.

    Args:
        molecule: A key of :data:`MOLECULES`.
        folder: Where to keep the file; None takes the user's cache folder.
        revised: The revised labels (an archive of all molecules is fetched, one file is kept).
        url: Another address of the same file.
        checksum: The SHA-256 that the transfer must have, or its first digits.
        progress: Show a progress bar.

    Returns:
        The path of the file.

    Raises:
        DataFileError: If the transfer breaks off, the checksum differs, or the content is not the molecule.
    """
    import pooch

    _check_name(molecule)
    folder = Path(pooch.os_cache("geonorm") if folder is None else folder)
    path = folder / f"{'r' if revised else ''}md17_{molecule}.npz"
    record = path.with_suffix(".npz.sha256")
    if path.exists():
        if record.exists() and sha256(path) != record.read_text().strip():
            aside = set_aside(path)
            raise DataFileError(
                f"{path}: changed since it was downloaded (SHA-256 differs from {record.name}); kept as {aside.name}. "
                "Call again to download it anew."
            )
        return path
    folder.mkdir(parents=True, exist_ok=True)
    address = url or (RMD17_URL if revised else MD17_URL.format(name=molecule))
    part = folder / f"{path.name}.part"
    transfer = folder / "rmd17.tar.bz2.part" if revised else part
    try:
        pooch.HTTPDownloader(progressbar=progress)(address, str(transfer), None)
    except Exception as error:
        transfer.unlink(missing_ok=True)
        raise DataFileError(
            f"{address}: the transfer failed ({error}); nothing was kept. Try again, or fetch the file yourself and "
            "name its folder: load_md17(molecule, folder=...)."
        ) from error
    checksum = checksum or (RMD17_SHA256 if revised else None)
    try:
        if checksum:
            check_sha256(transfer, checksum, "The transfer was damaged or the file was replaced; try again.")
        if revised:
            _extract(transfer, f"rmd17_{molecule}.npz", part)
        read_md17(part, molecule)
    except DataFileError as error:
        aside = set_aside(transfer)
        part.unlink(missing_ok=True)
        raise DataFileError(f"{error} What came from {address} is kept as {aside}.") from error
    os.replace(part, path)
    if revised:
        transfer.unlink()
    digest = sha256(path)
    if record.exists() and record.read_text().strip() != digest:
        warnings.warn(f"{address}: the publisher's file has changed since {record} was written.", stacklevel=2)
    record.write_text(digest + "\n")
    return path


def load_frames(data: str | Path | Frames) -> Frames:
    """Return frames from whatever names them.

    Args:
        data: Frames; ``"uracil"`` for the shipped set; ``"md17:<molecule>"`` or ``"rmd17:<molecule>"`` for a published
            set; or a file, looked for in GEONORM_DATA too.

    Returns:
        The frames.

    Raises:
        DataFileError: If nothing has that name, or the file is bad.
    """
    if isinstance(data, Frames):
        return data
    if data == "uracil":
        return load_uracil()
    for prefix in ("md17:", "rmd17:"):
        if str(data).startswith(prefix):
            return load_md17(str(data).removeprefix(prefix), revised=prefix == "rmd17:")
    for place in (Path(), Path(os.environ.get("GEONORM_DATA") or ".")):
        if (place / data).is_file():
            return read_md17(place / data)
    raise DataFileError(
        f"no data named {str(data)!r}: expected 'uracil', 'md17:<molecule>', 'rmd17:<molecule>', or a file here or in "
        "the folder GEONORM_DATA."
    )


def _check_name(molecule: str) -> None:
    if molecule not in MOLECULES:
        raise DataFileError(f"MD17 has no molecule {molecule!r}; it has {', '.join(MOLECULES)}.")


def _check_molecule(frames: Frames, molecule: str, path: Path) -> None:
    _check_name(molecule)
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


def _extract(archive: Path, member: str, out: Path) -> None:
    try:
        with tarfile.open(archive, "r:bz2") as tar:
            for entry in tar:
                if entry.isfile() and Path(entry.name).name == member:
                    out.write_bytes(tar.extractfile(entry).read())
                    return
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataFileError(f"{archive}: not a complete tar.bz2 archive ({error}).") from error
    raise DataFileError(f"{archive}: has no member {member}; expected the revised MD17 archive.")
