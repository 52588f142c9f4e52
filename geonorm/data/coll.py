"""Find configurations by name: in the package, in a folder, in the cache, or at the publisher, with a checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from geonorm.data.collisions import load_collisions
from geonorm.data.configurations import Configurations
from geonorm.data.files import DataFileError, set_aside, transferred
from geonorm.data.layout import read_configurations

#: Where the publisher keeps version 1.2.
COLL_URL = "https://github.com/TUM-DAML/gemnet_pytorch/raw/HEAD/data/coll_v1.2_{part}.npz"
#: What git calls the content of each file: the SHA-1 of its length and its bytes.
COLL_BLOBS = {
    "train": "cd25aaba3a3cdd8e7cbbb015e158390023eb77b3",
    "val": "fe2708ef598d537d6c22b64ddafc8364ea4c8a8c",
    "test": "f300c6c822ebff3aa8773484e53369a487f4b136",
}
_H2COMBUSTION = ("train", "val")


def load_configurations(source: str | Path | Configurations) -> Configurations:
    """Return configurations from whatever names them.

    Args:
        source: Configurations; ``"collisions"`` for the shipped set; ``"coll:train"``, ``"coll:val"`` or
            ``"coll:test"`` for the published COLL (``"coll"`` is its training set), from the folder GEONORM_DATA, the
            cache, or the publisher; ``"h2combustion:train"`` or ``"h2combustion:val"`` from GEONORM_DATA; or a file of
            COLL's layout, looked for in GEONORM_DATA too.

    Returns:
        The configurations. COLL and its relatives come in eV and Å.

    Raises:
        DataFileError: If nothing has that name, or the file is bad.

    Source: Gasteiger, Giri, Margraf and Günnemann (2020), https://arxiv.org/abs/2011.14115, for COLL; the hydrogen
    combustion set of doi 10.6084/m9.figshare.19601689.
    """
    if isinstance(source, Configurations):
        return source
    if source == "collisions":
        return load_collisions()
    kind, _, part = str(source).partition(":")
    if kind == "coll":
        return _coll(part or "train")
    if kind == "h2combustion":
        return _h2combustion(part)
    for place in (Path(), Path(os.environ.get("GEONORM_DATA") or ".")):
        if (place / source).is_file():
            return read_configurations(place / source)
    raise DataFileError(
        f"no data named {str(source)!r}: expected 'collisions', 'coll:train', 'coll:val', 'coll:test', "
        "'h2combustion:train', 'h2combustion:val', or a file here or in the folder GEONORM_DATA."
    )


def download_coll(
    part: str,
    folder: str | Path | None = None,
    url: str | None = None,
    blob: str | None = None,
    progress: bool = True,
) -> Path:
    """Fetch a part of COLL once, check that it is the published one, and return where it lies.

    Args:
        part: ``"train"`` (120 000 configurations), ``"val"`` (10 000) or ``"test"`` (9 480).
        folder: Where to keep the file; None takes the user's cache folder.
        url: Another address of the same file.
        blob: Its SHA-1 as git computes it; None takes the published one.
        progress: Show a progress bar.

    Returns:
        The path of the file.

    Raises:
        DataFileError: If there is no such part, the transfer breaks off, or the content is another.
    """
    import pooch

    blob = blob or COLL_BLOBS[_checked(part, COLL_BLOBS, "coll")]
    folder = Path(pooch.os_cache("geonorm") if folder is None else folder)
    path = folder / f"coll_v1.2_{part}.npz"
    if path.exists():
        try:
            _check_blob(path, blob, "Call again to download it anew.")
        except DataFileError as error:
            raise DataFileError(f"{error} The file is kept as {set_aside(path)}.") from error
        return path
    folder.mkdir(parents=True, exist_ok=True)
    address = url or COLL_URL.format(part=part)
    transfer = folder / f"{path.name}.part"
    transferred(
        address,
        transfer,
        progress,
        "or fetch the file with another computer and put it into the folder that GEONORM_DATA names. Without a network "
        "there is the set that the package ships: load_configurations('collisions').",
    )
    try:
        _check_blob(transfer, blob, "The transfer was damaged or the file was replaced; try again.")
    except DataFileError as error:
        raise DataFileError(f"{error} What came is kept as {set_aside(transfer)}.") from error
    os.replace(transfer, path)
    return path


def git_blob(path: str | Path) -> str:
    r"""Return what git calls the content of a file.

    $$ \text{SHA-1}(\texttt{blob}\ \text{length}\ \backslash 0\ \text{content}) $$

    Args:
        path: The file.

    Returns:
        40 hexadecimal digits.
    """
    path = Path(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _coll(part: str) -> Configurations:
    blob = COLL_BLOBS[_checked(part, COLL_BLOBS, "coll")]
    found = _in_folder(f"coll_v1.2_{part}.npz")
    if found is not None:
        _check_blob(found, blob, f"Get the file again, or name it to read it as it is: load_configurations('{found}').")
    return read_configurations(found or download_coll(part))


def _h2combustion(part: str) -> Configurations:
    found = _in_folder(f"h2combustion_{_checked(part, _H2COMBUSTION, 'h2combustion')}*.npz")
    if found is None:
        raise DataFileError(
            f"no file h2combustion_{part}*.npz in the folder GEONORM_DATA, which is "
            f"{os.environ.get('GEONORM_DATA') or 'not set'}. Convert the published set (figshare, doi "
            "10.6084/m9.figshare.19601689) to COLL's layout, put it there, and set the variable."
        )
    return read_configurations(found)


def _in_folder(pattern: str) -> Path | None:
    folder = os.environ.get("GEONORM_DATA")
    matches = sorted(Path(folder).rglob(pattern)) if folder else []
    return matches[0] if matches else None


def _checked(part: str, parts: Collection[str], kind: str) -> str:
    if part not in parts:
        raise DataFileError(f"{kind} has no part {part!r}; it has {', '.join(parts)}: '{kind}:{next(iter(parts))}'.")
    return part


def _check_blob(path: Path, blob: str, way_out: str) -> None:
    found = git_blob(path)
    if found != blob:
        raise DataFileError(f"{path}: git blob SHA-1 is {found}, expected {blob}. {way_out}")
