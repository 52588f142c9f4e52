"""Collisions of small molecules, labelled by GFN2-xTB: the reactive set that the book runs on without a download."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geonorm.data.collide import Shot, collide
from geonorm.data.configurations import Configurations
from geonorm.data.files import check_sha256, read_arrays, write_arrays
from geonorm.data.layout import read_configurations, write_configurations
from geonorm.data.uracil import CHECKSUMS

SHIPPED = Path(__file__).with_name("collisions_gfn2.npz")
#: Collisions that one process does before it writes them down.
_BLOCK = 10


def load_collisions() -> Configurations:
    r"""Return the shipped collisions of small molecules, with GFN2-xTB energies (eV) and forces (eV/Å).

    Every pair of :data:`~geonorm.data.collide.MOLECULES` is shot at each other; ``trajectory`` tells the collisions
    apart. Energies are relative to free atoms, as those of COLL:

    $$ E = E_\text{GFN2}(\text{all atoms}) - \sum_a E_\text{GFN2}(\text{atom } a \text{ alone}) $$

    Returns:
        The configurations; ``provenance`` says how they were made.

    Raises:
        DataFileError: If the shipped file is missing or is not the released one.

    Source: Bannwarth, Ehlert and Grimme (2019), doi 10.1021/acs.jctc.8b01176, for the labels; Gasteiger, Giri, Margraf
    and Günnemann (2020), https://arxiv.org/abs/2011.14115, for the idea and the layout.
    """
    way_out = "Reinstall geonorm, or make the set yourself with: geonorm data collisions --out collisions.npz"
    read_arrays(SHIPPED, way_out, wanted=())
    check_sha256(SHIPPED, json.loads(CHECKSUMS.read_text())[SHIPPED.name], way_out)
    return read_configurations(SHIPPED)


def make_collisions(
    out: str | Path,
    trajectories: int = 820,
    seed: int = 0,
    shot: Shot | None = None,
    processes: int = 2,
    progress: bool = True,
) -> Configurations:
    """Shoot molecules at each other on the GFN2-xTB surface and write configurations of the collisions to a file.

    Blocks of finished collisions are kept beside the file until all are there, so that a second call continues where a
    first one stopped. Each collision has its own random numbers and each process one thread, so that the result does
    not depend on the number of processes. A script calls this under ``if __name__ == "__main__":``, as the processes
    read it too.

    Args:
        out: The ``.npz`` to write, in COLL's layout.
        trajectories: Number of collisions.
        seed: Of the whole set.
        shot: How the molecules are shot; None takes the settings of the shipped set.
        processes: How many work at once.
        progress: Show a progress bar.

    Returns:
        The configurations, as read back from the file. ``provenance["lost"]`` counts what was dropped: frames without
        a converged self-consistent field, and frames with two.

    Raises:
        ValueError: If there is nothing to make.

    Source: GFN2-xTB of Bannwarth, Ehlert and Grimme (2019) through tblite; geometries and dynamics of ASE.
    """
    if trajectories < 1 or processes < 1:
        raise ValueError(f"got {trajectories} trajectories for {processes} processes; give at least one of each.")
    from tqdm import tqdm

    out, shot = Path(out), shot or Shot()
    folder = out.with_name(out.name + ".trajectories")
    blocks = {
        folder / f"block_{first:06d}.npz": range(first, min(first + _BLOCK, trajectories))
        for first in range(0, trajectories, _BLOCK)
    }
    with tqdm(total=trajectories, unit="collision", desc="collisions", disable=not progress) as bar:
        missing = []
        for path, numbers in blocks.items():
            if path.exists() and str(read_arrays(path)["settings"]) == _record(seed, numbers, shot):
                bar.update(len(numbers))
            else:
                missing.append((path, numbers))
        with _workers(min(processes, len(missing))) as pool:
            for done in as_completed(
                [pool.submit(_make_block, path, seed, numbers, shot) for path, numbers in missing]
            ):
                bar.update(done.result())
    parts = [read_arrays(path) for path in blocks]
    made = _joined(parts, seed, trajectories, shot, out)
    write_configurations(out, made)
    for path in blocks:
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return read_configurations(out)


def _make_block(path: Path, seed: int, numbers: range, shot: Shot) -> int:
    """Do some collisions, write them down, and return how many."""
    made = [collide(seed, number, shot) for number in numbers]
    arrays = {name: np.concatenate([one[name] for one in made]) for name in "NZREF"}
    arrays |= {name: np.array([one[name] for one in made]) for name in ("unconverged", "ambiguous", "drift")}
    arrays["trajectory"] = np.repeat(np.array(numbers, dtype=np.int32), [len(one["N"]) for one in made])
    write_arrays(path, settings=np.array(_record(seed, numbers, shot)), **arrays)
    return len(made)


def _record(seed: int, numbers: range, shot: Shot) -> str:
    return json.dumps({"seed": seed, "trajectories": [numbers.start, numbers.stop], **shot.settings()})


def _joined(parts: list[dict[str, np.ndarray]], seed: int, count: int, shot: Shot, out: Path) -> Configurations:
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "settings"}
    provenance = {
        "what": "collisions of pairs of small molecules; energies (eV, relative to free atoms) and forces by GFN2-xTB",
        "settings": shot.settings(),
        "seed": seed,
        "trajectories": count,
        "lost": {name: int(joined[name].sum()) for name in ("unconverged", "ambiguous")},
        "energy drift of a trajectory in eV": {
            "median": round(float(np.median(joined["drift"])), 4),
            "largest": round(float(joined["drift"].max()), 4),
        },
        "versions": {name: version(name) for name in ("ase", "tblite", "numpy")} | {"python": sys.version.split()[0]},
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(
            ["geonorm", "data", "collisions", f"--trajectories={count}", f"--seed={seed}", "--out", out.name]
        ),
    }
    return Configurations(
        sizes=joined["N"],
        z=joined["Z"],
        positions=joined["R"],
        energies=joined["E"],
        forces=joined["F"],
        trajectory=joined["trajectory"],
        name="collisions (GFN2-xTB)",
        provenance=provenance,
    )


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of one thread each: sums over threads come out in another order every time."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    pool = ProcessPoolExecutor(max(count, 1), mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        # After an interruption nobody waits for what has not begun.
        pool.shutdown(wait=True, cancel_futures=True)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
