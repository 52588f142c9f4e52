"""The columns of a feature matrix: which irrep type, channel and component each one is, and how axes group them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

from geonorm.axes import Axes
from geonorm.kernels.pools import Columns

#: A number of scalar channels, or irreps as a string or as ``e3nn.o3.Irreps`` (a tuple). The class itself is imported
#: with the first layer: importing e3nn.o3 takes as long as importing torch.
Features = int | str | tuple

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
    """The columns of features given by a channel count (scalars) or by irreps, in e3nn's ``mul_ir`` layout.

    Args:
        features: A number of scalar channels, or irreps such as ``"32x0e+16x1o"``.

    Raises:
        ValueError: If the number of channels is negative, or the irreps cannot be read.
    """

    def __init__(self, features: Features) -> None:
        from e3nn import o3

        self.channels = features if isinstance(features, int) else None
        if isinstance(features, int) and features < 0:
            raise ValueError(f"channels is {features}, expected a number of channels >= 0")
        try:
            if features is None:
                raise TypeError("e3nn reads None as no irreps at all")
            self.irreps = o3.Irreps([(features, (0, 1))] if isinstance(features, int) else features)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"features {features!r} are neither a number of scalar channels nor irreps: "
                "give an int such as 64 or a string such as '32x0e+16x1o'"
            ) from error
        self.types = list(dict.fromkeys(irrep for mul, irrep in self.irreps if mul))
        self.columns: list[Column] = []
        count = dict.fromkeys(self.types, 0)
        for mul, irrep in self.irreps:
            for _ in range(mul):
                field = self.num_fields
                place = (field, self.types.index(irrep), count[irrep])
                count[irrep] += 1
                trivial = irrep.l == 0 and irrep.p == 1
                self.columns += [Column(*place, component, trivial, irrep.dim) for component in range(irrep.dim)]
        self.count = count

    @property
    def num_fields(self) -> int:
        """The number of irrep copies so far."""
        return self.columns[-1].field + 1 if self.columns else 0

    @property
    def dim(self) -> int:
        """The number of columns."""
        return len(self.columns)

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
        return str(self.channels) if self.channels is not None else repr(str(self.irreps))

    def _key(self, column: Column, axes: Axes, channel_groups: int | None) -> Hashable:
        """The name of the pool a column belongs to: everything that the axes do not pool."""
        if "t" in axes:
            return 0
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
    ) -> Columns:
        r"""Group the columns that axes pool, with the divisors of the mean over a group.

        Args:
            axes: The pooled axes; only v, t and m matter for columns.
            normalization: ``"component"``: mean over all columns of a group. ``"norm"``: sum over components, mean over
                channels. ``"row"``: sum over all columns. ``"degree"``: mean over columns per type, then over types.
            channel_groups: Split the channels of every type into that many pools.
            only_trivial: Leave out all columns but those of type 0e.

        Returns:
            The partition.
        """
        keys = [
            self._key(column, axes, channel_groups) if column.trivial or not only_trivial else None
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
