"""Read, write and fetch files so that a bad one is named and a broken write or transfer leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np


class DataFileError(ValueError):
    """A data file is missing, truncated, foreign or changed; the message says which and what to do."""


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: str | Path, expected: str, way_out: str) -> None:
    """Refuse a file whose SHA-256 does not begin with the expected digits.

    Args:
        path: The file.
        expected: The first digits, or all 64, of the expected SHA-256.
        way_out: What the reader can do; ends the message.

    Raises:
        DataFileError: If the digits differ.
    """
    found = sha256(path)
    if not expected or not found.startswith(expected.lower()):
        raise DataFileError(f"{path}: SHA-256 is {found}, expected {expected or 'one on record'}. {way_out}")


def transferred(address: str, path: Path, progress: bool, way_out: str) -> None:
    """Fetch a file from the network and keep nothing of a transfer that breaks off.

    Args:
        address: Where it lies.
        path: Where to write it.
        progress: Show a progress bar.
        way_out: What the reader can do instead; ends the message.

    Raises:
        DataFileError: If the transfer fails.
    """
    import pooch

    try:
        pooch.HTTPDownloader(progressbar=progress)(address, str(path), None)
    except Exception as error:
        path.unlink(missing_ok=True)
        raise DataFileError(
            f"{address}: the transfer failed ({error}); nothing was kept. Try again, {way_out}"
        ) from error


def set_aside(path: str | Path) -> Path:
    """Rename a bad file so that nothing reads it by mistake and nobody loses it.

    Args:
        path: The bad file.

    Returns:
        Its new path, ``<name>.rejected``.
    """
    path = Path(path)
    aside = path.with_name(path.name + ".rejected")
    os.replace(path, aside)
    return aside


def write_arrays(path: str | Path, **arrays: np.ndarray) -> Path:
    """Write a compressed ``.npz`` in one step: readers see the old file or the whole new one.

    Args:
        path: The file to write; its folder is made.
        arrays: Arrays of numbers or strings by name.

    Returns:
        The path.

    Raises:
        DataFileError: If an array would need pickle.
    """
    path = Path(path)
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise DataFileError(
                f"{path}: array {name!r} holds Python objects, which need pickle. Give numbers or text."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read_arrays(
    path: str | Path, way_out: str = "Get the file again.", wanted: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Read arrays of a ``.npz`` file and never unpickle.

    Args:
        path: The file.
        way_out: What the reader can do about a bad file; ends every message.
        wanted: Read those of these names that are there; None reads all.

    Returns:
        The arrays by name.

    Raises:
        DataFileError: If the file is absent, truncated, not a ``.npz`` archive, or needs pickle.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"{path}: no such file. {way_out}")
    if not zipfile.is_zipfile(path):
        raise DataFileError(
            f"{path}: {path.stat().st_size} bytes that are not a complete .npz archive (truncated, or another kind of "
            f"file); expected an archive of NumPy arrays. {way_out}"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if wanted is None or name in wanted}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "pickle" in str(error).lower():
            raise DataFileError(
                f"{path}: holds pickled Python objects, which can run code when read; expected plain arrays. {way_out}"
            ) from error
        raise DataFileError(f"{path}: damaged archive ({error}); expected readable NumPy arrays. {way_out}") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise DataFileError(f"{path}: members {foreign} are not NumPy arrays; expected an .npz archive. {way_out}")
    return arrays
