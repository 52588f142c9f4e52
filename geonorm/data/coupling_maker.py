"""Make the set of couplings: many molecules, several processes, and no lost work after an interruption."""

from __future__ import annotations

import datetime
import importlib.util
import json
import multiprocessing
import os
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy import ndarray

from geonorm.data.b3lyp import BASIS, FUNCTIONAL, GRID, b3lyp_couplings
from geonorm.data.coupling_files import read_couplings, write_couplings
from geonorm.data.couplings import COUPLING_TYPES, Couplings
from geonorm.data.files import read_arrays, write_arrays
from geonorm.data.molecules import coupled_pairs, enumerate_molecules, relaxed_molecule

#: The arrays of one molecule that go into the file.
_KEPT = ("z", "positions", "pairs", "types", "contributions")


def make_couplings(
    out: str | Path, molecules: int | None = None, heavy: int = 4, processes: int = 2, progress: bool = True
) -> Couplings:
    """Compute the couplings of small organic molecules and write them to a file.

    The molecules are those of :func:`~geonorm.data.molecules.enumerate_molecules`, the cheapest first. Each is relaxed
    with GFN2-xTB and labelled with B3LYP/6-31G(2df,p). Each finished molecule is kept beside the file until all are
    there, so that a second call continues where a first one stopped. Molecules that do not relax are left out.

    Args:
        out: The ``.npz`` to write.
        molecules: How many of the list to try; None tries all.
        heavy: The largest number of C, N, O and F atoms in a molecule.
        processes: How many work at once, each on one core and with up to 2 GB of memory; the result is the same.
        progress: Show a progress bar.

    Returns:
        The couplings, as read back from the file.

    Raises:
        ValueError: If a count is not positive, or nothing was labelled.
        ImportError: If the extra ``couplings`` is not installed.
    """
    if processes < 1 or heavy < 1 or (molecules is not None and molecules < 1):
        raise ValueError(
            f"got {molecules} molecules, {heavy} heavy atoms, {processes} processes; give positive numbers."
        )
    missing = [name for name in ("pyscf", "rdkit", "tblite") if importlib.util.find_spec(name) is None]
    if missing or importlib.util.find_spec("pyscf.prop") is None:
        raise ImportError(
            f"no module {' and '.join(missing) or 'pyscf.prop'}, which making couplings needs. Install it with: "
            "pip install 'geonorm[couplings,data]'"
        )
    from tqdm import tqdm

    out = Path(out)
    names = enumerate_molecules(heavy)[:molecules]
    folder = out.with_name(out.name + ".molecules")
    parts = {smiles: folder / f"{index:04d}.npz" for index, smiles in enumerate(names)}
    missing = [smiles for smiles, part in parts.items() if not _finished(part, smiles)]
    with tqdm(total=len(names), initial=len(names) - len(missing), unit="molecule", disable=not progress) as bar:
        if processes == 1:
            for smiles in missing:
                _label(smiles, parts[smiles])
                bar.update()
        else:
            _share({smiles: parts[smiles] for smiles in missing}, processes, bar.update)
    results = {smiles: read_arrays(part) for smiles, part in parts.items()}
    failures = {smiles: str(arrays["failure"]) for smiles, arrays in results.items() if "failure" in arrays}
    done = {smiles: arrays for smiles, arrays in results.items() if smiles not in failures}
    if not done:
        raise ValueError(f"none of {len(names)} molecules was labelled: {failures}. Try more molecules.")
    columns = {key: np.concatenate([arrays[key] for arrays in done.values()]) for key in _KEPT}
    couplings = Couplings(
        sizes=np.array([len(arrays["z"]) for arrays in done.values()]),
        molecule=np.repeat(np.arange(len(done)), [len(arrays["pairs"]) for arrays in done.values()]),
        names=np.array(list(done)),
        name="couplings (B3LYP)",
        provenance=_provenance(out, molecules, heavy, failures),
        **columns,
    )
    write_couplings(out, couplings)
    for part in parts.values():
        part.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return read_couplings(out)


def _share(parts: dict[str, Path], processes: int, advance: Callable[[], object]) -> None:
    """Label molecules in several processes at once."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=fresh, initializer=_one_thread) as pool:
        running = [pool.submit(_label, smiles, part) for smiles, part in parts.items()]
        try:
            for job in as_completed(running):
                job.result()
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _provenance(out: Path, molecules: int | None, heavy: int, failures: dict[str, str]) -> dict:
    words = ["geonorm", "data", "couplings", "--out", out.name, "--heavy", str(heavy)]
    words += [] if molecules is None else ["--molecules", str(molecules)]
    packages = ("pyscf", "pyscf-properties", "rdkit", "tblite", "ase", "numpy")
    return {
        "what": "small organic molecules, scalar couplings with four contributions (Hz)",
        "geometry": "GFN2-xTB, largest force below 0.01 eV/Ang",
        "method": f"{FUNCTIONAL}/{BASIS}",
        "grid": GRID,
        "isotopes": "1H 13C 14N 17O 19F",
        "left_out": failures,
        "versions": {name: version(name) for name in packages} | {"python": sys.version.split()[0]},
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(words),
    }


def _settings(smiles: str) -> str:
    return json.dumps(
        {"smiles": smiles, "geometry": "GFN2-xTB", "functional": FUNCTIONAL, "basis": BASIS, "grid": GRID}
    )


def _finished(part: Path, smiles: str) -> bool:
    return part.exists() and str(read_arrays(part).get("settings")) == _settings(smiles)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from pyscf import lib

    lib.num_threads(1)


def _label(smiles: str, part: Path) -> None:
    """Relax and label one molecule and write its part, or why there is none."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        # Nobody waits for the result: a maker that was killed must not leave workers behind.
        os._exit(1)
    try:
        z, positions, bonds_apart = relaxed_molecule(smiles)
        pairs, types = coupled_pairs(z, bonds_apart)
        if not len(pairs):
            raise ValueError(f"{smiles!r} has no pair with a coupling type.")
        # The labels belong to the positions that the file stores.
        stored = positions.astype(np.float32)
        contributions = b3lyp_couplings(z, stored.astype(np.float64), pairs)
    except (ValueError, RuntimeError) as error:
        write_arrays(part, settings=np.array(_settings(smiles)), failure=np.array(str(error)))
        return
    write_arrays(
        part,
        settings=np.array(_settings(smiles)),
        z=z.astype(np.uint8),
        positions=stored,
        pairs=pairs.astype(np.uint8),
        types=_numbers(types),
        contributions=contributions.astype(np.float32),
    )


def _numbers(types: ndarray) -> ndarray:
    return np.array([COUPLING_TYPES.index(name) for name in types], dtype=np.uint8)
