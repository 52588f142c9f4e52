"""A network as it is measured: in one precision, in one state, and the same at every call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from geonorm.match.blame import Trace, traced
from geonorm.match.graphs import Graphs
from geonorm.match.state import MOVE, can_move, moved

Call = Callable[[nn.Module, Mapping[str, Any]], Any]


class Runner:
    """Runs a network on entries, always from the same buffers and the same random numbers.

    Args:
        network: The network; it is used as it is, not copied.
        data: The batch that the user gave, for a network that takes an object.
        call: How the user calls the network, or ``None``.

    Attributes:
        training: The mode.
    """

    def __init__(self, network: nn.Module, data: Any, call: Call | None) -> None:
        self.network, self.data, self.training = network, data, True
        self.state = deepcopy(network.state_dict())
        self.call = call or self._pass_on

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

    def update(self, graphs: Graphs) -> None:
        """Let a batch pass in training mode, and start from what it leaves in the buffers."""
        self.network.train()
        self._run(graphs)
        self.state = deepcopy(self.network.state_dict())

    def attempt(self, graphs: Graphs) -> Trace | str:
        """Run on a batch of another size, which a network may refuse; if it does, its words."""
        try:
            return self(graphs)
        except Exception as error:  # whatever it raises
            return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"

    def __call__(self, graphs: Graphs) -> Trace:
        self.network.load_state_dict(self.state)
        self.network.train(self.training)
        return self._run(graphs)

    def _run(self, graphs: Graphs) -> Trace:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            entries = {n: v.clone() if isinstance(v, Tensor) else v for n, v in graphs.entries.items()}
            return traced(self.network, lambda: self.call(self.network, entries))


def in_precision(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a network in one type of numbers, which it also takes where it remembers its own."""
    copy = deepcopy(model).to(dtype)
    for module in copy.modules():
        for name, value in list(vars(module).items()):
            if (
                isinstance(value, torch.dtype)
                and value.is_floating_point
                and not isinstance(module, torch.jit.ScriptModule)
            ):
                setattr(module, name, dtype)
    return copy


@contextmanager
def default_precision(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors of this type: a network may draw up zeros of its own."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def states(
    model: nn.Module, data: Any, call: Call | None, graphs: Graphs, dtype: torch.dtype
) -> Iterator[tuple[str, Runner]]:
    """The functions that a network stands for, as :func:`geonorm.match.state.states` has them for a layer.

    Yields:
        The name and the network in that state: in training and evaluation mode, as it was given and after its
        parameters have moved and its running statistics have seen three batches.
    """
    given = Runner(in_precision(model, dtype), data, call)
    for given.training in (True, False):
        yield ("training" if given.training else "evaluation"), given
    if not can_move(model):
        return
    for size in (MOVE, MOVE / 10):  # where a parameter must stay positive, a large step may leave its domain
        learned = Runner(moved(in_precision(model, dtype), size), data, call)
        for seed in range(1, 4):
            learned.update(graphs.with_others_changed(-1, seed))
        if all(value.isfinite().all() for value in learned(graphs).outputs.values()):
            break
    for learned.training in (True, False):
        yield ("training" if learned.training else "evaluation") + " after updates", learned
