"""Which submodule breaks a symmetry: the first whose inputs obey it and whose outputs do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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
    for name, module in network.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            hook = partial(_note, calls, name or "the network itself")
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    outputs = _named(result)
    if not outputs:
        raise TypeError(f"the network returned a {type(result).__name__} without tensors, expected its predictions")
    return Trace(outputs, tuple(calls))


# At the level of the module, and without annotations: a type checker that rewrites functions would build a closure anew
# for every submodule of every run, and would check a list that grows, call by call.
def _note(calls, name, module, arguments, keywords, output):
    inputs = tuple(value.detach().clone() for value in _tensors((arguments, keywords)))
    calls.append(Call(name, inputs, tuple(value.detach().clone() for value in _tensors(output))))


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

    Where numbers coincide, rows obey a symmetry if they do in one of the readings.

    Args:
        of: For ``"nodes"``, ``"edges"`` and ``"samples"`` the sample of each row.
        tolerance: Two intermediate results that differ by more than this are different.
    """

    of: dict[str, Int[Tensor, " rows"]]
    tolerance: float = TOLERANCE

    def kinds(self, value: Tensor) -> tuple[str, ...]:
        """What the rows of a tensor can be, by their number."""
        return tuple(kind for kind, index in self.of.items() if value.ndim and len(value) == len(index))

    def of_sample(self, value: Tensor, kind: str | None, sample: int) -> Tensor:
        """The rows of one sample, or all where the rows are of no kind."""
        if kind is None:
            return value
        value = value if value.ndim else value[None]  # the last sample that is left may have lost its axis
        index = self.of[kind]
        # A network that was told the number of samples returns more rows than there are.
        return value[: len(index)][index[: len(value)] == sample]

    def same_inner_products(self, a: Tensor, b: Tensor) -> bool | None:
        """Whether the rows of every sample have the inner products that they had.

        They do under any orthogonal map of the columns that is the same for all rows of a sample, so that nothing has
        to be known of how the columns of a hidden layer rotate.
        """

        def obeys(index: Tensor) -> bool:
            one, two = a.reshape(len(a), -1).double(), b.reshape(len(b), -1).double()
            same = index[:, None] == index[None, :]
            return self._close((one @ one.T)[same], (two @ two.T)[same])

        return self._in_a_reading(a, b, obeys)

    def same_or_moved_along(self, a: Tensor, b: Tensor) -> bool | None:
        """Whether rows stayed, or moved by a row of their sample."""

        def obeys(index: Tensor) -> bool:
            if self._close(a, b):
                return True
            if len(index.unique()) == len(index):
                return False  # a single row always moves by a row of its own
            moved = (b - a).reshape(len(a), -1)
            first = torch.stack([moved[torch.nonzero(index == s)[0, 0]] for s in index.unique().tolist()])
            place = index.unique(return_inverse=True)[1]
            return bool((moved - first[place]).abs().max() < self.tolerance * b.abs().max())

        return self._in_a_reading(a, b, obeys)

    def permuted(self, order: Int[Tensor, " nodes"]) -> Obeys:
        """Whether rows of nodes are reordered, and sums over other rows are what they were."""

        def obeys(a: Tensor, b: Tensor) -> bool | None:
            if a.shape != b.shape or not a.ndim:
                return None
            if len(a) == len(order) and self._close(a[order], b):
                return True
            if self.kinds(a) == ("nodes",):
                return False
            return self._close(a.sum(0), b.sum(0)) and self._close(a.square().sum(0), b.square().sum(0))

        return obeys

    def same_in(self, sample: int, other: Rows | None = None, place: int | None = None) -> Obeys:
        """Whether the rows of a sample stayed as they were.

        Args:
            sample: The sample.
            other: The rows of the other run, where its batch is another one.
            place: The number of the sample there.
        """
        other, place = (self, sample) if other is None or place is None else (other, place)

        def obeys(a: Tensor, b: Tensor) -> bool | None:
            common = [kind for kind in self.kinds(a) if kind in other.kinds(b)]
            if not common or a.shape[1:] != b.shape[1:]:
                return None
            pairs = [(a[self.of[kind] == sample], b[other.of[kind] == place]) for kind in common]
            return any(one.shape == two.shape and self._close(one, two) for one, two in pairs)

        return obeys

    def _in_a_reading(self, a: Tensor, b: Tensor, obeys: Callable[[Tensor], bool]) -> bool | None:
        if a.shape != b.shape or not self.kinds(a):
            return None
        return any(obeys(self.of[kind]) for kind in self.kinds(a))

    def _close(self, a: Tensor, b: Tensor) -> bool:
        if not a.numel() or not (a.any() or b.any()):
            return True
        return relative_error(a, b) < self.tolerance


def rows_per_sample(graphs: Graphs, tolerance: float = TOLERANCE) -> Rows:
    """The samples of nodes, edges and samples."""
    return Rows(
        {kind: index for kind in ("nodes", "edges", "samples") if (index := graphs.rows(kind)) is not None}, tolerance
    )
