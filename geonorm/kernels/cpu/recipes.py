"""What to standardize, as the kernels read it: the structures of ``source/interface.h``."""

from __future__ import annotations

import ctypes

from geonorm.kernels import recipe as shared
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


class Recipe(shared.Recipe):
    """The same in memory, at ``address``."""

    def __init__(self, mean: Columns | None, scale: Columns | None, statistic: str, eps: float) -> None:
        super().__init__(mean, scale, statistic, eps)
        self._arrays = [self._read(mean), self._read(scale)]  # what the structure points to
        self._structure = _Recipe(
            columns=self.columns,
            statistic=self.statistic,
            balanced=self.balanced,
            single=self.single,
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
        group = (ctypes.c_int64 * number)(*columns.groups)
        weights = [
            (kind_ * number)(*(1 / (divisor or 1) for divisor in shared.divisors_of(columns)))
            for kind_ in (ctypes.c_float, ctypes.c_double)
        ]
        addresses = (ctypes.c_void_p * 2)(*(ctypes.addressof(weight) for weight in weights))
        return _Columns(kind, columns.num_groups, ctypes.addressof(group), addresses), group, weights


recipe = shared.Recipes(Recipe)
