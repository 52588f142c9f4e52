"""What to standardize, as the kernels read it: the structures of ``source/interface.h``."""

from __future__ import annotations

import ctypes
from weakref import WeakKeyDictionary

from geonorm.kernels.pools import Columns


class _Columns(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("group", ctypes.c_void_p),
        ("weight", ctypes.c_void_p * 2),
    ]


class _Recipe(ctypes.Structure):
    _fields_ = [
        ("columns", ctypes.c_int64),
        ("statistic", ctypes.c_int64),
        ("balanced", ctypes.c_int64),
        ("single", ctypes.c_int64),
        ("uniform", ctypes.c_int64),
        ("eps", ctypes.c_double),
        ("mean", _Columns),
        ("scale", _Columns),
    ]


class Recipe:
    """What to standardize, as the kernels read it: the groups of columns, the statistic and eps.

    Args:
        mean: The groups of columns of the mean, or ``None``.
        scale: Those of the scale, or ``None``.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``.
        eps: Added to the second moment.
    """

    def __init__(self, mean: Columns | None, scale: Columns | None, statistic: str, eps: float) -> None:
        some = mean if scale is None else scale
        self.columns = some.num_columns
        self.mean_groups = 0 if mean is None else mean.num_groups
        self.scale_groups = 0 if scale is None else scale.num_groups
        self.own = scale is not None and statistic == "own"
        balanced = mean is not None and (
            mean.single or (scale is not None and mean.groups == scale.groups and scale.uniform is not None)
        )
        self._arrays = [self._read(mean), self._read(scale)]  # what the structure points to
        self._structure = _Recipe(
            columns=self.columns,
            statistic=("rms", "residual", "own").index(statistic),
            balanced=balanced,
            single=mean is not None and mean.single,
            uniform=scale is not None and scale.uniform is not None,
            eps=eps,
            mean=self._arrays[0][0],
            scale=self._arrays[1][0],
        )
        self.address = ctypes.addressof(self._structure)

    @staticmethod
    def _read(columns: Columns | None) -> tuple:
        if columns is None:
            return (_Columns(0, 0, None, (None, None)),)
        number = columns.num_columns
        kind = 1 if columns.each else 2 if columns.all else 3
        divisors = [columns.uniform] * number if columns.divisor is None else columns.divisor.tolist()
        group = (ctypes.c_int64 * number)(*columns.groups)
        # Columns without a group have divisors that nobody reads.
        weights = [
            (kind_ * number)(*(1 / (divisor or 1) for divisor in divisors))
            for kind_ in (ctypes.c_float, ctypes.c_double)
        ]
        addresses = (ctypes.c_void_p * 2)(*(ctypes.addressof(weight) for weight in weights))
        return _Columns(kind, columns.num_groups, ctypes.addressof(group), addresses), group, weights


#: The recipes of each pair of groups of columns, as long as these exist.
_recipes: WeakKeyDictionary[Columns, WeakKeyDictionary[Columns, dict]] = WeakKeyDictionary()


def recipe(mean: Columns | None, scale: Columns | None, statistic: str, eps: float) -> Recipe | None:
    """The recipe for these groups of columns, made once, or ``None`` if the kernels do not know it.

    Args:
        mean: The groups of columns of the mean, or ``None``.
        scale: Those of the scale, or ``None``.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``.
        eps: Added to the second moment.
    """
    one, other = (scale, mean) if mean is None else (mean, scale)
    if one is None:
        return None
    try:
        return _recipes[one][other or one][mean is None, scale is None, statistic, eps]
    except KeyError:
        known = _recipes.setdefault(one, WeakKeyDictionary()).setdefault(other or one, {})
        found = Recipe(mean, scale, statistic, eps) if _expressible(mean, scale, statistic) else None
        known[mean is None, scale is None, statistic, eps] = found
        return found


def _expressible(mean: Columns | None, scale: Columns | None, statistic: str) -> bool:
    """Whether every column has a scale, means are means, and there is anything at all."""
    if (mean is not None and not _plain_mean(mean)) or (mean or scale).num_columns == 0:
        return False
    if scale is None:
        return mean.num_groups > 0
    return scale.complete and (statistic != "own" or _plain_mean(scale))


def _plain_mean(columns: Columns) -> bool:
    """Whether each column is divided by the size of its group."""
    sizes = [*columns.group_size.tolist(), None]
    divisors = [columns.uniform] * columns.num_columns if columns.divisor is None else columns.divisor.tolist()
    return all(
        group == columns.num_groups or divisor == sizes[group]
        for group, divisor in zip(columns.groups, divisors, strict=True)
    )
