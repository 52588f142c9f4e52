"""The columns of a feature matrix: which irrep type, channel and component each one is, and how axes group them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from geonorm.axes import Axes
from geonorm.kernels.pools import Columns


class Vectors(NamedTuple):
    """Vector channels as features: ``[nodes, channels, dim]``, in a space of any dimension.

    In three dimensions ``Vectors(16)`` are the irreps ``"16x1o"``.

    Args:
        channels: The number of vectors of a node.
        dim: The number of components of each.
    """

    channels: int
    dim: int = 3


class VectorType(NamedTuple):
    """What :class:`Vectors` have for an irrep: orthogonal matrices act on them as they are."""

    dim: int
    l: int = 1  # noqa: E741 (the field's name for the degree)
    p: int = -1

    def __str__(self) -> str:
        return f"{self.dim}-vectors"


#: A number of scalar channels, irreps as a string or as ``e3nn.o3.Irreps`` (a tuple), or vector channels. The irreps
#: themselves are imported with the first layer: importing e3nn.o3 takes as long as importing torch.
Features = int | str | tuple | Vectors

NORMALIZATIONS = ("component", "norm", "row", "degree")


@dataclass(frozen=True)
class Column:
    """One column of the feature matrix.

    Args:
        field: The number of its field (one irrep copy, one channel).
        type: The number of its irrep type among the types that occur.
        channel: The number of its channel within the type.
        component: The component of the irrep, m.
        trivial: Whether the irrep is 0e, on which every group element acts as the identity.
        dim: The dimension of the irrep.
    """

    field: int
    type: int
    channel: int
    component: int
    trivial: bool
    dim: int


class Fields:
    """The columns of features: scalars by their number, irreps in e3nn's ``mul_ir`` layout, or vector channels.

    Args:
        features: A number of scalar channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.

    Attributes:
        dim: The number of columns.
        num_fields: The number of irrep copies (channels of all types).
        runs: Channels and components of consecutive columns of one type.
        block: Channels and components, where all columns are of one type that has components.

    Raises:
        ValueError: If the number of channels is negative, or the irreps cannot be read.
    """

    def __init__(self, features: Features) -> None:
        self.channels = features if isinstance(features, int) else None
        self.vectors = features if isinstance(features, Vectors) else None
        terms = [(self.vectors.channels, VectorType(self.vectors.dim))] if self.vectors else self._read(features)
        if any(number < 0 for number, _ in terms) or (self.vectors and self.vectors.dim < 1):
            raise ValueError(f"features are {features!r}, expected a number of channels >= 0 and of components >= 1")
        self.irreps = terms
        self.types = list(dict.fromkeys(irrep for mul, irrep in self.irreps if mul))
        self.columns: list[Column] = []
        count = dict.fromkeys(self.types, 0)
        for mul, irrep in self.irreps:
            for _ in range(mul):
                field = self.columns[-1].field + 1 if self.columns else 0
                place = (field, self.types.index(irrep), count[irrep])
                count[irrep] += 1
                trivial = irrep.l == 0 and irrep.p == 1
                self.columns += [Column(*place, component, trivial, irrep.dim) for component in range(irrep.dim)]
        self.count = count
        # What a forward pass reads is kept as plain numbers, which the compiler can guard.
        self.dim = len(self.columns)
        self.num_fields = sum(count.values())
        self.runs = [(mul, irrep.dim) for mul, irrep in self.irreps]
        self.block = None if self.vectors is None else tuple(self.vectors)
        if self.vectors is None and len(self.types) == 1 and self.types[0].dim > 1:
            self.block = (self.num_fields, self.types[0].dim)

    @staticmethod
    def _read(features: int | str | tuple) -> tuple:
        from e3nn import o3

        if isinstance(features, int):
            if features < 0:
                raise ValueError(f"channels is {features}, expected a number of channels >= 0")
            return o3.Irreps([(features, (0, 1))])
        try:
            if features is None:
                raise TypeError("e3nn reads None as no irreps at all")
            return o3.Irreps(features)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"features {features!r} are neither a number of scalar channels nor irreps: "
                "give an int such as 64 or a string such as '32x0e+16x1o'"
            ) from error

    @cached_property
    def shapes(self) -> str:
        """The shapes of features with one row for each node, in the words of an error message."""
        flat = f"[nodes, {self.dim}]"
        return flat if self.block is None else f"{flat} or [nodes, {self.block[0]}, {self.block[1]}]"

    @cached_property
    def field_of_column(self) -> list[int]:
        """The field of each column."""
        return [column.field for column in self.columns]

    @cached_property
    def trivial_fields(self) -> list[int]:
        """The fields of type 0e: the only ones that may carry a bias."""
        return sorted({column.field for column in self.columns if column.trivial})

    @cached_property
    def nontrivial_types(self) -> list[tuple]:
        """The types on which the group acts."""
        return [irrep for irrep in self.types if not (irrep.l == 0 and irrep.p == 1)]

    def __repr__(self) -> str:
        if self.vectors is not None:
            return repr(self.vectors)
        return str(self.channels) if self.channels is not None else repr(str(self.irreps))

    def _key(self, column: Column, axes: Axes, channel_groups: int | None, scalars_apart: bool) -> Hashable:
        """The name of the pool a column belongs to: everything that the axes do not pool."""
        if "t" in axes:
            return scalars_apart and column.trivial
        channel: Hashable = column.channel
        if "v" in axes:
            total = self.count[self.types[column.type]]
            channel = None if channel_groups is None else column.channel * channel_groups // total
        return (column.type, channel, None if "m" in axes else column.component)

    def group(
        self,
        axes: Axes,
        *,
        normalization: str = "component",
        channel_groups: int | None = None,
        only_trivial: bool = False,
        scalars_apart: bool = False,
    ) -> Columns:
        r"""Group the columns that axes pool, with the divisors of the mean over a group.

        Args:
            axes: The pooled axes; only v, t and m matter for columns.
            normalization: ``"component"``: mean over all columns of a group. ``"norm"``: sum over components, mean over
                channels. ``"row"``: sum over all columns. ``"degree"``: mean over columns per type, then over types.
            channel_groups: Split the channels of every type into that many pools.
            only_trivial: Leave out all columns but those of type 0e.
            scalars_apart: Where the axes pool types, pool 0e by itself and all others together.

        Returns:
            The partition.
        """
        keys = [
            self._key(column, axes, channel_groups, scalars_apart) if column.trivial or not only_trivial else None
            for column in self.columns
        ]
        members: dict[Hashable, list[Column]] = {}
        for key, column in zip(keys, self.columns, strict=True):
            members.setdefault(key, []).append(column)
        divisor: dict[tuple[Hashable, int], int] = {}
        for key, pooled in members.items():
            types = [column.type for column in pooled]
            for kind in set(types):
                divisor[key, kind] = {
                    "component": len(pooled),
                    "norm": len({column.field for column in pooled}),
                    "row": 1,
                    "degree": types.count(kind) * len(set(types)),
                }[normalization]
        return Columns(keys, [divisor[key, column.type] for key, column in zip(keys, self.columns, strict=True)])
