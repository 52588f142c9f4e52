"""PerTypeScaleShift: the units of an energy, put back after the network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.layers.fields import Features, Fields
from geonorm.layers.modern.atom_types import check_types
from geonorm.numerics import accumulation_dtype

Constants = float | int | Sequence[float | int] | Float[Tensor, "..."] | None


class PerTypeScaleShift(nn.Module):
    r"""Scale and shift per type: from the numbers of a network to energies in eV.

    $$ y_i=\sigma_{Z_i}x_i+\mu_{Z_i} $$

    with constants of the training set for the type $Z_i$ of node i, or for all types. On irreps σ multiplies every
    column and μ is added to 0e only.

    A total energy of $10^4$ eV has a spacing of 1 meV in float32. The constants are therefore float64 unless ``dtype``
    says otherwise, and the sum is computed in the wider of both types; ``promote`` also returns it so, as nequip does.
    Sum the energies of atoms only after that.

    Args:
        channels: A number of scalar channels, irreps such as ``"1x0e+1x1o"``, or ``Vectors(channels, dim)``.
        scales: σ, in the unit of the energies per atom, such as eV; one number, one for each type, or ``None`` for 1.
        shifts: μ, likewise, or ``None`` for 0.
        trainable: Make the constants parameters.
        promote: Return the result in the wider dtype of x and the constants rather than in that of x.
        device: The device of ``scales`` and ``shifts``.
        dtype: Their dtype; float64 if it is missing.

    Raises:
        ValueError: If a constant is not finite, or the numbers of types differ.

    Source: Batzner et al. 2022 (doi 10.1038/s41467-022-29939-5) and nequip's ``PerTypeScaleShift``; Batatia et al. 2022
    (arXiv 2206.07697) and mace's ``ScaleShiftBlock``.
    """

    def __init__(
        self,
        channels: Features,
        scales: Constants = None,
        shifts: Constants = None,
        trainable: bool = False,
        promote: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fields = Fields(channels)
        self.trainable, self.promote = trainable, promote
        self._initial = {"scales": self._read("scales", scales), "shifts": self._read("shifts", shifts)}
        numbers = {len(values) for values in self._initial.values() if isinstance(values, list)}
        if len(numbers) > 1:
            raise ValueError(
                f"there are {len(self._initial['scales'])} scales and {len(self._initial['shifts'])} "
                "shifts, expected one for each type, or one number for all"
            )
        self.num_types = numbers.pop() if numbers else None
        kwargs = {"device": device, "dtype": torch.float64 if dtype is None else dtype}
        for name, values in self._initial.items():
            value = None if values is None else torch.tensor(values, **kwargs)
            if trainable and value is not None:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        trivial = [column.trivial for column in self.fields.columns]
        shifted = None if all(trivial) else torch.tensor(trivial, dtype=torch.bool, device=device)
        self.register_buffer("_shifted", shifted, persistent=False)

    @staticmethod
    def _read(name: str, given: Constants) -> list[float] | float | None:
        values = given.tolist() if hasattr(given, "tolist") else given
        if values is None:
            return None
        read = [float(value) for value in values] if isinstance(values, Sequence) else float(values)
        if not all(math.isfinite(value) for value in (read if isinstance(read, list) else [read])) or read == []:
            raise ValueError(f"{name} are {given}, expected finite numbers: one for each type, or one for all")
        return read

    @classmethod
    def from_dataset(
        cls,
        types_of_samples: Iterable[Tensor],
        energies: Sequence[float] | Float[Tensor, " samples"],
        forces: Iterable[Tensor] | None = None,
        *,
        num_types: int,
        channels: Features = 1,
        **kwargs,
    ) -> PerTypeScaleShift:
        r"""Find the constants of a data set.

        The shifts are the least-squares solution of $E_s\approx\sum_{i\in s}\mu_{Z_i}$ over the samples. The scale, one
        number, is the root mean square of all force components, as in MACE; without forces it is the standard
        deviation of what the shifts leave of the energy per atom.

        Where compositions do not determine the shifts (a data set of one molecule), the smallest ones are taken, with
        a warning: they are right for these compositions only.

        Args:
            types_of_samples: For each sample the type of each node, ``[nodes]``.
            energies: The total energy of each sample, in eV.
            forces: The forces on the nodes of each sample, ``[nodes, 3]``, in eV/Å.
            num_types: The number of types.
            channels: The features that are scaled; one energy for each node.
            **kwargs: Further arguments of the layer.

        Returns:
            The layer.

        Raises:
            ValueError: If there are no samples, their number differs from that of the energies, a type never occurs,
                or no scale can be found.
        """
        counts = _compositions(types_of_samples, num_types)
        energy = torch.as_tensor(energies, dtype=torch.float64).cpu()
        if energy.shape != counts.shape[:1] or not energy.numel():
            raise ValueError(
                f"there are {counts.shape[0]} samples and energies of shape {list(energy.shape)}, expected one energy "
                "for each of at least one sample"
            )
        if missing := (counts.sum(0) == 0).nonzero().flatten().tolist():
            raise ValueError(f"the types {missing} never occur: leave them out of num_types, or add samples with them")
        shifts, _, rank, _ = torch.linalg.lstsq(counts, energy[:, None], driver="gelsd")  # the smallest solution
        shifts = shifts[:, 0]
        if int(rank) < num_types:
            warnings.warn(
                "the compositions do not determine a shift for each type: the smallest shifts are taken, which are "
                "right for these compositions only. Energies of isolated atoms are right for all: "
                "PerTypeScaleShift(channels, scales, shifts)",
                stacklevel=2,
            )
        if forces is not None:
            what, scale = "forces", _root_mean_square(forces)
        else:
            left = (energy - counts @ shifts) / counts.sum(1)
            what, scale = "energies", float(left.std()) if len(left) > 1 else 0.0
        if not (math.isfinite(scale) and scale > 1e-12 * float(energy.abs().max())):
            raise ValueError(
                f"the {what} give the scale {scale:.3g}, expected a positive number: give "
                f"{'forces' if forces is None else 'forces that differ from zero'}, or the scale itself"
            )
        return cls(channels, scale, shifts, **kwargs)

    def reset_parameters(self) -> None:
        """The constants that the layer was made with."""
        with torch.no_grad():
            for name, values in self._initial.items():
                if values is not None:
                    constants = getattr(self, name)
                    constants.copy_(torch.tensor(values, dtype=constants.dtype))

    def forward(
        self, x: Float[Tensor, "*shape"], types: Int[Tensor, " nodes"] | None = None
    ) -> Float[Tensor, "*shape"]:
        """Scale and shift.

        Args:
            x: Features, ``[nodes, columns]``, such as one energy for each node, ``[nodes, 1]``; or
                ``[nodes, channels, 3]`` for vectors.
            types: The type of each node, ``[nodes]``; needed if there are constants per type, and
                not looked at otherwise.

        Returns:
            The features, of the shape of ``x``, and of its dtype unless the layer promotes.

        Raises:
            ValueError: If the shapes do not fit, x holds no floating-point numbers, or types are missing.
        """
        given = NodeFeatures.read(x, None, None, self.fields.dim, self.fields.block)
        if self.num_types is not None:
            if types is None:
                raise ValueError("there are constants for each type: pass types, an integer tensor of shape [nodes]")
            check_types(types, given.x.shape[0], self.num_types)
        dtype = accumulation_dtype(x.dtype)
        for constants in (self.scales, self.shifts):
            dtype = dtype if constants is None else torch.promote_types(dtype, constants.dtype)
        y = given.x.to(dtype)
        if self.scales is not None:
            y = y * self._per_node(self.scales, types, dtype)
        if self.shifts is not None:
            shift = self._per_node(self.shifts, types, dtype)
            y = y + (shift if self._shifted is None else torch.where(self._shifted, shift, 0))
        return given.restore(y if self.promote else y.to(x.dtype))

    @staticmethod
    def _per_node(constants: Tensor, types: Tensor | None, dtype: torch.dtype) -> Tensor:
        """One row for each node, or a number."""
        return constants.to(dtype).index_select(0, types)[:, None] if constants.ndim else constants.to(dtype)

    def extra_repr(self) -> str:
        """The features and the constants."""
        shown = {}
        for name in ("scales", "shifts"):
            constants = getattr(self, name)
            values = None if constants is None or constants.is_meta else constants.tolist()
            shown[name] = [round(v, 4) for v in values] if isinstance(values, list) else values and round(values, 4)
        return f"{self.fields!r}, scales={shown['scales']}, shifts={shown['shifts']}"


def _compositions(types: Iterable[Tensor], num_types: int) -> Float[Tensor, "samples types"]:
    """How often each type occurs in each sample."""
    rows = []
    for place, of_sample in enumerate(types):
        of_sample = torch.as_tensor(of_sample)
        if of_sample.ndim != 1 or not of_sample.numel():
            raise ValueError(f"sample {place} has types of shape {list(of_sample.shape)}, expected [nodes]")
        check_types(of_sample.cpu(), of_sample.numel(), num_types)
        rows.append(torch.bincount(of_sample.cpu(), minlength=num_types))
    return torch.stack(rows).double() if rows else torch.zeros(0, num_types, dtype=torch.float64)


def _root_mean_square(values: Iterable[Tensor]) -> float:
    """The root mean square of all numbers of all tensors, in float64."""
    total, number = 0.0, 0
    for value in values:
        value = torch.as_tensor(value).double()
        total, number = total + float(value.square().sum()), number + value.numel()
    return math.sqrt(total / number) if number else math.nan
