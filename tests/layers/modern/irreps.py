"""Features of irreps in tests: what acts on them, blocks of one type, and functions compared to second order."""

from collections.abc import Callable, Iterator, Mapping

import torch
from e3nn import o3
from layers.peers import SIZES, assert_equal, ragged_batch, randomize
from torch import Tensor, nn

#: All that is special: a type in two places, a pseudoscalar, an axial vector, and a term without channels.
IRREPS = "2x0e+3x1o+1x0e+2x0o+2x1e+0x3o+2x2e"
NODES, NUM_SAMPLES = sum(SIZES), len(SIZES)
BATCH = ragged_batch()


def features(irreps: str, nodes: int = NODES) -> Tensor:
    """Random features, not centred."""
    return 2 * torch.randn(nodes, o3.Irreps(irreps).dim, dtype=torch.float64) + 0.7


def action(irreps: str, per: str, batch: Tensor) -> Callable[[Tensor], Tensor]:
    """A random rotation, for one half with inversion, of all nodes, of every sample, or of every node."""
    owner = {"batch": torch.zeros_like(batch), "sample": batch, "node": torch.arange(len(batch))}[per]
    number = int(owner.max()) + 1
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(number)[:number]
    matrices = o3.rand_matrix(number, dtype=torch.float64) * signs[:, None, None]
    turn = o3.Irreps(irreps).D_from_matrix(matrices)[owner]
    return lambda x: torch.einsum("nij,nj->ni", turn, x)


def terms(irreps: str, x: Tensor) -> Iterator[tuple[Tensor, bool, slice]]:
    """Each term of the irreps as ``[nodes, channels, components]``, whether it is 0e, and which fields it holds."""
    column = field = 0
    for mul, irrep in o3.Irreps(irreps):
        block = x[:, column : column + mul * irrep.dim].reshape(len(x), mul, irrep.dim)
        yield block, irrep == o3.Irrep("0e"), slice(field, field + mul)
        column, field = column + mul * irrep.dim, field + mul


def trained(layer: nn.Module, irreps: str) -> nn.Module:
    """The layer with random parameters and, where it tracks, running statistics of two batches."""
    randomize(layer)
    for _ in range(2):
        layer(features(irreps), BATCH, NUM_SAMPLES)
    return layer


def wiggles(output: Tensor) -> Tensor:
    """A generic linear functional."""
    return (output * torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view_as(output)).sum()


def second_order(function: Callable[..., Tensor], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output, the first derivatives, and those of a functional of the first ones where it depends on anything."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    found = {"output": function(*leaves.values())}
    functional = wiggles(found["output"])
    for order in ("first", "second"):
        if not functional.requires_grad:
            break
        values = torch.autograd.grad(functional, [*leaves.values()], create_graph=True, allow_unused=True)
        values = [
            torch.zeros_like(leaf) if value is None else value
            for value, leaf in zip(values, leaves.values(), strict=True)
        ]
        found |= {f"{order} derivative by {name}": value for name, value in zip(leaves, values, strict=True)}
        functional = sum(wiggles(value.square()) for value in values)
    return {name: value.detach() for name, value in found.items()}


def assert_same_to_second_order(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], inputs: Mapping[str, Tensor]
) -> None:
    """Two functions of the same tensors have the same value, first and second derivatives."""
    given, expected = second_order(ours, inputs), second_order(theirs, inputs)
    assert given.keys() >= expected.keys()
    for name, value in expected.items():
        assert_equal(given[name], value, name)


def assert_irreps_formula(layer: nn.Module, formula: Callable[..., Tensor], x: Tensor, *arguments: object) -> None:
    """A layer computes ``formula(x, parameters by name)``, with first and second derivatives by all of them."""
    names = [name for name, _ in layer.named_parameters()]

    def ours(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, *arguments))

    def theirs(x: Tensor, *parameters: Tensor) -> Tensor:
        return formula(x, dict(zip(names, parameters, strict=True)))

    assert_same_to_second_order(ours, theirs, {"x": x, **dict(layer.named_parameters())})
