"""Definition 3 for a whole network, in its own input space, and the submodule that is to blame."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from geonorm.match.blame import Trace, blamed, rows_per_sample, traced
from geonorm.match.errors import relative_error
from geonorm.match.graphs import Graphs
from geonorm.match.network_report import NetworkReport, bound
from geonorm.match.rotations import random_rotations, rotate
from geonorm.match.tasks import ENERGY, Task

#: Names of outputs that are vectors of the nodes.
VECTORS = ("forces", "force", "velocities")


def check_network(
    model: nn.Module,
    data: Any,
    task: Task = ENERGY,
    *,
    kinds: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    call: Callable[[nn.Module, Mapping[str, Any]], Any] | None = None,
    seed: int = 0,
) -> NetworkReport:
    """Measure whether a whole network is a geometric match for a task, and find the submodule to blame.

    The network is copied to float64 and run in training and evaluation mode on the batch as it is and on what the
    symmetries of the task turn it into: every sample rotated, reflected and moved by an element of its own, its nodes
    reordered, the other samples changed.

    Args:
        model: The network.
        data: A batch of two samples or more: a mapping of tensors by name, or a ``torch_geometric`` batch.
        task: What the target respects.
        kinds: What the entries are, where name and shape do not tell (``geonorm.match.graphs.KINDS``, or irreps).
        outputs: Irreps of the outputs by name, where they rotate and are not called forces; ``"output"`` where the
            network returns one tensor.
        call: How to run the network on the entries; without it they are passed by name, as one mapping, or as the
            object that was given, whatever its ``forward`` takes.
        seed: The seed of the group elements.

    Returns:
        The report.

    Raises:
        TypeError: If the data cannot be read, or the network returns no tensors.
        ValueError: If there is one sample only, or no entry is told apart.
    """
    given = Graphs.read(data, kinds)
    if given.samples < 2:
        raise ValueError("the batch holds one sample, expected two or more: what samples do to each other is measured")
    network, graphs = _in_float64(model, given)
    run = _Runner(network, data, call)
    errors, floors, degenerate, blame, unseen = {}, {}, {}, {}, None
    for mode in ("training", "evaluation"):
        run.mode(mode == "training")
        start = run(graphs)
        wrong = _degenerate(start.outputs)
        if wrong:
            degenerate[mode] = wrong
            continue
        floors[mode] = _noise(run, graphs, start, seed)
        errors[mode], found = _measured(run, graphs, start, dict(outputs or {}), bound(floors[mode]), seed)
        for symmetry, module in found.items():
            blame.setdefault(symmetry, module)
        seen = _unseen(run, graphs, start)
        unseen = seen if unseen is None else [change for change in unseen if change in seen]
    asked = {symmetry: module for symmetry, module in blame.items() if symmetry in task.respects}
    declared = {str(change) for change in task.irrelevant}
    added = tuple(f"{change} of coordinates" for change in unseen or [] if change not in declared)
    return NetworkReport(type(model).__name__, task, errors, floors, asked, added, degenerate)


def _in_float64(model: nn.Module, graphs: Graphs) -> tuple[nn.Module, Graphs]:
    """A copy of the network and its inputs in float64."""
    return deepcopy(model).double(), graphs.double()


class _Runner:
    """Runs a network on entries, always from the same buffers and the same random numbers."""

    def __init__(
        self, network: nn.Module, data: Any, call: Callable[[nn.Module, Mapping[str, Any]], Any] | None
    ) -> None:
        self.network, self.data = network, data
        self.state = deepcopy(network.state_dict())
        self.call = call or self._pass_on

    def mode(self, training: bool) -> None:
        self.network.train(training)

    def _pass_on(self, network: nn.Module, entries: Mapping[str, Any]) -> Any:
        if not isinstance(self.data, Mapping):
            changed = self.data.clone()
            for name, value in entries.items():
                changed[name] = value
            return network(changed)
        parameters = inspect.signature(network.forward).parameters
        if set(entries) <= set(parameters):
            return network(**entries)
        named = {name: value for name, value in entries.items() if name in parameters}
        required = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if named and set(required) <= set(named):
            return network(**named)
        return network(dict(entries))

    def __call__(self, graphs: Graphs) -> Trace:
        self.network.load_state_dict(self.state)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            entries = {n: v.clone() if isinstance(v, Tensor) else v for n, v in graphs.entries.items()}
            return traced(self.network, lambda: self.call(self.network, entries))


def _degenerate(outputs: Mapping[str, Tensor]) -> str | None:
    for name, value in outputs.items():
        if not torch.isfinite(value).all():
            return f"{name} holds NaN or infinity"
    return None if any(value.any() for value in outputs.values()) else "every output is zero"


def _error(moved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest relative error over outputs; outputs that vanish on both sides agree."""
    errors = []
    for name, value in expected.items():
        if moved[name].shape != value.shape:
            return float("nan")
        if value.any() or moved[name].any():
            errors.append(relative_error(moved[name], value))
    return torch.tensor(errors, dtype=torch.float64).max().item() if errors else float("nan")


