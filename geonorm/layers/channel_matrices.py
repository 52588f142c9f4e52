"""The matrices over channels that a weight holds: what may be normalized without turning a vector."""

from __future__ import annotations

import math
import sys

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

#: One unit per row; the sizes of several matrices differ.
Matrix = Float[Tensor, "_ _"]


class WholeWeight(nn.Module):
    """A weight ``[out, ...]`` of a linear map or a convolution: one matrix ``[out, fan-in]``.

    Args:
        weight: The weight; only its shape is used.
    """

    def __init__(self, weight: Float[Tensor, "out *fan"]) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        self.gain_shape = (*self.shape[:1], *(1,) * (weight.ndim - 1))
        self.least_fan_in = math.prod(self.shape[1:])

    def read(self, weight: Float[Tensor, "out *fan"]) -> list[Matrix]:
        """The matrix."""
        return [weight.reshape(self.shape[0], -1)]

    def present(self) -> list[None]:
        """Which entries exist: all."""
        return [None]

    def write(self, matrices: list[Matrix]) -> Float[Tensor, "out *fan"]:
        """The weight that holds this matrix."""
        return matrices[0].view(self.shape)


class MatrixPerType(nn.Module):
    r"""The flat weight of an ``e3nn.o3.Linear``: a matrix over channels for every irrep type.

    On the type of degree l the map is $W_l\otimes I_{2l+1}$. The matrix contains the factors of e3nn's path
    normalization, so that its rows and singular values are those of the map. Two terms without a path between them
    leave a hole of zeros in it.

    Args:
        linear: The module.

    Raises:
        ValueError: If the weight has more axes or is not its own, there is no path, or two paths join the same terms.
    """

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        if not linear.internal_weights or linear.weight.ndim != 1:
            raise ValueError(
                f"{linear} has a weight of shape {list(linear.weight.shape)}, expected one flat weight of its own: "
                "build it with internal weights, without f_in and f_out"
            )
        paths = [path for path in linear.instructions if path.i_in >= 0 and 0 not in path.path_shape]
        if not paths or len({(path.i_in, path.i_out) for path in paths}) < len(paths):
            raise ValueError(
                f"{linear} has the paths {paths}, expected one or none between two terms, and one at least"
            )
        # What a forward pass reads is kept as plain numbers, which the compiler can guard and no dtype rounds.
        self.sizes = [path.path_shape[0] * path.path_shape[1] for path in paths]
        self.factors = [float(path.path_weight) for path in paths]
        blocks: dict[str, dict[tuple[int, int], Tensor]] = {}
        for path, numbers in zip(paths, torch.arange(sum(self.sizes)).split(self.sizes), strict=True):
            kind = blocks.setdefault(str(linear.irreps_out[path.i_out].ir), {})
            kind[path.i_out, path.i_in] = numbers.view(path.path_shape).T
        places = [self._places(kind) for kind in blocks.values()]
        self.types, self.shapes = list(blocks), [tuple(place.shape) for place in places]
        self.gain_shape = (sum(out for out, _ in self.shapes), 1)
        self.least_fan_in = min(int((place < sum(self.sizes)).sum(1).min()) for place in places)
        place = torch.cat([place.flatten() for place in places])
        entry = torch.argsort(place, stable=True)[: sum(self.sizes)]
        self.register_buffer("_place", place.to(linear.weight.device), persistent=False)
        self.register_buffer("_entry", entry.to(linear.weight.device), persistent=False)

    def _places(self, blocks: dict[tuple[int, int], Int[Tensor, "_ _"]]) -> Int[Tensor, "rows columns"]:
        """Which number of the weight stands where in the matrix of a type; one past the last stands in a hole."""
        rows = {out: block.shape[0] for (out, _), block in sorted(blocks.items(), key=lambda item: item[0])}
        columns = {term: block.shape[1] for (_, term), block in blocks.items()}

        def block(out: int, term: int) -> Tensor:
            hole = torch.full((rows[out], columns[term]), sum(self.sizes))
            return blocks.get((out, term), hole)

        return torch.cat([torch.cat([block(out, term) for term in columns], 1) for out in rows])

    def _unflatten(self, values: Tensor) -> list[Tensor]:
        parts = values.split([out * fan_in for out, fan_in in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _times(self, weight: Float[Tensor, " numbers"], factors: list[float]) -> Float[Tensor, " numbers"]:
        return torch.cat([part * factor for part, factor in zip(weight.split(self.sizes), factors, strict=True)])

    def read(self, weight: Float[Tensor, " numbers"]) -> list[Matrix]:
        """The matrix of each type."""
        padded = torch.cat([self._times(weight, self.factors), weight.new_zeros(1)])
        return self._unflatten(padded[self._place])

    def present(self) -> list[Tensor]:
        """Which entries of each matrix exist."""
        return self._unflatten(self._place < sum(self.sizes))

    def write(self, matrices: list[Matrix]) -> Float[Tensor, " numbers"]:
        """The weight that holds these matrices."""
        flat = torch.cat([matrix.flatten() for matrix in matrices])[self._entry]
        return self._times(flat, [1 / factor for factor in self.factors])


def matrices_of(module: nn.Module, name: str) -> WholeWeight | MatrixPerType:
    """How to read the weight of a module.

    Args:
        module: The module.
        name: The name of its weight.

    Raises:
        ValueError: If the weight is flat and the module a map between irreps that is not linear in one input.
    """
    weight = getattr(module, name)
    o3 = sys.modules.get("e3nn.o3")  # who has such a module has imported it, and others need not wait for it
    if name == "weight" and o3 is not None and isinstance(module, o3.Linear):
        return MatrixPerType(module)
    if weight.ndim < 2 and hasattr(module, "irreps_out"):
        raise ValueError(
            f"the weight {name!r} of {type(module).__name__} is flat, of shape {list(weight.shape)}, expected a matrix "
            "[out, ...] or the weight of e3nn.o3.Linear: normalize a linear map before or after this module"
        )
    return WholeWeight(weight)


def is_map_of_vectors(weight: Tensor) -> bool:
    r"""Whether a matrix treats three columns as the components of a vector: $W\otimes I_3$, or $I_3\otimes W$.

    Zero has this structure too and does not count. Where a device keeps no values the answer is no.

    Args:
        weight: Any weight.
    """
    if weight.ndim != 2 or weight.is_meta or any(size % 3 for size in weight.shape) or not weight.any():
        return False
    out, fan_in = (size // 3 for size in weight.shape)
    weight, eye = weight.detach(), torch.eye(3, device=weight.device, dtype=weight.dtype)
    last, first = weight[::3, ::3].contiguous(), weight[:out, :fan_in].contiguous()
    return torch.equal(weight, torch.kron(last, eye)) or torch.equal(weight, torch.kron(eye, first))
