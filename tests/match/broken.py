"""Layers broken on purpose, each in its own way, and right ones that look broken: what a checker must tell apart."""

import torch
from e3nn.nn import BatchNorm
from torch import Tensor, nn

import geonorm as gn

VECTORS = "4x1o"


def vectors(x: Tensor) -> Tensor:
    """The columns as vectors."""
    return x.reshape(len(x), -1, 3)


def nan(x: Tensor) -> Tensor:
    return x + float("nan")


def zero(x: Tensor) -> Tensor:
    return 0 * x


def constant(x: Tensor) -> Tensor:
    return torch.ones_like(x) + 0 * x


def identity_times_1e5(x: Tensor) -> Tensor:
    return 1e5 * x


def unit_vectors(x: Tensor) -> Tensor:
    return (vectors(x) / vectors(x).norm(dim=2, keepdim=True)).flatten(1)


def batch_mean_of_vectors_subtracted(x: Tensor) -> Tensor:
    return x - x.mean(0)


def order_dependent_rows(x: Tensor) -> Tensor:
    return (1 + torch.arange(len(x), dtype=x.dtype))[:, None] * x


def layer_norm_of_components(x: Tensor) -> Tensor:
    return nn.functional.layer_norm(vectors(x), (x.shape[1] // 3, 3)).flatten(1)


def layer_norm_of_components_times_1e_4(x: Tensor) -> Tensor:
    return 1e-4 * layer_norm_of_components(x)


def whitened(x: Tensor, regularized: str) -> Tensor:
    """Multiply by the inverse root of the second moments of the batch, which are kept away from zero by ε."""
    v = vectors(x)
    moments = torch.einsum("nci,ncj->ij", v, v) / (v.shape[0] * v.shape[1])
    added = torch.eye(3, dtype=x.dtype) if regularized == "identity" else torch.diag(moments.diagonal())
    values, axes = torch.linalg.eigh(moments + 1e-3 * added)
    return (v @ (axes * values.rsqrt()) @ axes.T).flatten(1)


def whitened_with_a_scalar_eps(x: Tensor) -> Tensor:
    return whitened(x, "identity")


def whitened_with_eps_times_the_diagonal(x: Tensor) -> Tensor:
    return whitened(x, "diagonal")


def squashed(x: Tensor) -> Tensor:
    """x / (|x|² + 1): a vector and its reflection in the unit sphere have the same image."""
    return (vectors(x) / (1 + vectors(x).square().sum(2, keepdim=True))).flatten(1)


def through_float32(x: Tensor) -> Tensor:
    """A right layer with large rounding errors."""
    return (2 * x.float()).to(x.dtype)


class E3nnInstance(nn.Module):
    """e3nn's BatchNorm reads each row of a node matrix as an instance of one node: scalars vanish."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = BatchNorm("4x0e+4x1o", instance=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class BiasOnVectors(nn.Module):
    """A bias of zero at initialization breaks nothing until it has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


#: Name: layer, inputs, what is broken for an energy, what is added, the level of rotations.
BROKEN = {
    "nan": (nan, VECTORS, {"degenerate"}, set(), None),
    "zero map": (zero, VECTORS, {"degenerate"}, set(), None),
    "constant": (constant, VECTORS, {"degenerate"}, set(), None),
    "unit vectors": (unit_vectors, VECTORS, set(), {"scale per (node, field)"}, "node"),
    "batch mean of vectors subtracted": (
        batch_mean_of_vectors_subtracted,
        VECTORS,
        {"rotation", "inversion", "sample independence"},
        {"shift per channel"},
        "batch",
    ),
    "order-dependent rows": (order_dependent_rows, VECTORS, {"node permutation", "sample permutation"}, set(), "node"),
    "LayerNorm over [channels, 3]": (
        layer_norm_of_components,
        VECTORS,
        {"rotation", "inversion"},
        {"shift per node", "scale per node"},
        None,
    ),
    "the same times 1e-4": (
        layer_norm_of_components_times_1e_4,
        VECTORS,
        {"rotation", "inversion"},
        {"shift per node", "scale per node"},
        None,
    ),
    "whitening with eps times the identity": (
        whitened_with_a_scalar_eps,
        VECTORS,
        {"rotation", "inversion", "sample independence"},
        {"one scale of all features", "unnamed up to ε"},  # six for a matrix of second moments, of which one has a name
        "batch",
    ),
    "whitening with eps times the diagonal": (
        whitened_with_eps_times_the_diagonal,
        VECTORS,
        {"rotation", "inversion", "sample independence"},
        {"one scale of all features"},
        None,
    ),
    "squash of lengths": (squashed, VECTORS, set(), {"reciprocal lengths per (node, field)"}, "node"),
    "absolute values": (torch.abs, "8x0e", set(), {"reversal per (node, field)"}, None),
    "e3nn instance=True on node rows": (
        E3nnInstance(),
        "4x0e+4x1o",
        set(),
        {"scale per (node, field)", "everything in the columns 0-3"},
        "node",
    ),
    "bias on vectors": (BiasOnVectors(), VECTORS, {"rotation", "inversion"}, set(), None),
    "Vector Neuron": (
        gn.VectorNeuronNorm(4),
        VECTORS,
        {"sample independence"},
        {"scale per field", "shift of lengths per field"},
        "node",
    ),
    "DiffGroupNorm": (gn.DiffGroupNorm(8, 2), "8x0e", {"sample independence"}, set(), None),
}

#: Layers that must pass.
RIGHT = {
    "identity times 1e5": (identity_times_1e5, VECTORS),
    "identity times 1e-30": (lambda x: 1e-30 * x, VECTORS),
    "through float32": (through_float32, VECTORS),
    "a constant of the data set": (gn.AverageNeighborNorm("4x1o", 12.0), VECTORS),
    "a residual": (lambda x: x + unit_vectors(x), VECTORS),
    "part of the scale": (
        gn.Standardize("4x0e+4x1o", mean=None, scale="vm", statistic="rms", exponent=0.5),
        "4x0e+4x1o",
    ),
}
