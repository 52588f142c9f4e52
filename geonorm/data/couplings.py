"""Scalar couplings of many molecules: which atoms couple, how strongly, and through which mechanism."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from geonorm.data.files import DataFileError
from geonorm.data.frames import SYMBOLS

#: Kinds of couplings: the number of bonds between the two atoms, J, and their elements.
COUPLING_TYPES = ("1JHC", "1JHN", "2JHH", "2JHC", "2JHN", "3JHH", "3JHC", "3JHN")
#: Fermi contact, spin-dipolar, paramagnetic spin-orbit and diamagnetic spin-orbit: the columns of ``contributions``.
CONTRIBUTIONS = ("fc", "sd", "pso", "dso")

Index = int | slice | Sequence[int] | Int[ndarray, " chosen"] | Bool[ndarray, " molecules"] | Int[Tensor, " chosen"]


class CouplingBatch(NamedTuple):
    """Some molecules and their couplings as tensors; the first five are the arguments of a network with pair read-out.

    Args:
        z: Nuclear charges ``[nodes]``.
        pos: Positions in Å ``[nodes, 3]``.
        batch: The molecule of each atom ``[nodes]``.
        pair_index: The two atoms of each coupling, numbers of nodes ``[2, couplings]``.
        batch_size: The number of molecules.
        targets: The four contributions in Hz ``[couplings, 4]``.
        types: Indices into :data:`COUPLING_TYPES` ``[couplings]``.
    """

    z: Tensor
    pos: Tensor
    batch: Tensor
    pair_index: Tensor
    batch_size: int
    targets: Tensor
    types: Tensor


@dataclass(frozen=True)
class Couplings:
    """Molecules one after the other in the same arrays, and the scalar couplings of their atoms.

    Args:
        sizes: Number of atoms of each molecule ``[molecules]``.
        z: Nuclear charges of all atoms ``[atoms]``, molecule after molecule.
        positions: ``[atoms, 3]`` in Å.
        molecule: The molecule of each coupling ``[couplings]``, rising.
        pairs: The two atoms of each coupling ``[couplings, 2]``, counted from 0 in their molecule.
        types: Indices into :data:`COUPLING_TYPES` ``[couplings]``.
        contributions: ``[couplings, 4]`` in Hz, the columns :data:`CONTRIBUTIONS`.
        names: What each molecule is called ``[molecules]``.
        name: What to call the set in tables.
        provenance: Who made it, how, with which versions and settings.

    Raises:
        DataFileError: If shapes disagree, an index points nowhere, a type names other elements than its atoms have, or
            a value is not finite.
    """

    # Shapes are checked below and not by annotations: a reader's file deserves a message, not a type error.
    sizes: ndarray
    z: ndarray
    positions: ndarray
    molecule: ndarray
    pairs: ndarray
    types: ndarray
    contributions: ndarray
    names: ndarray
    name: str = "couplings"
    provenance: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sizes.ndim != 1 or self.sizes.dtype.kind not in "iu" or (len(self.sizes) and self.sizes.min() < 1):
            raise DataFileError(
                f"{self.name}: sizes is {self.sizes.dtype} of shape {self.sizes.shape}, expected one whole number, "
                "at least 1, for each molecule."
            )
        molecules, atoms, couplings = len(self.sizes), int(self.sizes.sum()), len(self.contributions)
        expected = {
            "names": (molecules,),
            "z": (atoms,),
            "positions": (atoms, 3),
            "molecule": (couplings,),
            "pairs": (couplings, 2),
            "types": (couplings,),
            "contributions": (couplings, 4),
        }
        for key, shape in expected.items():
            array = getattr(self, key)
            if array.shape != shape:
                raise DataFileError(
                    f"{self.name}: {key} has shape {array.shape}, expected {shape} for {molecules} molecules of "
                    f"{atoms} atoms and {couplings} couplings. Check that all arrays come from the same set."
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DataFileError(
                    f"{self.name}: {key} holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite, "
                    "expected finite numbers. Drop those molecules or get the file again."
                )
            if key in ("z", "molecule", "pairs", "types") and array.dtype.kind not in "iu":
                raise DataFileError(f"{self.name}: {key} is {array.dtype}, expected whole numbers.")
        self._check_indices(molecules)
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)[:-1]]))
        object.__setattr__(self, "_first", np.searchsorted(self.molecule, np.arange(molecules + 1)))
        self._check_elements()

    def _check_indices(self, molecules: int) -> None:
        if not len(self.molecule):
            return
        if self.molecule.min() < 0 or self.molecule.max() >= molecules or (np.diff(self.molecule) < 0).any():
            raise DataFileError(
                f"{self.name}: molecule runs from {self.molecule.min()} to {self.molecule.max()}, expected rising "
                f"numbers from 0 to {molecules - 1}. Sort the couplings by molecule."
            )
        wrong = (self.pairs < 0).any(1) | (self.pairs >= self.sizes[self.molecule][:, None]).any(1)
        wrong |= self.pairs[:, 0] == self.pairs[:, 1]
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataFileError(
                f"{self.name}: coupling {row} is between atoms {tuple(self.pairs[row].tolist())}, expected two "
                f"atoms of molecule {self.names[self.molecule[row]]}, which has {self.sizes[self.molecule[row]]}."
            )
        if self.types.min() < 0 or self.types.max() >= len(COUPLING_TYPES):
            raise DataFileError(
                f"{self.name}: types run from {self.types.min()} to {self.types.max()}, expected 0 to "
                f"{len(COUPLING_TYPES) - 1}, indices into COUPLING_TYPES."
            )

    def _check_elements(self) -> None:
        elements = np.array([sorted(kind[2:]) for kind in COUPLING_TYPES])[self.types]
        symbols = np.array([SYMBOLS.get(number, "?") for number in range(128)])
        found = np.sort(symbols[np.minimum(self.z, 127)][self.pairs + self._starts[self.molecule][:, None]], axis=1)
        if (elements != found).any():
            row = int(np.flatnonzero((elements != found).any(1))[0])
            kind = COUPLING_TYPES[self.types[row]]
            raise DataFileError(
                f"{self.name}: coupling {row} is a {kind} between {' and '.join(found[row])}, "
                "expected the elements of the type. Check that pairs count the atoms as z does."
            )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: Index) -> Couplings:
        """Return the chosen molecules with their couplings as a set of their own; one number gives a set of one."""
        index = self._numbers(index)
        atoms, couplings, counts = self._rows(index)
        return replace(
            self,
            sizes=self.sizes[index],
            names=self.names[index],
            z=self.z[atoms],
            positions=self.positions[atoms],
            molecule=np.repeat(np.arange(len(index)), counts),
            pairs=self.pairs[couplings],
            types=self.types[couplings],
            contributions=self.contributions[couplings],
        )

    def __repr__(self) -> str:
        smallest, largest = (self.sizes.min(), self.sizes.max()) if len(self) else (0, 0)
        return (
            f"Couplings({self.name}, {len(self)} molecules of {smallest} to {largest} atoms, "
            f"{len(self.contributions)} couplings, Hz)"
        )

    @property
    def constants(self) -> Float[ndarray, " couplings"]:
        """The coupling constants J in Hz, the sums of their four contributions."""
        return self.contributions.sum(axis=1)

    def split(self, train: int, test: int, seed: int = 0) -> tuple[Couplings, Couplings]:
        """Draw two sets of molecules without a common one.

        Args:
            train: Number of training molecules.
            test: Number of test molecules.
            seed: Seed of the draw.

        Returns:
            The training molecules and the test molecules, with their couplings.

        Raises:
            ValueError: If the set has fewer molecules than asked for.
        """
        if train < 1 or test < 1 or train + test > len(self):
            raise ValueError(
                f"asked for {train} training and {test} test molecules of {self.name}, which has {len(self)}; both "
                "must be at least 1 and their sum at most that."
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self[order[:train]], self[order[train : train + test]]

    def batch(
        self, index: Index, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> CouplingBatch:
        """Return some molecules as tensors for a network with a pair read-out: ``network(*batch[:5])``.

        Args:
            index: Which molecules, in this order.
            device: Of the tensors; None is the CPU.
            dtype: Of positions and targets; None is torch's default.

        Returns:
            The tensors by name.
        """
        index = self._numbers(index)
        atoms, couplings, counts = self._rows(index)
        starts = np.concatenate([[0], np.cumsum(self.sizes[index], dtype=np.int64)])[:-1]
        pairs = self.pairs[couplings].astype(np.int64) + np.repeat(starts, counts)[:, None]
        dtype = dtype or torch.get_default_dtype()
        return CouplingBatch(
            z=torch.as_tensor(self.z[atoms].astype(np.int64), device=device),
            pos=torch.as_tensor(self.positions[atoms], dtype=dtype, device=device),
            batch=torch.as_tensor(np.repeat(np.arange(len(index)), self.sizes[index]), device=device),
            pair_index=torch.as_tensor(np.ascontiguousarray(pairs.T), device=device),
            batch_size=len(index),
            targets=torch.as_tensor(self.contributions[couplings], dtype=dtype, device=device),
            types=torch.as_tensor(self.types[couplings].astype(np.int64), device=device),
        )

    def _numbers(self, index: Index) -> Int[ndarray, " chosen"]:
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        return np.atleast_1d(np.arange(len(self))[index])

    def _rows(self, index: Int[ndarray, " chosen"]) -> tuple[ndarray, ndarray, ndarray]:
        """The atoms of the chosen molecules, their couplings, and how many couplings each has."""
        first, counts = self._first[index], np.diff(self._first)[index]
        return _ranges(self._starts[index], self.sizes[index]), _ranges(first, counts), counts


def _ranges(starts: ndarray, lengths: ndarray) -> ndarray:
    """Concatenate ``start, start + 1, ...`` of each range."""
    if not lengths.sum():
        return np.zeros(0, dtype=np.int64)
    before = np.cumsum(lengths, dtype=np.int64) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
