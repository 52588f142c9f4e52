"""One collision of two small molecules on the GFN2-xTB surface, and the configurations drawn from it."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy import ndarray

#: Names in ASE's G2 collection; every pair of them has 2 to 26 atoms.
# fmt: off
MOLECULES = (
    "H", "O", "H2", "O2", "OH", "H2O", "H2O2", "CO", "CO2", "CH3",
    "CH4", "HCO", "H2CO", "CH3OH", "HCOOH", "C2H2", "C2H4", "C2H6", "H2CCO", "CH3CHO",
    "CH2OCH2", "CH3CH2OH", "CH3OCH3", "OCHCHO", "CH3COOH", "HCOOCH3", "C3H4_C3v", "C3H6_D3h", "C3H8", "CH3COCH3",
    "C2H6CHOH", "C4H4O", "C6H6", "C5H8", "N2", "NH3", "HCN", "H3CNH2", "HF", "H2CF2",
)
# fmt: on
METHOD = "GFN2-xTB"
#: Positions and forces are stored in multiples of this (Å, eV/Å): their files compress to half the size.
GRID = 2.0**-13
# Fresh and continued self-consistent fields that differ by more than this (eV) are two solutions, and no label.
_SAME_SOLUTION = 0.05


@dataclass(frozen=True)
class Shot:
    """How two molecules are shot at each other.

    Args:
        lowest_energy: Of the relative motion, in eV; drawn evenly in its logarithm.
        highest_energy: Of the relative motion, in eV.
        impact: Radius in Å of the disc from which the impact parameter is drawn.
        gap: Smallest distance in Å between atoms of the two molecules at the start.
        path: How far they would fly past each other without forces, in units of ``gap``.
        longest: Longest duration in fs.
        temperature: Of the motion inside each molecule, in kelvin.
        timestep: In femtoseconds.
        frames: Configurations drawn from one collision.
        electronic_temperature: In kelvin; smears the occupation of orbitals where bonds break.
        accuracy: Of the self-consistent field, tblite's factor.
    """

    lowest_energy: float = 1.5
    highest_energy: float = 12.0
    impact: float = 2.0
    gap: float = 3.5
    path: float = 2.2
    longest: float = 150.0
    temperature: float = 500.0
    timestep: float = 0.5
    frames: int = 8
    electronic_temperature: float = 1500.0
    accuracy: float = 0.1

    def settings(self) -> dict[str, object]:
        """Return what determines a collision apart from its numbers, for records."""
        return {"method": METHOD, "molecules": list(MOLECULES), "grid": GRID, **asdict(self)}


def pair(seed: int, index: int) -> tuple[str, str]:
    """Return the names of the molecules of one collision: every pair comes once before any comes again.

    Args:
        seed: Of the set.
        index: Of the collision.

    Returns:
        Two of :data:`MOLECULES`.
    """
    turn, place = divmod(index, len(MOLECULES) * (len(MOLECULES) + 1) // 2)
    return _pairs(seed, turn)[place]


def collide(seed: int, index: int, shot: Shot) -> dict[str, ndarray]:
    """Shoot two molecules at each other and label configurations along their trajectory.

    The time is cut into as many windows as frames; each window gives the configuration of a random time, and the one
    with the highest potential energy gives that one. Labels come from a fresh self-consistent field, so that equal
    positions have equal labels.

    Args:
        seed: Of the set.
        index: Of the collision; with the seed it determines everything.
        shot: How they are shot.

    Returns:
        ``N``, ``Z``, ``R`` (Å, centre of mass at rest in the origin), ``E`` (eV, relative to free atoms), ``F`` (eV/Å)
        in COLL's layout; ``unconverged`` and ``ambiguous``, the frames lost to a self-consistent field without or with
        two solutions; ``drift``, the largest change of the total energy along the trajectory in eV.
    """
    from ase.calculators.calculator import CalculationFailed

    rng = np.random.default_rng([seed, index, 1])
    atoms, steps = _launched(pair(seed, index), shot, rng)
    positions, potential, total = _trajectory(atoms, steps, shot)
    lost, ambiguous, kept = 0, 0, []
    edges = np.linspace(0, steps, shot.frames + 1).astype(int)
    highest = int(np.argmax(potential)) if len(potential) else -1
    for start, stop in itertools.pairwise(edges):
        step = int(rng.integers(start, stop))
        if start <= highest < stop:
            step = highest
        if step >= len(potential):
            lost += 1
            continue
        stored = np.round(positions[step] / GRID) * GRID
        try:
            labelled = _molecule(atoms.numbers, stored, shot)
            energy, forces = labelled.get_potential_energy(), labelled.get_forces()
        except CalculationFailed:
            lost += 1
            continue
        if abs(energy - potential[step]) > _SAME_SOLUTION:
            ambiguous += 1
            continue
        kept.append((stored, energy - _free_atoms(atoms.numbers, shot), np.round(forces / GRID) * GRID))
    count, size = len(kept), len(atoms)
    return {
        "N": np.full(count, size, dtype=np.int32),
        "Z": np.tile(atoms.numbers.astype(np.uint8), count),
        "R": np.array([frame[0] for frame in kept], dtype=np.float32).reshape(-1, 3),
        "E": np.array([frame[1] for frame in kept], dtype=np.float64),
        "F": np.array([frame[2] for frame in kept], dtype=np.float32).reshape(-1, 3),
        "unconverged": np.array(lost),
        "ambiguous": np.array(ambiguous),
        "drift": np.array(np.ptp(total) if len(total) else 0.0),
    }


def _trajectory(atoms, steps: int, shot: Shot) -> tuple[ndarray, ndarray, ndarray]:
    """Positions, potential and total energies of every step, as far as the self-consistent field converges."""
    from ase import units
    from ase.calculators.calculator import CalculationFailed
    from ase.md.verlet import VelocityVerlet

    positions, potential, total = [], [], []
    dynamics = VelocityVerlet(atoms, shot.timestep * units.fs)
    try:
        for _ in range(steps):
            dynamics.run(1)
            positions.append(atoms.positions - atoms.get_center_of_mass())
            potential.append(atoms.get_potential_energy())
            total.append(potential[-1] + atoms.get_kinetic_energy())
    except CalculationFailed:
        pass
    return np.array(positions), np.array(potential), np.array(total)


def _launched(names: tuple[str, str], shot: Shot, rng: np.random.Generator):
    """Both molecules turned at random, warm, ``gap`` apart, and on their way; and the number of steps."""
    from ase import units
    from scipy.spatial.transform import Rotation

    molecules = [_relaxed(name, shot).copy() for name in names]
    for molecule in molecules:
        molecule.positions -= molecule.get_center_of_mass()
        molecule.positions = Rotation.random(random_state=rng).apply(molecule.positions)
        masses = molecule.get_masses()
        # A relaxed molecule has no potential energy to share: twice the kinetic energy becomes the temperature.
        momenta = rng.standard_normal((len(molecule), 3)) * np.sqrt(2 * units.kB * shot.temperature * masses)[:, None]
        momenta -= masses[:, None] / masses.sum() * momenta.sum(axis=0)
        molecule.set_momenta(momenta)
    target, projectile = molecules
    impact, angle = shot.impact * math.sqrt(rng.random()), 2 * math.pi * rng.random()
    projectile.positions += [impact * math.cos(angle), impact * math.sin(angle), 0.0]
    apart = target.positions[:, None] - projectile.positions[None]
    reach = shot.gap**2 - (apart[..., :2] ** 2).sum(axis=-1)
    projectile.positions[:, 2] += (apart[..., 2] + np.sqrt(np.maximum(reach, 0))).max()
    energy = math.exp(rng.uniform(math.log(shot.lowest_energy), math.log(shot.highest_energy)))
    first, second = (molecule.get_masses().sum() for molecule in molecules)
    speed = math.sqrt(2 * energy * (first + second) / (first * second))
    target.set_velocities(target.get_velocities() + [0, 0, speed * second / (first + second)])
    projectile.set_velocities(projectile.get_velocities() - [0, 0, speed * first / (first + second)])
    both = target + projectile
    both.calc = _calculator(shot)
    duration = min(shot.path * shot.gap / speed, shot.longest * units.fs)
    return both, max(shot.frames, round(duration / (shot.timestep * units.fs)))


def _calculator(shot: Shot):
    from tblite.ase import TBLite

    return TBLite(
        method=METHOD,
        accuracy=shot.accuracy,
        electronic_temperature=shot.electronic_temperature,
        # The usual damping of 0.4 lets an oxygen atom swing between its orbitals forever.
        mixer_damping=0.1,
        verbosity=0,
    )


def _molecule(numbers: ndarray, positions: ndarray, shot: Shot):
    """A molecule with a calculator that has no memory, in the lowest spin state of its electrons."""
    from ase import Atoms

    return Atoms(numbers, positions, calculator=_calculator(shot))


@functools.cache
def _pairs(seed: int, turn: int) -> list[tuple[str, str]]:
    pairs = list(itertools.combinations_with_replacement(MOLECULES, 2))
    return [pairs[place] for place in np.random.default_rng([seed, turn]).permutation(len(pairs))]


@functools.cache
def _relaxed(name: str, shot: Shot):
    from ase.build import molecule
    from ase.optimize import BFGS

    built = molecule(name)
    relaxed = _molecule(built.numbers, built.positions, shot)
    BFGS(relaxed, logfile=None).run(fmax=0.01, steps=500)
    return _molecule(relaxed.numbers, relaxed.positions, shot)


@functools.cache
def _free_atom(number: int, shot: Shot) -> float:
    return _molecule(np.array([number]), np.zeros((1, 3)), shot).get_potential_energy()


def _free_atoms(numbers: ndarray, shot: Shot) -> float:
    return sum(_free_atom(int(number), shot) for number in numbers)
