"""Definition 3 for a whole network, in its own input space, and the submodule that is to blame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geonorm.match.blame import Trace
from geonorm.match.graphs import Graphs
from geonorm.match.network_errors import Measured, measure
from geonorm.match.network_report import NetworkReport
from geonorm.match.network_run import Call, Runner, default_precision, in_precision, states
from geonorm.match.tasks import ENERGY, Task


def check_network(
    model: nn.Module,
    data: Any,
    task: Task = ENERGY,
    *,
    kinds: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    call: Callable[[nn.Module, Mapping[str, Any]], Any] | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> NetworkReport:
    """Measure whether a whole network is a geometric match for a task, and find the submodule to blame.

    The network is copied to float64 and run in training and evaluation mode, as it is and after its parameters and
    running statistics have moved, on the batch as it is and on what the symmetries of the task turn it into: every
    sample rotated, reflected and moved by an element of its own, its nodes reordered, the other samples changed, and
    one of them left out.

    Args:
        model: The network.
        data: A batch of two samples or more: a mapping of tensors by name, or a ``torch_geometric`` batch.
        task: What the target respects.
        kinds: What the entries are, where name and shape do not tell (``geonorm.match.graphs.KINDS``, or irreps).
        outputs: What the outputs are, by name; ``"output"`` where the network returns one tensor, ``"output 0"``, …
            where it returns several. ``"nodes"``, ``"edges"`` or ``"samples"`` says what their rows belong to where
            their number does not tell; irreps how they turn, where they are not called forces; ``"edges 1o"`` both.
        call: How to run the network on the entries; without it they are passed by name, as one mapping, or as the
            object that was given, whatever its ``forward`` takes.
        dtype: The type of numbers to measure in; in float32 only errors above some 10⁻⁵ are seen.
        seed: The seed of the group elements.

    Returns:
        The report.

    Raises:
        TypeError: If the data cannot be read, the network returns no tensors, or it runs in float32 only.
        ValueError: If there is one sample only, no entry is told apart, or what the rows of an output belong to.
    """
    if dtype not in (torch.float64, torch.float32):
        raise ValueError(f"dtype is {dtype}, expected torch.float64 or torch.float32")
    given = Graphs.read(data, kinds)
    if given.samples < 2:
        raise ValueError("the batch holds one sample, expected two or more: what samples do to each other is measured")
    graphs = given.to(dtype)
    degenerate: dict[str, str] = {}
    measured: dict[str, Measured] = {}
    last: Trace | None = None
    with default_precision(dtype):
        for state, run in states(model, data, call, graphs, dtype):
            start = run(graphs) if measured or degenerate else _first_run(run, graphs, model, data, call)
            wrong = _degenerate(start.outputs)
            if wrong:
                degenerate[state] = wrong
            elif last is not None and _same(last, start):  # evaluation of a network without statistics
                measured[state] = next(reversed(measured.values()))
            else:
                measured[state], last = measure(run, graphs, start, outputs or {}, seed), start
    blame: dict[str, str] = {}
    for found in measured.values():
        blame = {**found.blame, **blame}
    declared = {str(change) for change in task.irrelevant}
    unseen = ["scale per sample"] if measured and all(found.forgets_scale for found in measured.values()) else []
    return NetworkReport(
        type(model).__name__,
        task,
        {state: found.errors for state, found in measured.items()},
        {state: found.floor for state, found in measured.items()},
        {symmetry: module for symmetry, module in blame.items() if symmetry in task.respects},
        tuple(f"{change} of coordinates" for change in unseen if change not in declared),
        degenerate,
        tuple(dict.fromkeys(words for found in measured.values() for words in found.untried)),
    )


def _first_run(run: Runner, graphs: Graphs, model: nn.Module, data: Any, call: Call | None) -> Trace:
    """Run; where that fails, find out whether float64 is the reason."""
    try:
        return run(graphs)
    except (RuntimeError, TypeError) as error:
        dtype = next((value.dtype for value in model.parameters() if value.is_floating_point()), torch.float64)
        if dtype != torch.float32 or torch.get_default_dtype() != torch.float64:
            raise
        with default_precision(torch.float32):
            works = Runner(in_precision(model, torch.float32), data, call).attempt(graphs.to(torch.float32))
        if isinstance(works, str):
            raise
        raise TypeError(
            f"{type(model).__name__} runs in float32, but its copy in float64 does not: {error}. Symmetries are "
            "measured in float64: build the network in it, or give dtype=torch.float32, and see errors above 1e-5 only"
        ) from error


def _degenerate(outputs: Mapping[str, Tensor]) -> str | None:
    for name, value in outputs.items():
        if not torch.isfinite(value).all():
            return f"{name} holds NaN or infinity"
    return None if any(value.any() for value in outputs.values()) else "every output is zero"


def _same(one: Trace, other: Trace) -> bool:
    """Whether two runs are one function, as far as every submodule shows."""

    def tensors(trace: Trace) -> list[Tensor]:
        return [*trace.outputs.values(), *(value for call in trace.calls for value in call.outputs)]

    first, second = tensors(one), tensors(other)
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