def _noise(run: _Runner, graphs: Graphs, start: Trace, seed: int) -> float:
    """The second difference of the outputs along a step of 10⁻⁶ of the coordinates and features."""
    generator = torch.Generator().manual_seed(seed)
    floating = {
        name: value
        for name, value in graphs.entries.items()
        if isinstance(value, Tensor) and value.is_floating_point() and graphs.kinds[name] not in ("constant", "cell")
    }
    step = {
        name: 1e-6 * value.square().mean().sqrt() * torch.randn(value.shape, dtype=value.dtype, generator=generator)
        for name, value in floating.items()
    }
    ahead = run(graphs.with_entries(**{name: value + step[name] for name, value in floating.items()})).outputs
    back = run(graphs.with_entries(**{name: value - step[name] for name, value in floating.items()})).outputs
    floor = torch.finfo(torch.float64).eps
    for name, value in start.outputs.items():
        if value.any() and ahead[name].shape == back[name].shape == value.shape:
            floor = max(floor, ((ahead[name] + back[name] - 2 * value).norm() / (4 * value.norm())).item())
    return floor


def _measured(
    run: _Runner, graphs: Graphs, start: Trace, irreps: dict[str, str], allowed: float, seed: int
) -> tuple[dict[str, float], dict[str, str]]:
    """The error of every symmetry that the inputs allow, and where a broken one breaks."""
    number, errors, blame = graphs.samples, {}, {}
    rows = rows_per_sample(graphs)

    def judge(symmetry: str, trace: Trace, expected: Mapping[str, Tensor], obeys: Callable) -> None:
        errors[symmetry] = max(errors.get(symmetry, 0.0), _error(trace.outputs, expected))
        if not errors[symmetry] <= allowed and symmetry not in blame:
            found = blamed(start, trace, obeys)
            if found:
                blame[symmetry] = found

    rotates = any(kind in ("coordinates", "edge vectors") or kind[-1:] in "eo" for kind in graphs.kinds.values())
    if rotates:
        for symmetry, improper in (("rotation", False), ("inversion", True)):
            g = random_rotations(number, improper, seed)
            expected = {n: _rotated(n, v, g, graphs, irreps) for n, v in start.outputs.items()}
            judge(symmetry, run(graphs.rotated(g)), expected, rows.same_inner_products)
    if graphs.of("coordinates"):
        t = torch.randn(number, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        judge("translation", run(graphs.moved(t)), start.outputs, rows.same_or_moved_along)
    permuted, order = graphs.permuted(seed)
    nodes = graphs.nodes
    expected = {n: v[order] if v.ndim and len(v) == nodes else v for n, v in start.outputs.items()}
    judge("node permutation", run(permuted), expected, rows.permuted(order))
    for sample in range(number):
        trace = run(graphs.with_others_changed(sample, seed + sample))
        own = {n: rows.of_sample(v, sample) for n, v in start.outputs.items()}
        kept = Trace({n: rows.of_sample(v, sample) for n, v in trace.outputs.items()}, trace.calls)
        judge("sample independence", kept, own, rows.same_in(sample))
    return errors, blame


def _rotated(name: str, value: Tensor, g: Tensor, graphs: Graphs, irreps: dict[str, str]) -> Tensor:
    """What an output should become: vectors and irreps turn, all else stays."""
    kind = irreps.get(name, "1o" if name.lower() in VECTORS else None)
    if kind is None or value.ndim < 2:
        return value
    rows = g[graphs.batch] if len(value) == graphs.nodes else g
    return rotate(value, rows, kind)


def _unseen(run: _Runner, graphs: Graphs, start: Trace) -> list[str]:
    """Whole changes of the coordinates that no output shows, besides the symmetries."""
    if not graphs.of("coordinates"):
        return []
    factors = torch.linspace(0.9, 1.1, graphs.samples, dtype=torch.float64)
    found = []
    if _error(run(graphs.stretched(factors)).outputs, start.outputs) < 1e-6:
        found.append("scale per sample")
    return found
