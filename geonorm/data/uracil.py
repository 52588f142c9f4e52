"""Uracil at 500 K, labelled by GFN2-xTB: the small set that the book runs on without a download."""

from __future__ import annotations

import datetime
import json
import math
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geonorm.data.files import check_sha256, read_arrays, write_arrays
from geonorm.data.frames import Frames

#: Nuclear charges in the order of MD17's uracil: the ring C C N C N C, two O, four H.
URACIL = (6, 6, 7, 6, 7, 6, 8, 8, 1, 1, 1, 1)
SHIPPED = Path(__file__).with_name("uracil_gfn2.npz")
#: SHA-256 of the files that the package ships.
CHECKSUMS = Path(__file__).with_name("checksums.json")
_METHOD = "GFN2-xTB"
_ACCURACY = 0.1


def load_uracil() -> Frames:
    """Return the shipped frames: uracil at 500 K with GFN2-xTB energies (eV) and forces (eV/Å).

    Returns:
        Frames of several independent trajectories; ``provenance`` says how they were made.

    Raises:
        DataFileError: If the shipped file is missing or is not the released one.

    Source: Bannwarth, Ehlert and Grimme (2019), doi 10.1021/acs.jctc.8b01176, for the labels.
    """
    way_out = "Reinstall geonorm, or make the set yourself with: geonorm data uracil --out uracil.npz"
    arrays = read_arrays(SHIPPED, way_out)
    check_sha256(SHIPPED, json.loads(CHECKSUMS.read_text())[SHIPPED.name], way_out)
    return _frames(arrays)


def make_uracil(
    out: str | Path,
    frames: int = 1200,
    seeds: Sequence[int] = (0, 1, 2, 3, 4, 5),
    temperature: float = 500.0,
    timestep: float = 0.5,
    friction: float = 0.01,
    stride: int = 200,
    warmup: int = 4000,
    progress: bool = True,
) -> Frames:
    """Sample uracil by Langevin dynamics on the GFN2-xTB surface and write the frames to a file.

    One trajectory per seed starts from the relaxed molecule, warms up, and gives a frame every ``stride`` steps. Each
    finished trajectory is kept beside the file until all are there, so that a second call continues where a first one
    stopped. Positions are rounded to the precision that the file stores before the labels are computed.

    Args:
        out: The ``.npz`` to write.
        frames: Total number of frames, shared evenly between the seeds.
        seeds: One independent trajectory for each.
        temperature: In kelvin.
        timestep: In femtoseconds.
        friction: Of the Langevin thermostat, in 1/fs.
        stride: Steps between two frames.
        warmup: Steps before the first frame.
        progress: Show a progress bar.

    Returns:
        The frames, as read back from the file.

    Raises:
        ValueError: If the frames cannot be shared between the seeds.

    Source: GFN2-xTB of Bannwarth, Ehlert and Grimme (2019) through tblite; dynamics of ASE.
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) != len(seeds) or frames < len(seeds):
        raise ValueError(
            f"got {frames} frames for seeds {seeds}; give different seeds and at least one frame for each."
        )
    from tqdm import tqdm

    out = Path(out)
    settings = dict(
        method=_METHOD,
        accuracy=_ACCURACY,
        temperature_K=temperature,
        timestep_fs=timestep,
        friction_per_fs=friction,
        stride=stride,
        warmup=warmup,
    )
    counts = [frames // len(seeds) + (index < frames % len(seeds)) for index in range(len(seeds))]
    folder = out.with_name(out.name + ".trajectories")
    steps = sum(warmup + count * stride for count in counts)
    parts = []
    with tqdm(total=steps, unit="step", desc="uracil", disable=not progress) as bar:
        for seed, count in zip(seeds, counts, strict=True):
            part = folder / f"seed_{seed}.npz"
            wanted = json.dumps({**settings, "seed": seed, "frames": count})
            arrays = read_arrays(part) if part.exists() else {}
            if str(arrays.get("settings")) == wanted:
                bar.update(warmup + count * stride)
            else:
                arrays = _trajectory(seed, count, settings, bar.update)
                write_arrays(part, settings=np.array(wanted), **arrays)
            parts.append(arrays)
    provenance = {
        "what": "uracil, Langevin molecular dynamics, energies (eV) and forces (eV/Ang) by GFN2-xTB",
        "settings": settings,
        "seeds": seeds,
        "versions": {name: version(name) for name in ("ase", "tblite", "numpy")} | {"python": sys.version.split()[0]},
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["geonorm", "data", "uracil", "--out", out.name]),
    }
    trajectory = np.repeat(np.arange(len(seeds), dtype=np.int16), counts)
    write_arrays(
        out,
        z=np.array(URACIL, dtype=np.uint8),
        R=np.concatenate([part["R"] for part in parts]),
        E=np.concatenate([part["E"] for part in parts]),
        F=np.concatenate([part["F"] for part in parts]),
        trajectory=trajectory,
        units=np.array(json.dumps({"R": "Ang", "E": "eV", "F": "eV/Ang"})),
        provenance=np.array(json.dumps(provenance)),
    )
    for seed in seeds:
        (folder / f"seed_{seed}.npz").unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return _frames(read_arrays(out))


def _frames(arrays: dict[str, np.ndarray]) -> Frames:
    return Frames(
        z=arrays["z"].astype(np.int64),
        positions=arrays["R"].astype(np.float64),
        energies=arrays["E"].astype(np.float64),
        forces=arrays["F"].astype(np.float64),
        trajectory=arrays["trajectory"].astype(np.int64),
        name="uracil (GFN2-xTB)",
        provenance=json.loads(str(arrays["provenance"])),
    )


def _trajectory(seed: int, count: int, settings: dict, advance) -> dict[str, np.ndarray]:
    from ase import units
    from ase.md.langevin import Langevin

    rng = np.random.default_rng(seed)
    atoms = _relaxed()
    spread = np.sqrt(units.kB * settings["temperature_K"] * atoms.get_masses())
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * spread[:, None])
    dynamics = Langevin(
        atoms,
        settings["timestep_fs"] * units.fs,
        temperature_K=settings["temperature_K"],
        friction=settings["friction_per_fs"] / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(settings["warmup"])
    advance(settings["warmup"])
    positions, energies, forces = [], [], []
    for _ in range(count):
        dynamics.run(settings["stride"])
        advance(settings["stride"])
        stored = (atoms.positions - atoms.get_center_of_mass()).astype(np.float32)
        labelled = _molecule(stored.astype(np.float64))
        positions.append(stored)
        energies.append(labelled.get_potential_energy())
        forces.append(labelled.get_forces().astype(np.float32))
    return {"R": np.array(positions), "E": np.array(energies), "F": np.array(forces)}


def _molecule(positions: np.ndarray):
    from ase import Atoms
    from tblite.ase import TBLite

    # A fresh calculator has no memory of the last geometry: equal positions give equal labels.
    return Atoms(URACIL, positions, calculator=TBLite(method=_METHOD, accuracy=_ACCURACY, verbosity=0))


def _relaxed():
    """Build a flat hexagon with its substituents and let GFN2-xTB relax it."""
    from ase.optimize import BFGS

    ring, bonded_to = 1.38, {6: 3, 7: 5, 8: 1, 9: 2, 10: 4, 11: 0}
    polar = [(ring, k) for k in range(6)]
    polar += [(ring + (1.22 if URACIL[atom] == 8 else 1.05), site) for atom, site in bonded_to.items()]
    positions = [[r * math.cos(k * math.pi / 3), r * math.sin(k * math.pi / 3), 0.0] for r, k in polar]
    atoms = _molecule(np.array(positions))
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=500)
    return atoms
