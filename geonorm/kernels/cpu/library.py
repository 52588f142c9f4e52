"""The compiled library: where it is, and its functions for the instruction set of this processor."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch

#: Where the installation puts the library, if there was a compiler.
LIBRARY = Path(__file__).parents[1] / "_cpu.so"
TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
#: Whether the double backward also takes statistics that only subtract a mean.
MEAN_ALONE_TWICE = True
#: The instruction sets for which the kernels are compiled, from the one that every processor has.
SETS = ("default", "avx2", "avx512")
#: The bytes of a result that are written past the caches, where the size of the last cache is not known.
LARGE = 16 << 20


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
