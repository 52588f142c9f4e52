"""Comparing a layer with the same layer of another library, or with its formula written out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

#: The largest difference that rounding in float64 explains.
EXACT = 1e-12

#: Sizes of the samples of a batch: long, single, missing, short.
SIZES = (5, 1, 4, 0, 3)


def ragged_batch(sizes: tuple[int, ...] = SIZES, *, shuffled: bool = False) -> Tensor:
    """The batch vector of samples of these sizes, sorted or with the nodes of all samples mixed."""
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return batch[torch.randperm(len(batch))] if shuffled else batch


def features(nodes: int, channels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random features, each channel with a mean and a scale of its own."""
    scale = torch.linspace(0.5, 2.0, channels, dtype=torch.float64)
    return (torch.randn(nodes, channels, dtype=torch.float64) * scale + scale.flip(0) - 1).to(dtype)


@torch.no_grad()
def randomize(module: nn.Module) -> nn.Module:
    """Move every parameter away from its initial value, so that none of them can hide."""
    for parameter in module.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def mean_of_sample(batch: Tensor | None, values: Tensor) -> Tensor:
    """The mean over the nodes of each sample, given back to the nodes: a matrix that says who shares a sample."""
    if batch is None:
        batch = torch.zeros(len(values), dtype=torch.long)
    shared = (batch[:, None] == batch[None, :]).to(values.dtype)
    return shared / shared.sum(1, keepdim=True) @ values


def difference(given: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest entry where that is above one."""
    assert given.shape == expected.shape, f"{list(given.shape)} is not {list(expected.shape)}"
    if not expected.numel():
        return 0.0
    error = (given - expected).detach().abs().max()
    return float(error / expected.detach().abs().max().clamp(min=1))


def assert_equal(given: Tensor, expected: Tensor, what: str = "result", tolerance: float = EXACT) -> None:
    """Equal up to rounding; says what differs and by how much."""
    error = difference(given, expected)
    assert error <= tolerance, f"{what}: {error:.2e} apart, {tolerance:.0e} allowed"


def assert_same(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = EXACT) -> None:
    """Equal up to rounding, name by name."""
    for name, value in expected.items():
        assert_equal(given[name], value, name, tolerance)


@contextmanager
def refused(message: str) -> Iterator[None]:
    """What follows raises a ValueError with this message (a regular expression).

    The types of arguments are not checked meanwhile: the person who makes the mistake has no such check either.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=message):
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """The gradient of a generic linear functional of the output; zero where there is no dependence."""
    cotangent = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view_as(output)
    found = torch.autograd.grad((output * cotangent).sum(), inputs, allow_unused=True)
    return [torch.zeros_like(i) if g is None else g for g, i in zip(found, inputs, strict=True)]


def assert_same_function(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], inputs: Mapping[str, Tensor]
) -> None:
    """Two functions of the same tensors have the same value and the same gradients."""
    inputs = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    given, expected = ours(*inputs.values()), theirs(*inputs.values())
    assert_equal(given, expected, "output")
    pairs = zip(inputs, gradients(given, [*inputs.values()]), gradients(expected, [*inputs.values()]), strict=True)
    for name, gradient, expected_gradient in pairs:
        assert_equal(gradient, expected_gradient, f"gradient of {name}")


def assert_formula(layer: nn.Module, formula: Callable[..., Tensor], x: Tensor, *arguments: object) -> None:
    """A layer computes its formula: ``formula(x, parameters)`` written for all nodes at once."""
    names = [name for name, _ in layer.named_parameters()]

    def ours(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, *arguments))

    def theirs(x: Tensor, *parameters: Tensor) -> Tensor:
        return formula(x, dict(zip(names, parameters, strict=True)))

    assert_same_function(ours, theirs, {"x": x, **dict(layer.named_parameters())})


class Peer:
    """A layer of another library next to ours, with the same parameters and buffers.

    Args:
        ours: Our layer.
        theirs: The peer.
        names: Where a tensor of the peer has another name here: peer's name to ours.
        call: How the peer is called with (peer, x, *arguments); as it is without it.
    """

    def __init__(
        self,
        ours: nn.Module,
        theirs: nn.Module,
        names: Mapping[str, str] | None = None,
        call: Callable[..., Tensor] | None = None,
    ) -> None:
        self.ours, self.theirs = ours.double(), randomize(theirs.double())
        self.names = {name: (names or {}).get(name, name) for name in theirs.state_dict()}
        self.call = call or (lambda peer, *arguments: peer(*arguments))
        state = ours.state_dict()
        assert set(self.names.values()) == set(state), "the tensors of the two layers do not correspond"
        values = theirs.state_dict()
        ours.load_state_dict({mine: values[name].view_as(state[mine]) for name, mine in self.names.items()})

    def train(self, mode: bool = True) -> "Peer":
        """Both in training or in eval mode."""
        self.ours.train(mode)
        self.theirs.train(mode)
        return self

    def check(self, x: Tensor, *arguments: object, theirs: tuple[object, ...] | None = None) -> None:
        """Both give the same output, the same gradients of the input and of every parameter.

        Args:
            x: The features.
            *arguments: What our layer gets after them.
            theirs: What the peer gets after them, if that is something else.
        """
        mine, other = x.detach().requires_grad_(), x.detach().requires_grad_()
        given = self.ours(mine, *arguments)
        expected = self.call(self.theirs, other, *(arguments if theirs is None else theirs))
        assert_equal(given, expected, "output")
        parameters = dict(self.theirs.named_parameters())
        own = dict(self.ours.named_parameters())
        learned = [name for name, value in parameters.items() if value.requires_grad]
        given_gradients = gradients(given, [mine, *(own[self.names[name]] for name in learned)])
        expected_gradients = gradients(expected, [other, *(parameters[name] for name in learned)])
        for name, gradient, wanted in zip(["x", *learned], given_gradients, expected_gradients, strict=True):
            assert_equal(gradient, wanted.view_as(gradient), f"gradient of {name}")

    def check_buffers(self, *leave_out: str) -> None:
        """Both have the same running statistics."""
        own = dict(self.ours.named_buffers())
        for name, value in self.theirs.named_buffers():
            if name not in leave_out:
                assert_equal(own[self.names[name]].double(), value.double().view_as(own[self.names[name]]), name)
