"""The memory allocator of the C library, which costs as much as the arithmetic of a layer where tensors are large."""

from __future__ import annotations

import ctypes
import platform

#: The settings of glibc's ``mallopt``: what they are called, their numbers there, and their values in bytes.
SETTINGS = {"M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 1 << 28), "M_MMAP_THRESHOLD": (-3, 1 << 30)}


def tune_allocator() -> bool:
    """Let this process keep the memory that it frees, so that the next tensor does not pay for it again.

    Torch takes the memory of CPU tensors from the C library. With glibc's defaults every tensor above 32 MB is fetched
    from the system, filled with zeros page by page at its first use and given back when it dies, and smaller ones give
    the top of the heap back and forth. A chain of three element-wise operations on 40 MB took five times longer than
    with these settings; our fused layers gain less than layers that make many temporary tensors.

    The settings hold for the whole process and until it ends: blocks up to 1 GiB come from the heap, which is not given
    back below 2 GiB and grows by 256 MiB at a time. Resident memory stays at its peak. Call it once, early in a program
    of your own; the library never does. Before the start of a program the environment variables
    ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_TOP_PAD_`` do the same.

    On a machine whose processors are busy set ``OMP_WAIT_POLICY=passive`` too, before Python starts: else idle threads
    of OpenMP wait by spinning, and a copy of 4 MB that takes 0.1 ms was seen to take 8 ms.

    Returns:
        Whether it was done: only glibc, the C library of most Linux systems, has these settings.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    accepted = [mallopt(number, value) for number, value in SETTINGS.values()]
    return all(accepted)
