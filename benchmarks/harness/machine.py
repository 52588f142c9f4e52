"""The words that belong beside every number: machine, versions, threads, allocator."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from geonorm.kernels import choice

#: What makes glibc keep freed memory instead of returning it and faulting it in again.
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def words() -> dict[str, str]:
    """Date, machine, versions and settings of this process."""
    tuned = all(os.environ.get(name) == value for name, value in TUNED_ALLOCATOR.items())
    packages = [f"{name} {version(name)}" for name in ("torch", "e3nn", "torch_geometric")]
    return {
        "date": datetime.date.today().isoformat(),
        "device": f"{processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "system": f"{platform.system()} {platform.libc_ver()[0]} {platform.libc_ver()[1]}".strip(),
        "versions": ", ".join([f"python {platform.python_version()}", *packages]),
        "implementation": choice.in_use(),
        "threads": str(torch.get_num_threads()),
        "clock": "process CPU time" if torch.get_num_threads() == 1 else "wall time",
        "allocator": "MALLOC_* tuned" if tuned else "default",
        "dtype": "float32",
    }
