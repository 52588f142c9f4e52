"""One molecule in many geometries: positions, energies, forces, their units and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from geonorm.data.files import DataFileError

#: Electronvolts in one unit of energy (CODATA 2018, thermochemical calorie).
ENERGY_IN_EV = {"eV": 1.0, "meV": 1e-3, "kcal/mol": 4184 / 96485.33212331, "hartree": 27.211386245988}
#: Angstrom in one unit of length.
LENGTH_IN_ANGSTROM = {"Ang": 1.0, "nm": 10.0, "bohr": 0.529177210903}
#: Chemical symbols of the elements that the sets of this package hold.
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 15: "P", 16: "S", 17: "Cl"}


def in_units(labelled: Any, energy_unit: str | None, length_unit: str | None) -> Any:
    """Return geometries with energies and forces in other units.

    Args:
        labelled: A data class with ``positions``, ``energies``, ``forces`` and their units.
        energy_unit: One of :data:`ENERGY_IN_EV`; None keeps the unit.
        length_unit: One of :data:`LENGTH_IN_ANGSTROM`; None keeps the unit.

    Returns:
        A new one; forces are converted with both units.

    Raises:
        DataFileError: If a unit is unknown.
    """
    energy_unit, length_unit = energy_unit or labelled.energy_unit, length_unit or labelled.length_unit
    for unit, table in ((energy_unit, ENERGY_IN_EV), (length_unit, LENGTH_IN_ANGSTROM)):
        if unit not in table:
            raise DataFileError(f"unknown unit {unit!r}, expected one of {', '.join(table)}.")
    energy = ENERGY_IN_EV[labelled.energy_unit] / ENERGY_IN_EV[energy_unit]
    length = LENGTH_IN_ANGSTROM[labelled.length_unit] / LENGTH_IN_ANGSTROM[length_unit]
    return replace(
        labelled,
        positions=labelled.positions * length,
        energies=labelled.energies * energy,
        forces=labelled.forces * (energy / length),
        energy_unit=energy_unit,
        length_unit=length_unit,
    )


@dataclass(frozen=True)
class Frames:
    """Geometries of one molecule with energy and force labels.

    Args:
        z: Nuclear charges ``[atoms]``, the same for every frame.
        positions: ``[frames, atoms, 3]`` in ``length_unit``.
        energies: Total energies ``[frames]`` in ``energy_unit``.
        forces: ``[frames, atoms, 3]`` in ``energy_unit / length_unit``.
        energy_unit: One of :data:`ENERGY_IN_EV`.
        length_unit: One of :data:`LENGTH_IN_ANGSTROM`.
        trajectory: ``[frames]``, which independent trajectory a frame comes from; None if unknown.
        name: What to call the set in tables.
        provenance: Who made it, how, with which versions, seeds and settings.

    Raises:
        DataFileError: If shapes disagree, a unit is unknown, or a value is not finite.
    """

    # Shapes are checked below and not by annotations: a reader's file deserves a message, not a type error.
    z: ndarray
    positions: ndarray
    energies: ndarray
    forces: ndarray
    energy_unit: str = "eV"
    length_unit: str = "Ang"
    trajectory: ndarray | None = None
    name: str = "frames"
    provenance: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        frames, atoms = len(self.energies), len(self.z)
        expected = {"positions": (frames, atoms, 3), "forces": (frames, atoms, 3), "energies": (frames,), "z": (atoms,)}
        for key, shape in expected.items():
            array = getattr(self, key)
            if array.shape != shape:
                raise DataFileError(
                    f"{self.name}: {key} has shape {array.shape}, expected {shape} for {frames} energies and {atoms} "
                    "nuclear charges. Check that all arrays come from the same set."
                )
            if not np.isfinite(array).all():
                count = int((~np.isfinite(array)).sum())
                raise DataFileError(
                    f"{self.name}: {key} holds {count} values that are NaN or infinite, expected finite numbers. "
                    "Drop those frames or get the file again."
                )
        for unit, table in ((self.energy_unit, ENERGY_IN_EV), (self.length_unit, LENGTH_IN_ANGSTROM)):
            if unit not in table:
                raise DataFileError(f"{self.name}: unknown unit {unit!r}, expected one of {', '.join(table)}.")

    def __len__(self) -> int:
        return len(self.energies)

    def __getitem__(self, index: slice | Sequence[int] | Int[ndarray, " chosen"] | Bool[ndarray, " frames"]) -> Frames:
        """Return the chosen frames as a set of their own."""
        index = np.arange(len(self))[index]
        trajectory = None if self.trajectory is None else self.trajectory[index]
        return replace(
            self,
            positions=self.positions[index],
            energies=self.energies[index],
            forces=self.forces[index],
            trajectory=trajectory,
        )

    def __repr__(self) -> str:
        formula = "".join(
            f"{SYMBOLS.get(int(z), f'[{z}]')}{count if count > 1 else ''}"
            for z, count in zip(*np.unique(self.z, return_counts=True), strict=True)
        )
        return f"Frames({self.name}, {len(self)} frames, {formula}, {self.energy_unit}, {self.length_unit})"

    def to(self, energy_unit: str | None = None, length_unit: str | None = None) -> Frames:
        """Return the same frames in other units.

        Args:
            energy_unit: One of :data:`ENERGY_IN_EV`; None keeps the unit.
            length_unit: One of :data:`LENGTH_IN_ANGSTROM`; None keeps the unit.

        Returns:
            New frames; forces are converted with both units.

        Raises:
            DataFileError: If a unit is unknown.
        """
        return in_units(self, energy_unit, length_unit)

    def split(self, train: int, test: int, seed: int = 0) -> tuple[Frames, Frames]:
        """Draw two sets of frames without a common one.

        Args:
            train: Number of training frames.
            test: Number of test frames.
            seed: Seed of the draw.

        Returns:
            The training frames and the test frames.

        Raises:
            ValueError: If the set has fewer frames than asked for.
        """
        if train < 1 or test < 1 or train + test > len(self):
            raise ValueError(
                f"asked for {train} training and {test} test frames of {self.name}, which has {len(self)} frames; "
                "both must be at least 1 and their sum at most that."
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self[order[:train]], self[order[train : train + test]]
