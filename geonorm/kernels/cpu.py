"""The compiled kernels: what they can do, where they are, and how they are called."""

from __future__ import annotations

import ctypes
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from geonorm.kernels.pools import Columns
from geonorm.numerics import accumulation_dtype

#: Where the installation puts the compiled library, if there was a compiler.
LIBRARY = Path(__file__).with_name("_cpu.so")
TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
#: The instruction sets for which the kernels are compiled, from the one that every processor has.
SETS = ("default", "avx2", "avx512")
#: The entries of a matrix from which a second thread pays, and those that each thread should have.
PARALLEL = 150_000
SHARE = 75_000
#: The bytes of a result that are written past the caches, where the size of the last cache is not known.
LARGE = 16 << 20

#: A child process has the parent's memory but not its threads: OpenMP would wait for them forever.
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def last_cache() -> int:
    """The bytes of the last cache of a processor, zero if nobody tells (sysconf adds those of all processors up)."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
        return int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0)
    except (OSError, ValueError, IndexError):
        return 0


class Kernels:
    """The functions of the library for one instruction set.

    Args:
        library: The library.
        instructions: The name of the instruction set.
    """

    #: How many pointers follow the arguments that all three orders have: results, statistics, gradients.
    POINTERS: ClassVar = {"forward": 4, "backward": 9, "double_backward": 14}

    def __init__(self, library: ctypes.CDLL, instructions: str) -> None:
        self.instructions = instructions
        number, pointer = ctypes.c_int64, ctypes.c_void_p
        common = [pointer, number, number, pointer, pointer, number, number, *[pointer] * 5]
        for order, more in self.POINTERS.items():
            functions = {}
            for dtype, name in TYPES.items():
                function = getattr(library, f"geonorm_{order}_{name}_{instructions}")
                function.argtypes, function.restype = [*common, *[pointer] * more], None
                functions[dtype] = function
            setattr(self, order, functions)
        self.segments, self.order = library.geonorm_segments, library.geonorm_order
        self.segments.argtypes = [pointer, number, number, pointer]
        self.order.argtypes = [pointer, number, number, pointer, pointer]
        self.segments.restype = self.order.restype = number
        self.large = last_cache() // 2 or LARGE


@cache
def kernels(instructions: str | None = None) -> Kernels | None:
    """The compiled kernels, or ``None`` if there are none.

    Args:
        instructions: The instruction set; by default the largest that the processor has, as torch sees it.

    Returns:
        The functions.
    """
    if not LIBRARY.exists():
        return None
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    has = {"AVX2": 1, "AVX512": 2}.get(torch.backends.cpu.get_cpu_capability(), 0)
    wanted = [instructions] if instructions else SETS[has::-1]
    for name in wanted:
        if hasattr(library, f"geonorm_forward_float32_{name}"):
            return Kernels(library, name)
    return None


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


class Rows:
    """Which rows belong together, as the kernels read it.

    Args:
        number: The number of pools.
        ptr: Where each pool begins, and where the last one ends; ``None`` if every row is a pool.
        order: The rows, pool after pool, if they do not follow each other.
    """

    __slots__ = ("number", "order", "ptr")

    def __init__(self, number: int, ptr: Tensor | None = None, order: Tensor | None = None) -> None:
        self.number, self.ptr, self.order = number, ptr, order

    @classmethod
    def of_batch(cls, index: Tensor, number: int) -> Rows | None:
        """Read a batch vector of int64; ``None`` if a number in it is outside."""
        use, rows = kernels(), index.shape[0]
        index, ptr = index.contiguous(), torch.empty(number + 1, dtype=torch.int64)
        state = use.segments(index.data_ptr(), rows, number, ptr.data_ptr())
        if state == 0:
            return cls(number, ptr)
        order = torch.empty_like(index)
        if state < 0 or use.order(index.data_ptr(), rows, number, ptr.data_ptr(), order.data_ptr()) < 0:
            return None
        return cls(number, ptr, order)

    @classmethod
    def all(cls, rows: int) -> Rows:
        """One pool of all rows."""
        return _all_rows(rows)


@lru_cache(maxsize=64)
def _all_rows(rows: int) -> Rows:
    return Rows(1, torch.tensor([0, rows]))


def plain(values: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The numbers in memory one after the other, in this type."""
    if values is None:
        return None
    values = values.to(dtype).contiguous()
    if values.is_neg() or values._is_zerotensor():
        values = values.clone().resolve_neg()
    return values


