"""Vectors and their rotations, and formulas compared to second order."""

from collections.abc import Callable

import torch
from e3nn import o3
from layers.peers import SIZES, assert_equal
from torch import Tensor, nn

NODES, CHANNELS = sum(SIZES), 4


def vectors(nodes: int = NODES, channels: int = CHANNELS, dim: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random vectors, each channel with a length and a mean direction of its own, ``[nodes, channels, dim]``."""
    scale = torch.linspace(0.5, 2.0, channels, dtype=torch.float64)[:, None]
    common = torch.randn(channels, dim, dtype=torch.float64)
    return (scale * (torch.randn(nodes, channels, dim, dtype=torch.float64) + 0.5 * common)).to(dtype)


def rotations(nodes: int = NODES, dim: int = 3) -> Tensor:
    """An orthogonal matrix for each node, every other one with a reflection, ``[nodes, dim, dim]``."""
    matrices, _ = torch.linalg.qr(torch.randn(nodes, dim, dim, dtype=torch.float64))
    wanted = torch.ones(nodes, dtype=torch.float64)
    wanted[::2] = -1
    matrices[:, :, 0] *= (wanted * matrices.det())[:, None]
    return matrices


def turn(v: Tensor, matrices: Tensor) -> Tensor:
    """Rotate the vectors of every node by the matrix of the node."""
    return torch.einsum("nij,ncj->nci", matrices, v)


def turn_irreps(x: Tensor, matrices: Tensor, irreps: str) -> Tensor:
    """Transform the features of every node by the matrix of the node."""
    represented = torch.stack([o3.Irreps(irreps).D_from_matrix(matrix) for matrix in matrices])
    return torch.einsum("nij,nj->ni", represented, x)


def joined(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """All numbers of a result in one row."""
    return torch.cat([part.flatten() for part in (result if isinstance(result, tuple) else (result,))])


def to_second_order(function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: dict[str, Tensor]) -> dict:
    """The value of a function, the gradients of a generic functional of it, and those of one of these gradients."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    value = joined(function(*leaves.values()))
    found = {"output": value.detach()}

    def generic(rows: Tensor) -> Tensor:
        return (rows * torch.cos(torch.arange(rows.numel(), dtype=rows.dtype))).sum()

    for order in ("gradient", "second gradient"):
        parts = torch.autograd.grad(
            generic(value), list(leaves.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        found |= {f"{order} by {name}": part.detach() for name, part in zip(leaves, parts, strict=True)}
        value = joined(parts)
        if not value.requires_grad:
            break
    return found


def assert_formula(
    layer: nn.Module, formula: Callable[..., Tensor | tuple[Tensor, ...]], *inputs: Tensor, batch: tuple = ()
) -> None:
    """A layer is its formula, ``formula(*inputs, **parameters)``, to second order in the inputs and parameters."""
    names = [name for name, _ in layer.named_parameters()]

    def ours(*values: Tensor) -> Tensor | tuple[Tensor, ...]:
        given, parameters = values[: len(inputs)], values[len(inputs) :]
        x = given[0] if len(given) == 1 else given
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, *batch))

    def theirs(*values: Tensor) -> Tensor | tuple[Tensor, ...]:
        given, parameters = values[: len(inputs)], values[len(inputs) :]
        return formula(*given, **{name.replace(".", "_"): p for name, p in zip(names, parameters, strict=True)})

    leaves = {f"input {number}": value for number, value in enumerate(inputs)} | dict(layer.named_parameters())
    given, expected = to_second_order(ours, leaves), to_second_order(theirs, leaves)
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        assert_equal(given[name], value, name)
