"""The clock and the memory meter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

#: A sample repeats a step until it takes at least this long, in seconds: far above the resolution of the clock, and so
#: long that the step finds in the caches what fits there.
SAMPLE = 10e-3


def process_times(candidates: Mapping[str, Callable[[], object]], samples: int) -> dict[str, float]:
    """The median time of each candidate, in seconds: process CPU time of one thread, or wall time of several.

    With one thread, CPU time is the time that the work takes on a core of its own: waiting for a core that another
    process holds does not count. With several the machine must be idle. The candidates take turns, so that a slow
    minute of the machine hits all of them; in each turn the first step is not timed, which finds the memory of the
    others in the caches.

    Args:
        candidates: What to time, by name.
        samples: How many samples of each are taken.

    Returns:
        The medians.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    repeats = {}
    for name, candidate in candidates.items():
        candidate()
        start = clock()
        candidate()
        repeats[name] = max(1, round(SAMPLE / max(clock() - start, 1e-7)))
    times = {name: [] for name in candidates}
    for _ in range(samples):
        for name, candidate in candidates.items():
            candidate()
            start = clock()
            for _ in range(repeats[name]):
                candidate()
            times[name].append((clock() - start) / repeats[name])
    return {name: statistics.median(measured) for name, measured in times.items()}


def peak_memory(candidate: Callable[[], object]) -> int:
    """The largest number of bytes that torch's allocator held at once beyond what it held before, results included."""
    candidate()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = candidate()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    del result
    return peak


def saved_memory(layer: nn.Module, x: Tensor, others: tuple[Tensor | int, ...]) -> int:
    """The bytes that a forward pass keeps for its backward pass, besides its input and its output.

    Args:
        layer: The layer.
        x: Its input.
        others: What is passed after the input.

    Returns:
        The bytes, each piece of memory counted once.
    """
    x = x.clone().requires_grad_()
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x, *others)
    for tensor in (x, y, *others):
        if isinstance(tensor, Tensor):
            saved.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(saved.values())
