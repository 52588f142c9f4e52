"""Which submodule breaks a symmetry: the first whose inputs obey it and whose outputs do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from geonorm.match.errors import relative_error
from geonorm.match.graphs import Graphs

#: Two intermediate results that differ by more than this are different.
TOLERANCE = 1e-7

Obeys = Callable[[Tensor, Tensor], bool | None]


@dataclass(frozen=True)
class Call:
    """One call of a submodule: its name, and the tensors that went in and came out."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Trace:
    """One run of a network: its outputs by name, and the calls of its submodules in the order in which they ended."""

    outputs: dict[str, Tensor]
    calls: tuple[Call, ...]


def traced(network: nn.Module, run: Callable[[], Any]) -> Trace:
    """Run a network and write down what every submodule was given and gave."""
    calls: list[Call] = []
    handles = []

    def note(name: str) -> Callable:
        def hook(module: nn.Module, arguments: tuple, keywords: dict, output: Any) -> None:
            inputs = tuple(value.detach().clone() for value in _tensors((arguments, keywords)))
            calls.append(Call(name, inputs, tuple(value.detach().clone() for value in _tensors(output))))

        return hook

    for name, module in network.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            handles.append(module.register_forward_hook(note(name or "the network itself"), with_kwargs=True))
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    outputs = _named(result)
    if not outputs:
        raise TypeError(f"the network returned a {type(result).__name__} without tensors, expected its predictions")
    return Trace(outputs, tuple(calls))


def _named(result: Any) -> dict[str, Tensor]:
    if isinstance(result, Tensor):
        return {"output": result.detach()}
    if isinstance(result, Mapping):
        floating = {n: v for n, v in result.items() if isinstance(v, Tensor) and v.is_floating_point()}
        return {name: value.detach() for name, value in floating.items()}
    return {f"output {place}": value.detach() for place, value in enumerate(_tensors(result))}


def _tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in nested tuples, lists and mappings, and in objects that turn into mappings."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _tensors(value[key])
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif hasattr(value, "to_dict") and not isinstance(value, nn.Module):
        yield from _tensors(value.to_dict())


def blamed(start: Trace, other: Trace, obeys: Obeys) -> str | None:
    """The first submodule to end whose inputs all obey a symmetry and one of whose outputs does not.

    Args:
        start: The run on the batch as it is.
        other: The run on the batch that the symmetry made of it.
        obeys: Whether a tensor of the one run and its counterpart obey the symmetry; ``None`` if that cannot be told.

    Returns:
        Its name, or ``None`` if the two runs are no longer comparable call by call.
    """
    if [call.name for call in start.calls] != [call.name for call in other.calls]:
        return None
    for one, two in zip(start.calls, other.calls, strict=True):
        inputs = [obeys(a, b) for a, b in zip(one.inputs, two.inputs, strict=False)]
        outputs = [obeys(a, b) for a, b in zip(one.outputs, two.outputs, strict=False)]
        if False in outputs and False not in inputs:
            return one.name
    return None


@dataclass(frozen=True)
class Rows:
    """Which sample the rows of an intermediate tensor belong to, told by their number.

    Args:
        by_number: For each number of rows the sample of each.
    """

    by_number: dict[int, Int[Tensor, " rows"]]

    def of_sample(self, value: Tensor, sample: int) -> Tensor:
        """The rows of one sample, or all where the rows are of no known kind."""
        index = self.by_number.get(len(value)) if value.ndim else None
        return value if index is None else value[index == sample]

    def same_inner_products(self, a: Tensor, b: Tensor) -> bool | None:
        """Whether the rows of every sample have the inner products that they had.

        They do under any orthogonal map of the columns that is the same for all rows of a sample, so that nothing has
        to be known of how the columns of a hidden layer rotate.
        """
        index = self._index(a, b)
        if index is None:
            return None
        a, b = a.reshape(len(a), -1).double(), b.reshape(len(b), -1).double()
        same = index[:, None] == index[None, :]
        return _close((a @ a.T)[same], (b @ b.T)[same])

    def same_or_moved_along(self, a: Tensor, b: Tensor) -> bool | None:
        """Whether rows stayed, or moved by a row of their sample."""
        index = self._index(a, b)
        if index is None:
            return None
        if _close(a, b):
            return True
        if len(index.unique()) == len(index):
            return False  # a single row always moves by a row of its own
        moved = (b - a).reshape(len(a), -1)
        first = torch.stack([moved[torch.nonzero(index == s)[0, 0]] for s in index.unique().tolist()])
        place = index.unique(return_inverse=True)[1]
        return bool((moved - first[place]).abs().max() < TOLERANCE * b.abs().max())

    def permuted(self, order: Int[Tensor, " nodes"]) -> Obeys:
        """Whether rows of nodes are reordered, and sums over other rows are what they were."""

        def obeys(a: Tensor, b: Tensor) -> bool | None:
            if a.shape != b.shape or not a.ndim:
                return None
            if len(a) == len(order):
                return _close(a[order], b)
            return _close(a.sum(0), b.sum(0)) and _close(a.square().sum(0), b.square().sum(0))

        return obeys

    def same_in(self, sample: int) -> Obeys:
        """Whether the rows of a sample stayed as they were."""

        def obeys(a: Tensor, b: Tensor) -> bool | None:
            index = self._index(a, b)
            return None if index is None else _close(a[index == sample], b[index == sample])

        return obeys

    def _index(self, a: Tensor, b: Tensor) -> Tensor | None:
        return self.by_number.get(len(a)) if a.ndim and a.shape == b.shape else None


def rows_per_sample(graphs: Graphs) -> Rows:
    """Rows of nodes, edges and samples; where numbers coincide, nodes come before edges before samples."""
    found = {graphs.samples: torch.arange(graphs.samples)}
    if graphs.edges is not None:
        found[graphs.edges.shape[1]] = graphs.batch[graphs.edges[0]]
    return Rows({**found, graphs.nodes: graphs.batch})


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.numel() or not (a.any() or b.any()):
        return True
    return relative_error(a, b) < TOLERANCE
