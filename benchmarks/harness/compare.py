"""One comparison: our layer and its peer on one batch, all modes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness import cuda, meters
from harness.cases import Case
from harness.meters import saved_memory
from harness.pairs import Pair
from harness.steps import check_equal, steps


def compare(pair: Pair, case: Case, samples: int, device: str = "cpu") -> Iterator[dict[str, str]]:
    """Check that both layers compute the same, then measure them in turns with a copy of the tensor.

    Args:
        pair: The layers.
        case: The batch.
        samples: The number of samples of each median.
        device: Where to measure, ``"cpu"`` or ``"cuda"``.

    Yields:
        One row of results per mode: times in microseconds, memory in units of the features. On a CUDA device also the
        bandwidth of the copy, the share of it that our layer reaches if it moves no more than it must, and the number
        of kernels.
    """
    x, batch = (tensor.to(device) for tensor in case.draw())
    on_cuda = x.is_cuda
    times = cuda.event_times if on_cuda else meters.process_times
    peak_memory = cuda.peak_memory if on_cuda else meters.peak_memory
    into, unit = torch.empty_like(x), x.numel() * x.element_size()
    layers = {"ours": pair.ours(case.channels).to(device), "peer": pair.theirs(case.channels).to(device)}
    inputs = {"ours": (batch, case.graphs), "peer": (batch, case.graphs) if pair.takes_batch else ()}
    todo = {who: steps(layer, x, inputs[who]) for who, layer in layers.items()}
    if pair.same:
        check_equal(todo["ours"], todo["peer"], f"{pair.name} and {pair.peer} on {case.name}", pair.modes)
    saved = {who: saved_memory(layer, x, inputs[who]) / unit for who, layer in layers.items()}
    for mode, limit in zip(pair.modes, case.limits, strict=False):
        candidates = {who: todo[who][mode] for who in todo} | {"copy": lambda: into.copy_(x)}
        seconds = times(candidates, samples)
        peak = {who: peak_memory(todo[who][mode]) / unit for who in todo}
        row = {
            "layer": pair.name,
            "peer": pair.peer,
            "case": case.name,
            "graphs": str(case.graphs),
            "sizes": f"{case.sizes[0]}-{case.sizes[1]}",
            "sorted": str(not case.shuffled),
            "nodes": str(len(x)),
            "channels": str(case.channels),
            "mode": mode,
            "ours_us": f"{seconds['ours'] * 1e6:.1f}",
            "peer_us": f"{seconds['peer'] * 1e6:.1f}",
            "copy_us": f"{seconds['copy'] * 1e6:.1f}",
            "peer_over_ours": f"{seconds['peer'] / seconds['ours']:.2f}",
            "ours_over_copy": f"{seconds['ours'] / seconds['copy']:.1f}",
            "limit_in_copies": f"{limit}",
            "ours_peak": f"{peak['ours']:.2f}",
            "peer_peak": f"{peak['peer']:.2f}",
            "ours_saved": f"{saved['ours']:.2f}",
            "peer_saved": f"{saved['peer']:.2f}",
        }
        if on_cuda:
            row |= {
                "copy_gb_per_s": f"{2 * unit / seconds['copy'] / 1e9:.0f}",
                "share_of_copy": f"{limit * seconds['copy'] / seconds['ours']:.2f}",
                "ours_kernels": str(cuda.kernels(todo["ours"][mode])),
                "peer_kernels": str(cuda.kernels(todo["peer"][mode])),
            }
        yield row