def _at(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


def _common(work: Recipe, rows: Rows, x: Tensor, alpha, gamma, beta, tau, large: int) -> tuple:
    """The arguments that all three orders have."""
    size = x.numel()
    threads = 1
    if size >= PARALLEL and not _forked:
        threads = max(1, min(torch.get_num_threads(), size // SHARE))
    return (
        work.address,
        x.shape[0],
        rows.number,
        _at(rows.ptr),
        _at(rows.order),
        threads,
        size * x.element_size() > large,
        x.data_ptr(),
        _at(alpha),
        _at(gamma),
        _at(beta),
        _at(tau),
    )


def forward(
    work: Recipe, rows: Rows, x: Tensor, alpha: Tensor | None, gamma: Tensor | None, beta: Tensor | None,
    tau: Tensor | None, wants_statistics: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Standardize.

    Args:
        work: What to standardize.
        rows: Which rows belong together.
        x: The features, contiguous, ``[nodes, columns]``.
        alpha: The weight of the mean per column, as all parameters in the type of the statistics.
        gamma: The gain per column.
        beta: The bias per column.
        tau: The exponent per group of the scale.
        wants_statistics: Whether anybody asks for mean and second moment.

    Returns:
        The result, the mean and the second moment of each pool, and the mean about which an own variance is taken.
    """
    use, dtype = kernels(), accumulation_dtype(x.dtype)
    y, mean, square, own = torch.empty_like(x), None, None, None
    if wants_statistics:
        mean = torch.empty(rows.number, work.mean_groups, dtype=dtype)
        square = torch.empty(rows.number, work.scale_groups, dtype=dtype)
        own = torch.empty_like(square) if work.own else None
    use.forward[x.dtype](
        *_common(work, rows, x, alpha, gamma, beta, tau, use.large), y.data_ptr(), _at(mean), _at(square), _at(own)
    )
    return y, mean, square, own


def backward(
    work: Recipe, rows: Rows, g: Tensor, x: Tensor, alpha: Tensor | None, gamma: Tensor | None, tau: Tensor | None,
    statistics: tuple[Tensor, Tensor, Tensor | None], wanted: tuple[bool, bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of x, α, γ, β and τ, each where it is wanted."""
    use, dtype = kernels(), accumulation_dtype(x.dtype)
    mean, square, own = statistics
    dx = torch.empty_like(x) if wanted[0] else None
    sizes = (work.columns, work.columns, work.columns, work.scale_groups)
    found = [torch.empty(size, dtype=dtype) if want else None for size, want in zip(sizes, wanted[1:], strict=True)]
    use.backward[x.dtype](
        *_common(work, rows, x, alpha, gamma, None, tau, use.large),
        mean.data_ptr(), square.data_ptr(), _at(own), g.data_ptr(), _at(dx), *map(_at, found),
    )  # fmt: skip
    return dx, *found


def double_backward(
    work: Recipe, rows: Rows, v: Tensor, dots: tuple[Tensor | None, ...], g: Tensor, x: Tensor, alpha: Tensor | None,
    gamma: Tensor | None, tau: Tensor | None, statistics: tuple[Tensor, Tensor, Tensor | None],
    wanted: tuple[bool, bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of g, x, α, γ and τ, each where it is wanted."""
    use, dtype = kernels(), accumulation_dtype(x.dtype)
    mean, square, own = statistics
    dg = torch.empty_like(x) if wanted[0] else None
    dx = torch.empty_like(x) if wanted[1] else None
    sizes = (work.columns, work.columns, work.scale_groups)
    found = [torch.empty(size, dtype=dtype) if want else None for size, want in zip(sizes, wanted[2:], strict=True)]
    use.double_backward[x.dtype](
        *_common(work, rows, x, alpha, gamma, None, tau, use.large),
        mean.data_ptr(), square.data_ptr(), _at(own), g.data_ptr(), v.data_ptr(), *map(_at, dots),
        _at(dg), _at(dx), *map(_at, found),
    )  # fmt: skip
    return dg, dx, *found
