"""The clock, the memory meter, the count of kernels and the words on the machine, for CUDA devices."""

from __future__ import annotations

import datetime
import platform
import re
import statistics
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version

import torch

from geonorm.kernels import choice

#: A sample repeats a step until the device is busy for at least this long, in seconds.
SAMPLE = 2e-3
#: Repetitions before anything is timed: kernels are compiled, memory is allocated.
WARM_UP = 5


def event_times(candidates: Mapping[str, Callable[[], object]], samples: int) -> dict[str, float]:
    """The median time of each candidate, in seconds, between two events on the device; candidates take turns.

    A step that the device finishes before the host has sent the next one takes as long as the host: then this is the
    time of the launches.

    Args:
        candidates: What to time, by name.
        samples: How many samples of each are taken.

    Returns:
        The medians.
    """

    def timed(candidate: Callable[[], object], repeats: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            candidate()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / repeats

    repeats = {}
    for name, candidate in candidates.items():
        for _ in range(WARM_UP):
            candidate()
        repeats[name] = max(1, round(SAMPLE / max(timed(candidate, 1), 1e-6)))
    times = {name: [] for name in candidates}
    for _ in range(samples):
        for name, candidate in candidates.items():
            times[name].append(timed(candidate, repeats[name]))
    return {name: statistics.median(measured) for name, measured in times.items()}


def peak_memory(candidate: Callable[[], object]) -> int:
    """The largest number of bytes that were held at once beyond what was held before, results included."""
    candidate()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    candidate()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def kernels(candidate: Callable[[], object]) -> int:
    """How many kernels the device runs for one step, copies and fills of memory not counted."""
    candidate()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        candidate()
        torch.cuda.synchronize()
    names = [event.name() for event in profile.profiler.kineto_results.events() if event.device_type().name == "CUDA"]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in names)


def words() -> dict[str, str]:
    """Date, device, versions and settings of this process."""
    versions = [f"python {platform.python_version()}"]
    for name in ("torch", "triton", "e3nn", "torch_geometric"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"no {name}")
    capability = "sm_{}{}".format(*torch.cuda.get_device_capability())
    return {
        "date": datetime.date.today().isoformat(),
        "device": f"{torch.cuda.get_device_name()}, {capability}, CUDA {torch.version.cuda}",
        "system": f"{platform.system()} {platform.libc_ver()[0]} {platform.libc_ver()[1]}".strip(),
        "versions": ", ".join(versions),
        "implementation": choice.in_use("cuda"),
        "threads": str(torch.get_num_threads()),
        "clock": "CUDA events",
        "allocator": "default",
        "dtype": "float32",
    }


def file_name() -> str:
    """The name of the file of results of this device."""
    return re.sub("[^a-z0-9]+", "_", torch.cuda.get_device_name().lower()).strip("_") + ".csv"
