"""Find frames by name: in the package, in a folder, in the cache, or at the publisher, with a checksum."""

from __future__ import annotations

import os
import tarfile
import warnings
from pathlib import Path

from geonorm.data.files import DataFileError, check_sha256, set_aside, sha256, transferred
from geonorm.data.frames import Frames
from geonorm.data.md17 import check_molecule_name, read_md17
from geonorm.data.uracil import load_uracil

#: Where the publishers keep the files.
MD17_URL = "http://www.quantum-machine.org/gdml/data/npz/md17_{name}.npz"
RMD17_URL = "https://ndownloader.figshare.com/files/23950376"
#: First digits of the SHA-256 of the revised archive; MD17 itself publishes none.
RMD17_SHA256 = "cddeea2ec2c4"


def load_md17(molecule: str, folder: str | Path | None = None, revised: bool = False) -> Frames:
    """Return the MD17 frames of one molecule from a folder of yours, from the cache, or from the publisher.

    Args:
        molecule: A key of :data:`~geonorm.data.md17.MOLECULES`.
        folder: Where to look; None takes the variable GEONORM_DATA, then the cache, then downloads.
        revised: The revised labels.

    Returns:
        The frames, in kcal/mol and Å.

    Raises:
        DataFileError: If the molecule is unknown, the folder does not have it, or the file is bad.
    """
    check_molecule_name(molecule)
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
        molecule: A key of :data:`~geonorm.data.md17.MOLECULES`.
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

    check_molecule_name(molecule)
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
    transferred(
        address, transfer, progress, "or fetch the file yourself and name its folder: load_md17(molecule, folder=...)."
    )
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
