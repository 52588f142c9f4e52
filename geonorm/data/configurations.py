"""Many molecules of different sizes: positions, energies, forces, their units and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from geonorm.data.files import DataFileError
from geonorm.data.frames import ENERGY_IN_EV, LENGTH_IN_ANGSTROM, SYMBOLS, in_units

Index = (
    int
    | np.integer
    | slice
    | Sequence[int]
    | Int[ndarray, " chosen"]
    | Bool[ndarray, " configurations"]
    | Int[Tensor, " chosen"]
)


@dataclass(frozen=True)
class Configurations:
    """Molecules of different sizes with energy and force labels, one after the other in the same arrays.

    Args:
        sizes: Number of atoms of each configuration ``[configurations]``.
        z: Nuclear charges of all atoms ``[atoms]``, configuration after configuration.
        positions: ``[atoms, 3]`` in ``length_unit``.
        energies: ``[configurations]`` in ``energy_unit``.
        forces: ``[atoms, 3]`` in ``energy_unit / length_unit``.
        energy_unit: One of :data:`~geonorm.data.frames.ENERGY_IN_EV`.
        length_unit: One of :data:`~geonorm.data.frames.LENGTH_IN_ANGSTROM`.
        trajectory: ``[configurations]``, which independent trajectory each comes from; None if unknown.
        name: What to call the set in tables.
        provenance: Who made it, how, with which versions, seeds and settings.

    Raises:
        DataFileError: If shapes disagree, a unit is unknown, or a value is not finite.
    """

    # Shapes are checked below and not by annotations: a reader's file deserves a message, not a type error.
    sizes: ndarray
    z: ndarray
    positions: ndarray
    energies: ndarray
    forces: ndarray
    energy_unit: str = "eV"
    length_unit: str = "Ang"
    trajectory: ndarray | None = None
    name: str = "configurations"
    provenance: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sizes.ndim != 1 or self.sizes.dtype.kind not in "iu" or (len(self.sizes) and self.sizes.min() < 1):
            raise DataFileError(
                f"{self.name}: sizes is {self.sizes.dtype} of shape {self.sizes.shape}, expected one whole number, "
                "at least 1, for each configuration."
            )
        count, atoms = len(self.sizes), int(self.sizes.sum())
        expected = {"energies": (count,), "z": (atoms,), "positions": (atoms, 3), "forces": (atoms, 3)}
        if self.trajectory is not None:
            expected["trajectory"] = (count,)
        for key, shape in expected.items():
            array = getattr(self, key)
            if array.shape != shape:
                raise DataFileError(
                    f"{self.name}: {key} has shape {array.shape}, expected {shape} for {count} configurations with "
                    f"{atoms} atoms together. Check that all arrays come from the same set."
                )
            if not np.isfinite(array).all():
                raise DataFileError(
                    f"{self.name}: {key} holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite, "
                    "expected finite numbers. Drop those configurations or get the file again."
                )
        for unit, table in ((self.energy_unit, ENERGY_IN_EV), (self.length_unit, LENGTH_IN_ANGSTROM)):
            if unit not in table:
                raise DataFileError(f"{self.name}: unknown unit {unit!r}, expected one of {', '.join(table)}.")
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)[:-1]]))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: Index) -> Configurations:
        """Return the chosen configurations as a set of their own; one number gives a set of one."""
        index = self._numbers(index)
        atoms = self._atoms(index)
        return replace(
            self,
            sizes=self.sizes[index],
            z=self.z[atoms],
            positions=self.positions[atoms],
            energies=self.energies[index],
            forces=self.forces[atoms],
            trajectory=None if self.trajectory is None else self.trajectory[index],
        )

    def __repr__(self) -> str:
        elements = " ".join(SYMBOLS.get(int(z), f"[{z}]") for z in np.unique(self.z))
        smallest, largest = (self.sizes.min(), self.sizes.max()) if len(self) else (0, 0)
        return (
            f"Configurations({self.name}, {len(self)} of {smallest} to {largest} atoms, {elements}, "
            f"{self.energy_unit}, {self.length_unit})"
        )

    def batch(
        self, index: Index, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[
        Int[Tensor, " atoms"],
        Float[Tensor, "atoms 3"],
        Int[Tensor, " atoms"],
        Float[Tensor, " samples"],
        Float[Tensor, "atoms 3"],
    ]:
        """Return some configurations as tensors for a network that takes a batch vector.

        Args:
            index: Which configurations, in this order.
            device: Of the tensors; None is the CPU.
            dtype: Of positions, energies and forces; None is torch's default.

        Returns:
            ``z``, ``positions``, ``batch`` (the sample of each atom), ``energies`` and ``forces``.
        """
        index = self._numbers(index)
        atoms = self._atoms(index)
        batch = np.repeat(np.arange(len(index)), self.sizes[index])
        dtype = dtype or torch.get_default_dtype()
        return (
            torch.as_tensor(self.z[atoms].astype(np.int64), device=device),
            torch.as_tensor(self.positions[atoms], dtype=dtype, device=device),
            torch.as_tensor(batch, device=device),
            torch.as_tensor(self.energies[index], dtype=dtype, device=device),
            torch.as_tensor(self.forces[atoms], dtype=dtype, device=device),
        )

    def to(self, energy_unit: str | None = None, length_unit: str | None = None) -> Configurations:
        """Return the same configurations in other units.

        Args:
            energy_unit: One of :data:`~geonorm.data.frames.ENERGY_IN_EV`; None keeps the unit.
            length_unit: One of :data:`~geonorm.data.frames.LENGTH_IN_ANGSTROM`; None keeps the unit.

        Returns:
            New configurations; forces are converted with both units.

        Raises:
            DataFileError: If a unit is unknown.
        """
        return in_units(self, energy_unit, length_unit)

    def split(self, train: int, test: int, seed: int = 0) -> tuple[Configurations, Configurations]:
        """Draw two sets that share no configuration and, where trajectories are known, no trajectory.

        Args:
            train: Number of training configurations.
            test: Number of test configurations.
            seed: Seed of the draw.

        Returns:
            The training configurations and the test configurations, both in random order.

        Raises:
            ValueError: If the set has fewer than asked for.
        """
        rng = np.random.default_rng(seed)
        if train < 1 or test < 1 or train + test > len(self):
            raise ValueError(
                f"asked for {train} training and {test} test configurations of {self.name}, which has {len(self)}; "
                "both must be at least 1 and their sum at most that."
            )
        group = np.arange(len(self)) if self.trajectory is None else np.unique(self.trajectory, return_inverse=True)[1]
        order = rng.permutation(group.max() + 1)
        filled = np.cumsum(np.bincount(group)[order])
        held_out = order[: int(np.searchsorted(filled, test)) + 1]
        is_test = np.isin(group, held_out)
        rest, held = rng.permutation(np.flatnonzero(~is_test)), rng.permutation(np.flatnonzero(is_test))
        if len(rest) < train:
            raise ValueError(
                f"{len(held_out)} whole trajectories give {test} test configurations of {self.name} and leave "
                f"{len(rest)} of {len(self)} for training, asked for {train}. Ask for fewer."
            )
        return self[rest[:train]], self[held[:test]]

    def _numbers(self, index: Index) -> ndarray:
        chosen = np.asarray(index.cpu()) if isinstance(index, Tensor) else index
        return np.atleast_1d(np.arange(len(self))[chosen])

    def _atoms(self, index: ndarray) -> ndarray:
        """The rows of the atoms of some configurations."""
        sizes = self.sizes[index].astype(np.int64)
        first = np.cumsum(sizes) - sizes
        return np.arange(sizes.sum()) + np.repeat(self._starts[index] - first, sizes)
